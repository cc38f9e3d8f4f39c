"""From tables of training rows to token rows: encoding, dropping, cutting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.artifacts import short_id
from align.chat import IGNORED, Encoded, Tokenizer, TrainOn, encode_chat
from align.errors import InputError
from align.fim.formats import encode_fim_row
from align.row_checks import row_weight, text_fault
from align.settings import SftSettings
from align.skips import Skips
from align.tables import read_rows


@dataclass(frozen=True)
class TokenRow:
    """A row as it is trained.

    Attributes:
        row_id: Which row it is.
        encoded: Ids and labels.
        weight: Factor on the loss of its tokens.
    """

    row_id: str
    encoded: Encoded
    weight: float


@dataclass(frozen=True)
class Source:
    """The usable rows of one input, in the order of their ids.

    Attributes:
        rows: Rows that are trained.
        overlong: Rows that hold more tokens than are allowed, dropped or truncated.
        truncated: Those of them that were cut, and are trained.
        bad: Rows that can't be trained; each is named in the run's log.
        lengths: Tokens of all rows before anything was cut: quantiles by name.
    """

    rows: list[TokenRow]
    overlong: int
    truncated: int
    bad: int
    lengths: dict[str, int]


def read_source(table: Path, tokenizer: Tokenizer, settings: SftSettings, skips: Skips) -> Source:
    """Reads and encodes a table of training rows (`align.rows.TRAIN_ROW`).

    A row of one's own needs no more than `messages`. Rows are put in the order of their ids, so
    that the order of a table decides nothing. A row that can't be trained is noted in `skips`, with
    file and line.

    Raises:
        InputError: The table can't be read, or a row is too long and `overlong` is `error`.
    """
    rows: list[TokenRow] = []
    lengths: list[int] = []
    overlong = truncated = bad = 0

    def refuse(place: str, reason: str) -> None:
        nonlocal bad
        skips.add("bad_row", place, reason)
        bad += 1

    for place, row in read_rows(table, refuse):
        try:
            token_row = _encode(tokenizer, row, settings.train_on)
        except InputError as error:
            refuse(place, str(error))
            continue
        lengths.append(len(token_row.encoded.input_ids))
        if lengths[-1] > settings.max_length:
            overlong += 1
            reason = f"the row holds {lengths[-1]} tokens, max_length is {settings.max_length}"
            if settings.overlong == "error":
                raise InputError(
                    f"{place}: {reason}; raise it, or set overlong to `drop` or `truncate`"
                )
            if settings.overlong == "drop":
                skips.add("overlong", place, reason)
                continue
            if not _answers_before(token_row.encoded, settings.max_length, settings.train_on):
                skips.add("overlong", place, f"{reason}, and its answer begins behind that")
                continue
            token_row = _cut(token_row, settings.max_length)
            truncated += 1
        rows.append(token_row)
    rows.sort(key=lambda token_row: (token_row.row_id, token_row.encoded.input_ids))
    return Source(rows, overlong, truncated, bad, _quantiles(lengths))


def _answers_before(row: Encoded, length: int, train_on: TrainOn) -> bool:
    """Says whether an answer, of which something is trained, begins before a cut."""
    if train_on == "qwen_script":  # which also trains tokens of the turns before the answer
        return length > 1 + max(n for n, label in enumerate(row.labels) if label == IGNORED)
    return any(label != IGNORED for label in row.labels[:length])


def _cut(row: TokenRow, length: int) -> TokenRow:
    """Cuts the end off: an end token that was behind the cut is not put back."""
    encoded = Encoded(row.encoded.input_ids[:length], row.encoded.labels[:length])
    return TokenRow(row.row_id, encoded, row.weight)


def _quantiles(lengths: Sequence[int]) -> dict[str, int]:
    ordered = sorted(lengths)
    last = len(ordered) - 1
    shares = {"median": 0.5, "p90": 0.9, "p99": 0.99, "longest": 1.0}
    return {name: ordered[round(share * last)] for name, share in shares.items()} if ordered else {}


def _encode(tokenizer: Tokenizer, row: Mapping[str, Any], train_on: TrainOn) -> TokenRow:
    kind = row.get("kind") or ("fim" if row.get("fim") else "chat")
    weight = row_weight(row)
    if kind == "chat":
        content: Any = row.get("messages")
        if not isinstance(content, list):
            raise InputError(
                "a chat row needs `messages`, a list of role and content; `align data` makes them "
                "of alpaca, sharegpt, and prompt and completion rows"
            )
        encoded = encode_chat(tokenizer, content, train_on)
    elif kind == "fim":
        content = row.get("fim")
        encoded = encode_fim_row(tokenizer, content)
    else:
        raise InputError(f"kind {kind!r} is not known; use `chat` or `fim`")
    row_id = str(row.get("row_id") or short_id("row", kind, content))
    if fault := text_fault(row_id):
        raise InputError(f"row_id {fault}")
    return TokenRow(row_id, encoded, weight)
