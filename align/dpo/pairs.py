"""From a table of preference pairs to token ids, equal to those that a served model sees."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from align.artifacts import canonical_json, sha256_text, short_id
from align.chat import Tokenizer, encode_answer, encode_prompt
from align.errors import InputError
from align.row_checks import text_fault
from align.tables import read_rows


@dataclass(frozen=True)
class TokenPair:
    """A pair as it is trained; both answers end with the turn's end token.

    Attributes:
        pair_id: Which pair it is.
        prompt_ids: Ids up to the assistant's header.
        chosen_ids: Ids of the better answer.
        rejected_ids: Ids of the worse answer.
    """

    pair_id: str
    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]

    @cached_property
    def key(self) -> str:
        """What is trained of the pair, as one hash: pairs of equal tokens have equal keys."""
        ids = [self.prompt_ids, self.chosen_ids, self.rejected_ids]
        return sha256_text(canonical_json(ids))[:32]


@dataclass(frozen=True)
class Pairs:
    """The usable pairs of a table.

    Attributes:
        rows: Pairs that fit, in the order of their ids.
        overlong: Pairs left out for their length.
        identical: Pairs left out because both answers are the same tokens.
    """

    rows: list[TokenPair]
    overlong: int
    identical: int


def read_pairs(table: Path, tokenizer: Tokenizer, max_length: int) -> Pairs:
    """Reads and encodes a table of pairs (`align.rows.PAIR`, or TRL's explicit-prompt form).

    Raises:
        InputError: A row that is no pair; the message names file and line.
    """
    rows = []
    overlong = identical = 0
    for place, row in read_rows(table):
        try:
            pair = _encode(tokenizer, row)
        except InputError as error:
            raise InputError(f"{place}: {error}") from error
        longest = max(len(pair.chosen_ids), len(pair.rejected_ids))
        if pair.chosen_ids == pair.rejected_ids:
            identical += 1
        elif len(pair.prompt_ids) + longest > max_length:
            overlong += 1
        else:
            rows.append(pair)
    rows.sort(key=lambda pair: (pair.pair_id, pair.chosen_ids, pair.rejected_ids))
    return Pairs(rows, overlong, identical)


def choose_pairs(pairs: Pairs, max_pairs: int | None, seed: int) -> list[TokenPair]:
    """Returns the pairs of one pass in a random order, at most `max_pairs` of them.

    Raises:
        InputError: No pair is left.
    """
    if not pairs.rows:
        raise InputError(
            f"no pair is left to train on: {pairs.overlong} are longer than max_length, "
            f"{pairs.identical} have two equal answers"
        )
    chosen = list(pairs.rows)
    random.Random(seed).shuffle(chosen)
    return chosen[:max_pairs]


def hold_out(pairs: Sequence[TokenPair], share: float) -> tuple[list[TokenPair], list[TokenPair]]:
    """Splits pairs into those that are trained and those that are only watched.

    All pairs of a prompt go to one side, always the same one.

    Raises:
        InputError: One side would be empty.
    """
    sides: tuple[list[TokenPair], list[TokenPair]] = ([], [])
    for pair in pairs:
        place = int(sha256_text(canonical_json(pair.prompt_ids))[:8], 16) / (1 << 32)
        sides[place < share].append(pair)
    if share and not all(sides):
        raise InputError(
            f"held_out {share} of {len(pairs)} pairs leaves {len(sides[0])} to train on and "
            f"{len(sides[1])} to watch; change held_out, or give pairs of more prompts"
        )
    return sides


def _encode(tokenizer: Tokenizer, row: Mapping[str, Any]) -> TokenPair:
    prompt = row.get("prompt")
    if not isinstance(prompt, list) or not prompt:
        raise InputError("a pair needs `prompt`, a list of messages")
    if isinstance(prompt[-1], Mapping) and prompt[-1].get("role") == "assistant":
        raise InputError("the prompt ends with the assistant's message; it must wait for an answer")
    answers = [_answer(row.get(side), side) for side in ("chosen", "rejected")]
    if not answers[0].strip():
        raise InputError("`chosen` is empty: the model would learn to say nothing")
    return TokenPair(
        row.get("pair_id") or short_id("pair", prompt, answers),
        encode_prompt(tokenizer, prompt),
        encode_answer(tokenizer, answers[0]),
        encode_answer(tokenizer, answers[1]),
    )


def _answer(messages: Any, side: str) -> str:
    """Returns the text of a side, which is a list of one assistant message."""
    if (
        not isinstance(messages, list)
        or len(messages) != 1
        or not isinstance(messages[0], Mapping)
        or messages[0].get("role") != "assistant"
        or not isinstance(content := messages[0].get("content"), str)
    ):
        raise InputError(f"`{side}` must be a list of one assistant message")
    if fault := text_fault(content):
        raise InputError(f"the content of `{side}` {fault}")
    return content
