"""Recognises the layout of an instruction row and reads it as a conversation.

Four layouts are known, told apart by a row's own columns, so that a table may mix them. A column
that is null counts as absent, because a parquet file has every column in every row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from align.errors import InputError

Messages = list[dict[str, str]]

_SPEAKERS = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
}
_NO_INPUT = ("", "<noinput>")
_LAYOUTS = (
    "`messages`; `conversations` (sharegpt); `instruction` with `output` or `response` (alpaca); "
    "`prompt` with `completion` or `response`"
)


@dataclass(frozen=True)
class Conversation:
    """A row's messages, not checked yet, and the layout that they were found in."""

    layout: str
    messages: Any


def read_conversation(row: Mapping[str, Any]) -> Conversation:
    """Returns the conversation of a row in any known layout.

    Raises:
        InputError: The columns fit no layout, or one of them does not hold what it should.
    """
    if row.get("messages") is not None:
        return Conversation("messages", row["messages"])
    for name in ("conversations", "conversation"):
        if row.get(name) is not None:
            return Conversation("sharegpt", _sharegpt(row[name], name, row.get("system")))
    if row.get("instruction") is not None:
        return Conversation("alpaca", _alpaca(row))
    if row.get("prompt") is not None:
        return Conversation("prompt/completion", _prompt_completion(row))
    columns = ", ".join(sorted(name for name, value in row.items() if value is not None))
    raise InputError(f"columns {columns or '(none)'} fit no known layout; known are {_LAYOUTS}")


def _sharegpt(turns: Any, column: str, system: Any) -> Messages:
    if not isinstance(turns, list) or not turns:
        raise InputError(f"{column} must be a non-empty list of turns")
    messages = [{"role": "system", "content": system}] if system else []
    for index, turn in enumerate(turns):
        place = f"{column}[{index}]"
        if not isinstance(turn, Mapping):
            raise InputError(f"{place} must be an object with `from` and `value`")
        speaker = turn.get("from") or turn.get("role")
        content = turn.get("value") if turn.get("value") is not None else turn.get("content")
        if not isinstance(speaker, str) or speaker not in _SPEAKERS:
            raise InputError(
                f"{place} is from {speaker!r}; known are {', '.join(_SPEAKERS)} (tools are not)"
            )
        if not isinstance(content, str):
            raise InputError(f"{place} needs `value`, a text")
        messages.append({"role": _SPEAKERS[speaker], "content": content})
    return messages


def _alpaca(row: Mapping[str, Any]) -> Messages:
    answer = row.get("output") if row.get("output") is not None else row.get("response")
    if answer is None:
        raise InputError("an `instruction` needs `output` or `response` beside it")
    question = _text(row["instruction"], "instruction")
    more = _text(row.get("input") or "", "input")
    if more.strip().lower() not in _NO_INPUT:
        question = f"{question}\n\n{more}"
    messages = _system(row)
    history = row.get("history") or []
    if not isinstance(history, list):
        raise InputError("history must be a list of pairs of question and answer")
    for index, turn in enumerate(history):
        if not isinstance(turn, list | tuple) or len(turn) != 2:
            raise InputError(f"history[{index}] must be a pair of question and answer")
        messages += _exchange(*(_text(part, f"history[{index}]") for part in turn))
    return messages + _exchange(question, _text(answer, "the answer"))


def _prompt_completion(row: Mapping[str, Any]) -> Messages:
    prompt = row["prompt"]
    answer = row.get("completion") if row.get("completion") is not None else row.get("response")
    if answer is None:
        raise InputError("a `prompt` needs `completion` or `response` beside it")
    if isinstance(prompt, list) and isinstance(answer, list):
        return [*prompt, *answer]
    return _system(row) + _exchange(_text(prompt, "prompt"), _text(answer, "completion"))


def _system(row: Mapping[str, Any]) -> Messages:
    system = row.get("system")
    return [{"role": "system", "content": _text(system, "system")}] if system else []


def _exchange(question: str, answer: str) -> Messages:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{name} must be a text, not {type(value).__name__}")
    return value
