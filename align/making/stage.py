"""The entry of the make stage."""

from __future__ import annotations

import ast
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align import rows as schemas
from align.artifacts import Row, canonical_json, sha256_text, short_id
from align.data.chat_rows import chat_fault
from align.data.definitions import plain_name
from align.data.formats import read_conversation
from align.errors import ArtifactError, InputError
from align.making.choosing import choose_calls
from align.making.functions import Function, Unfit, read_function
from align.making.inputs import more_inputs
from align.making.mutants import mutants
from align.settings import MakeSettings, RowSource
from align.skips import Skips
from align.stage import Context, Output, Summary
from align.tables import read_rows
from sandbox import Called, Limits, Sandbox, SandboxError, parse_task, values

#: Seconds of one call; a wrong program that never ends is to cost little.
_CALL_S = 1.0
#: Letters of the call that a prompt shows.
_MOST_SHOWN = 300
#: Rows that are worked on ahead of the first unfinished one, for each worker.
_AHEAD = 4
#: Between floats; who computes in another order is not wrong.
_COMPARE = {"abs": 1e-6, "rel": 1e-6}


@dataclass(frozen=True)
class _Request:
    """A function that is asked for, and where that stands."""

    place: str
    question: str
    function: Function
    source: str
    licence: str


def run(
    settings: MakeSettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Makes tasks of the rows of `rows.0`, `rows.1`, ...; writes `tasks`.

    A row fits where it is one question that one function of its arguments answers, with a call of
    it as an example. The function is run on the example's inputs and on others of their kind. What
    it returns twice alike is expected from then on; the calls that tell the most mutants of it
    become the tests, and a task whose tests tell too few is left out. What is left out is counted
    by reason.

    Raises:
        InputError: A table can't be read, or no row fits.
        ArtifactError: The sandbox stopped working; tasks so far are kept.
    """
    skips = Skips(context)
    requests = list(_requests(settings, inputs, skips))
    if not requests:
        raise InputError(f"no row can be made into a task: {skips.first()}")
    told: list[float] = []
    try:
        with (
            out.table("tasks", schemas.TASK, "task_id") as writer,
            context.sandbox() as box,
            context.progress("make", len(requests)) as bar,
        ):
            todo = [each for each in requests if _task_id(each) not in writer.done]
            bar.advance(len(requests) - len(todo))
            for request, made in _in_order(todo, lambda each: _make(box, settings, each), box):
                bar.advance()
                if isinstance(made, Unfit):
                    skips.add(made.kind, request.place, str(made))
                else:
                    writer.add(made[0])
                    told.append(made[1])
    except SandboxError as error:
        raise ArtifactError(f"the sandbox stopped: {error}") from error
    if not writer.rows:
        raise InputError(f"no row could be made into a task: {skips.first()}")
    return Summary(
        content_sha=writer.content_sha(),
        counts={"tasks": writer.rows, **skips.counts},
        details={"skipped": skips.listed, "told": sum(told) / len(told) if told else None},
    )


def _requests(
    settings: MakeSettings, inputs: Mapping[str, Path], skips: Skips
) -> Iterator[_Request]:
    """Yields what fits, each function once by its name and each question once."""
    seen: set[str] = set()
    for index, source in enumerate(settings.rows):
        table = read_rows(
            inputs[f"rows.{index}"],
            lambda place, reason: skips.add("bad_row", place, reason),
            split=source.split,
            subset=source.subset,
        )
        for place, row in table:
            try:
                request = _request(place, row, source)
            except Unfit as unfit:
                skips.add(unfit.kind, place, str(unfit))
                continue
            keys = {plain_name(request.function.name), request.question.strip().lower()}
            if keys & seen:
                skips.add("double", place, f"{request.function.name} is asked for already")
            else:
                seen |= keys
                yield request


def _request(place: str, row: Row, source: RowSource) -> _Request:
    try:
        messages = read_conversation(row).messages
    except InputError as error:
        raise Unfit("bad_row", str(error)) from error
    if fault := chat_fault(messages):
        raise Unfit("bad_row", fault)
    if [message["role"] for message in messages] != ["user", "assistant"]:
        raise Unfit("turns", "not one question and its answer")
    question, answer = (message["content"] for message in messages)
    function = read_function(question, answer)
    licence = row.get("licence") or row.get("license") or source.licence
    return _Request(place, question, function, source.path, str(licence))


def _in_order(
    requests: Sequence[_Request],
    make: Callable[[_Request], tuple[Row, float] | Unfit],
    box: Sandbox,
) -> Iterator[tuple[_Request, tuple[Row, float] | Unfit]]:
    """Yields each request with what was made of it, in their order, several at work at once."""
    executor = ThreadPoolExecutor(box.workers)
    running: deque[tuple[_Request, Future[tuple[Row, float] | Unfit]]] = deque()
    try:
        for request in requests:
            running.append((request, executor.submit(make, request)))
            if len(running) >= _AHEAD * box.workers:
                first, future = running.popleft()
                yield first, future.result()
        for first, future in running:
            yield first, future.result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _make(box: Sandbox, settings: MakeSettings, request: _Request) -> tuple[Row, float] | Unfit:
    """Returns the task and the share of mutants that its tests tell, or why there is none."""
    try:
        return _made(box, settings, request)
    except Unfit as unfit:
        return unfit


def _made(box: Sandbox, settings: MakeSettings, request: _Request) -> tuple[Row, float]:
    function = request.function
    generator = random.Random(sha256_text(function.code))
    tried = more_inputs(function.calls, settings.inputs, generator)
    arguments = [[values.encode(each) for each in call] for call in tried]
    limits = Limits(cpu_s=_CALL_S)
    right, again = (box.call(function.code, function.name, arguments, limits) for _ in range(2))
    if right[0].status != "value":
        raise Unfit("fails", f"{function.name}: its own example ended in {_said(right[0])}")
    usable = [at for at, one in enumerate(right) if one.status == "value" and _same(one, again[at])]
    if len({canonical_json(right[at].value) for at in usable}) < 2:
        raise Unfit("one_value", f"{function.name} returns one value for every input")
    if len(usable) < settings.min_tests:
        raise Unfit("few_inputs", f"{function.name} takes {len(usable)} of {len(tried)} inputs")
    failing = []
    for wrong in mutants(function.code, settings.mutants, generator):
        done = box.call(wrong, function.name, arguments, limits)
        failing.append(frozenset(at for at in usable if not _same(done[at], right[at])))
    choice = choose_calls(failing, usable, settings.tests)
    if choice.told < settings.min_told:
        words = f"{function.name}: its tests tell {choice.told:.0%} of {len(failing)} mutants"
        raise Unfit("weak_tests", words)
    cases = [{"args": arguments[at], "expected": right[at].value} for at in choice.calls]
    row = {
        "task_id": _task_id(request),
        "language": "python",
        "messages": [{"role": "user", "content": _prompt(request, tried, right, choice.calls)}],
        "prompt": None,
        "entry_point": function.name,
        "tests": canonical_json({"kind": "calls", "cases": cases, "compare": _COMPARE}),
        "limits": None,
        "reference": function.code,
        "source": request.source,
        "licence": request.licence,
        "split": "train",
    }
    verdict = box.run(parse_task(row), function.code)
    if not verdict.accepted:
        raise Unfit("fails", f"{function.name}: it fails its own tests: {verdict.detail}")
    if verdict.strength != "strong":
        raise Unfit("fails", f"{function.name}: its values can't be tested from outside")
    return row, choice.told


def _same(one: Called, other: Called) -> bool:
    """Whether two calls both returned, and the same."""
    return one.status == other.status == "value" and canonical_json(one.value) == canonical_json(
        other.value
    )


def _said(call: Called) -> str:
    return f"{call.status} ({call.detail})" if call.detail else call.status


def _task_id(request: _Request) -> str:
    return short_id("made", request.question, request.function.code)


def _prompt(
    request: _Request,
    tried: Sequence[Sequence[Any]],
    returned: Sequence[Called],
    calls: Sequence[int],
) -> str:
    """Returns the question with one test, which names the function, as MBPP's prompts have it.

    Raises:
        Unfit: No test can be written as a line of code.
    """
    for at in calls:
        shown = [*tried[at], values.decode(returned[at].value)]
        *arguments, expected = map(repr, shown)
        line = f"assert {request.function.name}({', '.join(arguments)}) == {expected}"
        if len(line) <= _MOST_SHOWN and all(map(_is_literal, (*arguments, expected))):
            return (
                f"{request.question.strip()}\n\nYour code should pass this test:\n\n"
                f"```python\n{line}\n```"
            )
    raise Unfit("not_shown", f"{request.function.name}: none of its tests is a short line of code")


def _is_literal(text: str) -> bool:
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return True
