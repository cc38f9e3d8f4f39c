"""Which part of a source file becomes the middle: pieces of its syntax tree, at four levels."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import tree_sitter_python
from tree_sitter import Language, Node, Parser

LEVELS = ("expression", "statement", "block", "function")

_EXPRESSIONS = frozenset(
    {
        "binary_operator",
        "boolean_operator",
        "call",
        "comparison_operator",
        "conditional_expression",
        "dictionary",
        "dictionary_comprehension",
        "generator_expression",
        "lambda",
        "list",
        "list_comprehension",
        "not_operator",
        "set",
        "set_comprehension",
        "subscript",
        "tuple",
        "unary_operator",
    }
)
_SCOPES = frozenset({"function_definition", "class_definition"})
_MIN_MIDDLE = 4


@dataclass(frozen=True)
class Span:
    """A middle and the window of text around it; all offsets count bytes of the UTF-8 text.

    Attributes:
        level: One of `LEVELS`, or `random` where the file does not parse.
        window_start: Where the prefix begins.
        start: Where the middle begins.
        end: Where the middle ends and the suffix begins.
        window_end: Where the suffix ends.
    """

    level: str
    window_start: int
    start: int
    end: int
    window_end: int

    def cut(self, data: bytes) -> tuple[str, str, str]:
        """Returns prefix, middle and suffix; put together they are the window, byte by byte."""
        edges = (self.window_start, self.start, self.end, self.window_end)
        prefix, middle, suffix = (
            data[left:right].decode() for left, right in itertools.pairwise(edges)
        )
        return prefix, middle, suffix


def pick_span(
    text: str, chooser: random.Random, *, max_middle: int, max_context: int
) -> Span | None:
    """Picks a middle of a Python file.

    A level is drawn first, then one of its nodes. Half of the statements and blocks are taken as
    whole lines, with their indentation and line end, as single-line infilling asks for them. A
    file that does not parse gives a random span.

    Args:
        text: The file.
        chooser: Source of the draws.
        max_middle: Longest middle, in bytes.
        max_context: Longest prefix and suffix together, in bytes.

    Returns:
        The span, or None where nothing in the file has the right size.
    """
    data = text.encode()
    root = _parser().parse(data).root_node
    if root.has_error:
        start, end = _random_middle(text, chooser, max_middle)
        level = "random"
    else:
        found: dict[str, list[tuple[int, int]]] = {}
        for name, node in _pieces(root):
            if _MIN_MIDDLE <= node.end_byte - node.start_byte <= max_middle:
                found.setdefault(name, []).append((node.start_byte, node.end_byte))
        if not found:
            return None
        level = chooser.choice(sorted(found))
        start, end = chooser.choice(found[level])
        if level in ("statement", "block") and chooser.random() < 0.5:
            start, end = _whole_lines(data, start, end)
    if not data[start:end].strip():
        return None
    window_start, window_end = _window(data, start, end, max_context)
    return Span(level, window_start, start, end, window_end)


@cache
def _parser() -> Parser:
    return Parser(Language(tree_sitter_python.language()))


def _pieces(root: Node) -> Iterator[tuple[str, Node]]:
    """Yields (level, node) of the tree, without recursion: generated files nest deeply."""
    todo = [root]
    while todo:
        node = todo.pop()
        parent = node.parent
        if node.type in _EXPRESSIONS:
            yield "expression", node
        elif node.type == "block" and parent is not None:
            if parent.type == "function_definition":
                yield "function", node
            elif parent.type not in _SCOPES:
                yield "block", node
        elif node.type.endswith("_statement"):
            yield "statement", node
        todo.extend(node.named_children)


def _whole_lines(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Widens a span to its lines where it stands alone on them."""
    line_start = data.rfind(b"\n", 0, start) + 1
    line_end = data.find(b"\n", end)
    line_end = len(data) if line_end < 0 else line_end + 1
    if data[line_start:start].strip() or data[end:line_end].strip():
        return start, end
    return line_start, line_end


def _random_middle(text: str, chooser: random.Random, max_middle: int) -> tuple[int, int]:
    """Draws a span between characters, so that no character is cut in two."""
    length = chooser.randint(1, max(1, min(max_middle // 4, len(text))))
    start = chooser.randint(0, len(text) - length)
    before = len(text[:start].encode())
    return before, before + len(text[start : start + length].encode())


def _window(data: bytes, start: int, end: int, budget: int) -> tuple[int, int]:
    """Returns where prefix and suffix are cut: at line ends, the prefix twice as long."""
    suffix = min(len(data) - end, max(budget // 3, budget - start))
    prefix = min(start, budget - suffix)
    window_start, window_end = start - prefix, end + suffix
    if window_start > 0:
        line = data.find(b"\n", window_start - 1, start)
        window_start = start if line < 0 else line + 1
    if window_end < len(data):
        line = data.rfind(b"\n", end, window_end)
        window_end = end if line < 0 else line + 1
    return window_start, window_end
