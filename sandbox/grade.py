"""From a task to a job for the guest, and from the guest's report to a verdict. Pure."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from sandbox import protocol, values
from sandbox.compare import equal, equal_output
from sandbox.limits import Limits
from sandbox.rewrite import for_tester
from sandbox.source import parse
from sandbox.task import Task, Tests
from sandbox.verdict import Outcome, Output, TestResult, Verdict

MAX_KILLS = 2
_SHOWN = 300

_OUTCOMES = {
    "passed": Outcome.ACCEPTED,
    "failed": Outcome.WRONG_ANSWER,
    "uncrossable": Outcome.WRONG_ANSWER,
    "raised": Outcome.RUNTIME_ERROR,
    "died": Outcome.RUNTIME_ERROR,
    "compile_error": Outcome.COMPILE_ERROR,
    "time_limit": Outcome.TIME_LIMIT,
    "memory_limit": Outcome.MEMORY_LIMIT,
    "output_limit": Outcome.OUTPUT_LIMIT,
    "tampered": Outcome.TAMPERED,
}


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a run happened."""

    engine: str
    isolation: str
    image: str
    memory_by: str

    def fields(self, limits: Limits) -> dict[str, Any]:
        """A verdict's fields that say where it was made, and within which limits."""
        fields = dataclasses.asdict(self)
        fields["limits"] = {**limits.to_dict(), "memory_by": fields.pop("memory_by")}
        return fields


def code_sha(code: str | None) -> str:
    """SHA-256 of a program's text."""
    return hashlib.sha256((code or "").encode("utf-8", "surrogatepass")).hexdigest()


# ---------------------------------------------------------------------------------------- jobs


def make_job(task: Task, code: str, limits: Limits, *, weak: bool = False) -> dict[str, Any]:
    """Return the message that runs ``code`` against the task's tests.

    Expected values of ``calls`` and ``stdio`` are not in it; ``weak`` runs test code beside the
    program.
    """
    tests = _of(task)
    calls = tests.kind == "calls"
    return {
        "op": "run",
        "kind": tests.kind,
        "count": tests.count,
        "code": code,
        "entry_point": task.entry_point or "",
        "wanted": _wanted(task) if not calls else [],
        "cases": [{"args": c["args"], "kwargs": c["kwargs"]} for c in tests.cases] if calls else [],
        "stdin": [case["stdin"] for case in tests.cases] if tests.kind == "stdio" else [],
        "setup": for_tester(tests.setup),
        "asserts": [for_tester(text) for text in tests.asserts],
        "code_of_tests": for_tester(tests.code),
        "helpers": _helpers(tests.source, task.reference, task.entry_point),
        "weak": weak,
        "limits": limits.to_wire(),
        "max_kills": MAX_KILLS,
    }


def _of(task: Task) -> Tests:
    if task.tests is None:
        raise ValueError(f"task {task.task_id} has no tests")
    return task.tests


@lru_cache(maxsize=4096)
def _parse(source: str) -> ast.Module | None:
    try:
        return parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


@lru_cache(maxsize=4096)
def _names_used(source: str) -> frozenset[str]:
    tree = _parse(source)
    if tree is None:
        return frozenset()
    return frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))


def _wanted(task: Task) -> list[str]:
    names = _names_used(_of(task).source)
    return sorted(names | ({task.entry_point} if task.entry_point else set()))


def _bound_at_top(tree: ast.Module) -> set[str]:
    """Names that a module binds to functions, imports or constants; not its classes."""
    names = _imported_at_top(tree)
    for node in _at_top(tree.body):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign) or (isinstance(node, ast.AnnAssign) and node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            parts = (part for target in targets for part in ast.walk(target))
            stored = (part for part in parts if isinstance(part, ast.Name))
            names.update(part.id for part in stored if isinstance(part.ctx, ast.Store))
    return names


def _imported_at_top(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in _at_top(tree.body):
        if isinstance(node, ast.Import):
            names.update((a.asname or a.name).partition(".")[0] for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(a.asname or a.name for a in node.names if a.name != "*")
    return names


def _at_top(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield a module's statements, and those that it runs under a condition."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            inner = ast.iter_child_nodes(node)
            yield from _at_top(each for each in inner if isinstance(each, ast.stmt))
            for handler in getattr(node, "handlers", ()):
                yield from _at_top(handler.body)


@lru_cache(maxsize=4096)
def _helpers(tests: str, reference: str | None, entry_point: str | None) -> dict[str, Any] | None:
    """What the tests use beside the entry point comes from the reference where it has it.

    Or a sample could define ``encode`` so that its ``decode`` needn't do anything.
    """
    if reference is None:
        return None
    tree = _parse(reference)
    if tree is None:
        return None
    asked = _called(tests, entry_point)
    if not entry_point:
        asked -= _imported_at_top(tree)  # what the reference itself has from elsewhere is not it
    names = sorted((_names_used(tests) & _bound_at_top(tree)) - asked)
    return {"code": reference, "names": names} if names else None


def _called(tests: str, entry_point: str | None) -> set[str]:
    if entry_point:
        return {entry_point}
    # Without a named entry point every function that the tests call may be the one that is asked
    # for.
    tree = _parse(tests)
    calls = ast.walk(tree) if tree is not None else ()
    return {
        node.func.id
        for node in calls
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }


def stub(task: Task) -> str:
    """Return a program that defines what is asked for and always raises: the tests' tripwire."""
    names = [task.entry_point] if task.entry_point else sorted(_called(_of(task).source, None))
    lines = [
        f"def {name}(*args, **kwargs):\n    raise RuntimeError('tripwire')\n"
        for name in names
        if name.isidentifier() and not hasattr(builtins, name)
    ]
    return "\n".join(lines) or "pass\n"


# -------------------------------------------------------------------------------------- grading


def plain_verdict(
    outcome: Outcome,
    task: Task,
    code: str | None,
    place: Place,
    detail: str,
    strength: str = "strong",
) -> Verdict:
    """Return the verdict of a sample that did not run."""
    tests = task.tests
    return Verdict(
        outcome=outcome,
        passed=0,
        total=tests.count if tests else 0,
        tests=(),
        strength=strength,
        detail=detail,
        cpu_ms=0.0,
        wall_ms=0.0,
        peak_bytes=0,
        tests_sha=tests.sha if tests else "",
        code_sha=code_sha(code),
        **place.fields(task.limits),
    )


def grade(
    task: Task, code: str, reply: Mapping[str, Any], limits: Limits, place: Place, strength: str
) -> Verdict:
    """Return the verdict for the guest's reply, comparing values here.

    Raises:
        ProtocolError: the reply is not one report for each test; the slot is broken.
    """
    tests = _of(task)
    reports = reply.get("tests")
    if type(reports) is not list or len(reports) != tests.count or not reports:
        raise protocol.ProtocolError("the slot did not report every test exactly once")
    results = tuple(
        report["result"] if "result" in report else _result(task, index, report)
        for index, report in enumerate(reports)
    )
    passed = sum(result.outcome is Outcome.ACCEPTED for result in results)
    first = next((result for result in results if result.outcome is not Outcome.ACCEPTED), None)
    return Verdict(
        outcome=first.outcome if first else Outcome.ACCEPTED,
        passed=passed,
        total=len(results),
        tests=results,
        strength=strength,
        detail=f"test {first.index}: {first.detail}" if first else "",
        cpu_ms=float(reply["cpu_ms"]),
        wall_ms=float(reply["wall_ms"]),
        peak_bytes=int(reply["peak_bytes"]),
        tests_sha=tests.sha,
        code_sha=code_sha(code),
        stdout=Output(**reply.get("stdout", {})),
        stderr=Output(**reply.get("stderr", {})),
        **place.fields(limits),
    )


def judged(task: Task, index: int, report: Mapping[str, Any]) -> dict[str, Any]:
    """Judge one test's report as it comes: all values of a run together may fill the memory."""
    if index >= _of(task).count:
        raise protocol.ProtocolError("the slot reported more tests than there are")
    result = _result(task, index, report)
    return {"status": report["status"], "result": result, "wall_ms": result.wall_ms}


def uncrossable(reply: Mapping[str, Any]) -> bool:
    """Whether some value had no plain form, so that the program can't be tested from outside."""
    return any(report.get("status") == "uncrossable" for report in reply["tests"])


def _result(task: Task, index: int, report: Mapping[str, Any]) -> TestResult:
    status = report["status"]
    detail = str(report.get("detail", ""))
    if status == "value":
        outcome, detail = _compare_value(task, index, report["value"])
    elif status == "output":
        outcome, detail = _compare_output(task, index, report["value"])
    elif status == "raised" and report.get("error") == "MemoryError":
        outcome = Outcome.MEMORY_LIMIT
    elif status in _OUTCOMES:
        outcome = _OUTCOMES[status]
    else:
        raise protocol.ProtocolError(f"an unknown status {status!r}")
    cpu, wall = float(report.get("cpu_ms", 0.0)), float(report.get("wall_ms", 0.0))
    return TestResult(index, outcome, clean(detail), cpu, wall)


def clean(detail: str) -> str:
    """Half a character in a message would break every table it is written to."""
    return detail.encode("utf-8", "backslashreplace").decode("utf-8")


def _compare_value(task: Task, index: int, wire: Any) -> tuple[Outcome, str]:
    tests = _of(task)
    case = tests.cases[index]
    try:
        actual = values.decode(wire)
    except protocol.ProtocolError as error:
        return Outcome.TAMPERED, str(error)
    except values.Uncrossable as error:
        return Outcome.WRONG_ANSWER, str(error)
    expected = values.decode(case["expected"])
    try:
        if equal(actual, expected, tests.compare):
            return Outcome.ACCEPTED, ""
    except Exception as error:  # as a signalling NaN does; the program chose the value
        return Outcome.WRONG_ANSWER, f"comparing it raised {type(error).__name__}: {error}"
    args = [_show(values.decode(item)) for item in case["args"]]
    args += [f"{name}={_show(values.decode(item))}" for name, item in case["kwargs"].items()]
    call = f"{task.entry_point}({', '.join(args)})"
    return Outcome.WRONG_ANSWER, (
        f"{_short(call)} returned {_show(actual)}, expected {_show(expected)}"
    )


def _compare_output(task: Task, index: int, wire: Any) -> tuple[Outcome, str]:
    tests = _of(task)
    case = tests.cases[index]
    actual = values.decode(wire)
    if equal_output(actual, case["stdout"], tests.compare):
        return Outcome.ACCEPTED, ""
    return Outcome.WRONG_ANSWER, (
        f"for input {_show(case['stdin'])} printed {_show(actual)},"
        f" expected {_show(case['stdout'])}"
    )


def _show(value: Any) -> str:
    try:
        return _short(repr(value))
    except Exception:  # an integer of too many digits; a counter of NaNs
        return f"<{type(value).__name__}>"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 20]}... ({len(text)} characters)"
