"""CRUXEval (Gu et al., arXiv:2401.03065): what a short function returns, or what makes it do so.

`cruxeval_output` asks for the value that a call returns, `cruxeval_input` for arguments that give a
value. The answer is an expression in a code block; it is evaluated in the sandbox, never here.
"""

from __future__ import annotations

import ast
from functools import partial

from align.artifacts import Row, canonical_json
from align.errors import InputError
from align.evaluation.benchmarks.base import Benchmark, Problem, load_data
from align.sampling.extract import extract_code
from align.sampling.forms import Form
from align.sampling.prompts import task_prompt
from sandbox import values

_FORM = "complete-assertion/1"
_EXTRACTOR = "assertion-or-expression/1"
#: What the program defines: a call of it gives the value that is compared.
_ENTRY = "predicted"


def load(name: str, count: int | None, form: Form) -> Benchmark:
    """Returns CRUXEval in one of its directions, or a fixed slice of it; it has one prompt form.

    Raises:
        InputError: The data is not there or not as it should be.
    """
    data = load_data(name, ("id", "code", "input", "output"), count, "id")
    output = name.endswith("_output")
    problems = (_problem(name, row, place, output, data.licence) for place, row in data.rows)
    return Benchmark(name, tuple(problems), _FORM, data.sha)


def _problem(name: str, row: Row, place: str, output: bool, licence: str) -> Problem:
    try:
        expected = values.encode(ast.literal_eval(row["output"]))
    except (ValueError, SyntaxError) as error:
        raise InputError(f"{place}: its output is no plain value: {error}") from error
    right = row["output"] if output else row["input"]
    shown = f"assert f({row['input']}) == ??" if output else f"assert f(??) == {row['output']}"
    asked = "value" if output else "arguments; any that hold will do"
    text = (
        f"Here is a Python function.\n\n```python\n{row['code'].strip()}\n```\n\nComplete this "
        f"assertion so that it holds: in place of ?? write the missing {asked}. Answer with the "
        f"whole assertion in one Python code block and nothing else.\n\n```python\n{shown}\n```"
    )
    task = {
        "task_id": f"{name}:{row['id']}",
        "language": "python",
        "messages": [{"role": "user", "content": text}],
        "prompt": None,
        "entry_point": _ENTRY,
        "tests": canonical_json({"kind": "calls", "cases": [{"args": [], "expected": expected}]}),
        "limits": None,
        "reference": program(row["code"], right, output),
        "source": "CRUXEval",
        "licence": licence,
        "split": "test",
    }
    find = partial(_find, code=row["code"], output=output)
    return Problem(task, partial(task_prompt, place=place, task=task), find, _EXTRACTOR)


def program(code: str, answer: str, output: bool) -> str:
    """Returns the program whose value decides.

    Args:
        code: The function `f`.
        answer: A value's expression, or arguments as they stand in a call.
        output: Whether the answer is the value.
    """
    if output:
        return f"def {_ENTRY}():\n    return (\n{answer}\n)\n"
    return f"{code}\n\n\ndef {_ENTRY}():\n    return f(\n{answer}\n)\n"


def _find(text: str, code: str, output: bool) -> str | None:
    """Returns the program of an answer: a whole assertion, or what stands for its question mark."""
    block = extract_code(f"```python\n{text.strip()}\n```" if "```" not in text else text)
    block = (block or "").strip()
    answer = _of_assertion(block, output) or block
    try:
        tree = ast.parse(f"f(\n{answer}\n)", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if not answer or not isinstance(tree, ast.Call):
        return None
    # What calls nothing by the name of the function is no detour around the question.
    if output and (len(tree.args) != 1 or tree.keywords or _calls(tree.args[0])):
        return None
    return program(code, answer, output)


def _calls(tree: ast.expr) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "f" for node in ast.walk(tree))


def _of_assertion(block: str, output: bool) -> str | None:
    try:
        tree = ast.parse(block)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    for node in tree.body:
        if not (isinstance(node, ast.Assert) and isinstance(node.test, ast.Compare)):
            continue
        call = node.test.left
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "f":
            if output:
                return ast.get_source_segment(block, node.test.comparators[0])
            parts = [ast.get_source_segment(block, arg) or "" for arg in call.args]
            parts += [f"{k.arg}={ast.get_source_segment(block, k.value)}" for k in call.keywords]
            return ", ".join(parts)
    return None
