"""Measures the data stage: memory and speed by number of rows, tokens and masks by megabyte.

    python -m benchmarks.data --rows 10000,100000,1000000 --model Qwen/Qwen2.5-Coder-0.5B

Rows are the demo's, with many of their words changed, so that they are no duplicates; one in fifty
repeats an earlier one. Each size is a process of its own, because peak memory never falls.
`tokenise` compares `encode_chat` with what the tokenizer does with the same texts when nothing else
is asked.
"""

from __future__ import annotations

import argparse
import importlib.resources
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from benchmarks.tables import print_machine, print_table

_REPEATED = 0.02
_TOKENISED_BYTES = 4_000_000
_ROUNDS = 3


def synthetic_rows(count: int) -> Iterator[dict[str, Any]]:
    source = importlib.resources.files("recipes") / "demo/instructions.jsonl"
    base = [json.loads(line)["messages"] for line in source.read_text("utf-8").splitlines()]
    chooser = random.Random(0)

    def other(match: re.Match[str]) -> str:
        return match[0] if chooser.random() < 0.5 else f"{match[0]}{chooser.randrange(1000)}"

    messages: list[dict[str, str]] = []
    for number in range(count):
        if not number or chooser.random() > _REPEATED:
            # Fences keep their names, or every language would be unknown.
            messages = [
                {
                    "role": turn["role"],
                    "content": re.sub(
                        r"```\w+|[a-z]\w{2,}",
                        lambda match: match[0] if match[0].startswith("`") else other(match),
                        turn["content"],
                    ),
                }
                for turn in base[number % len(base)]
            ]
        yield {"messages": messages}


def run_stage(table: Path, out: Path) -> dict[str, float]:
    """Run the stage here and say what this process needed."""
    from align.artifacts import Identity
    from align.data import run
    from align.settings import DataSettings
    from align.stage import Output

    out.mkdir()
    settings = DataSettings.model_validate({"rows": [str(table)]})
    context = cast(Any, _Quiet())
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began, cpu = time.perf_counter(), time.process_time()
    summary = run(settings, {"rows.0": table}, Output(out, Identity("data", "benchmark")), context)
    return {
        "kept": summary.counts["rows"],
        "seconds": time.perf_counter() - began,
        "cpu_s": time.process_time() - cpu,
        "idle_mib": idle,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


class _Quiet:
    """The run around the stage, without a log or bars."""

    seed = 0

    def log(self, event: str, **fields: Any) -> None: ...

    def warn(self, message: str) -> None: ...

    @contextmanager
    def progress(self, title: str, total: int | None) -> Iterator[_Quiet]:
        yield self

    def advance(self, steps: int = 1) -> None: ...


def measure_stage(sizes: list[int], work: Path) -> list[dict[str, Any]]:
    found = []
    for size in sizes:
        table, out = work / "rows.jsonl", work / f"out-{size}"
        with table.open("w", encoding="utf-8") as stream:
            for row in synthetic_rows(size):
                stream.write(json.dumps(row) + "\n")
        command = [sys.executable, "-m", "benchmarks.data", "--stage", str(table), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        megabytes = table.stat().st_size / 1e6
        found.append({"rows": size, "megabytes": megabytes, **json.loads(done.stdout)})
    return found


def measure_tokens(model: str) -> dict[str, float]:
    """Megabytes of UTF-8 content a second on one core, best of some rounds."""
    from align.chat import encode_chat
    from align.checkpoint import resolve_model
    from align.showing import load_tokenizer

    tokenizer = load_tokenizer(resolve_model(model))
    rows = [row["messages"] for row in synthetic_rows(3000)]
    size, taken = 0, []
    for messages in rows:
        size += sum(len(turn["content"].encode()) for turn in messages)
        taken.append(messages)
        if size > _TOKENISED_BYTES:
            break
    texts = [turn["content"] for messages in taken for turn in messages]
    backend = cast(Any, tokenizer).backend_tokenizer
    encode_chat(tokenizer, taken[0])  # its probe of the template is done once

    def rate(work: Any) -> float:
        best = float("inf")
        for _ in range(_ROUNDS):
            began = time.process_time()
            work()
            best = min(best, time.process_time() - began)
        return size / 1e6 / best

    limit = rate(lambda: [backend.encode(text, add_special_tokens=False) for text in texts])
    batch = rate(lambda: backend.encode_batch_fast(texts, add_special_tokens=False))
    ours = rate(lambda: [encode_chat(tokenizer, messages) for messages in taken])
    return {"megabytes": size / 1e6, "encode_chat": ours, "one_by_one": limit, "batch": batch}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="10000,100000,1000000")
    parser.add_argument("--model", help="also measure tokenising, with this model's tokenizer")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--stage", nargs=2, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        print(json.dumps(run_stage(*given.stage)))
        return
    print_machine()
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as work:
        sizes = [int(size) for size in given.rows.split(",") if size]
        result["stage"] = measure_stage(sizes, Path(work))
    head = ("rows", "MB", "kept", "s", "rows/s", "MB/s a core", "peak MiB", "above idle")
    print_table(
        head,
        [
            (
                f"{row['rows']:,}",
                f"{row['megabytes']:.0f}",
                f"{row['kept']:,}",
                f"{row['seconds']:.0f}",
                f"{row['rows'] / row['seconds']:.0f}",
                f"{row['megabytes'] / row['cpu_s']:.2f}",
                f"{row['peak_mib']:.0f}",
                f"{row['peak_mib'] - row['idle_mib']:.0f}",
            )
            for row in result["stage"]
        ],
    )
    if given.model:
        result["tokenise"] = measure_tokens(given.model)
        print()
        print_table(
            ("tokenise", "MB/s a core"),
            [
                (name, f"{result['tokenise'][name]:.2f}")
                for name in ("encode_chat", "one_by_one", "batch")
            ],
        )
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
