"""From files to rows: reads, cleans, parses, draws a span, a wrapper and a context for each row."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from align.artifacts import Row, canonical_json, short_id
from align.chat import Tokenizer, encode_text
from align.errors import InputError
from align.fim.cleaning import Cleaner
from align.fim.context import Neighbours
from align.fim.corpus import OnSkip, SourceFile, read_file
from align.fim.formats import RepoContext
from align.fim.licences import licence_tag
from align.fim.spans import SourceText, Span, window
from align.settings import FimSettings

_ROUNDS = 20
"""How often the corpus is gone through before too few rows are an error."""
_CACHED_FILES = 256


@dataclass(frozen=True)
class Cut:
    """A row, and what it was cut from."""

    row: Row
    level: str
    file: SourceFile


class Cutter:
    """Cuts rows from files in a random order that the seed fixes.

    A file gives a second row only once every file was tried.

    Args:
        files: The corpus.
        settings: Levels, sizes, wrappers.
        tokenizer: Counts tokens.
        seed: Fixes every draw.
        skip: Told of each file that is left out.
        tables: Benchmarks that are tables, by name.

    Attributes:
        counts: `files_read`, `bytes_read` and `unparsable` so far.
    """

    def __init__(
        self,
        files: Sequence[SourceFile],
        settings: FimSettings,
        tokenizer: Tokenizer,
        seed: int,
        skip: OnSkip,
        tables: Mapping[str, Path] | None = None,
    ) -> None:
        self._files = list(files)
        random.Random(seed).shuffle(self._files)
        self._settings = settings
        self._tokenizer = tokenizer
        self._seed = seed
        self._skip = skip
        self._usable: dict[int, bool] = {}
        self._cleaner = Cleaner(settings, self._text, tables or {})
        self._contaminated: set[int] = set()
        self._numbers = {(f.home, f.path): number for number, f in enumerate(self._files)}
        self._other = lru_cache(_CACHED_FILES)(self._read_other)
        self.counts: Counter[str] = Counter()

    def rows(self) -> Iterator[Cut]:
        """Yields as many different rows as the settings ask for.

        Raises:
            InputError: The corpus has too little code for so many rows.
        """
        seen: set[str] = set()
        for turn in range(_ROUNDS):
            for number in range(len(self._files)):
                if len(seen) == self._settings.rows:
                    return
                cut = self._cut(number, turn)
                if cut is not None and cut.row["row_id"] not in seen:
                    seen.add(cut.row["row_id"])
                    yield cut
        if len(seen) < self._settings.rows:
            raise InputError(
                f"fim.rows asks for {self._settings.rows} rows, but {len(self._files)} files of "
                f"the corpus gave only {len(seen)}; ask for fewer, or name more in fim.corpus"
            )

    def _cut(self, number: int, turn: int) -> Cut | None:
        data = self._read(number)
        if data is None:
            return None
        settings, file = self._settings, self._files[number]
        source = SourceText(data, file.language)
        if not turn and not source.parses:
            self.counts["unparsable"] += 1
        chooser = random.Random(f"{self._seed}:{turn}:{file.sha}")
        span = source.pick(chooser, settings.levels, settings.max_middle_tokens, self._count)
        if span is None:
            return None
        prefix, middle, suffix = window(data, span, settings.max_context_tokens, self._count)
        wrapper = chooser.choices(list(settings.wrappers), list(settings.wrappers.values()))[0]
        context = None
        if chooser.random() < settings.repository:
            context = self._context(file, data, middle)
        others = [text for _, text in context.files] if context else []
        overlap = self._cleaner.overlap("\n".join([*others, prefix + middle + suffix]))
        if overlap is not None:
            if number not in self._contaminated:  # files are counted, not rows that were tried
                self._contaminated.add(number)
                self._skip("contaminated", f"{file.repo}/{file.path}", overlap)
            return None
        fim = {
            "prefix": prefix,
            "middle": middle,
            "suffix": suffix,
            "context": context.to_json() if context else None,
            "wrapper": wrapper,
        }
        return Cut(_row(fim, file, licence_tag(data) or file.licence, span), span.level, file)

    def _read(self, number: int) -> bytes | None:
        """Returns a file's bytes if it is of use; on the first time it is looked at closely."""
        if self._usable.get(number) is False:
            return None
        file = self._files[number]
        if number in self._usable:
            return file.file.read_bytes()
        data = read_file(file, self._settings, self._skip)
        self.counts["files_read"] += 1
        if data is not None:
            self.counts["bytes_read"] += len(data)
            repeated = self._cleaner.repeats(number, data.decode())
            if repeated is not None:
                self._skip("near_duplicate", f"{file.repo}/{file.path}", repeated)
                data = None
        self._usable[number] = data is not None
        return data

    def _text(self, number: int) -> str:
        return self._files[number].file.read_bytes().decode()

    def _count(self, text: str) -> int:
        return len(encode_text(self._tokenizer, text))

    def _context(self, file: SourceFile, data: bytes, middle: str) -> RepoContext | None:
        return self._neighbours[file.home].context(
            file.path,
            data,
            middle,
            lambda path: self._other(file.home, path),
            self._settings.max_repository_tokens,
            self._count,
        )

    @cached_property
    def _neighbours(self) -> dict[str, Neighbours]:
        repos = {file.home: file.repo for file in self._files}
        paths = defaultdict(list)
        for file in self._files:
            paths[file.home].append(file.path)
        return {home: Neighbours(repos[home], names) for home, names in paths.items()}

    def _read_other(self, home: str, path: str) -> str | None:
        data = self._read(self._numbers[home, path])
        return None if data is None else data.decode()


def _row(fim: dict[str, str | None], file: SourceFile, licence: str, span: Span) -> Row:
    origin = {
        "repo": file.repo,
        "path": file.path,
        "sha": file.sha,
        "language": file.language,
        "level": span.level,
        "span": [span.start, span.end],
    }
    return {
        "row_id": short_id("fim", fim["prefix"], fim["middle"], fim["suffix"], fim["wrapper"]),
        "kind": "fim",
        "messages": None,
        "fim": fim,
        "weight": 1.0,
        "origin": canonical_json(origin),
        "licence": licence,
    }
