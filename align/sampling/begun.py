"""Answers that were begun for the model: the prefilled block, its code, what its function needs.

Both rules have versions, which every sample names. Nothing is executed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from align.sampling.extract import extract_continuation, parse

PREFILLED_EXTRACTOR = "prefilled-block+reachable/1"
CONTINUATION_EXTRACTOR = "longest-parsable-lines+reachable/1"
_FENCE = "```"


def prefilled_block(text: str, entry_point: str | None) -> str | None:
    """Returns the code of an answer that was begun inside a fenced block.

    The block ends at its fence, or where the text does; what is cut off in the middle of a
    statement goes back to the last line that parses.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    end = next((i for i, line in enumerate(lines) if line.lstrip().startswith(_FENCE)), len(lines))
    code = extract_continuation("", "\n".join(lines[:end]))
    return None if code is None else reachable(code, entry_point).strip("\n") or None


def continuation(head: str, text: str, entry_point: str | None) -> str | None:
    """Returns the program that a raw completion makes of its prompt."""
    code = extract_continuation(head, text)
    return None if code is None else reachable(code, entry_point)


def reachable(code: str, entry_point: str | None) -> str:
    """Leaves of a program its imports and what the entry point reaches.

    Examples of use, prints and reading of input go; a program that does not define the entry point
    stays whole. Unlike EvalPlus's rule a function without `return` stays.
    """
    tree = parse(code)
    if tree is None or entry_point is None:
        return code
    bound = [set(_bound(statement)) for statement in tree.body]
    if not any(entry_point in names for names in bound):
        return code
    used = [{n.id for n in ast.walk(s) if isinstance(n, ast.Name)} for s in tree.body]
    wanted: set[str] = set()
    ahead = {entry_point}
    while ahead - wanted:
        wanted |= ahead
        ahead = {n for names, uses in zip(bound, used, strict=True) if names & wanted for n in uses}
    lines = code.split("\n")
    kept: list[str] = []
    last = 0
    for statement, names in zip(tree.body, bound, strict=True):
        if not (names & wanted or isinstance(statement, ast.Import | ast.ImportFrom)):
            continue
        decorators = getattr(statement, "decorator_list", [])
        first = min([statement.lineno, *(d.lineno for d in decorators)])
        end = statement.end_lineno or first
        kept += lines[max(first - 1, last) : end]
        last = max(last, end)
    return "\n".join(kept) + "\n"


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Yields the names that a statement of a module binds there."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((a.asname or a.name).partition(".")[0] for a in node.names)
