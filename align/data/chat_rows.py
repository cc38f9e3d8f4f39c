"""Checks chat rows and turns them into rows to train on."""

from __future__ import annotations

from typing import Any

from align.artifacts import canonical_json, short_id

_ROLES = ("system", "user", "assistant")


def chat_fault(messages: Any) -> str | None:
    """Returns what is wrong with a message list, or None.

    A good one is non-empty text turns: an optional system turn, then user and assistant in turn,
    an assistant turn last.
    """
    if not isinstance(messages, list) or not messages:
        return "messages must be a non-empty list"
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            return f"messages[{index}] needs a role of {', '.join(_ROLES)}"
        if not isinstance(message.get("content"), str) or not message["content"].strip():
            return f"messages[{index}] needs content that is text"
    turns = [m["role"] for m in messages]
    if turns[0] == "system":
        turns = turns[1:]
    if turns != ["user", "assistant"] * (len(turns) // 2) or not turns:
        return "after an optional system turn, user and assistant must alternate, assistant last"
    return None


def train_row(
    messages: list[dict[str, str]], origin: dict[str, Any], licence: str
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
        "weight": 1.0,
        "origin": canonical_json(origin),
        "licence": licence,
    }
