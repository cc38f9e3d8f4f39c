"""Finds the functions that a text defines, with the names of their parameters.

Patterns, not parsers: the text is prose and code of many languages, whole or not. Repetitions are
bounded, so that no text makes them slow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_MOST_CHARS = 400  # of one parameter list
_NAME_FIRST = re.compile(
    r"\b(?:def|function|func|fn|fun)\s+(?:\([^()]{0,80}\)\s{0,8})?"  # a Go method's receiver
    r"(\w+)\s*(?:<[^<>()]*>|\[[^\[\]()]{0,80}\])?\("
    r"|\b(?:const|let|var)\s+(\w+)\s*=\s*(?:async\s+)?(?:function\s*)?\("
)
_TYPE_FIRST = re.compile(
    r"\b(?!return\b|new\b|else\b)[A-Za-z_][\w<>\[\],.:]{0,60}[\s&*]{1,8}"
    r"(?:\w{1,60}::){0,4}(\w{1,60})\s{0,8}\("
)
_METHOD = re.compile(
    r"^[ \t]{1,40}(?:(?:async|static|get|set)\s{1,8}){0,2}"
    r"(?!(?:if|for|while|switch|catch|with|return|function|do|else|new|await|throw)\b)"
    r"(\w{1,60})\s{0,8}\(",
    re.MULTILINE,
)
_COMMENT = re.compile(r"(?:#|(?<!:)//)[^\n]{0,400}|/\*.{0,400}?\*/", re.DOTALL)
_BODY = re.compile(r"\s{0,80}(?:const\b|noexcept\b|throws\s[\w.,\s]{1,200})?\s{0,80}\{")
_NOT_PARAMETERS = frozenset({"self", "cls", "this"})
_ANNOTATION = re.compile(r"(?<!:):(?!:)")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_WORD_OF_NAME = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")


@dataclass(frozen=True)
class Definition:
    """A function's name and the names of its parameters in their order."""

    name: str
    parameters: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self.parameters)})"


def plain_name(name: str) -> str:
    """Returns a name as it compares across languages: `hasClose` and `has_close` are equal."""
    return name.replace("_", "").lower()


def words_of_name(name: str) -> int:
    """Returns how many words a name is made of."""
    return len(_WORD_OF_NAME.findall(name))


def definitions(text: str) -> Iterator[Definition]:
    """Yields the functions that a text defines."""
    for match in _NAME_FIRST.finditer(text):
        inside = _parenthesised(text, match.end())
        if inside is not None:
            yield Definition(match[1] or match[2], _parameters(inside, type_first=False))
    for pattern, type_first in ((_TYPE_FIRST, True), (_METHOD, False)):
        for match in pattern.finditer(text):
            inside = _parenthesised(text, match.end())
            if inside is not None and _BODY.match(text, match.end() + len(inside) + 1):
                yield Definition(match[1], _parameters(inside, type_first=type_first))


def _parenthesised(text: str, start: int) -> str | None:
    depth = 1
    for position in range(start, min(len(text), start + _MOST_CHARS)):
        if text[position] in "([{":
            depth += 1
        elif text[position] in ")]}":
            depth -= 1
            if not depth:
                return text[start:position]
    return None


def _parameters(inside: str, *, type_first: bool) -> tuple[str, ...]:
    inside = _COMMENT.sub("", inside)
    found = []
    for part in _split(inside):
        named = _ANNOTATION.split(part.partition("=")[0])[0]
        identifiers = [name for name in _IDENTIFIER.findall(named) if name not in ("mut", "ref")]
        if identifiers:
            found.append(identifiers[-1 if type_first else 0])
    return tuple(name for name in found if name not in _NOT_PARAMETERS)


def _split(inside: str) -> Iterator[str]:
    depth = start = 0
    for position, letter in enumerate(inside):
        if letter in "([{<":
            depth += 1
        elif letter in ")]}>":
            depth -= 1
        elif letter == "," and depth <= 0:
            yield inside[start:position]
            start = position + 1
    yield inside[start:]
