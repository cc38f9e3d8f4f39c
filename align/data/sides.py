"""A row as its cleaners see it: what is asked and what is answered, and the words of each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_WORD = re.compile(r"\w+")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_ASCII_TOKEN = re.compile(_TOKEN.pattern, re.ASCII)  # the same of such text, and a third faster


def words_of(text: str) -> list[str]:
    """Returns runs of letters, digits and underscores in lower case.

    Layout and punctuation are left out, so that they don't hide a copy.
    """
    return _WORD.findall(text.lower())


def tokens_of(text: str) -> list[str]:
    """Returns words and single marks in lower case: `a + b` and `a - b` are not the same."""
    return (_ASCII_TOKEN if text.isascii() else _TOKEN).findall(text.lower())


@dataclass(frozen=True)
class Side:
    """The prompt or the answer of a row."""

    name: str
    text: str
    words: Sequence[str]


def sides_of(prompt: str, answer: str) -> tuple[Side, Side]:
    """Returns both sides of a row."""
    return Side("prompt", prompt, words_of(prompt)), Side("answer", answer, words_of(answer))


def chat_sides(messages: Sequence[Mapping[str, str]]) -> tuple[Side, Side]:
    """Returns both sides of a conversation: all that is given, and all that the assistant says."""
    answer = [m["content"] for m in messages if m["role"] == "assistant"]
    prompt = [m["content"] for m in messages if m["role"] != "assistant"]
    return sides_of("\n\n".join(prompt), "\n\n".join(answer))
