"""Tables: shards, journal, crash and resume, content hashes."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from align.artifacts import Identity, TableWriter, read_footer, read_shards, shard_paths, table_hash
from align.errors import ArtifactError, InputError

SCHEMA = pa.schema([("id", pa.string()), ("value", pa.int64()), ("wall_ms", pa.float64())])
IDENTITY = Identity("stage.x", "config", {"rows": "input"})


def row(number: int, wall_ms: float = 0.0) -> dict[str, Any]:
    return {"id": f"r{number}", "value": number, "wall_ms": wall_ms}


def open_table(folder: Path, identity: Identity = IDENTITY, shard_rows: int = 3) -> TableWriter:
    return TableWriter(folder, SCHEMA, "id", identity, shard_rows=shard_rows)


def test_shards_close_at_their_size_and_name_their_identity(tmp_path: Path) -> None:
    with open_table(tmp_path) as writer:
        for number in range(7):
            writer.add(row(number))
    assert [len(list(read_shards_of(path))) for path in shard_paths(tmp_path)] == [3, 3, 1]
    assert read_footer(shard_paths(tmp_path)[0])["identity"] == IDENTITY.as_dict()
    assert not (tmp_path / "journal.jsonl").exists()
    assert [r["value"] for r in read_shards(tmp_path)] == list(range(7))


def read_shards_of(path: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()


def test_a_shard_closes_when_it_is_old(tmp_path: Path) -> None:
    with TableWriter(tmp_path, SCHEMA, "id", IDENTITY, shard_seconds=0.0) as writer:
        writer.add(row(0))
        assert len(shard_paths(tmp_path)) == 1


def test_an_error_keeps_the_rows_in_the_journal(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), open_table(tmp_path) as writer:
        for number in range(4):
            writer.add(row(number))
        raise RuntimeError("the stage failed")
    with open_table(tmp_path) as writer:
        assert all(f"r{number}" in writer.done for number in range(4))
        assert writer.rows == 4
        writer.add(row(4))
    assert sorted(r["value"] for r in read_shards(tmp_path)) == [0, 1, 2, 3, 4]


def test_a_process_killed_while_writing_loses_no_finished_row(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, signal, sys
        sys.path.insert(0, os.getcwd())
        from pathlib import Path
        from tests.test_artifacts import open_table, row
        writer = open_table(Path(sys.argv[1])).__enter__()
        for number in range(5):
            writer.add(row(number))
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    with open_table(tmp_path) as writer:
        assert writer.rows == 5


def test_a_torn_last_line_is_dropped_and_the_rest_kept(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), open_table(tmp_path, shard_rows=100) as writer:
        writer.add(row(0))
        writer.add(row(1))
        raise KeyboardInterrupt
    journal = tmp_path / "journal.jsonl"
    journal.write_text(journal.read_text(encoding="utf-8")[:-10], encoding="utf-8")
    with open_table(tmp_path) as writer:
        assert "r0" in writer.done
        assert writer.rows == 1
        writer.add(row(1))
    assert sorted(r["id"] for r in read_shards(tmp_path)) == ["r0", "r1"]


def test_line_ends_of_unicode_in_a_row_end_no_line_of_the_journal(tmp_path: Path) -> None:
    names = ["a\u2028b", "c\u2029d", "e\x85f", "g\x1ch", "i\rj"]
    with pytest.raises(KeyboardInterrupt), open_table(tmp_path, shard_rows=100) as writer:
        for name in names:
            writer.add(row(0) | {"id": name})
        raise KeyboardInterrupt
    with open_table(tmp_path) as writer:
        assert all(name in writer.done for name in names)
    assert sorted(r["id"] for r in read_shards(tmp_path)) == sorted(names)


def test_a_kill_between_the_shard_and_the_journal_makes_no_row_twice(tmp_path: Path) -> None:
    with open_table(tmp_path) as writer:
        for number in range(3):
            writer.add(row(number))
    lines = [json.dumps(row(number)) + "\n" for number in range(3)]
    (tmp_path / "journal.jsonl").write_text("".join(lines), encoding="utf-8")
    with open_table(tmp_path) as writer:
        writer.add(row(3))
    assert [r["value"] for r in read_shards(tmp_path)] == [0, 1, 2, 3]


def test_half_written_shards_are_cleared(tmp_path: Path) -> None:
    (tmp_path / ".shard-00000.parquet.99.tmp").write_bytes(b"half")
    with open_table(tmp_path) as writer:
        writer.add(row(0))
    assert [path.name for path in tmp_path.iterdir()] == ["shard-00000.parquet"]


def test_shards_of_other_settings_are_refused(tmp_path: Path) -> None:
    with open_table(tmp_path) as writer:
        writer.add(row(0))
    with pytest.raises(ArtifactError, match="other settings or inputs"):
        open_table(tmp_path, Identity("stage.x", "another", {"rows": "input"}))


def test_a_broken_shard_is_named(tmp_path: Path) -> None:
    (tmp_path / "shard-00000.parquet").write_bytes(b"not parquet")
    with pytest.raises(ArtifactError, match=r"shard-00000\.parquet is no whole shard"):
        open_table(tmp_path)


def test_two_rows_with_one_id_are_refused(tmp_path: Path) -> None:
    with open_table(tmp_path) as writer:
        writer.add(row(0))
        with pytest.raises(ArtifactError, match="two rows with the id r0"):
            writer.add(row(0))


def test_a_row_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with (
        open_table(tmp_path) as writer,
        pytest.raises(ArtifactError, match="unknown \\['extra'\\]"),
    ):
        writer.add({**row(0), "extra": 1})


def test_the_content_hash_ignores_order_shards_and_timings(tmp_path: Path) -> None:
    with open_table(tmp_path / "a", shard_rows=2) as first:
        for number in range(5):
            first.add(row(number, wall_ms=1.0))
    with open_table(tmp_path / "b", shard_rows=5) as second:
        for number in reversed(range(5)):
            second.add(row(number, wall_ms=2.0))
    with open_table(tmp_path / "c", shard_rows=5) as third:
        for number in range(1, 6):
            third.add(row(number))
    assert first.content_sha() == second.content_sha() == table_hash(map(row, range(5)))
    assert third.content_sha() != first.content_sha()


def test_an_empty_table_is_one_empty_shard(tmp_path: Path) -> None:
    with open_table(tmp_path):
        pass
    assert list(read_shards(tmp_path)) == []
    with pytest.raises(InputError, match="holds no shard"):
        list(read_shards(tmp_path / "elsewhere"))


def test_a_full_disk_is_a_clear_error_and_loses_nothing(tmp_path: Path) -> None:
    with open_table(tmp_path) as writer:
        for number in range(3):
            writer.add(row(number))
    with (
        pytest.raises(ArtifactError, match=r"disk refused a row .*kept"),
        open_table(tmp_path) as writer,
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        writer._journal = full
        writer.add(row(3))
    assert [r["value"] for r in read_shards(tmp_path)] == [0, 1, 2]


FULL_DISK = """
import sys
from pathlib import Path
from align.artifacts import TableWriter, read_shards
from align.errors import ArtifactError
from tests.test_artifacts import IDENTITY, SCHEMA, row

disk = Path(sys.argv[1])
(disk / "filler").write_bytes(bytes(100_000))
kept = []
try:
    with TableWriter(disk / "table", SCHEMA, "id", IDENTITY, shard_rows=500) as writer:
        for number in range(100_000):
            writer.add(row(number))
            kept.append(number)
except ArtifactError as error:
    print("refused:", error)
(disk / "filler").unlink()
with TableWriter(disk / "table", SCHEMA, "id", IDENTITY, shard_rows=500) as writer:
    missing = [number for number in kept if f"r{number}" not in writer.done]
    writer.add(row(200_000))
print("kept", len(kept), "missing", len(missing), "rows", len(list(read_shards(disk / "table"))))
"""


def test_a_full_disk_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    """On a real file system of 300 KiB, mounted in namespaces of the test's own."""
    command = f"mount -t tmpfs -o size=300k tmpfs {tmp_path} && exec {sys.executable} - {tmp_path}"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", command],
        input=FULL_DISK, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    refused, counted = done.stdout.splitlines()
    assert "make room and run the same command again" in refused
    words = counted.split()
    kept, missing, rows = int(words[1]), int(words[3]), int(words[5])
    assert kept > 500
    assert missing == 0
    assert rows in (kept + 1, kept + 2)  # the refused row may have reached the journal whole
