"""Readies test code for the tester: on the host, once a task, or every sample would pay for it."""

from __future__ import annotations

import ast
from functools import lru_cache

from sandbox.source import parse


class _Asserts(ast.NodeTransformer):
    """Sends ``assert a == b`` through the tester's ``strict_equal``, the tripwire."""

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        test = node.test
        if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
            node.test = ast.Call(
                func=ast.Name(id="__strict_equal__", ctx=ast.Load()),
                args=[test.left, test.comparators[0]],
                keywords=[],
            )
        return node


@lru_cache(maxsize=4096)
def for_tester(source: str) -> str:
    """Return test code in which the comparisons of assertions can't be fooled."""
    return ast.unparse(ast.fix_missing_locations(_Asserts().visit(parse(source))))
