"""Control groups of the embedded engine: found where they are delegated, and gone afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox import Sandbox, parse_task
from sandbox.engines import cgroups
from sandbox.verdict import Outcome

PARENTS = cgroups.delegated()
delegated = pytest.mark.skipif(not PARENTS, reason="no control group is delegated here")

FILL = """
def f(x):
    with open("/tmp/big", "wb") as file:
        for _ in range(300):
            file.write(bytes(1 << 20))
    return x
"""


def group(folder: Path, handed_on: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.subtree_control").write_text(handed_on)


def member(tmp_path: Path, lines: str) -> Path:
    path = tmp_path / "membership"
    path.write_text(lines)
    return path


def test_version_2_offers_the_folder_beside_our_own_group(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    group(root / "user/app", "cpu memory pids\n")
    group(root / "user/app/run.scope", "\n")
    found = cgroups.delegated(root, member(tmp_path, "0::/user/app/run.scope\n"))
    assert found == {"memory": root / "user/app", "pids": root / "user/app"}


@pytest.mark.parametrize("handed_on", ["", "cpu pids\n"])
def test_version_2_without_the_controllers_offers_nothing(tmp_path: Path, handed_on: str) -> None:
    root = tmp_path / "cgroup"
    group(root / "app", handed_on)
    group(root / "app/run.scope", "")
    assert cgroups.delegated(root, member(tmp_path, "0::/app/run.scope\n")) == {}


def test_version_2_never_leaves_its_root(tmp_path: Path) -> None:
    group(tmp_path, "memory pids\n")
    group(tmp_path / "cgroup", "")
    assert cgroups.delegated(tmp_path / "cgroup", member(tmp_path, "0::/\n")) == {}


def test_version_1_offers_a_folder_for_each_controller(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    for name in ("memory/here", "pids"):
        (root / name).mkdir(parents=True)
    lines = "5:pids:/\n4:memory:/here\n1:cpu,cpuacct:/\n0::/\n"
    found = cgroups.delegated(root, member(tmp_path, lines))
    assert found == {"memory": root / "memory/here", "pids": root / "pids"}


def test_half_of_the_controllers_is_nothing(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    (root / "memory").mkdir(parents=True)
    assert cgroups.delegated(root, member(tmp_path, "4:memory:/\n")) == {}
    assert cgroups.delegated(root, tmp_path / "absent") == {}


@delegated
def test_a_group_is_made_resized_and_removed() -> None:
    made = cgroups.Group(PARENTS, 100)
    folders = [Path(door).parent for door in made.doors]
    (limit,) = [
        folder / name
        for folder in folders
        for name in ("memory.limit_in_bytes", "memory.max")
        if (folder / name).exists()
    ]
    try:
        for size in (400, 50, 100):
            made.set_memory(size)
            assert int(limit.read_text()) == (size + 128) << 20
    finally:
        made.close()
    assert not any(folder.exists() for folder in folders)


@delegated
def test_what_a_killed_owner_left_is_removed_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    stray = PARENTS["pids"] / "code-align-left"
    stray.mkdir()
    try:
        cgroups.Group(PARENTS, 100).close()
        assert stray.exists()  # it may be one that is just being entered
        monkeypatch.setattr(cgroups, "_STRAY_S", -1)
        cgroups.Group(PARENTS, 100).close()
        assert not stray.exists()
    finally:
        if stray.exists():
            stray.rmdir()


@delegated
def test_files_in_memory_count_against_the_group() -> None:
    tests = {"kind": "calls", "cases": [{"args": [1], "expected": 1}]}
    limits = {"memory_mb": 32, "tmp_mb": 400}
    task = parse_task({"task_id": "fill", "entry_point": "f", "tests": tests, "limits": limits})
    others = set(PARENTS["pids"].glob("code-align-*"))
    with Sandbox("namespaces", workers=1) as box:
        verdict = box.run(task, FILL)
        assert verdict.outcome is Outcome.MEMORY_LIMIT, verdict
        assert verdict.limits["memory_by"] == "cgroup"
        assert box.run(task, "def f(x):\n    return x\n").accepted
        folders = set(PARENTS["pids"].glob("code-align-*")) - others
    assert folders
    assert not any(folder.exists() for folder in folders)


@pytest.mark.parametrize("parents", [{}, dict.fromkeys(("memory", "pids"), Path("/proc"))])
def test_without_a_group_the_verdict_says_so(
    parents: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "delegated", lambda: parents)
    tests = {"kind": "calls", "cases": [{"args": [1], "expected": 1}]}
    task = parse_task({"task_id": "a", "entry_point": "f", "tests": tests})
    with Sandbox("namespaces", workers=1) as box:
        verdict = box.run(task, "def f(x):\n    return x\n")
    assert verdict.accepted
    assert verdict.limits["memory_by"] == "watcher"
