"""Every attack ends as its header says, on every engine, and the next honest run passes."""

from __future__ import annotations

import dataclasses
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from short_tasks import asserts, calls, script, stdio

from sandbox import Outcome, Sandbox

FOLDER = Path(__file__).parent.parent / "evil"
ATTACKS = sorted(path.stem for path in FOLDER.glob("*.py"))
# Honest, and right only where nothing of an earlier run is left.
HONEST = """
import os

def f(n):
    left = set(os.listdir("/tmp")) - {".shm"} | set(os.listdir("/dev/shm"))
    others = [name for name in os.listdir("/proc") if name.isdigit() and name != str(os.getpid())]
    if left or (os.getpid() == 1 and others):
        return [sorted(left), others]
    return sum(map(int, str(n)))
"""
LIMITS = {"cpu_s": 0.7, "wall_s": 2.0, "memory_mb": 256, "tmp_mb": 16}
# The forgers only have a wire to forge on while it is the one they think it is; every kind has one.
# The script leans on built-ins, where assertions of equality have a tripwire of their own.
TASKS = {
    "calls": calls(([123], 6), ([5], 5), limits=LIMITS),
    "asserts": asserts("assert f(123) == 6", "assert f(5) == 5", limits=LIMITS),
    "script": script(
        "def check(candidate):\n"
        "    assert abs(candidate(123) - 6) < 0.5\n"
        "    assert abs(candidate(5) - 5) < 0.5\n",
        limits=LIMITS,
    ),
}
# Time-outs cost seconds: one kind shows as much as three.
SLOW = {
    "fork_bomb",
    "ignores_signals",
    "int_parse_blowup",
    "memory_bomb",
    "memory_of_children",
    "recursion_bomb",
    "regex_blowup",
    "sleeps",
    "stack_bomb",
    "thread_bomb",
}
# These go for the reader of values, which is the host itself for calls alone.
FOR_THE_HOST = {"colliding_groups", "long_fraction", "many_namedtuples"}
# What a machine that is slow and busy may take for one verdict, confirmed or not. An attack that
# makes the host think for longer than that has got past every limit.
PATIENCE_S = 12.0
MEMORY_SLACK = 96 << 20


def test_there_are_attacks() -> None:
    assert len(ATTACKS) >= 66


def _expected(code: str) -> Outcome:
    found = re.search(r"^expect: (\w+)$", code, re.MULTILINE)
    assert found, "an attack's header states the expected outcome"
    return Outcome(found.group(1))


def _kinds(attack: str) -> list[str]:
    if attack in FOR_THE_HOST:
        return ["calls"]
    return ["script"] if attack in SLOW else list(TASKS)


# ----------------------------------------------------------------------------- what must not grow


def _survivors() -> list[str]:
    names = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            names.append(Path(f"/proc/{pid}/comm").read_text().strip())
        except OSError:
            continue
    return [name for name in names if name.startswith("evil")]


def _descendants() -> list[int]:
    """Every process below ours: in the namespaces engine, the slots and all that is in them."""
    parents: dict[int, int] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        parents[int(pid)] = int(stat.rpartition(")")[2].split()[1])
    found: list[int] = []
    level = [os.getpid()]
    while level:
        level = [pid for pid, parent in parents.items() if parent in level]
        found += level
    return found


def _own_memory(pid: int) -> int:
    """Bytes that a process shares with nobody."""
    try:
        size, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
    except (OSError, ValueError):
        return 0
    return (int(size) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


MARKS = re.compile(r"evil|owned$|left$|\d{1,7}$|(site|user)customize|check\.pth$|solution\.py$")


def _files() -> frozenset[str]:
    """Files of the host's with a name that an attack uses."""
    folders = ("/", "/tmp", "/dev/shm", "/var/tmp", "/dev/mqueue", os.path.expanduser("~"), ".")
    return frozenset(
        f"{folder}/{name}"
        for folder in folders
        if os.path.isdir(folder)
        for name in os.listdir(folder)
        if MARKS.match(name)
    )


@dataclasses.dataclass(frozen=True)
class Host:
    """What the host holds on behalf of the sandbox."""

    processes: int
    descriptors: int
    threads: int
    memory: int
    files: frozenset[str]

    @staticmethod
    def now() -> Host:
        """Count it."""
        below = _descendants()
        return Host(
            processes=len(below),
            descriptors=len(os.listdir("/proc/self/fd")),
            threads=threading.active_count(),
            memory=sum(map(_own_memory, below)),
            files=_files(),
        )

    def grown(self, base: Host) -> list[str]:
        """Say in what this is more than ``base``."""
        names = [field.name for field in dataclasses.fields(Host) if field.name != "files"]
        slack = {"memory": MEMORY_SLACK}
        said = [
            f"{name}: {getattr(base, name)} before, {getattr(self, name)} now"
            for name in names
            if getattr(self, name) > getattr(base, name) + slack.get(name, 0)
        ]
        return said + sorted(self.files - base.files)


def _settles(wrong: Callable[[], list[str]], seconds: float = 3.0) -> list[str]:
    """What is still wrong after a moment: the kernel takes a killed process's things away later."""
    deadline = time.monotonic() + seconds
    while (said := wrong()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return said


# ---------------------------------------------------------------------------------------- attacks


@pytest.fixture(scope="module")
def base(box: Sandbox) -> Host:
    """What the host holds before the first attack, with every slot warm and its spares ready."""
    jobs = [(number, TASKS["script"], HONEST) for number in range(6 * box.workers)]
    assert all(verdict.accepted for _, verdict in box.run_many(jobs))
    time.sleep(0.5)
    return Host.now()


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack(box: Sandbox, base: Host, attack: str) -> None:
    code = (FOLDER / f"{attack}.py").read_text()
    for kind in _kinds(attack):
        task = TASKS[kind]
        began = time.monotonic()
        verdict = box.run(task, code)
        assert verdict.outcome is _expected(code), f"{kind}: {verdict}"
        assert verdict.passed < verdict.total
        assert time.monotonic() - began < PATIENCE_S
        for _ in range(box.workers):
            honest = box.run(task, HONEST)
            assert honest.accepted, f"after {attack} as {kind}: {honest}"
    assert _settles(lambda: Host.now().grown(base) + _survivors()) == []


NOISY = ("disk_fill", "kill_everybody", "leaves_traces", "links_and_pipes", "opens_everything")


@pytest.mark.parametrize("attack", NOISY)
def test_neighbours_notice_nothing(box: Sandbox, attack: str) -> None:
    code = (FOLDER / f"{attack}.py").read_text()
    jobs = [
        ((number, kind), task, HONEST if number % 2 else code)
        for number in range(6)
        for kind, task in TASKS.items()
    ]
    for (number, kind), verdict in box.run_many(jobs):
        expected = Outcome.ACCEPTED if number % 2 else _expected(code)
        assert verdict.outcome is expected, f"{kind}: {verdict}"


def test_many_large_values_are_the_programs_fault(box: Sandbox) -> None:
    """Together they are more than a frame holds; none of them is alone."""
    cases = [([n], n) for n in range(12)]
    verdict = box.run(calls(*cases), "def f(n):\n    return 'x' * 8_000_000\n")
    assert verdict.outcome is Outcome.WRONG_ANSWER, verdict.detail
    assert box.run(calls(*cases), "def f(n):\n    return n\n").accepted


@pytest.mark.parametrize("byte", [0, 255])
def test_output_that_grows_when_it_is_written_down(box: Sandbox, byte: int) -> None:
    """A byte of output may take six in JSON, and an invalid one as many in hex."""
    code = f"import os\nfor _ in range(63): os.write(1, bytes([{byte}]) * 65536)\n"
    verdict = box.run(stdio(("", "a"), ("", "b"), ("", "c")), code)
    assert verdict.outcome is Outcome.WRONG_ANSWER, verdict.detail


def test_an_output_limit_above_what_a_value_holds(box: Sandbox) -> None:
    task = stdio(("", "a"), limits={"output_bytes": 32 << 20})
    verdict = box.run(task, "print('x' * (9 << 20))")
    assert verdict.outcome in (Outcome.WRONG_ANSWER, Outcome.OUTPUT_LIMIT), verdict.detail


@pytest.mark.parametrize("last", ["os._exit(0)", "os.write(3, b'\\xff' * 64)"])
def test_a_test_that_catches_everything_hides_no_death(box: Sandbox, last: str) -> None:
    task = script(
        "def check(candidate):\n"
        "    assert candidate(0) == 0\n"
        "    try:\n        candidate(1)\n    except:\n        return\n    assert False\n"
    )
    code = f"import os\ndef f(n):\n    if n: {last}\n    return 0\n"
    verdict = box.run(task, code)
    assert verdict.outcome in (Outcome.RUNTIME_ERROR, Outcome.TAMPERED), verdict
    assert box.run(task, "def f(n):\n    return 1 // (1 - n) - 1\n").accepted


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


def test_a_whole_program_that_floods_the_wire_has_tampered(box: Sandbox) -> None:
    flood = (
        "import os\nfor _ in range(20):\n    os.write(3, (b'\\0\\0\\0\\2[]') * 40000)\nprint(3)\n"
    )
    assert box.run(stdio(("", "3\n"), limits=LIMITS), flood).outcome is Outcome.TAMPERED
