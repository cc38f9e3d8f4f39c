"""Says which programming language a row is about: by its fences, else by parsing.

A fence with a known tag decides. Code without one is given to the parsers of the languages whose
marks it bears; the one that understands most of it decides. Prose parses in several languages (a
sentence is a fine shell command), so that without marks no parser is asked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import cast, get_args

from tree_sitter import Node, Parser
from tree_sitter_language_pack import SupportedLanguage, get_parser

from align.data.marks import ALIASES, MARKS, NOT_CODE

NO_CODE = "no code"
UNKNOWN = "unknown"

_FENCE = re.compile(
    r"^[ \t]*(?:```|~~~)[ \t]*([\w+#.-]*)[^\n]*\n(.*?)^[ \t]*(?:```|~~~)", re.M | re.S
)
_OPEN_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[ \t]*([\w+#.-]*)[^\n]*\n(.*)\Z", re.M | re.S)
_MOST_CHARS = 8_000  # that a parser is given
_MOST_BROKEN = 0.25  # share of the text that a parser may not understand
_CANDIDATES = 4

_NAMES = frozenset(get_args(SupportedLanguage)) - NOT_CODE | frozenset(ALIASES.values())
# One mark of these stands in other languages too.
_TWO_MARKS = frozenset({"haskell", "php", "r", "json", "swift", "lua", "scala", "kotlin", "perl"})
_PROSE = re.compile(
    r"^[ \t]*(?:[A-Z][a-z']*|\d+\.|[*-])(?: +[\w'()\"`.,:;?!/-]+){3,}[ \t]*$", re.MULTILINE
)
_PATTERNS = {
    name: tuple(re.compile(mark, re.MULTILINE) for mark in marks) for name, marks in MARKS.items()
}


def tag_language(prompt: str, answer: str) -> str:
    """Returns the language of a row, `UNKNOWN` for code of no known one, or `NO_CODE`.

    The answer decides; the prompt is asked where the answer holds no code.
    """
    for text in (answer, prompt):
        language = _of_text(text)
        if language != NO_CODE:
            return language
    return NO_CODE


def _of_text(text: str) -> str:
    fences = _fences(text)
    if not fences:
        return _parsed(text) or NO_CODE
    weights: Counter[str] = Counter()
    for tag, code in fences:
        name = ALIASES.get(tag.lower(), tag.lower())
        language = name if name in _NAMES else _parsed(code) or UNKNOWN
        weights[language] += len(code)
    known = {name: weight for name, weight in weights.items() if name != UNKNOWN}
    return max(known, key=lambda name: known[name]) if known else UNKNOWN


def _fences(text: str) -> Sequence[tuple[str, str]]:
    if "```" not in text and "~~~" not in text:
        return ()
    found = [(match[1], match[2]) for match in _FENCE.finditer(text)]
    if not found and (cut := _OPEN_FENCE.search(text)):
        found = [(cut[1], cut[2])]  # a fence that nobody closed
    return [(tag, code) for tag, code in found if code.strip() and tag.lower() not in NOT_CODE]


def _parsed(text: str) -> str | None:
    """Returns the language whose parser understands a text best, among those it bears marks of."""
    text = _PROSE.sub("", text[:_MOST_CHARS])
    marks = {name: sum(bool(p.search(text)) for p in found) for name, found in _PATTERNS.items()}
    likely = [name for name in marks if marks[name] > (name in _TWO_MARKS)]
    likely = sorted(likely, key=lambda name: -marks[name])[:_CANDIDATES]
    best: tuple[float, str] | None = None
    for name in likely:
        broken = _broken_share(name, text.encode())
        score = marks[name] * (1 - broken)
        if broken <= _MOST_BROKEN and (best is None or score > best[0]):
            best = (score, name)
    return best[1] if best else None


def _broken_share(language: str, code: bytes) -> float:
    root = _parser(language).parse(code).root_node
    broken = 0
    nodes = [root]
    while nodes:
        node = nodes.pop()
        if node.is_error or node.is_missing:
            broken += max(1, _own_bytes(node))
        elif node.has_error:
            nodes.extend(node.children)
    return broken / max(1, len(code.strip()))


def _own_bytes(node: Node) -> int:
    return node.end_byte - node.start_byte


@cache
def _parser(language: str) -> Parser:
    return get_parser(cast(SupportedLanguage, language))
