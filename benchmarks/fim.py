"""How fast source files become FIM rows, on one core, and how much memory it takes.

    python -m benchmarks.fim --model Qwen/Qwen2.5-Coder-0.5B --megabytes 50

Reads real files (by default the installed packages), cleans, parses and cuts them as the stage
does, one row a file, and prints the rate over time, the peak of the memory, and how many files were
left out by which reason. Time is the process's own: other work on the machine counts less.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections import Counter
from pathlib import Path
from typing import Any, cast

from align.chat import Tokenizer
from align.checkpoint import resolve_model
from align.fim.corpus import list_corpus
from align.fim.cutting import Cutter
from align.settings import FimSettings
from benchmarks.tables import print_machine, print_table

_PARTS = 5
_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_mib() -> float:
    """Returns the memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE / 2**20


def measure(settings: FimSettings, tokenizer: Tokenizer, megabytes: float) -> None:
    """Cuts rows until so much source was read; prints what it took."""
    left_out: Counter[str] = Counter()

    def skip(kind: str, place: str, reason: str) -> None:
        del place, reason
        left_out[kind] += 1

    started = time.process_time()
    files, others = list_corpus(settings, skip)
    left_out.update(others)
    print(f"listed {len(files)} files in {time.process_time() - started:.1f} s of one core")
    listed = Counter(left_out)
    cutter = Cutter(files, settings, tokenizer, 0, skip)
    levels: Counter[str] = Counter()
    lines: list[list[object]] = []
    part = megabytes / _PARTS
    started = last = time.process_time()
    for cut in cutter.rows():
        levels[cut.level] += 1
        done = cutter.counts["bytes_read"] / 1e6
        if done >= part * (len(lines) + 1):
            now = time.process_time()
            rate = part / (now - last)
            lines.append([f"{done:.1f}", levels.total(), f"{rate:.2f}", f"{resident_mib():.0f}"])
            last = now
        if len(lines) == _PARTS:
            break
    seconds = time.process_time() - started
    print_table(["MB read", "rows", "MB/s", "MiB resident"], lines)
    read = cutter.counts["bytes_read"] / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{read:.1f} MB in {seconds:.1f} s of one core: {read / seconds:.2f} MB/s; "
        f"{cutter.counts['files_read']} files read, {cutter.counts['unparsable']} don't parse, "
        f"{levels.total()} rows; peak {peak:.0f} MiB"
    )
    print_table(["left out", "files"], sorted((left_out - listed).items()))
    print_table(["left out unread", "files"], sorted(listed.items()))
    print_table(["level", "rows"], sorted(levels.items()))


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", default="Qwen/Qwen2.5-Coder-0.5B")
    parser.add_argument("--corpus", action="append", default=None)
    parser.add_argument("--languages", default="python,c,cpp,javascript")
    parser.add_argument("--megabytes", type=float, default=50.0)
    arguments = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(resolve_model(arguments.model))
    settings = FimSettings(
        corpus=arguments.corpus or ["installed"],
        languages=arguments.languages.split(","),
        rows=10**9,
    )
    print_machine()
    measure(settings, cast(Tokenizer, tokenizer), arguments.megabytes)


if __name__ == "__main__":
    main()
