"""The entry of the make stage."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from align import rows as schemas
from align.artifacts import Row, canonical_json, sha256_text, short_id
from align.data.chat_rows import chat_fault
from align.data.definitions import plain_name
from align.data.formats import read_conversation
from align.data.literals import as_literal
from align.errors import ArtifactError, InputError
from align.making.choosing import choose_calls
from align.making.functions import Function, Unfit, read_function
from align.making.inputs import more_inputs
from align.making.mutants import mutants
from align.settings import MakeSettings, RowSource
from align.skips import Skips
from align.stage import Context, Output, Summary
from align.tables import read_rows
from sandbox import Called, Limits, Outcome, Sandbox, SandboxError, parse_task, values
from sandbox.batch import in_order
from sandbox.compare import equal, parse_compare

#: Seconds of one call; a wrong program that never ends is to cost little.
_CALL_S = 1.0
#: Letters of the call that a prompt shows.
_MOST_SHOWN = 300
#: Between floats; who computes in another order is not wrong, who does not round is.
_COMPARE = {"abs": 1e-12, "rel": 1e-9}
_HOW = parse_compare(_COMPARE)
#: What a function may return that goes over a set in whatever order.
_ORDERLESS = (bool, set, frozenset)
#: A float nearer to zero can't be told from it by the tests.
_LEAST = 1e-9

T = TypeVar("T")


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
    it returns alike in two orders is expected from then on; the calls that tell the most mutants
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
    try:
        with (
            out.table("tasks", schemas.TASK, "task_id") as writer,
            context.sandbox() as box,
            context.progress("make", len(requests)) as bar,
        ):
            todo = [each for each in requests if _task_id(each) not in writer.done]
            bar.advance(len(requests) - len(todo))
            for request, made in in_order(todo, partial(_make, box, settings), box.workers):
                bar.advance()
                if isinstance(made, Unfit):
                    skips.add(made.kind, request.place, str(made))
                else:
                    writer.add(made)
    except SandboxError as error:
        raise ArtifactError(f"the sandbox stopped: {error}") from error
    if not writer.rows:
        raise InputError(f"no row could be made into a task: {skips.first()}")
    return Summary(
        content_sha=writer.content_sha(),
        counts={"tasks": writer.rows, **skips.counts},
        details={"skipped": skips.listed},
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
            request = _fit(partial(_request, place, row, source))
            if isinstance(request, Unfit):
                skips.add(request.kind, place, str(request))
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


def _fit(make: Callable[[], T]) -> T | Unfit:
    """Returns what is made, or why it can't be; code may be odd in ways that nobody foresees."""
    try:
        return make()
    except Unfit as unfit:
        return unfit
    except (SandboxError, OSError):
        raise
    except Exception as error:
        return Unfit("odd", f"{type(error).__name__}: {error}")


def _make(box: Sandbox, settings: MakeSettings, request: _Request) -> Row | Unfit:
    """Returns the task, or why there is none."""
    return _fit(partial(_made, box, settings, request))


def _made(box: Sandbox, settings: MakeSettings, request: _Request) -> Row:
    function = request.function
    generator = random.Random(sha256_text(function.code))
    tried = more_inputs(function.calls, settings.inputs, generator)
    arguments = [[values.encode(each) for each in call] for call in tried]
    right = _called(box, function, function.code, arguments)
    if right[0].status != "value":
        raise Unfit("fails", f"{function.name}: its own example ended in {_said(right[0])}")
    # In the other order: what a call leaves behind would change the next one's value.
    ended = [at for at, one in enumerate(right) if one.status == "value"][::-1]
    repeated = _called(box, function, function.code, [arguments[at] for at in ended])
    again = dict(zip(ended, repeated, strict=True))
    kind = type(values.decode(right[0].value))
    usable = [
        at
        for at in reversed(ended)
        if _same(right[at], again[at]) and _testable(values.decode(right[at].value), kind)
    ]
    if not _same(right[0], again[0]):
        raise Unfit("moody", f"{function.name}: its own example returns one value, then another")
    if 0 not in usable:
        raise Unfit("near_zero", f"{function.name}: its own example returns next to nothing")
    if function.unordered and kind not in _ORDERLESS:
        raise Unfit("unordered", f"{function.name}: the order in a set may decide what it returns")
    if len({canonical_json(right[at].value) for at in usable}) < 2:
        raise Unfit("one_value", f"{function.name} returns one value for every input")
    if len(usable) < settings.min_tests:
        raise Unfit("few_inputs", f"{function.name} takes {len(usable)} of {len(tried)} inputs")
    failing = []
    for wrong in mutants(function.code, settings.mutants, generator):
        done = _called(box, function, wrong, arguments)
        ran = [at for at in usable if done[at].status != "not_run"]
        failing.append(frozenset(at for at in ran if not _same(done[at], right[at])))
    returned = {at: canonical_json(right[at].value) for at in usable}
    choice = choose_calls(failing, returned, settings.tests)
    if choice.told < settings.min_told:
        words = f"{function.name}: its tests tell {choice.told:.0%} of {len(failing)} mutants"
        raise Unfit("weak_tests", words)
    cases = [{"args": arguments[at], "expected": right[at].value} for at in choice.calls]
    tests = {"kind": "calls", "cases": cases, "compare": _COMPARE}
    row = {
        "task_id": _task_id(request),
        "language": "python",
        "messages": [{"role": "user", "content": _prompt(request, tried[0], right[0])}],
        "prompt": None,
        "entry_point": function.name,
        "tests": json.dumps(tests, ensure_ascii=False),  # a dict keeps the order of its keys
        "limits": None,
        "reference": function.code,
        "source": request.source,
        "licence": request.licence,
        "split": "train",
    }
    verdict = box.run(parse_task(row), function.code)
    if verdict.outcome == Outcome.INFRA_ERROR:
        raise Unfit("infra_error", f"{function.name}: {verdict.detail}")
    if not verdict.accepted or verdict.strength != "strong":
        raise Unfit("fails", f"{function.name}: it fails its own tests: {verdict.detail}")
    return row


def _called(
    box: Sandbox, function: Function, code: str, arguments: Sequence[Sequence[Any]]
) -> Sequence[Called]:
    """Returns what calls of a program do; raises Unfit where it was the sandbox that failed."""
    made = box.call(code, function.name, arguments, Limits(cpu_s=_CALL_S))
    if made[0].status == Outcome.INFRA_ERROR:
        raise Unfit("infra_error", f"{function.name}: {made[0].detail}")
    return made


def _same(one: Called, other: Called) -> bool:
    """Whether two calls both returned, and what the tests take for the same."""
    both = one.status == other.status == "value"
    return both and equal(values.decode(one.value), values.decode(other.value), _HOW)


def _testable(value: Any, kind: type) -> bool:
    """Whether tests can ask for a value: of the type that the prompt shows, no part near zero."""
    return type(value) is kind and not _near_zero(value)


def _near_zero(value: Any) -> bool:
    if isinstance(value, float):
        return 0 < abs(value) < _LEAST
    parts = value.values() if isinstance(value, Mapping) else value
    return isinstance(value, list | tuple | set | frozenset | Mapping) and any(
        map(_near_zero, parts)
    )


def _said(call: Called) -> str:
    return f"{call.status} ({call.detail})" if call.detail else call.status


def _task_id(request: _Request) -> str:
    return short_id("made", request.question, request.function.code)


def _prompt(request: _Request, call: Sequence[Any], returned: Called) -> str:
    """Returns the question with one test, which names the function, as MBPP's prompts have it.

    Raises:
        Unfit: The test can't be written as a line of code.
    """
    name = request.function.name
    try:
        *arguments, expected = map(as_literal, [*call, values.decode(returned.value)])
    except ValueError as error:
        raise Unfit("not_shown", f"{name}: {error}") from None
    line = f"assert {name}({', '.join(arguments)}) == {expected}"
    if len(line) > _MOST_SHOWN:
        raise Unfit("not_shown", f"{name}: its example is no short line of code")
    return (
        f"{request.question.strip()}\n\nYour code should pass this test:\n\n```python\n{line}\n```"
    )
