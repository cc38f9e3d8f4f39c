"""Tables named by a Hub id are read by the real client, from a hub on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from align.manifest import path_sha
from align.tables import read_rows
from tests.hub import Hub

ROWS = [
    {"instruction": f"Add {n}.", "output": f"```python\nx + {n}\n```", "licence": "MIT"}
    for n in range(4)
]


def lines(rows: list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


FILES = {"train.jsonl": lines(ROWS), "test.jsonl": lines(ROWS[:1])}


def align(hub: Hub, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **hub.environment(folder / "cache"), "COLUMNS": "200"}
    command = [sys.executable, "-m", "align.cli", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, timeout=120
    )


def test_instruction_rows_come_from_the_hub(tmp_path: Path) -> None:
    out = tmp_path / "data"
    with Hub("org/rows", FILES) as hub:
        done = align(hub, tmp_path, "data", "--rows", "org/rows=2", "--out", str(out))
    assert done.returncode == 0, done.stderr
    rows = [row for _, row in read_rows(out / "rows")]
    assert len(rows) == 8
    assert {row["messages"][0]["content"] for row in rows} == {row["instruction"] for row in ROWS}
    origins = [json.loads(row["origin"]) for row in rows]
    assert {(origin["source"], origin["file"]) for origin in origins} == {("org/rows", "org/rows")}
    (source,) = json.loads((out / "manifest.json").read_text())["details"]["sources"]
    assert (source["source"], source["read"], source["used"]) == ("org/rows", 4, 8)


def test_another_split_is_read_where_it_is_named(tmp_path: Path) -> None:
    out = tmp_path / "data"
    rows = 'rows=[{"path": "org/rows", "split": "test"}]'
    with Hub("org/rows", FILES) as hub:
        done = align(hub, tmp_path, "data", "--set", rows, "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert len(list(read_rows(out / "rows"))) == 1


def test_a_table_is_known_by_its_id_and_may_have_a_version_in_it(tmp_path: Path) -> None:
    assert path_sha(Path("org/rows")) != path_sha(Path("org/others"))
    name = "org/Rows-2.5-300K-v0.1"
    with Hub(name, FILES) as hub:
        done = align(hub, tmp_path, "data", "--rows", name, "--out", str(tmp_path / "data"))
    assert done.returncode == 0, done.stderr
    assert len(list(read_rows(tmp_path / "data" / "rows"))) == 4


def test_what_the_hub_does_not_have_is_a_clear_error(tmp_path: Path) -> None:
    with Hub("org/rows", FILES) as hub:
        done = align(hub, tmp_path, "data", "--rows", "org/other", "--out", str(tmp_path / "a"))
        split = 'rows=[{"path": "org/rows", "split": "dev"}]'
        other = align(hub, tmp_path, "data", "--set", split, "--out", str(tmp_path / "b"))
    assert done.returncode == 1 and "can't be read from the Hub" in done.stderr
    assert "org/other is no path here" in done.stderr
    assert other.returncode == 1 and "dev" in other.stderr
    assert "Traceback" not in done.stderr + other.stderr
