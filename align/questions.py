"""What a task asks, in its own words and as what a base model would complete."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

from align.completions import clean_text
from sandbox.source import parse

COMPLETE = "Complete this function:\n\n```python\n"
"""How a task asks for the function whose head it shows."""

_SHOWN_TEST = re.compile(r"Your code should pass this test:\s*```python\n(?P<test>[^`]*)```")
"""How our own form of MBPP and of made tasks shows a test."""


def without_shown_test(text: str) -> str:
    """Returns a question without the test that our own form of MBPP and of made tasks shows."""
    return _SHOWN_TEST.sub("\n\n", text).strip()


def docstring(*parts: str) -> str:
    """Returns the docstring by which EvalPlus puts a task of MBPP: its text, then a test."""
    return "\n".join(['"""', *parts, '"""', ""])


def head_of(task: Mapping[str, Any]) -> str | None:
    """Returns what a base model would complete to answer a task of the TASK table.

    That is the function's head and docstring where it is asked in that form, else its question as a
    docstring, with the test that it shows. None where it can't be: no chat of one message, or a
    question that a docstring or a fenced block can't hold.
    """
    match task.get("messages"):
        case [{"role": "user", "content": str(question)}]:
            question = clean_text(question)
        case _:
            return None
    if question.startswith(COMPLETE):
        head = question.removeprefix(COMPLETE).removesuffix("```")
        return None if "```" in head else head
    shown = _SHOWN_TEST.search(question)
    words = without_shown_test(question)
    if '"""' in words:
        return None
    head = docstring(words, *([shown["test"].strip()] if shown else []))
    return None if "```" in head or not _parses(head) else head


def _parses(code: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as an escape that a string does not know
            parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
