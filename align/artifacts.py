"""What a stage writes: tables of shards, an append-only journal, a manifest, content hashes.

A table is a folder of parquet shards. A shard is written to a temporary file, fsynced and renamed;
it is done if and only if it is there and its footer names the identity (config hash and input
hashes) of the stage instance. Rows that are not in a shard yet stand in `journal.jsonl`, one line
a row, flushed as they come, so that a killed process loses no finished row. The content hash of a
table does not depend on the order of its rows, on how they fall into shards, or on timings.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from align.errors import ArtifactError, InputError
from align.idset import IdSet

Row = dict[str, Any]

#: Measurements that differ between two equal runs; left out of every content hash.
VOLATILE_COLUMNS = frozenset({"cpu_ms", "wall_ms", "peak_bytes", "test_ms", "run_cpu_ms"})

_FOOTER = b"align"
_JOURNAL = "journal.jsonl"
_MODULUS = 1 << 256


def canonical_json(value: Any) -> str:
    """Returns the one JSON text of a plain value (sorted keys, no blanks)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256_text(text: str) -> str:
    """Returns the hex SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Returns the hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def short_id(prefix: str, *parts: Any) -> str:
    """Returns a row id: the prefix and 20 hex digits of the hash of the parts."""
    return f"{prefix}-{sha256_text(canonical_json(parts))[:20]}"


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file so that after a crash it is either whole or as it was before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _fsync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically, indented for people."""
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True)
class Identity:
    """What a stage instance is made from; two runs with one identity may share their shards.

    Attributes:
        instance: The instance's id in the run, for example `sample.r1`.
        config_sha: Hash of the stage's settings and of everything else that can change its rows.
        inputs: Content hash of each named input.
    """

    instance: str
    config_sha: str
    inputs: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Returns the plain form that stands in footers and manifests."""
        return {
            "instance": self.instance,
            "config_sha": self.config_sha,
            "inputs": dict(self.inputs),
        }


@dataclass
class ContentHash:
    """Order-free hash of rows: the sum of their hashes modulo 2**256, and their number."""

    total: int = 0
    rows: int = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Takes a row in; columns of `VOLATILE_COLUMNS` do not count."""
        stable = {key: value for key, value in row.items() if key not in VOLATILE_COLUMNS}
        self.total = (self.total + int(sha256_text(canonical_json(stable)), 16)) % _MODULUS
        self.rows += 1

    def merge(self, other: ContentHash) -> None:
        """Takes in the rows of another hash."""
        self.total = (self.total + other.total) % _MODULUS
        self.rows += other.rows

    def hexdigest(self) -> str:
        """Returns the hash as 64 hex digits."""
        return sha256_text(f"{self.rows}:{self.total:x}")


class TableWriter:
    """Writes the rows of one table; opened again after a crash, it goes on where it stopped.

    Use it as a context manager. Leaving it without an error closes the last shard; leaving it by an
    error keeps the journal, so that nothing is lost.

    Args:
        folder: The table's folder; made when missing.
        schema: Arrow schema of the rows.
        id_column: The column that no two rows share.
        identity: Identity of the stage instance that writes.
        shard_rows: A shard closes at this many rows.
        shard_seconds: A shard also closes when its first row is this old, in seconds.

    Raises:
        ArtifactError: The folder holds shards of another identity, or a broken shard.
    """

    def __init__(
        self,
        folder: Path,
        schema: pa.Schema,
        id_column: str,
        identity: Identity,
        *,
        shard_rows: int = 5000,
        shard_seconds: float = 60.0,
    ) -> None:
        self.folder = folder
        self._schema = schema
        self.id_column = id_column
        self._identity = identity
        self._shard_rows = shard_rows
        self._shard_seconds = shard_seconds
        self._pending: list[Row] = []
        self._first_pending = 0.0
        self._next_shard = 0
        self._hash = ContentHash()
        self.done = IdSet()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArtifactError(f"{folder} can't be made: {error}") from error
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink()
        self._load_shards()
        self._load_journal()
        # Unbuffered: a finished row is in the kernel's hands when `add` returns, and a full disk
        # shows there, not when the file is closed.
        self._journal: io.RawIOBase = (folder / _JOURNAL).open("ab", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and (self._pending or self._next_shard == 0):
                self._close_shard()  # an empty table is one empty shard
        finally:
            self._journal.close()
        if kind is None:
            (self.folder / _JOURNAL).unlink(missing_ok=True)

    @property
    def rows(self) -> int:
        """Rows written so far, those of earlier attempts included."""
        return len(self.done)

    def add(self, row: Mapping[str, Any]) -> None:
        """Takes a finished row; once this returns, a killed process does not lose it.

        Raises:
            ArtifactError: The id is there already, or the disk refused the row.
        """
        missing = [name for name in self._schema.names if name not in row]
        unknown = [name for name in row if name not in self._schema.names]
        if missing or unknown:
            raise ArtifactError(
                f"{self.folder}: a row does not fit its table: missing {missing}, unknown {unknown}"
            )
        row_id = str(row[self.id_column])
        if row_id in self.done:
            raise ArtifactError(f"{self.folder}: two rows with the id {row_id}")
        try:
            line = (json.dumps(dict(row), ensure_ascii=False) + "\n").encode()
            if self._journal.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise ArtifactError(
                f"{self.folder}: the disk refused a row ({error.strerror}); what was written "
                "before is kept: make room and run the same command again"
            ) from error
        self._take(dict(row))
        aged = time.monotonic() - self._first_pending >= self._shard_seconds
        if len(self._pending) >= self._shard_rows or aged:
            self._close_shard()

    def _take(self, row: Row) -> None:
        if not self._pending:
            self._first_pending = time.monotonic()
        self._pending.append(row)
        self.done.add(str(row[self.id_column]))

    def _load_shards(self) -> None:
        for path in shard_paths(self.folder):
            footer = read_footer(path)
            if footer["identity"] != self._identity.as_dict():
                raise ArtifactError(
                    f"{path} was made from other settings or inputs than the present ones; "
                    f"move {self.folder} away, or give another --out"
                )
            column = pq.read_table(path, columns=[self.id_column]).column(0)
            for value in column.to_pylist():
                self.done.add(str(value))
            self._hash.merge(ContentHash(int(footer["hash"], 16), int(footer["rows"])))
            self._next_shard = int(path.stem.rsplit("-", 1)[1]) + 1

    def _load_journal(self) -> None:
        path = self.folder / _JOURNAL
        if not path.exists():
            return
        kept: list[str] = []
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                row = json.loads(line)
            except ValueError:
                break  # the end, or the last line of a killed process, which may be torn
            if str(row[self.id_column]) in self.done:
                continue  # its shard was renamed before the journal was emptied
            kept.append(line)
            self._take(row)
        write_atomic(path, "".join(line + "\n" for line in kept).encode())

    def _close_shard(self) -> None:
        content = ContentHash()
        for row in self._pending:
            content.add(row)
        footer = {
            "identity": self._identity.as_dict(),
            "rows": content.rows,
            "hash": f"{content.total:x}",
        }
        path = self.folder / f"shard-{self._next_shard:05d}.parquet"
        write_parquet(path, self._pending, self._schema, footer)
        self._next_shard += 1
        self._hash.merge(content)
        self._pending = []
        self._journal.truncate(0)

    def content_sha(self) -> str:
        """Returns the content hash of all closed shards."""
        return self._hash.hexdigest()


def write_parquet(
    path: Path, rows: list[Row], schema: pa.Schema, footer: Mapping[str, Any] | None = None
) -> None:
    """Writes rows to one zstd parquet file, atomically.

    Raises:
        ArtifactError: The disk is full or refuses the file, or a row does not fit the schema.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    metadata = {} if footer is None else {_FOOTER: canonical_json(footer).encode()}
    try:
        table = pa.Table.from_pylist(rows, schema=schema.with_metadata(metadata))
        with temporary.open("wb") as stream:
            pq.write_table(table, stream, compression="zstd")
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ArtifactError(
            f"{path} can't be written ({error.strerror or error}); what was written before is "
            "kept: make room and run the same command again"
        ) from error
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ArtifactError(f"{path}: a row does not fit its table: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    _fsync_folder(path.parent)


def read_footer(path: Path) -> dict[str, Any]:
    """Returns align's own part of a shard's footer.

    Raises:
        ArtifactError: The file is not a whole shard of ours.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
        footer: dict[str, Any] = json.loads(metadata[_FOOTER])
    except (OSError, pa.ArrowInvalid, KeyError, ValueError) as error:
        raise ArtifactError(
            f"{path} is no whole shard: {error}; delete it and run again"
        ) from error
    return footer


def shard_paths(folder: Path) -> list[Path]:
    """Returns the shards of a table in their order."""
    return sorted(folder.glob("shard-*.parquet"))


def table_hash(rows: Iterable[Mapping[str, Any]]) -> str:
    """Returns the content hash of rows, equal to that of a table which holds them."""
    content = ContentHash()
    for row in rows:
        content.add(row)
    return content.hexdigest()


def is_unfinished(folder: Path) -> bool:
    """Says whether a folder is a table that a stage is writing, or was killed in writing."""
    return (folder / _JOURNAL).exists()


def read_shards(folder: Path) -> Iterator[Row]:
    """Yields the rows of a table folder, shard by shard.

    Raises:
        InputError: The folder holds no shard, or one can't be read.
    """
    paths = shard_paths(folder)
    if not paths:
        raise InputError(
            f"{folder} holds no shard-*.parquet: it is no table, or it is not done yet"
        )
    for path in paths:
        yield from read_parquet(path)


def read_parquet(path: Path) -> Iterator[Row]:
    """Yields the rows of one parquet file in batches.

    Raises:
        InputError: The file is no readable parquet.
    """
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path} can't be read as parquet: {error}") from error
