"""Copies what a report of a run needs, and its samples, verdicts and pairs, but no weights.

    python scripts/keep_run.py runs/seed-1 docs/results/seeds/seed-1

`align report` of the copy shows what the run's own report shows. Each table becomes one file. Of
the evaluations' samples the prompts and token ids are left out, and of the log what was skipped:
both can be made again. Paths of the machine become `$ALIGN_DATA`, `~` or relative ones.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_FILES = ("identity.json", "manifest.json", "result.json")
_TABLES = ("samples", "verdicts", "judgements", "pairs")
_PROMPTS = ("messages", "token_ids")


def keep(run: Path, target: Path) -> None:
    """Copies the stages of `run` that are done to `target`, which must not be there yet."""
    target.mkdir(parents=True)
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    log = "".join(line for line in lines if '"event": "skip"' not in line)
    (target / "log.jsonl").write_text(_without_paths(log), encoding="utf-8")
    for manifest in sorted(run.glob("*/manifest.json")):
        stage = manifest.parent
        copy = target / stage.name
        copy.mkdir()
        for path in filter(Path.exists, (stage / name for name in _FILES)):
            text = _without_paths(path.read_text(encoding="utf-8"))
            (copy / path.name).write_text(text, encoding="utf-8")
        for table in _TABLES:
            if shards := sorted((stage / table).glob("shard-*.parquet")):
                _pack(shards, copy / table, short=stage.name.startswith("eval."))


def _without_paths(text: str) -> str:
    places = {
        os.environ.get("ALIGN_DATA"): "$ALIGN_DATA",
        str(Path.cwd()): ".",
        str(Path.home()): "~",
    }
    for place, name in places.items():
        if place:
            text = text.replace(place, name)
    return text


def _pack(shards: list[Path], folder: Path, short: bool) -> None:
    table = pa.concat_tables(pq.read_table(shard) for shard in shards)
    if short:
        table = table.drop_columns([name for name in _PROMPTS if name in table.column_names])
    folder.mkdir()
    target = folder / "shard-00000.parquet"
    pq.write_table(table, target, compression="zstd", compression_level=19)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    run, target = map(Path, sys.argv[1:])
    if target.exists():
        sys.exit(f"error: {target} is there already")
    keep(run, target)
