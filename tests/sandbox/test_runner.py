"""What a sandbox does beside one run: equal runs shared, repeats, asynchronous batches, metrics."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator

import pytest
from short_tasks import asserts, calls, script

from sandbox import Limits, Outcome, Sandbox, Task, TaskError, Verdict

PLUS = calls(([1, 2], 3), ([2, 2], 4))
ADD = "def f(a, b):\n    return a + b\n"
SLOW = "import time\ndef f(a, b):\n    time.sleep(0.5)\n    return a + b\n"


def counted(box: Sandbox, name: str) -> float:
    """The value of one counter or histogram count in the sandbox's metrics."""
    values = [
        float(line.rpartition(" ")[2])
        for line in box.metrics.text().splitlines()
        if line.startswith(f"code_align_sandbox_{name}")
    ]
    return sum(values)


def test_equal_runs_under_way_are_one(box: Sandbox) -> None:
    box.run(PLUS, ADD)  # the task itself has been looked at
    runs, shared = counted(box, "run_seconds_count"), counted(box, "shared_runs_total")
    verdicts: list[Verdict] = []
    threads = [
        threading.Thread(target=lambda: verdicts.append(box.run(PLUS, SLOW))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [verdict.outcome for verdict in verdicts] == [Outcome.ACCEPTED] * 5
    assert counted(box, "run_seconds_count") == runs + 1
    assert counted(box, "shared_runs_total") == shared + 4


def test_a_run_that_is_over_answers_for_no_other(box: Sandbox) -> None:
    before = counted(box, "run_seconds_count")
    assert box.run(PLUS, SLOW).accepted
    assert box.run(PLUS, SLOW).accepted
    assert counted(box, "run_seconds_count") - before >= 2


def test_repeats_that_disagree_are_flaky(box: Sandbox) -> None:
    moody = "import time\ndef f(a, b):\n    return a + b + time.perf_counter_ns() // 1000 % 2\n"
    verdict = box.run(PLUS, moody, repeat=24)
    assert verdict.outcome is Outcome.FLAKY
    assert "24 runs disagree: accepted, wrong_answer" in verdict.detail
    assert box.run(PLUS, ADD, repeat=3).accepted


def test_repeats_that_fail_by_different_tests_are_flaky(box: Sandbox) -> None:
    wrong_at_times = (
        "import time\ndef f(a, b):\n"
        "    return 'never' if time.perf_counter_ns() // 1000 % 2 else a + b\n"
    )
    always_wrong = "def f(a, b):\n    return a + b + 1\n"
    task = calls(*(([n, 1], n + 1) for n in range(40)))
    verdict = box.run(task, wrong_at_times, repeat=6)
    assert verdict.outcome is Outcome.FLAKY
    assert "tests passed)" in verdict.detail
    assert box.run(task, always_wrong, repeat=3).outcome is Outcome.WRONG_ANSWER


def test_a_confirmed_limit_is_two_runs(box: Sandbox) -> None:
    task = calls(([1, 2], 3), limits={"cpu_s": 0.3})
    spins = "def f(a, b):\n    while True: pass\n"
    assert box.run(task, ADD).accepted  # the task itself has been looked at
    for repeat, runs in ((1, 2), (2, 2), (3, 4)):
        before = counted(box, "run_seconds_count")
        verdict = box.run(task, spins, repeat=repeat)
        assert verdict.outcome is Outcome.TIME_LIMIT
        assert len(verdict.run_cpu_ms) == runs
        assert counted(box, "run_seconds_count") - before == runs


def test_a_limit_that_does_not_come_again_is_no_second_run(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    spins = "def f(a, b):\n    while True: pass\n"
    task = calls(([1, 2], 3), limits={"cpu_s": 0.3})
    limit = dataclasses.replace(box.run(task, spins), run_cpu_ms=())
    wrong = box.run(task, "def f(a, b):\n    return 0\n")
    assert (limit.outcome, wrong.outcome) == (Outcome.TIME_LIMIT, Outcome.WRONG_ANSWER)
    wrong = dataclasses.replace(wrong, run_cpu_ms=())
    wrong_at_first = dataclasses.replace(wrong, tests=limit.tests)
    said = iter([wrong_at_first, limit, wrong, wrong])
    monkeypatch.setattr(box, "_once", lambda *job: (next(said), False))
    assert box.run(task, spins, repeat=2).outcome is Outcome.FLAKY


def test_batches_beside_an_event_loop(box: Sandbox) -> None:
    taken = 0

    async def jobs() -> AsyncIterator[tuple[int, Task, str]]:
        nonlocal taken
        for number in range(40):
            taken += 1
            yield number, PLUS, ADD + f"# {number}\n"
            await asyncio.sleep(0)

    async def work() -> dict[int, Verdict]:
        done = {}
        async for number, verdict in box.run_many_async(jobs()):
            done[number] = verdict
            assert taken <= len(done) + 2 * box.workers + 1
        return done

    verdicts = asyncio.run(work())
    assert sorted(verdicts) == list(range(40))
    assert all(verdict.accepted for verdict in verdicts.values())


def test_a_batch_beside_an_event_loop_may_be_left_early_and_says_what_is_wrong(
    box: Sandbox,
) -> None:
    async def first() -> Verdict:
        async for _, verdict in box.run_many_async((n, PLUS, ADD) for n in range(1000)):
            return verdict
        raise AssertionError("nothing came")

    async def wrong() -> None:
        untested = Task("judged only")
        async for _ in box.run_many_async([(0, untested, ADD)]):
            raise AssertionError("a task without tests was run")

    assert asyncio.run(first()).accepted
    with pytest.raises(TaskError, match="no tests"):
        asyncio.run(wrong())
    assert box.run(PLUS, ADD).accepted


def test_metrics_are_what_prometheus_reads(box: Sandbox) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    before = counted(box, 'verdicts_total{outcome="wrong_answer"}')
    assert box.run(PLUS, "def f(a, b):\n    return 0\n").outcome is Outcome.WRONG_ANSWER
    families = {family.name for family in text_string_to_metric_families(box.metrics.text())}
    assert {
        f"code_align_sandbox_{name}"
        for name in ("verdicts", "broken_slots", "queue_seconds", "run_seconds", "overhead_seconds")
    } <= families
    assert counted(box, 'verdicts_total{outcome="wrong_answer"}') == before + 1


def test_jobs_may_wait_for_verdicts(box: Sandbox) -> None:
    async def work() -> list[int]:
        news: asyncio.Queue[int] = asyncio.Queue()
        news.put_nowait(0)

        async def jobs() -> AsyncIterator[tuple[int, Task, str]]:
            for _ in range(5):
                number = await news.get()
                yield number, PLUS, ADD + f"# {number}\n"

        done = []
        async for number, verdict in box.run_many_async(jobs()):
            assert verdict.accepted
            done.append(number)
            news.put_nowait(number + 1)
        return done

    assert asyncio.run(asyncio.wait_for(work(), 30)) == list(range(5))


def test_slots_that_died_while_idle_cost_no_verdict(engine: str) -> None:
    with Sandbox(engine, workers=3) as box:
        list(box.run_many((n, PLUS, SLOW + f"# {n}\n") for n in range(3)))
        slots = list(box._pool._free)
        assert len(slots) == 3
        for slot in slots:
            slot.close()
        assert box.run(PLUS, ADD).accepted


def test_a_limit_too_small_for_anything_is_the_programs(box: Sandbox) -> None:
    hasty = calls(([1, 2], 3), limits={"cpu_s": 0.001})
    assert box.run(hasty, "x = sum(range(10**6))\n" + ADD).outcome is Outcome.TIME_LIMIT


def test_a_test_that_exits_or_prints_an_object_is_no_fault_of_ours(box: Sandbox) -> None:
    leaving = script(
        "def check(candidate):\n    assert candidate(1, 2) == 3\nimport sys\nsys.exit(0)"
    )
    assert box.run(leaving, ADD).outcome is Outcome.WRONG_ANSWER
    rude = "class P:\n    __str__ = lambda self: 'P' + 1\ndef f(a, b):\n    return P()\n"
    speaking = asserts("r = f(1, 2)\nassert r == 3, r")
    assert box.run(speaking, rude).outcome is Outcome.WRONG_ANSWER


def test_calls_return_what_a_program_returns(box: Sandbox) -> None:
    code = (
        "import os\n"
        "def f(x):\n"
        "    if x == 3:\n        raise ValueError('no three')\n"
        "    if x == 4:\n        os._exit(0)\n"
        "    if x == 5:\n        return object()\n"
        "    if x == 6:\n        while True: pass\n"
        "    return (x, {x})\n"
    )
    arguments = [[n] for n in (1, 3, 4, 5, 6, 2)]
    made = box.call(code, "f", arguments, Limits(cpu_s=0.5))
    assert [each.status for each in made] == [
        *("value", "raised", "died", "uncrossable", "time_limit", "value")
    ]
    assert made[0].value == {"$tuple": [1, {"$set": [1]}]}
    assert made[-1].value == {"$tuple": [2, {"$set": [2]}]}
    assert "no three" in made[1].detail
    assert made[4].value is None and made[4].cpu_ms >= 500
    assert [each.status for each in box.call("def f(:", "f", [[1], [2]])] == ["compile_error"] * 2
    assert box.call("x = 1", "f", [[1]])[0].status != "value"
    endless = box.call("def f(x):\n    while True: pass\n", "f", [[n] for n in range(9)])
    assert [each.status for each in endless] == ["time_limit"] * 2 + ["not_run"] * 7
    (long,) = box.call("def f(x):\n    return 'x' * 70_000", "f", [[1]])
    assert (long.status, long.value) == ("too_long", None)
    (half,) = box.call("def f(x):\n    raise ValueError('\\ud800')", "f", [[1]])
    assert half.detail.encode() and "ud800" in half.detail
    lied = "def f(x):\n    raise type('not run', (Exception,), {})('not run')"
    assert box.call(lied, "f", [[1]])[0].status == "raised"
    with pytest.raises(TaskError, match="args"):
        box.call(code, "f", [[{"$what": 1}]])
