"""Every attack ends as its header says, on every engine, and the next honest run passes."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from short_tasks import asserts, calls, script

from sandbox import Outcome, Sandbox, Task

FOLDER = Path(__file__).parent.parent / "evil"
ATTACKS = sorted(path.stem for path in FOLDER.glob("*.py"))
HONEST = "def f(n):\n    return sum(map(int, str(n)))\n"
LIMITS = {"cpu_s": 0.7, "wall_s": 2.0, "memory_mb": 256, "tmp_mb": 16}
# The forgers only have a wire to forge on while it is the one they think it is; every kind has one.
TASKS = {
    "calls": calls(([123], 6), ([5], 5), limits=LIMITS),
    "asserts": asserts("assert f(123) == 6", "assert f(5) == 5", limits=LIMITS),
    "script": script(
        "def check(candidate):\n    assert candidate(123) == 6\n    assert candidate(5) == 5\n",
        limits=LIMITS,
    ),
}
# Time-outs cost seconds: one kind shows as much as three.
SLOW = {
    "fork_bomb",
    "ignores_signals",
    "sleeps",
    "memory_of_children",
    "memory_bomb",
    "thread_bomb",
}


def test_there_are_attacks() -> None:
    assert len(ATTACKS) >= 25


def _expected(code: str) -> Outcome:
    found = re.search(r"^expect: (\w+)$", code, re.MULTILINE)
    assert found, "an attack's header states the expected outcome"
    return Outcome(found.group(1))


def _survivors() -> list[str]:
    names = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            names.append(Path(f"/proc/{pid}/comm").read_text().strip())
        except OSError:
            continue
    return [name for name in names if name.startswith("evil")]


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack(box: Sandbox, attack: str) -> None:
    code = (FOLDER / f"{attack}.py").read_text()
    kinds: dict[str, Task] = {"script": TASKS["script"]} if attack in SLOW else TASKS
    for kind, task in kinds.items():
        verdict = box.run(task, code)
        assert verdict.outcome is _expected(code), f"{kind}: {verdict}"
        assert verdict.passed < verdict.total
        for _ in range(box.workers):
            honest = box.run(task, HONEST)
            assert honest.accepted, f"after {attack} as {kind}: {honest}"
    assert _survivors() == []


def test_nothing_is_left_for_the_next_run(box: Sandbox) -> None:
    leave = (
        "import os\n"
        "def f(n):\n"
        "    for place in ('/tmp/left', '/dev/shm/left', '/var/tmp/left', '/dev/mqueue/left'):\n"
        "        try: open(place, 'w').close()\n"
        "        except OSError: pass\n"
        "    return 0\n"
    )
    look = (
        "import os\n"
        "def f(n):\n"
        "    places = ('/tmp', '/dev/shm', '/var/tmp', '/dev/mqueue')\n"
        "    found = [p for p in places if os.path.isdir(p) and 'left' in os.listdir(p)]\n"
        "    return 6 if not found else found\n"
    )
    task = calls(([123], 6), limits=LIMITS)
    for _ in range(box.workers + 1):
        assert box.run(task, leave).outcome is Outcome.WRONG_ANSWER
    for _ in range(box.workers + 1):
        assert box.run(task, look).accepted


def test_expected_values_are_not_in_the_job() -> None:
    from sandbox.grade import make_job

    task = calls(([1], "a secret expectation"))
    assert "secret" not in repr(make_job(task, "def f(x): pass", task.limits))


def test_a_helper_comes_from_the_reference(box: Sandbox) -> None:
    task = script(
        "def check(candidate):\n    assert candidate(encode('abc')) == 'abc'\n",
        reference="def encode(s):\n    return s[::-1]\n\ndef f(s):\n    return s[::-1]\n",
    )
    assert box.run(task, "def f(s):\n    return s[::-1]\n").accepted
    cheat = "def encode(s):\n    return s\n\ndef f(s):\n    return s\n"
    assert box.run(task, cheat).outcome is Outcome.WRONG_ANSWER
