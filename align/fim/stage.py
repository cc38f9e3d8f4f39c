"""The stage that cuts fill-in-the-middle rows from source files."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from align.artifacts import Row, canonical_json, short_id
from align.errors import InputError
from align.fim.corpus import SourceFile, list_corpus, read_text
from align.fim.spans import pick_span
from align.rows import TRAIN_ROW
from align.settings import FimSettings
from align.stage import Context, Output, Summary

_ROUNDS = 20
"""How often the corpus is gone through before too few rows are an error."""


def run(
    settings: FimSettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Writes the table `rows`: FIM rows with their file, span and licence.

    One corpus and one seed give the same rows. A file gives a second row only once every file was
    tried.

    Raises:
        InputError: The corpus has too little code for so many rows.
    """
    files = list_corpus(settings)
    levels: Counter[str] = Counter()
    packages: Counter[str] = Counter()
    with (
        out.table("rows", TRAIN_ROW, "row_id") as table,
        context.progress("cutting FIM rows", settings.rows) as bar,
    ):
        for level, file, row in _cut(files, settings, context.seed):
            levels[level] += 1
            packages[file.repo] += 1
            if row["row_id"] not in table.done:
                table.add(row)
            bar.advance()
    counts = {"rows": table.rows, "files": len(files)}
    counts.update({level: levels[level] for level in sorted(levels)})
    return Summary(table.content_sha(), counts, {"packages": dict(packages.most_common())})


def _cut(
    corpus: Sequence[SourceFile], settings: FimSettings, seed: int
) -> Iterator[tuple[str, SourceFile, Row]]:
    files = list(corpus)
    random.Random(seed).shuffle(files)
    seen: set[str] = set()
    for turn in range(_ROUNDS):
        for file in files:
            if len(seen) == settings.rows:
                return
            text = read_text(file)
            if text is None:
                continue
            span = pick_span(
                text,
                random.Random(f"{seed}:{turn}:{file.sha}"),
                max_middle=settings.max_middle_chars,
                max_context=settings.max_context_chars,
            )
            if span is None:
                continue
            prefix, middle, suffix = span.cut(text.encode())
            row_id = short_id("fim", prefix, middle, suffix)
            if row_id in seen:
                continue
            seen.add(row_id)
            origin = {
                "repo": file.repo,
                "path": file.path,
                "sha": file.sha,
                "span": [span.start, span.end],
            }
            yield (
                span.level,
                file,
                {
                    "row_id": row_id,
                    "kind": "fim",
                    "messages": None,
                    "fim": {
                        "prefix": prefix,
                        "middle": middle,
                        "suffix": suffix,
                        "context": None,
                        "wrapper": "raw",
                    },
                    "weight": 1.0,
                    "origin": canonical_json(origin),
                    "licence": file.licence,
                },
            )
    if len(seen) < settings.rows:
        raise InputError(
            f"fim.rows asks for {settings.rows} rows, but {len(files)} files of the corpus gave "
            f"only {len(seen)}; ask for fewer, or name more folders in fim.corpus"
        )
