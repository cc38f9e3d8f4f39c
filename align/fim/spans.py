"""Which part of a source file becomes the middle: syntax nodes, lines, or random characters."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tree_sitter import Node, QueryCursor

from align.fim.languages import SYNTAX_LEVELS, level_of, parse, query
from align.settings import FimLevel

LEVELS = (*SYNTAX_LEVELS, "line", "lines", "random")

CountTokens = Callable[[str], int]

_MIN_BYTES = 3
_MAX_BYTES_OF_A_TOKEN = 16
"""More bytes than this for each token that is allowed are not worth counting tokens."""
_TRIES = 40
_SEARCHED_BYTES = 8192
_MOST_LINES = 10


@dataclass(frozen=True)
class Span:
    """A middle.

    Attributes:
        level: One of `LEVELS`.
        start: Where it begins, in bytes of the file.
        end: Where it ends and the suffix begins.
    """

    level: str
    start: int
    end: int

    def cut(self, data: bytes) -> tuple[str, str, str]:
        """Returns prefix, middle and suffix; put together they are the file, byte for byte."""
        return (
            data[: self.start].decode(),
            data[self.start : self.end].decode(),
            data[self.end :].decode(),
        )


class SourceText:
    """A source file, parsed once, that spans are drawn from.

    Args:
        data: The file, UTF-8.
        language: A name that `align.fim.languages` knows.

    Attributes:
        parses: Whether its syntax has no error; if not, it gives random spans only.
    """

    def __init__(self, data: bytes, language: str) -> None:
        self.data = data
        self._language = language
        self._root = parse(language, data)
        self.parses = self._root is not None

    def pick(
        self,
        chooser: random.Random,
        weights: Mapping[FimLevel, float],
        max_tokens: int,
        count_tokens: CountTokens,
    ) -> Span | None:
        """Draws a level by its weight, then a span of it that is small enough.

        Where a level has none, another level is drawn.

        Args:
            chooser: Source of the draws.
            weights: Weights of `LEVELS`.
            max_tokens: Longest middle.
            count_tokens: Returns the number of tokens of a text.

        Returns:
            A span that is neither empty nor white space, or None where nothing has the right size.
        """
        left = {level: weight for level, weight in weights.items() if weight > 0}
        if not self.parses:
            left = {"random": 1.0}
        limit = _Limit(self.data, max_tokens, count_tokens)
        while left:
            level = chooser.choices(list(left), list(left.values()))[0]
            del left[level]
            if level == "random":
                found = self._random(chooser, limit)
            elif level in ("line", "lines"):
                found = self._lines(chooser, limit, 1 if level == "line" else _MOST_LINES)
            else:
                found = self._node(chooser, limit, level)
            if found is not None:
                return Span(level, *found)
        return None

    def _node(self, chooser: random.Random, limit: _Limit, level: str) -> tuple[int, int] | None:
        wanted = query(self._language, level)
        if wanted is None or self._root is None:
            return None
        cursor = QueryCursor(wanted)
        if level in ("statement", "expression") and len(self.data) > _SEARCHED_BYTES:
            start = chooser.randrange(len(self.data) - _SEARCHED_BYTES)
            cursor.set_byte_range(start, start + _SEARCHED_BYTES)
        # captured nodes come in the order of their addresses
        found = cursor.captures(self._root).get("found", [])
        nodes = sorted((node for node in found if level_of(node) == level), key=_place)
        for node in chooser.sample(nodes, min(_TRIES, len(nodes))):
            start, end = node.start_byte, node.end_byte
            if limit.allows(start, end):
                return start, end
        return None

    def _lines(self, chooser: random.Random, limit: _Limit, most: int) -> tuple[int, int] | None:
        starts = [0, *(found.end() for found in re.finditer(rb"\n", self.data))]
        if starts[-1] != len(self.data):
            starts.append(len(self.data))
        if len(starts) < 2:
            return None
        for _ in range(_TRIES):
            first = chooser.randrange(len(starts) - 1)
            last = first + (chooser.randint(2, most) if most > 1 else 1)
            if last >= len(starts):
                continue
            start, end = starts[first], starts[last]
            ends = (self.data[start : starts[first + 1]], self.data[starts[last - 1] : end])
            if all(part.strip() for part in ends) and limit.allows(start, end):
                return start, end
        return None

    def _random(self, chooser: random.Random, limit: _Limit) -> tuple[int, int] | None:
        text = self.data.decode()
        if not text:
            return None
        longest = min(len(text), 4 * limit.max_tokens)
        for _ in range(_TRIES):
            length = chooser.randint(1, longest)
            first = chooser.randint(0, len(text) - length)
            start = len(text[:first].encode())
            end = start + len(text[first : first + length].encode())
            if limit.allows(start, end):
                return start, end
        return None


def _place(node: Node) -> tuple[int, int, int]:
    return node.start_byte, node.end_byte, node.kind_id


@dataclass(frozen=True)
class _Limit:
    data: bytes
    max_tokens: int
    count_tokens: CountTokens

    def allows(self, start: int, end: int) -> bool:
        size = end - start
        if not _MIN_BYTES <= size <= _MAX_BYTES_OF_A_TOKEN * self.max_tokens:
            return False
        middle = self.data[start:end].decode()
        if not middle.strip():
            return False
        # no token is shorter than a byte
        return size <= self.max_tokens or self.count_tokens(middle) <= self.max_tokens


def window(
    data: bytes, span: Span, max_tokens: int, count_tokens: CountTokens
) -> tuple[str, str, str]:
    """Returns prefix, middle and suffix, the outer two cut to a budget at line breaks.

    The suffix gets a third of the budget, and each side what the other leaves over.

    Args:
        data: The file.
        span: The middle.
        max_tokens: Of prefix and suffix together.
        count_tokens: Returns the number of tokens of a text.
    """
    prefix, middle, suffix = span.cut(data)
    suffix_room = max_tokens // 3
    prefix, used = _tail(prefix, max_tokens - suffix_room, count_tokens)
    suffix, suffix_used = head_of(suffix, max_tokens - used, count_tokens)
    if prefix and len(prefix) < span.start and suffix_used < suffix_room:
        prefix, _ = _tail(data[: span.start].decode(), max_tokens - suffix_used, count_tokens)
    return prefix, middle, suffix


def _tail(text: str, room: int, count_tokens: CountTokens) -> tuple[str, int]:
    def cut(size: int) -> str:
        line = text.find("\n", len(text) - size - 1)
        return text[line + 1 :] if line >= 0 else ""

    return _fit(text, room, count_tokens, cut)


def head_of(text: str, room: int, count_tokens: CountTokens) -> tuple[str, int]:
    """Returns as many whole lines of a text's beginning as a budget holds, with their tokens."""

    def cut(size: int) -> str:
        return text[: text.rfind("\n", 0, size) + 1]

    return _fit(text, room, count_tokens, cut)


def _fit(
    text: str, room: int, count_tokens: CountTokens, cut: Callable[[int], str]
) -> tuple[str, int]:
    """Shortens a text until its tokens fit; returns it with their number."""
    size = 3 * room  # code has three to four characters a token
    kept = text if len(text) <= size else cut(size)
    while kept:
        used = count_tokens(kept)
        if used <= room:
            return kept, used
        kept = cut(int(len(kept) * 0.95 * room / used))
    return "", 0
