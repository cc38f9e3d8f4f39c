"""`align pair` and the verbs under it: show, publish."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from align.alone import do_stage, settings_of, table_path
from align.context import console
from align.errors import InputError, RecipeError
from align.settings import PairSettings
from align.verbs import JudgementsOption, SeedOption, SetOption

pair_app = typer.Typer(invoke_without_command=True)

PairsArgument = Annotated[
    str, typer.Argument(help="Pairs, as `align pair` writes them: a folder or a file.")
]


def register(app: typer.Typer) -> None:
    """Adds the verbs to the command."""
    app.add_typer(pair_app, name="pair")


@pair_app.callback()
def pair(
    invoked: typer.Context,
    samples: Annotated[str | None, typer.Option(help="Samples: folder, parquet, JSONL.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="A folder; or X.parquet / X.jsonl for one file.")
    ] = None,
    verdicts: Annotated[
        str | None, typer.Option(help="Verdicts of the samples; none where no task has tests.")
    ] = None,
    judgements: JudgementsOption = None,
    tasks: Annotated[
        str | None, typer.Option(help="The samples' tasks: their languages and licences.")
    ] = None,
    common: Annotated[
        str | None, typer.Option(help="General pairs, of which a share is mixed in.")
    ] = None,
    overrides: SetOption = None,
    seed: SeedOption = 0,
) -> None:
    """Builds preference pairs from samples and what running and judging them showed.

    Example: align pair --samples s.parquet --verdicts v.parquet --out pairs.parquet

    Example: align pair --samples s --verdicts v --out p --set 'rules=[exec_margin]'
    """
    if invoked.invoked_subcommand is not None:
        return
    if samples is None or out is None or (verdicts is None and judgements is None):
        raise RecipeError("align pair needs --samples, --out, and --verdicts or --judgements")
    settings = settings_of(PairSettings, {"common": common}, overrides)
    named = {
        "samples": samples,
        "verdicts": verdicts,
        "judgements": judgements,
        "tasks": tasks,
        "common": settings.common,
    }
    inputs = {name: table_path(table) for name, table in named.items() if table is not None}
    do_stage("preference", settings, inputs, out, table="pairs", facts=True, seed=seed)


@pair_app.command()
def show(
    pairs: PairsArgument,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="Pairs to show.")] = 3,
    skip: Annotated[int, typer.Option(min=0, help="Pairs to pass over first.")] = 0,
    rule: Annotated[str | None, typer.Option(help="Only pairs of this rule.")] = None,
    task: Annotated[str | None, typer.Option(help="Only pairs of this task.")] = None,
    verdicts: Annotated[
        str | None, typer.Option(help="Verdicts, for the failing test; found in a run's folder.")
    ] = None,
    judgements: Annotated[
        str | None, typer.Option(help="Judgements, for the rationale; found in a run's folder.")
    ] = None,
) -> None:
    """Shows pairs: what rejected and chosen differ in, why they are a pair, which test failed.

    Example: align pair show runs/demo/pair.r1/pairs --rule exec_strict -n 5
    """
    from align.pair_showing import as_text, shown_pairs

    table = table_path(pairs)
    named = {
        name: table_path(given) if given else None
        for name, given in (("verdicts", verdicts), ("judgements", judgements))
    }
    found = list(shown_pairs(table, number, skip=skip, rule=rule, task=task, **named))
    if not found:
        raise InputError(f"{pairs} holds no such pair")
    for shown in found:
        console.print(as_text(shown), soft_wrap=True, highlight=False)


@pair_app.command()
def publish(
    pairs: PairsArgument,
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    push: Annotated[
        str | None, typer.Option(metavar="REPO", help="Upload the folder to this Hub id.")
    ] = None,
) -> None:
    """Writes pairs as a dataset that `datasets` loads, with a card, and uploads it where asked.

    Example: align pair publish runs/demo/pair.r1/pairs --out my-pairs --push me/my-pairs
    """
    from align.export.push import push as upload
    from align.pair_dataset import write_dataset

    count = write_dataset(table_path(pairs), out)
    console.print(f"{count} pairs: {escape(str(out))}", soft_wrap=True)
    if push:
        console.print(f"uploaded: {upload(out, push, 'dataset')}")
