"""Every outcome, the honest oddities that must pass, and faults of the sandbox's own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from short_tasks import asserts, calls, script, stdio

from sandbox import Outcome, Sandbox, SandboxError, Task, TaskError, check_task, parse_task
from sandbox.engines.base import Slot
from sandbox.errors import SlotBroken

ADD = "def f(a, b):\n    return a + b\n"
PLUS = calls(([1, 2], 3), ([2, 2], 4))


@pytest.mark.parametrize(
    ("task", "code", "outcome", "passed"),
    [
        (PLUS, ADD, Outcome.ACCEPTED, 2),
        (PLUS, "def f(a, b):\n    return 3\n", Outcome.WRONG_ANSWER, 1),
        (PLUS, "def f(a, b):\n    return a / 0\n", Outcome.RUNTIME_ERROR, 0),
        (PLUS, "def g(a, b):\n    return a + b\n", Outcome.RUNTIME_ERROR, 0),
        (PLUS, "def f(a, b)\n    return a + b\n", Outcome.COMPILE_ERROR, 0),
        (PLUS, None, Outcome.NO_CODE, 0),
        (PLUS, " \n", Outcome.NO_CODE, 0),
        (
            asserts("assert f(1) == 1", "assert f(2) == 3"),
            "f = lambda x: x",
            Outcome.WRONG_ANSWER,
            1,
        ),
        (
            script("def check(c):\n    assert c([1]) == [1]\n"),
            "f = lambda x: x",
            Outcome.ACCEPTED,
            1,
        ),
        (stdio(("2 3\n", "5\n")), "print(sum(map(int, input().split())))", Outcome.ACCEPTED, 1),
        (stdio(("2 3\n", "5\n")), "print('5 ')\nprint()", Outcome.ACCEPTED, 1),
        (stdio(("2 3\n", "5\n")), "print(50)", Outcome.WRONG_ANSWER, 0),
        (stdio(("", "5\n")), "print(5)\nraise ValueError(1)", Outcome.RUNTIME_ERROR, 0),
        (stdio(("", "5\n")), "print(5", Outcome.COMPILE_ERROR, 0),
    ],
)
def test_outcomes(
    box: Sandbox, task: Task, code: str | None, outcome: Outcome, passed: int
) -> None:
    verdict = box.run(task, code)
    assert verdict.outcome is outcome, verdict
    assert verdict.passed == passed
    assert verdict.engine == box.engine
    row = verdict.to_row()
    assert json.loads(row["limits"])["cpu_s"] == 4.0
    assert all(type(value) in (str, int, float) for value in row.values())


def test_a_crash_restarts_the_process_for_the_next_test(box: Sandbox) -> None:
    code = "import os\ndef f(x):\n    if x == 1: os.abort()\n    return x\n"
    for task in (
        calls(([0], 0), ([1], 1), ([2], 2)),
        asserts("assert f(0) == 0", "assert f(1) == 1", "assert f(2) == 2"),
    ):
        verdict = box.run(task, code)
        assert [test.outcome for test in verdict.tests] == ["accepted", "runtime_error", "accepted"]


def test_the_failing_values_are_told(box: Sandbox) -> None:
    assert "f(1, 2) returned 9, expected 3" in box.run(PLUS, "f = lambda a, b: 9").detail
    verdict = box.run(asserts("assert f(1) == 2"), "f = lambda x: x")
    assert "compared 1 with 2" in verdict.detail


ODDITIES = {
    "300 kB to stdout": "print('x' * 300000)",
    "300 kB to stderr": "import sys\nsys.stderr.write('x' * 300000)",
    "threads": "import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()",
    "a pool": "from concurrent.futures import ThreadPoolExecutor as P\nlist(P(4).map(str, 'abc'))",
    "recursion": "def deep(n):\n    return 0 if n == 0 else deep(n - 1)\ndeep(900)",
    "deep recursion": (
        "import sys\nsys.setrecursionlimit(20000)\n"
        "def deep(n):\n    return 0 if n == 0 else deep(n - 1)\ndeep(15000)"
    ),
    "temp files": "import tempfile\nwith tempfile.TemporaryFile() as t: t.write(b'x' * 100000)",
    "children": "import os\npid = os.fork()\nif pid == 0: os._exit(0)\nos.waitpid(pid, 0)",
    "a subprocess": "import subprocess\nsubprocess.run(['/bin/true'], check=True)",
    "logging": "import logging\nlogging.basicConfig(level='INFO')\nlogging.info('x')",
    "main guard": "if __name__ == '__main__':\n    import sys\n    sys.exit(1)",
    "reads stdin": "import sys\nassert sys.stdin.read() == ''",
    "unicode": "print('\\u00e9\\U0001f600')",
    "asyncio": "import asyncio\nasyncio.run(asyncio.sleep(0))",
    "closed stdout": "import sys\nsys.stdout.close()",
    "dataclass": "from dataclasses import dataclass\n@dataclass\nclass D:\n    x: int\nD(1)",
    "locks": "import multiprocessing\nmultiprocessing.Lock().acquire()",
}


@pytest.mark.parametrize("name", ODDITIES)
def test_honest_oddities_pass(box: Sandbox, name: str) -> None:
    code = ODDITIES[name] + "\n" + ADD
    for task in (PLUS, asserts("assert f(1, 2) == 3")):
        verdict = box.run(task, code)
        assert verdict.accepted, (verdict.detail, verdict.stderr)


def test_output_is_limited_for_each_test(box: Sandbox) -> None:
    code = "def f(x):\n    print('x' * 100000)\n    return x\n"
    limits = {"output_bytes": 250_000}
    task = calls(*(([n], n) for n in range(8)), limits=limits)
    assert box.run(task, code).accepted
    loud = code.replace("100000", "300000")
    assert box.run(task, loud).outcome is Outcome.OUTPUT_LIMIT


HELPERS = {
    "with a type": ("EPS: float = 1e-6", "EPS = 1e9", "abs(f(2.0) - 1.41421356) < EPS"),
    "one of several": ("A, EPS = 1, 1e-6", "EPS = 1e9", "abs(f(2.0) - 1.41421356) < EPS"),
    "under a condition": (
        "try:\n    from math import isclose\nexcept ImportError:\n    isclose = None",
        "isclose = lambda *a, **k: True",
        "isclose(f(2.0), 1.41421356, rel_tol=1e-6)",
    ),
}


def test_what_the_reference_does_not_bind_is_the_tests_own(box: Sandbox) -> None:
    reference = (
        "memo: dict\ntry:\n    import no_such_module as nm\nexcept ImportError:\n    pass\n"
        "def f(x):\n    return x + 1\nif __name__ == '__main__':\n    result = f(1)\n"
    )
    test = "def check(candidate):\n    result = nm = memo = candidate(1)\n    assert result == 2\n"
    task = script(test, reference=reference)
    assert box.run(task, "def f(x):\n    return 1 + x\n").accepted
    assert box.run(task, "def f(x):\n    return x\n").outcome is Outcome.WRONG_ANSWER


@pytest.mark.parametrize("kind", HELPERS)
@pytest.mark.parametrize("entry_point", ["f", None])
def test_what_the_tests_take_from_the_reference_is_not_the_sample_s(
    box: Sandbox, kind: str, entry_point: str | None
) -> None:
    helper, forged, condition = HELPERS[kind]
    root = "\ndef f(x):\n    return x ** 0.5\n"
    task = asserts(f"assert {condition}", reference=helper + root, entry_point=entry_point)
    assert box.run(task, helper + root).accepted
    assert box.run(task, forged + "\ndef f(x):\n    return 0.0\n").outcome is Outcome.WRONG_ANSWER


def test_large_output_of_a_program(box: Sandbox) -> None:
    verdict = box.run(stdio(("", "x" * 300000)), "print('x' * 300000)")
    assert verdict.accepted
    assert verdict.stdout.bytes == 300001


@pytest.mark.parametrize(
    ("code", "tests"),
    [
        (
            "def f(x):\n    x.append(1)\n",
            "def check(c):\n    a = []\n    c(a)\n    assert a == [1]",
        ),
        (
            "def f(x):\n    raise ValueError('no')\n",
            "def check(c):\n    try:\n        c(1)\n    except ValueError as e:\n"
            "        assert str(e) == 'no'\n    else:\n        assert False",
        ),
        (
            "def f(n):\n    yield from range(n)\n",
            "def check(c):\n    assert list(c(3)) == [0, 1, 2]",
        ),
        ("def f(n):\n    return lambda x: x + n\n", "def check(c):\n    assert c(2)(3) == 5"),
        (
            "class Node:\n    def __init__(self, v):\n"
            "        self.v = v\n        self.next = None\n"
            "def f(n):\n    return n.v + (f(n.next) if n.next else 0)\n",
            "def check(c):\n    a = Node(1)\n    a.next = Node(2)\n    assert c(a) == 3\n"
            "    assert isinstance(a, Node) and a.next.v == 2",
        ),
        (
            "class Own(Exception):\n    pass\ndef f():\n    raise Own('x')\n",
            "def check(c):\n    try:\n        c()\n    except Own:\n        return\n"
            "    assert False",
        ),
        (
            "def f(x, *, k=1):\n    return (x, {k})\n",
            "def check(c):\n    assert c('a', k=2) == ('a', {2})",
        ),
    ],
)
def test_scripts_need_no_rewriting(box: Sandbox, code: str, tests: str) -> None:
    verdict = box.run(script(tests, reference=code), code)
    assert verdict.accepted, verdict.detail
    assert verdict.strength == "strong"


def test_strength_is_the_tasks(box: Sandbox) -> None:
    reference = "import re\ndef f(s):\n    return re.match('a', s)\n"
    task = script("def check(c):\n    assert c('ab').group() == 'a'\n", reference=reference)
    assert box.run(task, reference).strength == "weak"
    sample = "class M:\n    def group(self):\n        return 'a'\ndef f(s):\n    return M()\n"
    assert box.run(task, sample).strength == "weak"
    liar = (
        "class E:\n    def __eq__(self, o):\n        return True\n"
        "class M:\n    def group(self):\n        return E()\n"
        "def f(s):\n    return M()\n"
    )
    assert box.run(task, liar).outcome is Outcome.TAMPERED


def test_bad_tasks_are_invalid(box: Sandbox) -> None:
    wrong = calls(([1], 2), reference="def f(x):\n    return x\n")
    assert box.run(wrong, "def f(x):\n    return 2\n").outcome is Outcome.INVALID_TASK
    empty = script("def check(c):\n    pass\n")
    assert box.run(empty, "def f(x):\n    return 2\n").outcome is Outcome.INVALID_TASK
    deep = asserts("assert f(1) == " + " + ".join(["1"] * 600))
    assert "too large to be run" in box.run(deep, ADD).detail
    large = stdio(*(("x" * (1 << 20), "") for _ in range(65)))
    verdict = box.run(large, "print()")
    assert verdict.outcome is Outcome.INVALID_TASK and "over the cap" in verdict.detail
    with pytest.raises(TaskError, match="no tests"):
        box.run(parse_task({"task_id": "t", "prompt": "x"}), ADD)


def test_check_task(box: Sandbox) -> None:
    good = check_task(box, calls(([1], 1), reference="def f(x):\n    return x\n"))
    assert good.ok
    assert good.strength == "strong"
    assert good.limits.cpu_s == 4.0
    bad = check_task(box, calls(([1], 2), reference="def f(x):\n    return x\n"))
    assert not bad.ok
    assert "reference fails" in bad.problem


def test_determinism(box: Sandbox) -> None:
    code = (
        "import random, time\ndef f():\n    return [random.random(), hash('a'), time.tzname[0]]\n"
    )
    task = calls(([], 0))
    assert box.run(task, code).detail == box.run(task, code).detail
    assert "'UTC'" in box.run(task, code).detail


def test_run_many_is_lazy_and_complete(box: Sandbox) -> None:
    taken = 0

    def jobs() -> Iterator[tuple[int, Task, str]]:
        nonlocal taken
        for number in range(60):
            taken += 1
            yield number, calls(([1], number)), f"def f(x):\n    return {number}\n"

    done = []
    for key, verdict in box.run_many(jobs()):
        assert verdict.accepted, verdict
        done.append(key)
        assert taken <= len(done) + 4 * box.workers + 2
    assert sorted(done) == list(range(60))


def test_what_the_iterable_raises_is_raised(box: Sandbox) -> None:
    def jobs() -> Iterator[tuple[int, Task, str]]:
        yield 1, PLUS, ADD
        raise RuntimeError("no more rows")

    with pytest.raises(RuntimeError, match="no more rows"):
        list(box.run_many(jobs()))


def test_a_slot_that_dies_is_replaced(engine: str) -> None:
    with Sandbox(engine, workers=1) as box:
        slot = box._pool._free[0]
        slot.close()
        assert box.run(PLUS, ADD).accepted


def test_a_program_that_is_killed_from_outside_is_run_again() -> None:
    name = f"victim-{os.getpid()}"[:15]
    code = f"open('/proc/self/comm', 'w').write({name!r})\nimport time\ntime.sleep(1.5)\n" + ADD
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 20
        while not killed and time.monotonic() < deadline:
            time.sleep(0.05)
            for path in Path("/proc").glob("[0-9]*/comm"):
                with contextlib.suppress(OSError):
                    if path.read_text().strip() == name:
                        killed.append(int(path.parent.name))
                        os.kill(killed[0], signal.SIGKILL)
                        return

    killer = threading.Thread(target=kill)
    with Sandbox("namespaces", workers=1) as box:
        killer.start()
        verdict = box.run(PLUS, code)
        killer.join()
    assert killed, "the program was not found"
    assert verdict.accepted, verdict.detail


def test_faults_of_our_own_are_no_verdict_and_stop_the_batch(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sandbox(engine, workers=1) as box:

        def broken(self: Slot, job: object, keep: object) -> None:
            raise SlotBroken("the cable was pulled")

        monkeypatch.setattr(Slot, "call", broken)
        verdict = box.run(PLUS, ADD)
        assert verdict.outcome is Outcome.INFRA_ERROR
        assert "cable" in verdict.detail
        with pytest.raises(SandboxError, match="more than 1%"):
            list(box.run_many((n, PLUS, ADD) for n in range(100)))


def test_closing_is_quick_and_a_killed_client_leaves_nothing(engine: str) -> None:
    code = (
        "import sys, threading, time\n"
        "from sandbox import Sandbox, parse_task\n"
        "tests = {'kind': 'calls', 'cases': [{'args': [], 'expected': 1}]}\n"
        "row = {'task_id': 't', 'entry_point': 'f', 'tests': tests}\n"
        "name = 'import ctypes\\nctypes.CDLL(None).prctl(15, b\"evil-loop\")\\n'\n"
        "loop = name + 'def f():\\n while 1: pass'\n"
        f"box = Sandbox({engine!r}, workers=1)\n"
        "threading.Thread(target=box.run, args=(parse_task(row), loop), daemon=True).start()\n"
        "time.sleep(1)\n"
        "print('up', flush=True)\n"
        "sys.stdin.readline()\n"
        "began = time.monotonic()\n"
        "box.close()\n"
        "print(time.monotonic() - began, flush=True)\n"
    )
    for end in ("close", "kill"):
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )
        assert child.stdin
        assert child.stdout
        assert child.stdout.readline() == "up\n"
        if end == "close":
            child.stdin.write("\n")
            child.stdin.flush()
            assert float(child.stdout.readline()) < 2
        else:
            child.send_signal(signal.SIGKILL)
        child.stdin.close()
        child.stdout.close()
        child.wait()
        deadline = time.monotonic() + 5
        while _named("evil-loop") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert _named("evil-loop") == []


def _named(name: str) -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm") as file:
                if file.read().strip() == name:
                    found.append(pid)
        except OSError:
            continue
    return found


def test_engines_are_never_guessed_downwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    monkeypatch.delenv("ALIGN_SANDBOX_ENGINE", raising=False)
    with pytest.raises(SandboxError, match="isolation='ns'"):
        Sandbox("auto")
    with Sandbox("auto", isolation="ns", workers=1) as box:
        assert (box.engine, box.isolation) == ("namespaces", "ns")
    monkeypatch.setenv("ALIGN_SANDBOX_ENGINE", "namespaces")
    with Sandbox("auto", workers=1) as box:
        assert box.engine == "namespaces"
    for engine, isolation in (("docker", "ns"), ("namespaces", "container"), ("podman", None)):
        with pytest.raises(SandboxError):
            Sandbox(engine, isolation=isolation)
