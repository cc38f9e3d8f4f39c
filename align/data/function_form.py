"""A task asked another way: as the head of a function, its docstring with an example, to complete.

A model that is only ever asked in one form learns to answer that form.
"""

from __future__ import annotations

import ast
import builtins
import json
import re
from typing import Any

from align.artifacts import Row
from align.data.literals import as_literal
from align.questions import COMPLETE, without_shown_test
from sandbox import values
from sandbox.source import parse

SUFFIX = "/function"
"""What the id of such a task ends with, behind that of the task that it asks again."""

_ASKS = re.compile(
    r"^(?:please )?write (?:a |an )?(?:python )?function (?:to|that|which) ", re.IGNORECASE
)
_MOST_EXAMPLE = 300


def function_form(task: Row) -> Row | None:
    """Returns a task of the TASK table in that form, with its tests and its reference as they are.

    None where it can't be: no chat of one message, no reference that defines the entry point at
    its top, a question that holds code itself, or no test that is a plain call and its value.
    """
    messages = task["messages"]
    if not messages or [each["role"] for each in messages] != ["user"]:
        return None
    question = without_shown_test(messages[0]["content"])
    head = _head(task["reference"] or "", task["entry_point"])
    example = _example(json.loads(task["tests"] or "{}"), task["entry_point"])
    if not question or not head or not example or "```" in question or '"""' in question + example:
        return None
    text = _ASKS.sub("", question)
    lines = [text[0].upper() + text[1:], "", *example.split("\n")]
    raw = "r" if any("\\" in line for line in lines) else ""
    docstring = [f'{raw}"""', *"\n".join(lines).split("\n"), '"""']
    body = "\n".join(f"    {line}".rstrip() for line in docstring)
    asked = f"{COMPLETE}{head}\n{body}\n```"
    return {
        **task,
        "task_id": task["task_id"] + SUFFIX,
        "messages": [{"role": "user", "content": asked}],
    }


def _head(reference: str, name: str | None) -> str | None:
    """Returns the line that defines the function, None where it is not one that stands alone."""
    try:
        tree = parse(reference)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    wanted = [node for node in functions if node.name == name]
    if len(wanted) != 1 or any(isinstance(node, ast.ClassDef) for node in tree.body):
        return None
    (function,) = wanted
    # What annotations and defaults name would have to be there, and the head does not say where.
    names = {node.id for node in ast.walk(function.args) if isinstance(node, ast.Name)}
    names |= {
        node.id for node in ast.walk(function.returns or ast.Pass()) if isinstance(node, ast.Name)
    }
    if not all(hasattr(builtins, name) for name in names):
        return None
    returns = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    return f"def {name}({ast.unparse(function.args)}){returns}:"


def _example(tests: dict[str, Any], name: str | None) -> str | None:
    """Returns the first test as a session of the interpreter shows it."""
    try:
        call, value = _first_test(tests, name)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    if value == "None" or len(call) + len(value) > _MOST_EXAMPLE:
        return None
    return f">>> {call}\n{value}"


def _first_test(tests: dict[str, Any], name: str | None) -> tuple[str, str]:
    """Returns the call and the value of the first test; raises ValueError where it is not such."""
    if tests.get("kind") == "calls":
        case = tests["cases"][0]
        args = [as_literal(values.decode(each)) for each in case.get("args", [])]
        named = (case.get("kwargs") or {}).items()
        args += [f"{key}={as_literal(values.decode(each))}" for key, each in named]
        return f"{name}({', '.join(args)})", as_literal(values.decode(case["expected"]))
    if tests.get("kind") != "asserts" or tests.get("setup"):
        raise ValueError("no plain tests")
    statement = parse(tests["asserts"][0]).body[0]
    test = statement.test if isinstance(statement, ast.Assert) else None
    if (
        isinstance(test, ast.Compare)
        and len(test.ops) == 1
        and isinstance(test.ops[0], ast.Eq)
        and isinstance(test.left, ast.Call)
        and isinstance(test.left.func, ast.Name)
        and test.left.func.id == name
    ):
        return ast.unparse(test.left), as_literal(ast.literal_eval(test.comparators[0]))
    raise ValueError("no call and its value")
