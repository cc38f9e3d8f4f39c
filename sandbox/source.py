"""Parsing Python sources from many threads."""

from __future__ import annotations

import ast
import threading

_ONE = threading.Lock()


def parse(source: str) -> ast.Module:
    """Return the syntax tree, as `ast.parse` does.

    One at a time: older interpreters (3.11 is one) count the depth of the trees that they hand out
    for all threads together, and a change of threads on the way ends in a SystemError.

    Raises:
        SyntaxError: It is no Python.
        ValueError: It holds a null byte.
        RecursionError: It is nested too deep.
        MemoryError: It is nested far too deep.
    """
    with _ONE:
        return ast.parse(source)
