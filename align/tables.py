"""Reads the tables that users and stages name: a folder, parquet, JSONL, JSON or a Hub id."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from align.artifacts import read_parquet, read_shards, shard_paths
from align.errors import InputError

Row = dict[str, Any]


def resolve_table(location: str | Path, base: Path | None = None) -> Path | None:
    """Returns the local path that a table's name stands for, or None where it is a Hub id.

    Looked up in this order: as given, below `base` (the recipe's folder), below `$ALIGN_DATA`.
    """
    path = Path(location)
    candidates = [path] if path.is_absolute() else [path, *([base / path] if base else [])]
    if (data := os.environ.get("ALIGN_DATA")) and not path.is_absolute():
        candidates.append(Path(data) / path)
    return next((candidate for candidate in candidates if candidate.exists()), None)


def read_rows(location: str | Path) -> Iterator[tuple[str, Row]]:
    """Yields (place, row) of a table; `place` names file and line or row for error messages.

    A folder is read by its shards, or else by all its parquet and JSONL files in order.

    Raises:
        InputError: Nothing is there, or a line or file can't be read.
    """
    path = resolve_table(location)
    if path is None:
        yield from _read_hub(str(location))
    elif path.is_dir():
        if shard_paths(path):
            for index, row in enumerate(read_shards(path)):
                yield f"{path} row {index}", row
            return
        names = [p for p in sorted(path.iterdir()) if _reader_known(p)]
        if not names:
            raise InputError(f"{path} holds no parquet or JSONL file")
        for name in names:
            yield from read_rows(name)
    elif path.suffix == ".parquet":
        for index, row in enumerate(read_parquet(path)):
            yield f"{path} row {index}", row
    elif path.name.endswith((".jsonl", ".jsonl.gz")):
        yield from _read_jsonl(path)
    elif path.suffix == ".json":
        yield from _read_json(path)
    else:
        raise InputError(f"{path}: give a folder of shards, .parquet, .jsonl, .jsonl.gz or .json")


def _reader_known(path: Path) -> bool:
    return path.name.endswith((".parquet", ".jsonl", ".jsonl.gz"))


def _read_jsonl(path: Path) -> Iterator[tuple[str, Row]]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with cast(IO[str], opener(path, "rt", encoding="utf-8")) as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield f"{path}:{number}", _parse_object(line, f"{path}:{number}")
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise InputError(f"{path} can't be read: {error}") from error


def _parse_object(line: str, place: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{place} is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise InputError(f"{place}: a row must be a JSON object, not {type(row).__name__}")
    return row


def _read_json(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read as JSON: {error}") from error
    if not isinstance(rows, list):
        raise InputError(f"{path}: expected a JSON list of objects")
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InputError(f"{path} row {index}: a row must be a JSON object")
        yield f"{path} row {index}", row


def _read_hub(name: str) -> Iterator[tuple[str, Row]]:
    if name.count("/") != 1 or name.startswith((".", "/")) or Path(name).suffix:
        raise InputError(f"{name} is not there (nor below $ALIGN_DATA), and is no Hub id either")
    import datasets

    try:
        rows = datasets.load_dataset(name, split="train", streaming=True)
        for index, row in enumerate(rows):
            yield f"{name} row {index}", dict(row)
    except Exception as error:  # the hub's client raises errors of many roots
        raise InputError(f"{name} can't be read from the hub: {error}") from error
