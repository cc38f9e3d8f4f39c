"""Wrong programs made of a right one: each differs from it by one operator or constant."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Iterator

from sandbox.source import parse

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
}


def mutants(code: str, count: int, generator: random.Random) -> list[str]:
    """Returns up to `count` programs that differ from `code`, and from each other, in one place.

    Some may do the same as it for every input; no test can tell these.
    """
    tree = parse(code)
    plain = ast.unparse(tree)
    order = list(range(sum(1 for _ in _changes(tree))))
    generator.shuffle(order)
    made: dict[str, None] = {}
    for index in order:
        if len(made) == count:
            break
        text = _applied(tree, index)
        if text != plain:
            made[text] = None
    return list(made)


def _applied(tree: ast.Module, index: int) -> str:
    """Returns the code with its change of that number made; the tree stays as it was."""
    for number, (change, undo) in enumerate(_changes(tree)):
        if number == index:
            change()
            try:
                return ast.unparse(tree)
            finally:
                undo()
    raise IndexError(index)


Step = Callable[[], None]


def _changes(tree: ast.Module) -> Iterator[tuple[Step, Step]]:
    """Yields each change, and how it is taken back."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARED:
            swapped: list[ast.cmpop] = [_COMPARED[type(node.ops[0])](), *node.ops[1:]]
            yield _setting(node, "ops", swapped)
        elif isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in _COMPUTED:
            yield _setting(node, "op", _COMPUTED[type(node.op)]())
        elif isinstance(node, ast.BoolOp):
            yield _setting(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield _setting(node, "op", ast.UAdd())
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield _setting(node, "value", not node.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            yield _setting(node, "value", node.value + 1)
            yield _setting(node, "value", node.value - 1)
        elif isinstance(node, ast.Return) and node.value is not None:
            yield _setting(node, "value", ast.Constant(None))


def _setting(node: ast.AST, name: str, value: object) -> tuple[Step, Step]:
    old = getattr(node, name)
    return lambda: setattr(node, name, value), lambda: setattr(node, name, old)
