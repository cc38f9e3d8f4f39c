"""The stage that cuts fill-in-the-middle rows from source files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from align.chat import Tokenizer
from align.errors import CheckpointError, InputError
from align.fim.corpus import list_corpus
from align.fim.cutting import Cutter
from align.fim.formats import fim_tokens
from align.rows import TRAIN_ROW
from align.settings import FimSettings
from align.skips import Skips
from align.stage import Context, Output, Summary


def run(
    settings: FimSettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Writes the table `rows`: FIM rows with their file, span and licence.

    One corpus, one tokenizer and one seed give the same rows. The input `model` is the checkpoint
    whose tokenizer counts the tokens. Each file that is left out is counted by its reason; files
    that no row needed are not looked into.

    Raises:
        InputError: A source or a benchmark can't be read, or the corpus has too little code.
        TrainingError: The model has no FIM tokens, and `add_tokens` is off.
        CheckpointError: The tokenizer can't be loaded.
    """
    tokenizer = _tokenizer(inputs["model"])
    if not settings.add_tokens and set(settings.wrappers) != {"text"}:
        tokens = fim_tokens(tokenizer)
        if settings.repository and tokens.repo is None:
            raise InputError(
                f"fim.repository is {settings.repository}, but no repository format is known for "
                f"models of the family {tokens.family}: set it to 0"
            )
    skips = Skips(context)
    files, others = list_corpus(settings, skips.add)
    tables = {
        name.removeprefix("benchmark."): path
        for name, path in inputs.items()
        if name.startswith("benchmark.")
    }
    cutter = Cutter(files, settings, tokenizer, context.seed, skips.add, tables)
    levels: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    repos: Counter[str] = Counter()
    with (
        out.table("rows", TRAIN_ROW, "row_id") as table,
        context.progress("cutting FIM rows", settings.rows) as bar,
    ):
        for cut in cutter.rows():
            levels[cut.level] += 1
            languages[cut.file.language] += 1
            repos[cut.file.repo] += 1
            if cut.row["row_id"] not in table.done:
                table.add(cut.row)
            bar.advance()
    counts = {"rows": table.rows, "files": len(files), **cutter.counts}
    left_out = {**skips.counts, **others}
    details = {
        "levels": dict(sorted(levels.items())),
        "languages": dict(languages.most_common()),
        "packages": dict(repos.most_common()),
        "left_out": left_out,
        "skipped": skips.listed,
    }
    return Summary(table.content_sha(), {**counts, **left_out}, details)


def _tokenizer(folder: Path) -> Tokenizer:
    from transformers import AutoTokenizer

    try:
        return cast(Tokenizer, AutoTokenizer.from_pretrained(folder, local_files_only=True))
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"the tokenizer in {folder} can't be read: {error}") from error
