"""`align data` and the verb under it that shows rows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

from align.alone import do_stage, model_path, settings_of, table_path
from align.benchmark_files import KNOWN_BENCHMARKS
from align.context import console
from align.errors import RecipeError
from align.manifest import read_manifest
from align.settings import DataSettings
from align.tables import resolve_table
from align.verbs import ModelOption, SeedOption, SetOption

data_app = typer.Typer(invoke_without_command=True)


def register(app: typer.Typer) -> None:
    """Adds the verbs to the command."""
    app.add_typer(data_app, name="data")


@data_app.callback()
def data(
    invoked: typer.Context,
    out: Annotated[Path | None, typer.Option("--out", help="The folder to write.")] = None,
    rows: Annotated[
        list[str] | None,
        typer.Option(metavar="TABLE[=WEIGHT]", help="Instruction rows; may be given again."),
    ] = None,
    tasks: Annotated[list[str] | None, typer.Option(help="Tasks; may be given again.")] = None,
    overrides: SetOption = None,
    seed: SeedOption = 0,
) -> None:
    """Reads instruction rows and tasks: checks, cleans, decontaminates, mixes, holds tasks out.

    What is left out stands in OUT/dropped, each overlap with a benchmark in OUT/contamination.
    `align data show` shows rows as they are trained.

    Example: align data --rows chats.jsonl --rows more.json=0.5 --tasks tasks.jsonl --out data
    """
    if invoked.invoked_subcommand is not None:
        return
    if out is None:
        raise RecipeError("align data needs --out, the folder to write")
    given = {"rows": [_source(name) for name in rows or []] or None, "tasks": tasks}
    settings: DataSettings = settings_of(DataSettings, given, overrides)
    inputs = {f"rows.{i}": table_path(source.path) for i, source in enumerate(settings.rows)}
    inputs.update({f"tasks.{i}": table_path(name) for i, name in enumerate(settings.tasks)})
    for name in settings.decontaminate:
        if name not in KNOWN_BENCHMARKS:
            inputs[f"benchmark.{name}"] = table_path(name)
    do_stage("data", settings, inputs, out, seed=seed)
    manifest = read_manifest(out)
    if manifest and manifest["details"]["sources"]:
        from align.report.sources import sources_table

        console.print(sources_table(manifest["details"]["sources"]))


def _source(name: str) -> dict[str, Any]:
    path, equals, weight = name.rpartition("=")
    if not equals or resolve_table(name) is not None:
        return {"path": name}
    try:
        return {"path": path, "weight": float(weight)}
    except ValueError:
        raise RecipeError(f"--rows {name}: write TABLE or TABLE=WEIGHT") from None


@data_app.command()
def show(
    table: Annotated[str, typer.Argument(help="A table of rows: folder, parquet, JSONL, Hub id.")],
    model: ModelOption,
    limit: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 5,
    skip: Annotated[int, typer.Option(min=0, help="Rows to pass over first.")] = 0,
    train_on: Annotated[
        Literal["assistant", "last_turn_only", "qwen_script"],
        typer.Option(help="What of a chat is trained, as in the recipe."),
    ] = "assistant",
    html: Annotated[Path | None, typer.Option(help="Write them to this page too.")] = None,
) -> None:
    """Shows rows as they are trained, the trained tokens in colour.

    Example: align data show data/rows --model Qwen/Qwen2.5-Coder-0.5B --limit 3 --html rows.html
    """
    from align.showing import as_html, as_text, load_tokenizer, shown_rows

    rows = shown_rows(table_path(table), load_tokenizer(model_path(model)), limit, skip, train_on)
    terminal = Console(file=sys.stdout, highlight=False)
    for row in rows:
        terminal.print(as_text(row), soft_wrap=True)
    if html:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(as_html(rows, table), encoding="utf-8")
        console.print(f"{escape(str(html))}: {len(rows)} rows", soft_wrap=True)
