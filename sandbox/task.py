"""Tasks: what is asked, and the tests that decide."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sandbox import protocol, values
from sandbox.compare import Compare, parse_compare
from sandbox.errors import TaskError
from sandbox.limits import Limits, parse_limits
from sandbox.source import parse

LANGUAGES = ("python",)
KINDS = ("calls", "asserts", "script", "stdio")
_TEXTS = ("entry_point", "reference", "source", "licence", "split", "prompt")


@dataclasses.dataclass(frozen=True)
class Tests:
    """A task's tests, in the tagged encoding where they hold values.

    ``calls``: ``cases`` of args, kwargs, expected. ``asserts``: ``setup`` and ``asserts``.
    ``script``: ``code``. ``stdio``: ``cases`` of stdin and stdout.
    """

    __test__ = False  # not a test class, whatever its name

    kind: str
    cases: tuple[Mapping[str, Any], ...] = ()
    setup: str = ""
    asserts: tuple[str, ...] = ()
    code: str = ""
    compare: Compare = dataclasses.field(default_factory=Compare)
    sha: str = ""

    @property
    def count(self) -> int:
        """How many tests must report."""
        if self.kind == "script":
            return 1
        return len(self.asserts) if self.kind == "asserts" else len(self.cases)

    @property
    def source(self) -> str:
        """The test code, where there is any."""
        return "\n".join((self.setup, *self.asserts, self.code))


@dataclasses.dataclass(frozen=True)
class Task:
    """One task row, checked. A task whose ``tests`` is None is judged, never executed."""

    task_id: str
    language: str = "python"
    messages: tuple[Mapping[str, str], ...] | None = None
    prompt: str | None = None
    entry_point: str | None = None
    tests: Tests | None = None
    limits: Limits = dataclasses.field(default_factory=Limits)
    reference: str | None = None
    source: str | None = None
    licence: str | None = None
    split: str | None = None


def parse_task(row: Mapping[str, Any]) -> Task:
    """Check one task row.

    Args:
        row: the columns of a task; ``tests`` and ``limits`` may be JSON strings or objects.

    Raises:
        TaskError: naming the task and the field.
    """
    task_id = row.get("task_id")
    if type(task_id) is not str or not task_id:
        raise TaskError(f"task_id: a text that isn't empty is expected, not {task_id!r}")
    try:
        return _parse(task_id, row)
    except TaskError as error:
        raise TaskError(f"task {task_id}: {error}") from None


def _parse(task_id: str, row: Mapping[str, Any]) -> Task:
    language = row.get("language") or "python"
    if language not in LANGUAGES:
        raise TaskError(f"language: {language!r} is not one of {', '.join(LANGUAGES)}")
    texts: dict[str, Any] = {}
    for name in _TEXTS:
        texts[name] = row.get(name)
        if texts[name] is not None and type(texts[name]) is not str:
            raise TaskError(f"{name}: a text is expected, not {type(texts[name]).__name__}")
    messages = _messages(_json(row.get("messages"), "messages"))
    if messages is not None and texts["prompt"] is not None:
        raise TaskError("messages: a task has either messages or a prompt, not both")
    tests = _tests(_json(row.get("tests"), "tests"))
    if tests is not None and tests.kind == "calls" and not texts["entry_point"]:
        raise TaskError("entry_point: tests of kind calls need the name to call")
    limits = parse_limits(_json(row.get("limits"), "limits"))
    return Task(task_id, language, messages, tests=tests, limits=limits, **texts)


def _json(value: Any, name: str) -> Any:
    if type(value) is not str:
        return value
    if not value:
        return None
    try:
        return json.loads(value)
    except ValueError as error:
        raise TaskError(f"{name}: not JSON: {error}") from None


def _messages(value: Any) -> tuple[Mapping[str, str], ...] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not value:
        raise TaskError("messages: a list that isn't empty is expected")
    for index, message in enumerate(value):
        if not isinstance(message, Mapping) or not all(
            type(message.get(key)) is str for key in ("role", "content")
        ):
            raise TaskError(f"messages[{index}]: an object with role and content is expected")
    return tuple({"role": m["role"], "content": m["content"]} for m in value)


def _tests(value: Any) -> Tests | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TaskError(f"tests: an object is expected, not {type(value).__name__}")
    kind = value.get("kind")
    if kind not in KINDS:
        raise TaskError(f"tests.kind: {kind!r} is not one of {', '.join(KINDS)}")
    try:
        # In their order: that of a dict's keys can be what a test asks for.
        text = json.dumps(value, default=_refuse_value)
    except (TypeError, ValueError) as error:
        raise TaskError(f"tests: {error}") from None
    sha = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    compare = parse_compare(value.get("compare"))
    if kind == "calls":
        return Tests(kind, cases=_calls(value.get("cases")), compare=compare, sha=sha)
    if kind == "stdio":
        return Tests(kind, cases=_stdio(value.get("cases")), compare=compare, sha=sha)
    if kind == "script":
        return Tests(kind, code=_code(value.get("code"), "tests.code"), sha=sha)
    setup = value.get("setup") or ""
    if setup:
        _code(setup, "tests.setup")
    asserts = _list(value.get("asserts"), "tests.asserts")
    checked = tuple(_code(text, f"tests.asserts[{i}]") for i, text in enumerate(asserts))
    return Tests(kind, setup=setup, asserts=checked, sha=sha)


def _refuse_value(value: Any) -> Any:
    raise TypeError(f"a {type(value).__name__} must be in the tagged encoding")


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list | tuple) or not value:
        raise TaskError(f"{name}: a list that isn't empty is expected")
    return list(value)


def _code(value: Any, name: str) -> str:
    if type(value) is not str or not value.strip():
        raise TaskError(f"{name}: code is expected, not {value!r:.60}")
    try:
        parse(value)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise TaskError(f"{name}: not Python: {error}") from None
    return value


def _value(value: Any, name: str) -> None:
    try:
        values.decode(value)
    except protocol.ProtocolError as error:
        raise TaskError(f"{name}: {error}") from None


def _calls(cases: Any) -> tuple[Mapping[str, Any], ...]:
    made = []
    for index, case in enumerate(_list(cases, "tests.cases")):
        where = f"tests.cases[{index}]"
        if not isinstance(case, Mapping) or "expected" not in case:
            raise TaskError(f"{where}: an object with args and expected is expected")
        args, kwargs = case.get("args", []), case.get("kwargs") or {}
        if not isinstance(args, list | tuple):
            raise TaskError(f"{where}.args: a list is expected")
        if not isinstance(kwargs, Mapping):
            raise TaskError(f"{where}.kwargs: an object is expected")
        for item in (*args, *kwargs.values()):
            _value(item, f"{where}.args")
        _value(case["expected"], f"{where}.expected")
        made.append({"args": list(args), "kwargs": dict(kwargs), "expected": case["expected"]})
    return tuple(made)


def _stdio(cases: Any) -> tuple[Mapping[str, Any], ...]:
    made = []
    for index, case in enumerate(_list(cases, "tests.cases")):
        where = f"tests.cases[{index}]"
        if not isinstance(case, Mapping):
            raise TaskError(f"{where}: an object with stdin and stdout is expected")
        stdin, stdout = case.get("stdin") or "", case.get("stdout")
        if type(stdin) is not str or type(stdout) is not str:
            raise TaskError(f"{where}: stdin and stdout must be texts")
        made.append({"stdin": stdin, "stdout": stdout})
    return tuple(made)
