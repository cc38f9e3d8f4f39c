"""HumanEvalPack's right and buggy solutions as tasks and samples, to measure a judge on.

ALIGN_DATA=FOLDER python -m benchmarks.humanevalpack_samples --out pack
align verify --tasks pack/tasks.jsonl --samples pack/samples.jsonl --out pack/verdicts.parquet
align judge calibrate --model JUDGE --tasks pack/tasks.jsonl --samples pack/samples.jsonl \
    --verdicts pack/verdicts.parquet --rubric preference --out calibrated
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from align.benchmark_files import benchmark_rows


def main() -> None:
    """Write tasks.jsonl and samples.jsonl."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    tasks, samples = [], []
    for _, row in benchmark_rows("humanevalpack_repair"):
        task_id = row["task_id"]
        head = row["declaration"]
        tasks.append(
            {
                "task_id": task_id,
                "messages": [{"role": "user", "content": row["instruction"]}],
                "entry_point": row["entry_point"],
                "tests": {"kind": "script", "code": row["test"]},
                "reference": row["prompt"] + row["canonical_solution"],
            }
        )
        for index, key in enumerate(("canonical_solution", "buggy_solution")):
            code = head + row[key]
            sample_id = f"{task_id} {key}"
            samples.append(
                {
                    "sample_id": sample_id,
                    "task_id": task_id,
                    "sample_index": index,
                    "text": code,
                    "code": code,
                }
            )
    options.out.mkdir(parents=True, exist_ok=True)
    for name, rows in (("tasks", tasks), ("samples", samples)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (options.out / f"{name}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
