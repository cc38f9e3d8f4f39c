"""Reads the tables that users and stages name: a folder, parquet, JSONL, JSON or a Hub id."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Any, Literal, NoReturn, cast

from align.artifacts import is_unfinished, read_parquet, read_shards, shard_paths
from align.errors import InputError

Row = dict[str, Any]
BadRow = Callable[[str, str], None]
"""Is told of a row that can't be read: its place, and why."""

_TABLE_ENDINGS = (".parquet", ".jsonl", ".jsonl.gz", ".json")
_OTHER_DATA = (
    *(".csv", ".tsv", ".arrow", ".feather", ".avro", ".orc", ".ndjson", ".xlsx"),
    *(".gz", ".zst", ".xz", ".bz2", ".lz4", ".zip", ".tar"),
)
_BOM = b"\xef\xbb\xbf"
_CHUNK = 1 << 16


def resolve_table(location: str | Path, base: Path | None = None) -> Path | None:
    """Returns the local path that a table's name stands for, or None where it is a Hub id.

    Looked up in this order: as given, below `base` (the recipe's folder), below `$ALIGN_DATA`.
    """
    path = Path(location)
    candidates = [path] if path.is_absolute() else [path, *([base / path] if base else [])]
    if (data := os.environ.get("ALIGN_DATA")) and not path.is_absolute():
        candidates.append(Path(data) / path)
    return next((candidate for candidate in candidates if candidate.exists()), None)


def looks_like_hub_id(name: str) -> bool:
    """Tells whether a name has the form `owner/name` of a Hub id."""
    return (
        name.count("/") == 1
        and not name.startswith((".", "/"))
        and not name.endswith("/")
        and not Path(name).suffix[1:].isalpha()
    )


def read_rows(
    location: str | Path,
    on_bad: BadRow | None = None,
    *,
    split: str = "train",
    subset: str | None = None,
) -> Iterator[tuple[str, Row]]:
    """Yields (place, row) of a table; `place` names file and line or row for error messages.

    A folder is read by its shards, or else by all parquet, JSONL and JSON files in it and below, in
    order. Files are read piece by piece, so that memory does not grow with them.

    Args:
        location: A path, or a Hub id.
        on_bad: Is told of each row that can't be read, and reading goes on. Without it the first
            such row is an error.
        split: Split of a Hub data set.
        subset: Subset (configuration) of a Hub data set.

    Raises:
        InputError: Nothing is there, or a line or file can't be read.
    """
    bad = on_bad or _refuse
    path = resolve_table(location)
    if path is None:
        yield from _read_hub(str(location), split, subset)
    elif path.is_dir():
        if is_unfinished(path):
            raise InputError(
                f"{path} is not done: the stage that writes it is at work, or was stopped; give "
                "its command again"
            )
        if shard_paths(path):
            for index, row in enumerate(read_shards(path)):
                yield f"{path} row {index}", row
            return
        for name in _tables_below(path):
            yield from read_rows(name, on_bad)
    elif path.suffix == ".parquet":
        for index, row in enumerate(read_parquet(path)):
            yield f"{path} row {index}", row
    elif path.name.endswith((".jsonl", ".jsonl.gz")):
        yield from _read_jsonl(path, bad)
    elif path.suffix == ".json":
        yield from _read_json(path, bad)
    else:
        raise InputError(f"{path}: give a folder of shards, .parquet, .jsonl, .jsonl.gz or .json")


def read_samples(location: Path, needed: Collection[str]) -> Iterator[tuple[str, Row]]:
    """Yields (place, row) of a table of samples, as `align sample` writes it.

    Args:
        location: The table.
        needed: Columns that must hold something.

    Raises:
        InputError: It can't be read, a row lacks a column, or two samples have one id.
    """
    places: dict[str, str] = {}
    for place, row in read_rows(location):
        if missing := [name for name in needed if row.get(name) is None]:
            raise InputError(
                f"{place}: {', '.join(missing)} is missing: samples are read here as `align "
                "sample` writes them"
            )
        first = places.setdefault(row["sample_id"], place)
        if first != place:
            raise InputError(
                f"{place}: sample {row['sample_id']} stands already at {first}; give every sample "
                "its own sample_id"
            )
        yield place, row


def read_by_sample(table: Path | None, kind: Literal["verdict", "judgement"]) -> dict[str, Row]:
    """Returns the rows of a table of verdicts or judgements by their sample's id.

    Args:
        table: The table; None is an empty one.
        kind: What its rows are.

    Raises:
        InputError: It can't be read, a row names no sample or is no such row, or two rows are of
            one sample.
    """
    mark = {"verdict": "outcome", "judgement": "status"}[kind]
    found: dict[str, tuple[str, Row]] = {}
    for place, row in read_rows(table) if table else ():
        if not isinstance(name := row.get("sample_id"), str):
            raise InputError(f"{place}: sample_id is missing: the row says nothing of any sample")
        if row.get(mark) is None:
            raise InputError(f"{place}: {mark} is missing: this is no table of {kind}s")
        if name in found:
            raise InputError(
                f"{place}: sample {name} stands already at {found[name][0]}; keep one row of each "
                "sample, for two may say different things"
            )
        found[name] = (place, row)
    return {name: row for name, (_, row) in found.items()}


def read_tasks(table: Path) -> dict[str, Row]:
    """Returns the rows of a table of tasks by their id.

    Raises:
        InputError: It can't be read, or a row has no task_id.
    """
    found: dict[str, Row] = {}
    for place, row in read_rows(table):
        if not isinstance(task_id := row.get("task_id"), str):
            raise InputError(f"{place}: task_id is missing: this is no table of tasks")
        found[task_id] = row
    return found


def _tables_below(folder: Path) -> list[Path]:
    """Returns the tables of a folder and of those in it, in order; nothing hidden.

    Raises:
        InputError: There is none, or there is data of a kind that would be passed over.
    """
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    tables = [path for path in files if path.name.endswith(_TABLE_ENDINGS)]
    read = set(tables)
    others = [path for path in files if path.name.endswith(_OTHER_DATA) and path not in read]
    if others:
        raise InputError(
            f"{others[0]} is of a kind that is not read ({', '.join(_TABLE_ENDINGS)} are): convert "
            f"it, move it out of {folder}, or name the files that are meant one by one"
        )
    if not tables:
        raise InputError(f"{folder} holds no parquet, JSONL or JSON; name the folder that does")
    return tables


def _refuse(place: str, reason: str) -> NoReturn:
    raise InputError(f"{place} {reason}")


def _read_jsonl(path: Path, bad: BadRow) -> Iterator[tuple[str, Row]]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with cast(IO[bytes], opener(path, "rb")) as stream:
            for number, line in enumerate(stream, start=1):
                if number == 1:
                    line = line.removeprefix(_BOM)
                if not line.strip():
                    continue
                place = f"{path}:{number}"
                try:
                    row = json.loads(line.decode())
                except UnicodeDecodeError as error:
                    bad(place, f"is no UTF-8: byte {error.start} of the line")
                except (ValueError, RecursionError) as error:
                    bad(place, f"is no JSON: {error}")
                else:
                    if isinstance(row, dict):
                        yield place, row
                    else:
                        bad(place, f"must be a JSON object, not {type(row).__name__}")
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} can't be read: {error}") from error


def _read_json(path: Path, bad: BadRow) -> Iterator[tuple[str, Row]]:
    try:
        with path.open(encoding="utf-8-sig") as stream:
            first = next((line.lstrip() for line in stream if line.strip()), "")
        if not first.startswith("["):
            # Many files named .json hold one object a line.
            if not first.startswith("{"):
                raise InputError(f"{path}: expected a JSON list of objects, or one object a line")
            yield from _read_jsonl(path, bad)
            return
        with path.open(encoding="utf-8-sig") as stream:
            line_before, nth = 0, 1
            for line_number, value in _list_items(stream, path):
                nth = nth + 1 if line_number == line_before else 1
                line_before = line_number
                place = f"{path}:{line_number}" + (f" item {nth}" if nth > 1 else "")
                if isinstance(value, dict):
                    yield place, value
                else:
                    bad(place, f"must be a JSON object, not {type(value).__name__}")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read as JSON: {error}") from error


def _list_items(stream: IO[str], path: Path) -> Iterator[tuple[int, Any]]:
    """Yields (line, item) of one JSON list without holding more than an item in memory."""
    decoder = json.JSONDecoder()
    text, line = "", 1
    wanted = _CHUNK
    opened = False
    while True:
        chunk = stream.read(wanted)
        text += chunk
        position = 0
        while True:
            start = position
            while position < len(text) and (text[position] in " \t\r\n," or not opened):
                opened = opened or text[position] == "["
                position += 1
            line += text.count("\n", start, position)
            if position == len(text):
                break
            if text[position] == "]":
                _check_end(stream, text[position + 1 :], f"{path}:{line}")
                return
            try:
                value, end = decoder.raw_decode(text, position)
            except (json.JSONDecodeError, RecursionError) as error:
                if chunk:
                    break  # the item may go on in what was not read yet
                raise InputError(f"{path}:{line} is no JSON from here on: {error}") from error
            if end == len(text) and chunk:
                break  # a number may go on
            yield line, value
            line += text.count("\n", position, end)
            position = end
        if not chunk:
            raise InputError(f"{path}:{line} ends before its list does: the file was cut")
        # An item that is longer than what was read is parsed again: then read as much once more.
        text = text[position:]
        wanted = max(_CHUNK, len(text))


def _check_end(stream: IO[str], rest: str, place: str) -> None:
    """Refuses a list that something stands behind: it would be lost."""
    while rest or (rest := stream.read(_CHUNK)):
        if rest.strip():
            raise InputError(
                f"{place} ends its list, and more stands behind it ({rest.strip()[:20]!r}): a file "
                "holds one list; join them, or write one object a line and name it .jsonl"
            )
        rest = ""


def _read_hub(name: str, split: str, subset: str | None) -> Iterator[tuple[str, Row]]:
    if not looks_like_hub_id(name):
        raise InputError(f"{name} is not there (nor below $ALIGN_DATA), and is no Hub id either")
    import datasets

    try:
        rows = datasets.load_dataset(name, subset, split=split, streaming=True)
        for index, row in enumerate(rows):
            yield f"{name} row {index}", dict(row)
    except Exception as error:  # the hub's client raises errors of many roots
        raise InputError(
            f"{name} is no path here (nor below $ALIGN_DATA), and can't be read from the Hub: "
            f"{error}"
        ) from error
