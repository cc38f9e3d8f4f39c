"""The texts beside an exported model and its pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from align.artifacts import Row


def model_card(
    stages: Sequence[Mapping[str, Any]], origin: Mapping[str, str | None], sha: str
) -> str:
    """Returns the README of an exported model: where it comes from and how it is used.

    Args:
        stages: Manifests of the training stages, the first one first.
        origin: What `align.lineage.origin` says of the start model.
        sha: Hash of the exported weights.
    """
    start, licence = origin["name"] or "a local model", origin["licence"]
    head = ["---", "library_name: transformers", "pipeline_tag: text-generation"]
    head += [f"license: {licence.lower()}"] if licence else []
    head += [f"base_model: {start}"] if "/" in start else []
    head += ["tags:", "- code", "- code-align", "---", ""]
    lines = [*head, f"# {start.rsplit('/', 1)[-1]}, trained with code-align", ""]
    lines += [f"Start model: `{start}`.", *([str(origin["note"])] if origin["note"] else []), ""]
    lines += _stage_table(stages)
    lines += [
        "",
        f"SHA-256 of the exported weights: `{sha}`. The hashes of each stage's data stand in",
        "`checkpoint.json`. Results on benchmarks are in the run's report, with the settings they",
        "were measured under; none is repeated here.",
        "",
        "## Use",
        "",
        "Chat: the tokenizer's own template (ChatML). Infilling: the raw string",
        "`<|fim_prefix|>{before}<|fim_suffix|>{after}<|fim_middle|>`. Generation stops at every id",
        "in `generation_config.json`: the end of a turn, the end of a text, and the infilling",
        "tokens that no answer holds.",
        "",
        "## Licence",
        "",
        f"The start model's licence goes with these weights: {licence}."
        if licence
        else "The start model's licence goes with these weights; its folder did not name it.",
        "",
    ]
    return "\n".join(lines)


def _stage_table(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    if not stages:
        return ["No stage has trained these weights: they are the start model's."]
    lines = [
        "| stage | rows or pairs | steps | learning rate | weights |",
        "|---|---|---|---|---|",
    ]
    for stage in stages:
        counts = stage["counts"]
        lines.append(
            f"| {stage['identity']['instance']} | {counts.get('rows', counts.get('pairs'))} "
            f"| {counts['steps']} | {stage['settings']['learning_rate']:g} "
            f"| `{stage['weights_sha'][:16]}` |"
        )
    return lines


def pairs_card(rows: Sequence[Row]) -> str:
    """Returns the README of an exported preference dataset."""
    rules = Counter(str(row["rule"]) for row in rows)
    lines = [
        "---",
        "task_categories:",
        "- text-generation",
        "tags:",
        "- code",
        "- preference",
        "- code-align",
        "configs:",
        "- config_name: default",
        "  data_files: train.parquet",
        "---",
        "",
        "# Preference pairs for code",
        "",
        f"Pairs: {len(rows)}; tasks: {len({row['task_id'] for row in rows})}. The columns",
        "`prompt`, `chosen` and `rejected` are message lists, in the form that TRL's DPOTrainer",
        "takes; `chosen` and `rejected` hold the assistant's turn. The other columns cite the",
        "samples, verdicts and judgements that the label rests on.",
        "",
        "| rule | pairs |",
        "|---|---|",
        *(f"| {rule} | {count} |" for rule, count in sorted(rules.items())),
        "",
        "`exec_strict` pairs an answer that passed every unit test with one that failed;",
        "`judge_within_accepted` orders two passing answers by a judge's score.",
        "",
    ]
    return "\n".join(lines)
