"""From an instruction and its answer to a function that can be asked for and called.

Text alone decides here; nothing is run.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from align.artifacts import canonical_json
from align.sampling.extract import extract_code, parse
from sandbox import values

#: Most calls that are taken from one answer's example.
_MOST_CALLS = 4
#: Requests about code that somebody else wrote: an answer says nothing of what is asked for.
_ABOUT_CODE = re.compile(
    r"\bdef \w+\(|\bclass \w+|```|\bimport \w+|^[ \t]*(?:for|while|if) .*:[ \t]*$", re.MULTILINE
)
#: What makes two runs differ, or reaches out of the program.
_IMPURE = frozenset(
    {"input", "open", "print", "exec", "eval", "exit", "quit", "id", "hash", "globals", "locals"}
)
_SET_METHODS = frozenset({"intersection", "union", "difference", "symmetric_difference"})
_IMPURE_MODULES = frozenset(
    {"random", "secrets", "time", "datetime", "os", "sys", "subprocess", "socket", "threading"}
    | {"requests", "urllib", "http", "sqlite3", "uuid", "tempfile", "pathlib", "shutil", "asyncio"}
)
#: What makes the same of a set in whatever order it comes.
_ORDER_FREE = frozenset({"sorted", "len", "sum", "min", "max", "any", "all", "set", "frozenset"})


@dataclass(frozen=True)
class Function:
    """A function that an instruction asks for.

    Attributes:
        name: Its name.
        code: It, and what it needs of the answer: imports and constants.
        calls: Arguments of the calls that the answer shows, as plain values, all equally many.
        unordered: Whether the order in which a set hands out its elements may decide what it
            returns, which nobody can ask for.
    """

    name: str
    code: str
    calls: Sequence[Sequence[Any]]
    unordered: bool


class Unfit(Exception):
    """A row that no task can be made of.

    Attributes:
        kind: Why, as it is counted.
    """

    def __init__(self, kind: str, reason: str) -> None:
        """Says why, in a word to count by and in words to read."""
        super().__init__(reason)
        self.kind = kind


def read_function(question: str, answer: str) -> Function:
    """Returns the function that answers a question.

    Raises:
        Unfit: There is none, several, or one that is not a function of its arguments alone.
    """
    if _ABOUT_CODE.search(question):
        raise Unfit("about_code", "the request is about code that is there already")
    code = extract_code(answer)
    tree = parse(code) if code else None
    if tree is None:
        raise Unfit("no_function", "the answer holds no Python")
    function = _only_function(tree)
    needed = _needed(tree, function)
    if fault := _impure([*needed, function]):
        raise Unfit("impure", f"{function.name}: {fault}")
    calls = list(_example_calls(tree, function)) or list(_asked_calls(question, function))
    if not calls:
        raise Unfit("no_example", f"nothing shows {function.name} called with plain values")
    # A prompt shows one call: whoever takes that one need not take more arguments, or fewer.
    alike = [call for call in calls if len(call) == len(calls[0])]
    text = "\n\n".join(map(ast.unparse, [*needed, function])) + "\n"
    return Function(function.name, text, alike[:_MOST_CALLS], _unordered(function))


def _only_function(tree: ast.Module) -> ast.FunctionDef:
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    others = [node for node in tree.body if isinstance(node, ast.ClassDef | ast.AsyncFunctionDef)]
    if len(functions) != 1 or others:
        raise Unfit("no_function", "the answer defines no function, or more than one thing")
    (function,) = functions
    arguments, name = function.args, function.name
    if not arguments.args or arguments.vararg or arguments.kwarg or arguments.kwonlyargs:
        raise Unfit("no_function", f"{name} has no parameters, or not plain ones")
    if function.decorator_list:
        raise Unfit("no_function", f"{name} is decorated")
    returned = [node.value for node in _own(function) if isinstance(node, ast.Return)]
    if not any(value is not None for value in returned):
        raise Unfit("no_function", f"{name} returns nothing")
    if any(isinstance(node, ast.Yield | ast.YieldFrom) for node in _own(function)):
        raise Unfit("no_function", f"{name} is a generator")
    return function


def _own(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """Yields the nodes of a function's body, without those of functions in it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(node))


def _needed(tree: ast.Module, function: ast.FunctionDef) -> list[ast.stmt]:
    """Returns imports and constants at the top that the function uses.

    A constant is a number or a text that is bound once: a list may be filled further below, and
    data of the example that a function reads by its name is nothing that a prompt tells.

    Raises:
        Unfit: It uses another name that is bound at the top.
    """
    used = _names(function, ast.Load) - _names(function, ast.Store)
    used -= {argument.arg for argument in function.args.args} | {function.name}
    rest = [node for node in tree.body if node is not function]
    bound = Counter(name for node in rest for name in _bound(node))
    kept: list[ast.stmt] = []
    for node in rest:
        if isinstance(node, ast.Import | ast.ImportFrom):
            if used & {(each.asname or each.name).partition(".")[0] for each in node.names}:
                kept.append(node)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name, value = node.targets[0].id, _literal(node.value)
            plain = value is not None and isinstance(value[0], int | float | str)
            if name in used and bound[name] == 1 and plain:
                kept.append(node)
                del bound[name]
    if hidden := sorted(used & bound.keys()):
        raise Unfit("hidden_data", f"{function.name} reads {hidden[0]}, which no prompt tells")
    return kept


def _bound(node: ast.AST) -> list[str]:
    """Returns the names that a statement binds, deletes or changes, once for each time."""
    return [
        each.id
        for each in ast.walk(node)
        if isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Load)
    ]


def _names(node: ast.AST, context: type[ast.expr_context]) -> set[str]:
    names = (each for each in ast.walk(node) if isinstance(each, ast.Name))
    return {each.id for each in names if isinstance(each.ctx, context)}


def _impure(nodes: Sequence[ast.stmt]) -> str:
    """Returns why what these statements do is more than a value of their arguments, or nothing."""
    for node in (each for statement in nodes for each in ast.walk(statement)):
        if isinstance(node, ast.Name) and node.id in _IMPURE:
            return f"it uses {node.id}"
        if isinstance(node, ast.Global | ast.Nonlocal):
            return "it changes names outside of it"
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        for module in modules:
            if module.partition(".")[0] in _IMPURE_MODULES:
                return f"it imports {module}"
    return ""


def _unordered(function: ast.FunctionDef) -> bool:
    """Whether sets are made elsewhere than where their order is nothing, as in `sorted(set(x))`."""
    harmless: set[int] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in _ORDER_FREE and not node.keywords:
                harmless |= {id(each) for each in node.args}
        elif isinstance(node, ast.Compare):
            harmless |= {id(each) for each in (node.left, *node.comparators)}
    return any(_makes_set(node) and id(node) not in harmless for node in ast.walk(function))


def _makes_set(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in ("set", "frozenset")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in _SET_METHODS
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr | ast.BitXor):
        return any(map(_is_view, (node.left, node.right)))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
        return _is_view(node.left)
    return isinstance(node, ast.Set | ast.SetComp)


def _is_view(node: ast.expr) -> bool:
    """Whether it is `x.keys()` or `x.items()`, of which operators make sets."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("keys", "items")
    )


def _example_calls(tree: ast.Module, function: ast.FunctionDef) -> Iterator[list[Any]]:
    """Yields the arguments of calls outside the function, where all of them are plain values."""
    constants: dict[str, ast.expr] = {}
    names = [argument.arg for argument in function.args.args]
    for statement in tree.body:
        if statement is function:
            continue
        for node in ast.walk(statement):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == function.name
                and (arguments := _arguments(node, names, constants)) is not None
            ):
                yield arguments
        for name in _bound(statement):
            constants.pop(name, None)
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    constants[target.id] = statement.value


def _asked_calls(question: str, function: ast.FunctionDef) -> Iterator[list[Any]]:
    """Yields the arguments that a question ends with, such as `[1, 2, 3], 2` or `text = 'abc'`."""
    _, blank, end = question.strip().rpartition("\n\n")
    tree = parse(f"{function.name}({end})") if blank else None
    node = tree.body[0].value if tree and isinstance(tree.body[0], ast.Expr) else None
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return
    names = [argument.arg for argument in function.args.args]
    if len(node.keywords) == len(names) == 1 and node.keywords[0].arg:
        node.keywords[0].arg = names[0]  # whatever the question calls it
    arguments = _arguments(node, names, {})
    if arguments is not None:
        yield arguments


def _arguments(
    call: ast.Call, names: Sequence[str], constants: dict[str, ast.expr]
) -> list[Any] | None:
    """Returns a call's arguments by position, None where one is no plain value."""
    given = dict(zip(names, call.args, strict=False))
    given |= {each.arg: each.value for each in call.keywords if each.arg}
    if len(call.args) > len(names) or any(each.arg is None for each in call.keywords):
        return None
    found = []
    for name in names[: len(given)]:
        if name not in given:
            return None  # one in the middle is left to its default
        node = given[name]
        boxed = _literal(constants.get(node.id, node) if isinstance(node, ast.Name) else node)
        if boxed is None:
            return None
        found.append(boxed[0])
    return found or None


def _literal(node: ast.expr) -> tuple[Any] | None:
    """Returns the value of a literal in a tuple of one; None where it is none that can be sent.

    A set is none: in which order it is sent differs from one process to the next.
    """
    try:
        value = ast.literal_eval(node)
        wire = canonical_json(values.encode(value))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return None if '{"$set":' in wire else (value,)
