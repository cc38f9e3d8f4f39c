"""General pairs that are mixed in, so that a policy does not forget what is not code.

Qwen2.5-Coder's report (arXiv:2409.12186, section 4.2) combines the pairs for code with common data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.artifacts import Row, sha256_text, short_id
from align.errors import InputError
from align.rows import PAIR
from align.tables import read_rows

RULE = "common"


def draw_common(table: Path, count: int, seed: int, refused: Counter[str]) -> list[Row]:
    """Returns `count` pairs of a table, or all where it has fewer, drawn by hash.

    A row holds `prompt`, `chosen` and `rejected`, each a text or a list of messages; `licence`,
    `language` and `task_id` are kept where there are some.

    Raises:
        InputError: The table can't be read, or a row is no pair.
    """
    found: dict[str, Row] = {}
    for place, row in read_rows(table):
        pair = _pair(row, place)
        if pair["chosen"] == pair["rejected"]:
            refused["common pair of equal answers"] += 1
        elif pair["pair_id"] in found:
            refused["common pair repeats another"] += 1
        else:
            found[pair["pair_id"]] = pair
    drawn = sorted(found, key=lambda pair_id: sha256_text(f"{seed}:{pair_id}"))[:count]
    return [found[pair_id] for pair_id in drawn]


def _pair(row: Mapping[str, Any], place: str) -> Row:
    prompt = _messages(row.get("prompt"), "user", f"{place}: prompt")
    chosen, rejected = (
        _messages(row.get(side), "assistant", f"{place}: {side}") for side in ("chosen", "rejected")
    )
    pair: Row = dict.fromkeys(PAIR.names)
    pair_id = short_id("p", prompt, chosen, rejected, RULE)
    return pair | {
        "pair_id": pair_id,
        "prompt": prompt,
        "chosen": chosen,
        "rejected": rejected,
        "task_id": str(row.get("task_id") or pair_id),
        "language": row.get("language"),
        "licence": row.get("licence"),
        "rule": RULE,
    }


def _messages(value: Any, role: str, place: str) -> list[dict[str, str]]:
    """Returns a text, or a list of messages whose last one is of `role`, as messages."""
    if isinstance(value, str) and value:
        return [{"role": role, "content": value}]
    if isinstance(value, list) and value:
        plain = [each for each in value if isinstance(each, Mapping)]
        messages = [{"role": each.get("role"), "content": each.get("content")} for each in plain]
        whole = len(plain) == len(value) and all(
            isinstance(text, str) for message in messages for text in message.values()
        )
        if whole and messages[-1]["role"] == role and (role == "user" or len(messages) == 1):
            return [{name: str(text) for name, text in message.items()} for message in messages]
    raise InputError(
        f"{place} is no text and no list of messages that ends with the {role}'s; general pairs "
        "have a prompt, and one answer on each side"
    )
