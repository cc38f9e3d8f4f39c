"""How alike two programs are, layout, comments and docstrings aside."""

from __future__ import annotations

import ast
import re

from rapidfuzz.distance import Indel

_MARKS = re.compile(r"\w+|[^\w\s]")
_DOCUMENTED = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def normal_form(code: str | None) -> str:
    """Returns Python code without comments, docstrings and layout.

    Code that does not parse, which is all code of other languages, is returned without the blanks
    at its lines' ends and without empty lines.
    """
    if not code:
        return ""
    try:
        tree = ast.parse(code)
        for node in ast.walk(tree):
            if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:] or [ast.Pass()]
        return ast.unparse(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        lines = (line.rstrip() for line in code.splitlines())
        return "\n".join(line for line in lines if line)


def marks_of(normal: str) -> list[str]:
    """Returns the words and marks of a normal form."""
    return _MARKS.findall(normal)


def similarity(left: list[str], right: list[str]) -> float:
    """Returns how alike two lists of words and marks are, 0 to 1.

    Twice the length of their longest common subsequence over the sum of their lengths.
    """
    return float(Indel.normalized_similarity(left, right))
