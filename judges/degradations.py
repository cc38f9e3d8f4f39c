"""Good code made worse on purpose, without a change of what it returns for good input.

A judge of quality that does not prefer the original does not see quality.
"""

from __future__ import annotations

import ast
import warnings

_DEAD = """
unused_total = 0
for unused_index in range(3):
    unused_total = unused_total + unused_index * 0
if unused_total > 100:
    unused_total = None
    return None
"""


def degrade(code: str) -> dict[str, str]:
    """Returns worse forms of Python code by the kind of fault, where they can be made.

    * `noise names`: local names say nothing;
    * `dead code`: work that nothing needs, and a branch that is never taken;
    * `removed checks`: guards that raise, assertions and the handling of errors are gone.

    Each is compared with `normal_form(code)`, so that layout and comments are not what differs.
    """
    made: dict[str, str] = {}
    for kind, change in (
        ("noise names", _noise_names),
        ("dead code", _dead_code),
        ("removed checks", _removed_checks),
    ):
        tree = _parse(code)
        if tree is not None and change(tree):
            made[kind] = ast.unparse(ast.fix_missing_locations(tree))
    return made


def normal_form(code: str) -> str | None:
    """Returns Python code in one layout without comments, None where it does not parse."""
    tree = _parse(code)
    return None if tree is None else ast.unparse(tree)


def _parse(code: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _functions(tree: ast.Module) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def _noise_names(tree: ast.Module) -> bool:
    changed = False
    for function in [node for node in tree.body if isinstance(node, ast.FunctionDef)]:
        bound = {
            node.id
            for node in ast.walk(function)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        bound |= {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
        keywords = {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword)}
        declared = {
            name
            for node in ast.walk(function)
            if isinstance(node, ast.Global | ast.Nonlocal)
            for name in node.names
        }
        names = {
            name: f"{'xqzvkw'[index % 6]}{index // 6}"
            for index, name in enumerate(sorted(bound - keywords - declared))
        }
        for node in ast.walk(function):
            if isinstance(node, ast.Name) and node.id in names:
                node.id = names[node.id]
            elif isinstance(node, ast.arg) and node.arg in names:
                node.arg = names[node.arg]
        changed |= any(len(name) > 2 for name in names)
    return changed


def _dead_code(tree: ast.Module) -> bool:
    functions = _functions(tree)
    for function in functions:
        wrapped = "def f():\n" + "\n".join("    " + line for line in _DEAD.strip().split("\n"))
        dead = ast.parse(wrapped).body[0]
        assert isinstance(dead, ast.FunctionDef)
        has_docstring = ast.get_docstring(function) is not None
        function.body[int(has_docstring) : int(has_docstring)] = dead.body
    return bool(functions)


class _WithoutChecks(ast.NodeTransformer):
    def __init__(self) -> None:
        self.found = False

    def visit_Assert(self, node: ast.Assert) -> None:
        self.found = True

    def visit_If(self, node: ast.If) -> ast.AST | None:
        self.generic_visit(node)
        guards = all(isinstance(each, ast.Raise) for each in node.body) and node.body
        if guards and not node.orelse:
            self.found = True
            return None
        return node

    def visit_Try(self, node: ast.Try) -> list[ast.stmt]:
        self.generic_visit(node)
        self.found = True
        return [*node.body, *node.orelse, *node.finalbody]


def _removed_checks(tree: ast.Module) -> bool:
    remover = _WithoutChecks()
    remover.visit(tree)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and not body and not isinstance(node, ast.Module):
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
    return remover.found
