"""Chat templates taken apart by what they do: which text is the template's, which the messages'.

A template is rendered with marks in place of the contents; what stands between the marks is its
own, and depends on the roles alone. Nothing is matched by a model's name: a template that can't be
taken apart so is refused, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

from align.errors import TrainingError

_PROBE = (
    ("system", "Be brief."),
    ("user", "  two\n\nlines "),
    ("assistant", "x = 1\n"),
    ("user", " and more\n"),
)


@dataclass(frozen=True)
class Template:
    """What probing found.

    Attributes:
        strips: Whether white space around a content is taken away.
        end: The token that ends an assistant's turn.
    """

    strips: bool
    end: str


def template_of(tokenizer: Any) -> Template:
    """Probes a tokenizer's chat template.

    Raises:
        TrainingError: There is none, or what it writes can't be told apart from the contents.
    """
    return _probe(tokenizer, str(tokenizer.chat_template))


def between(tokenizer: Any, roles: Sequence[str], prompt: bool) -> tuple[str, ...]:
    """Returns the template's own text before, between and behind the contents.

    Args:
        tokenizer: A tokenizer with a chat template.
        roles: The messages' roles.
        prompt: Whether an assistant's header stands at the end.

    Raises:
        TrainingError: The template can't write these roles.
    """
    return _between(tokenizer, str(tokenizer.chat_template), tuple(roles), prompt)


@lru_cache(maxsize=256)
def _between(
    tokenizer: Any, template: str, roles: tuple[str, ...], prompt: bool
) -> tuple[str, ...]:
    del template  # part of the key: another template writes another text
    marks = [f"\ue000{number}\ue001" for number in range(len(roles))]
    rest = _render(tokenizer, list(zip(roles, marks, strict=True)), prompt)
    parts = []
    for number, mark in enumerate(marks):
        part, found, rest = rest.partition(mark)
        if not found or mark in rest:
            raise TrainingError(
                f"the chat template does not write the content of message {number} "
                f"({roles[number]}) once and in its place; use a model with another template"
            )
        parts.append(part)
    return (*parts, rest)


def _render(tokenizer: Any, turns: Sequence[tuple[str, str]], prompt: bool) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    try:
        text: str = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=prompt
        )
    except TemplateError as error:
        roles = ", ".join(role for role, _ in turns)
        raise TrainingError(f"the chat template refuses the roles {roles}: {error}") from error
    return text


@lru_cache(maxsize=8)
def _probe(tokenizer: Any, template: str) -> Template:
    if not tokenizer.chat_template:
        raise TrainingError("the tokenizer has no chat template; give it align.chat.CHAT_TEMPLATE")
    turns: Sequence[tuple[str, str]] = _PROBE
    try:
        _render(tokenizer, turns, True)
    except TrainingError:
        turns = _PROBE[1:]  # some templates know no system message
    parts = between(tokenizer, [role for role, _ in turns], True)
    strips = _strips(_render(tokenizer, turns, True), parts, [content for _, content in turns])
    answer = next(number for number, (role, _) in enumerate(turns) if role == "assistant")
    before = between(tokenizer, [role for role, _ in turns[:answer]], True)
    if before != parts[: answer + 1]:
        raise TrainingError(
            f"the chat template puts {parts[answer]!r} before an answer in a conversation, but "
            f"asks for one with {before[-1]!r}: what is trained would not be what is sampled"
        )
    known = sorted(tokenizer.added_tokens_encoder, key=len, reverse=True)
    end = next((token for token in known if parts[answer + 1].startswith(token)), None)
    if end is None:
        raise TrainingError(
            f"the chat template writes {parts[answer + 1][:40]!r} behind an answer, which begins "
            "with no token of its own: a model could not be taught to stop there"
        )
    for count in dict.fromkeys((answer + 1, len(turns) + 1)):
        _check_last_answer(tokenizer, [*turns, ("assistant", "y")][:count], end)
    return Template(strips, end)


def _check_last_answer(tokenizer: Any, turns: Sequence[tuple[str, str]], end: str) -> None:
    """Refuses a template that puts a last answer otherwise than it asks for one, or ends it so."""
    roles = [role for role, _ in turns]
    asked = between(tokenizer, roles[:-1], True)
    written = between(tokenizer, roles, False)
    if written[: len(asked)] != asked:
        raise TrainingError(
            f"the chat template puts {written[len(asked) - 1]!r} before the last answer of a "
            f"conversation, but asks for one with {asked[-1]!r}: what is trained would not be what "
            "is sampled"
        )
    if not written[-1].startswith(end):
        raise TrainingError(
            f"the chat template writes {written[-1][:40]!r} behind the last answer of a "
            f"conversation, and {end!r} behind an earlier one"
        )


def _strips(text: str, parts: Sequence[str], contents: Sequence[str]) -> bool:
    for strips in (False, True):
        shown = [content.strip() if strips else content for content in contents]
        if text == "".join(a + b for a, b in zip(parts, [*shown, ""], strict=True)):
            return strips
    raise TrainingError(
        f"the chat template rewrites contents: it wrote {text!r}, so that the mask of an answer "
        "can't be placed; use a model whose template leaves them as they are"
    )
