"""Checks chat rows and turns them into rows to train on."""

from __future__ import annotations

from typing import Any

from align.artifacts import canonical_json, short_id
from align.row_checks import text_fault

_ROLES = ("system", "user", "assistant")


def chat_fault(messages: Any) -> str | None:
    """Returns what is wrong with a message list, or None.

    A good one is non-empty text turns: an optional system turn, then user and assistant in turn,
    an assistant turn last.
    """
    if not isinstance(messages, list) or not messages:
        return "messages must be a non-empty list"
    for index, message in enumerate(messages):
        fault = _message_fault(message)
        if fault:
            return f"messages[{index}] {fault}"
    return _order_fault([message["role"] for message in messages])


def _message_fault(message: Any) -> str | None:
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        return f"needs a role of {', '.join(_ROLES)}"
    content = message.get("content")
    if message.get("tool_calls"):
        return "calls a tool, which is not supported"
    if isinstance(content, list):
        return "has content in parts; only a text is supported"
    if not isinstance(content, str):
        return f"needs content that is text, not {type(content).__name__}"
    if not content.strip():
        return "has empty content"
    if fault := text_fault(content):
        return f"has content that {fault}"
    return None


def _order_fault(turns: list[str]) -> str | None:
    if turns[0] == "system":
        turns = turns[1:]
    if turns and turns == ["user", "assistant"] * (len(turns) // 2):
        return None
    if "assistant" not in turns:
        found = "there is no answer"
    elif turns[-1] != "assistant":
        found = f"the last turn is the {turns[-1]}'s"
    elif turns[0] != "user":
        found = f"the {turns[0]} speaks first"
    elif "system" in turns:
        found = "a system turn stands in the middle"
    else:
        found = "one of them speaks twice in a row"
    return (
        "after an optional system turn, user and assistant must alternate, assistant last: " + found
    )


def train_row(
    messages: list[dict[str, str]], origin: dict[str, Any], licence: str, weight: float = 1.0
) -> dict[str, Any]:
    """Builds the chat row (`align.rows.TRAIN_ROW`) of a checked message list.

    The id is the hash of the messages alone, so that one text has one id wherever it comes from.
    """
    plain = [{"role": m["role"], "content": m["content"]} for m in messages]
    return {
        "row_id": short_id("t", "chat", plain),
        "kind": "chat",
        "messages": plain,
        "fim": None,
        "weight": weight,
        "origin": canonical_json(origin),
        "licence": licence,
    }
