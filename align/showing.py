"""Shows rows as they are trained: every token, with the trained ones in colour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, PackageLoader
from rich.text import Text

from align.chat import IGNORED, Encoded, Tokenizer, TrainOn, encode_chat
from align.data.chat_rows import chat_fault
from align.data.formats import read_conversation
from align.errors import CheckpointError, InputError
from align.fim.formats import encode_fim_row
from align.report.words import visible
from align.tables import read_rows

_TRAINED = "bold green"
_GIVEN = "dim"


@dataclass(frozen=True)
class Run:
    """Neighbouring tokens of a row that are all trained or all not.

    Attributes:
        text: What they spell, special tokens by their names.
        tokens: How many there are.
        trained: Whether they have labels.
    """

    text: str
    tokens: int
    trained: bool


@dataclass(frozen=True)
class ShownRow:
    """A row as it is trained, or why it can't be."""

    place: str
    title: str
    runs: tuple[Run, ...] = ()
    fault: str | None = None

    @property
    def tokens(self) -> int:
        """Tokens of the row."""
        return sum(run.tokens for run in self.runs)

    @property
    def trained(self) -> int:
        """Tokens that have labels."""
        return sum(run.tokens for run in self.runs if run.trained)


def shown_rows(
    table: str | Path,
    tokenizer: Tokenizer,
    limit: int,
    skip: int,
    train_on: TrainOn = "assistant",
) -> list[ShownRow]:
    """Returns `limit` rows of a table after the first `skip` ones.

    The table may hold training rows, or instruction rows in any known layout.

    Raises:
        InputError: The table can't be read.
    """
    return list(islice(_all_rows(table, tokenizer, train_on), skip, skip + limit))


def _all_rows(table: str | Path, tokenizer: Tokenizer, train_on: TrainOn) -> Iterator[ShownRow]:
    faults: list[ShownRow] = []

    def bad(place: str, reason: str) -> None:
        faults.append(ShownRow(place, "unreadable", fault=reason))

    for place, row in read_rows(table, bad):
        yield from faults
        faults.clear()
        yield _shown(place, row, tokenizer, train_on)
    yield from faults


def _shown(place: str, row: Mapping[str, Any], tokenizer: Tokenizer, train_on: TrainOn) -> ShownRow:
    names = [str(row[key]) for key in ("row_id", "kind", "language") if row.get(key)]
    title = " · ".join(names) or "row"
    try:
        encoded = _encode(row, tokenizer, train_on)
    except InputError as error:
        return ShownRow(place, title, fault=str(error))
    return ShownRow(place, title, tuple(_runs(encoded, tokenizer)))


def _encode(row: Mapping[str, Any], tokenizer: Tokenizer, train_on: TrainOn) -> Encoded:
    if row.get("fim"):
        return encode_fim_row(tokenizer, row["fim"])
    messages = read_conversation(row).messages
    fault = chat_fault(messages)
    if fault:
        raise InputError(fault)
    return encode_chat(tokenizer, messages, train_on)


def _runs(encoded: Encoded, tokenizer: Tokenizer) -> Iterator[Run]:
    pairs = zip(encoded.input_ids, encoded.labels, strict=True)
    for trained, group in groupby(pairs, key=lambda pair: pair[1] != IGNORED):
        ids = [token for token, _ in group]
        text = cast(Any, tokenizer).decode(ids, skip_special_tokens=False)
        # Carriage returns are tokens too, and `visible` would make them line ends.
        yield Run(text.replace("\r", "␍"), len(ids), trained)


def load_tokenizer(folder: Path) -> Tokenizer:
    """Loads a checkpoint's tokenizer; one without a chat template gets ours.

    Raises:
        CheckpointError: The folder has no readable tokenizer.
    """
    from transformers import AutoTokenizer

    from align.chat import CHAT_TEMPLATE

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: the tokenizer can't be loaded: {error}") from error
    if not tokenizer.chat_template:
        tokenizer.chat_template = CHAT_TEMPLATE
    return cast(Tokenizer, tokenizer)


def as_text(row: ShownRow) -> Text:
    """Returns a row for the terminal; what could steer the terminal is shown as a symbol."""
    head = Text(visible(f"{row.place}  {row.title}"), style="bold")
    if row.fault:
        return head.append(f"\nnot trainable: {visible(row.fault)}\n", style="red")
    head.append(f"  {row.trained} of {row.tokens} tokens trained\n", style="not bold")
    for run in row.runs:
        head.append(visible(run.text), style=_TRAINED if run.trained else _GIVEN)
    return head.append("\n")


def as_html(rows: list[ShownRow], table: str) -> str:
    """Returns a page with the same rows; it needs nothing but itself."""
    environment = Environment(
        loader=PackageLoader("align", ""), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["visible"] = visible
    return environment.get_template("showing.html.j2").render(rows=rows, table=table)
