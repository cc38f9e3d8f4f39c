"""Instruction rows from their sources to the `rows` table: cleaned, deduplicated, mixed.

The first pass goes through every row alone and writes those that stay to a spool on disk. What
needs all of them at once (duplicates, the share without code, the mixture) works on a few numbers a
row; the last pass writes the table in the mixture's order.
"""

from __future__ import annotations

import re
import shutil
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from align.artifacts import Row, TableWriter
from align.data.chat_rows import chat_fault, train_row
from align.data.decontaminate import BenchmarkIndex
from align.data.dropped import Dropped
from align.data.duplicates import DuplicateFinder, id_key
from align.data.formats import read_conversation
from align.data.language import NO_CODE, tag_language
from align.data.mixing import Mix, choose, mix
from align.data.quality import quality_score, read_checklist
from align.data.sides import chat_sides, tokens_of
from align.data.spool import Spool
from align.errors import InputError
from align.row_checks import row_weight
from align.settings import DataSettings, RowSource
from align.stage import Context
from align.tables import read_rows

Bools = NDArray[np.bool_]

_EPSILON = 1e-9
_PLACE = re.compile(r"(?P<file>.*?)(?::| row )(?P<line>\d+(?: item \d+)?)", re.DOTALL)


@dataclass
class Source:
    """One source of the recipe and what became of its rows.

    Attributes:
        name: Its path, as the recipe names it.
        settings: Its entry in the recipe.
        read: Rows in it, good and bad.
        layouts: How many rows were found in which layout.
        kept: Rows that stayed, each counted once.
        used: Rows in the mixture, repeats counted.
    """

    name: str
    settings: RowSource
    read: int = 0
    layouts: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    used: int = 0


class RowCleaner:
    """Takes sources in, one after another, and writes what stays of them.

    Use it as a context manager; leaving it deletes its work files.

    Args:
        settings: What is taken out.
        index: The benchmarks that rows must not overlap.
        dropped: Is told of every row that does not stay.
        work: Folder for files between the passes.
        context: The run around the stage.
    """

    def __init__(
        self,
        settings: DataSettings,
        index: BenchmarkIndex,
        dropped: Dropped,
        work: Path,
        context: Context,
    ) -> None:
        self._settings = settings
        self._index = index
        self._dropped = dropped
        self._context = context
        self._work = work
        shutil.rmtree(work, ignore_errors=True)
        self._spool = Spool(work / "rows.jsonl")
        self._duplicates = DuplicateFinder(work, settings.near_duplicate)
        self._ids = array("Q")
        self._source_of = array("H")
        self._without_code = array("B")
        self.sources: list[Source] = []
        self.languages: Counter[str] = Counter()

    def __enter__(self) -> RowCleaner:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()
        shutil.rmtree(self._work, ignore_errors=True)

    def take(self, settings: RowSource, table: Path) -> None:
        """Reads one source.

        Raises:
            InputError: Its file as a whole can't be read.
        """
        names = [source.settings.path for source in self.sources]
        again = names.count(settings.path)
        source = Source(settings.path + (f" ({again + 1})" if again else ""), settings)
        self.sources.append(source)

        def bad(place: str, reason: str) -> None:
            source.read += 1
            self._dropped.add("bad_row", source.name, place, reason)

        name = table.name if table.exists() else str(table)  # which is a Hub id
        rows = read_rows(table, bad, split=settings.split, subset=settings.subset)
        with self._context.progress(f"reads {table.name}", None) as bar:
            for place, row in rows:
                source.read += 1
                try:
                    built = self._built(row, source, place, name)
                    self._examine(built, source, place)
                except InputError as error:
                    self._dropped.add("bad_row", source.name, place, str(error))
                except UnicodeEncodeError as error:
                    reason = f"holds half a character beside its messages: {error.object!r:.80}"
                    self._dropped.add("bad_row", source.name, place, reason)
                bar.advance()

    def _built(self, row: Row, source: Source, place: str, table: str) -> Row:
        conversation = read_conversation(row)
        source.layouts[conversation.layout] += 1
        fault = chat_fault(conversation.messages)
        if fault:
            raise InputError(fault)
        checklist = read_checklist(row.get("checklist"))
        licence = str(row.get("licence") or row.get("license") or source.settings.licence)
        origin = {"source": str(row.get("source") or table), **_origin(place, table)}
        return {
            **train_row(conversation.messages, origin, licence, row_weight(row)),
            "checklist": checklist,
        }

    def _examine(self, built: Row, source: Source, place: str) -> None:
        sides = chat_sides(built["messages"])
        hits = self._index.find(sides)
        if hits:
            self._dropped.add_contaminated(source.name, place, hits)
            return
        built["quality"] = None
        if quality := self._settings.quality:
            score = built["quality"] = quality_score(built["checklist"], quality)
            if score is None:
                self._dropped.add("unscored", source.name, place, "has no score for every item")
                return
            if score < quality.min_score:
                reason = f"scores {score:.3g}, less than {quality.min_score:g}"
                self._dropped.add("low_quality", source.name, place, reason)
                return
        prompt, answer = sides
        built["language"] = tag_language(prompt.text, answer.text)
        self._spool.add({**built, "place": place})  # first, because it may refuse the row
        self._duplicates.add(built["row_id"], tokens_of(prompt.text), tokens_of(answer.text))
        self._ids.append(id_key(built["row_id"]))
        self._source_of.append(len(self.sources) - 1)
        self._without_code.append(built["language"] == NO_CODE)

    def write(self, writer: TableWriter) -> None:
        """Drops duplicates and what is too much without code, mixes, and writes the table."""
        stays = self._first_of_its_kind()
        self._cap_no_code(stays)
        mixture = self._mix(stays)
        with self._context.progress("writes rows", len(mixture.rows)) as bar:
            for number, copy in zip(map(int, mixture.rows), map(int, mixture.copies), strict=True):
                row = self._spool[number]
                del row["place"]
                self.languages[row["language"]] += 1
                if copy:
                    row["row_id"] += f".{copy + 1}"
                if row["row_id"] not in writer.done:
                    writer.add(row)
                bar.advance()

    def _first_of_its_kind(self) -> Bools:
        found = self._duplicates.find(self._spool)
        for number in map(int, np.flatnonzero(found.earlier >= 0)):
            stays = self._spool[int(found.earlier[number])]["place"]
            alike = float(found.similarity[number])
            if self._ids[number] == self._ids[int(found.earlier[number])]:
                self._drop(number, "duplicate", f"the same messages stand at {stays}")
            else:
                reason = f"{alike:.0%} the same as the row at {stays}"
                self._drop(number, "near_duplicate", reason)
        return np.asarray(found.earlier < 0)

    def _cap_no_code(self, stays: Bools) -> None:
        cap = self._settings.max_no_code
        if cap is None or cap == 1:
            return
        bare = np.frombuffer(self._without_code, dtype=np.bool_)
        source_of = np.frombuffer(self._source_of, dtype=np.uint16)
        taken = np.array([source.settings.weight for source in self.sources])[source_of]
        allowed = cap / (1 - cap) * float(taken[stays & ~bare].sum())
        there = float(taken[stays & bare].sum())
        if there <= allowed:
            return
        # The same share of each source's, because a row counts as often as its source is taken.
        for number in range(len(self.sources)):
            without = np.flatnonzero(stays & bare & (source_of == number))
            count = int(len(without) * allowed / there + _EPSILON)
            chosen = choose(self._id_array()[without], count, self._context.seed)
            for row in map(int, without[~chosen]):
                stays[row] = False
                self._drop(row, "no_code", f"one row without code more than max_no_code {cap:g}")

    def _mix(self, stays: Bools) -> Mix:
        source_of = np.frombuffer(self._source_of, dtype=np.uint16)
        members = {
            source.name: np.flatnonzero(stays & (source_of == number)).astype(np.int32)
            for number, source in enumerate(self.sources)
        }
        weights = {source.name: source.settings.weight for source in self.sources}
        mixture = mix(members, weights, self._id_array(), self._context.seed)
        for source in self.sources:
            source.kept = len(members[source.name])
            source.used = mixture.used[source.name]
        return mixture

    def _id_array(self) -> NDArray[np.uint64]:
        return np.frombuffer(self._ids, dtype=np.uint64)

    def _drop(self, number: int, kind: str, reason: str) -> None:
        source = self.sources[self._source_of[number]].name
        self._dropped.add(kind, source, self._spool[number]["place"], reason)


def _origin(place: str, table: str) -> dict[str, str]:
    match = _PLACE.fullmatch(place)
    file, line = (match["file"], match["line"]) if match else (place, "")
    return {"file": table if file == table else Path(file).name, "line": line}


def source_details(sources: Sequence[Source], dropped: Mapping[str, Counter[str]]) -> list[Row]:
    """Returns for the manifest what became of each source."""
    return [
        {
            "source": source.name,
            "layouts": dict(source.layouts),
            "read": source.read,
            "dropped": dict(dropped[source.name]),
            "kept": source.kept,
            "weight": source.settings.weight,
            "used": source.used,
        }
        for source in sources
    ]
