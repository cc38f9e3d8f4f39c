"""The `align` command: thin verbs over `align.run` and the stages."""

from __future__ import annotations

import atexit
import errno
import gc
import logging
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from align import data_verbs, eval_verbs, judge_verbs, pair_verbs, sandbox_verbs, verbs
from align.context import console
from align.errors import AlignError, RecipeError

_INTERRUPTED = 130

app = typer.Typer(
    name="align",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Turns a base code model into an Instruct model: coarse-to-fine SFT, infilling, and DPO on "
        "pairs whose labels come from running code in a sandbox.\n\n"
        "Start with `align recipes ls`, then `align run RECIPE`. Each stage is also a verb of its "
        "own that reads and writes files."
    ),
)
recipes_app = typer.Typer(no_args_is_help=True, help="Look at, copy and check the shipped recipes.")
app.add_typer(recipes_app, name="recipes")
data_verbs.register(app)
verbs.register(app)
judge_verbs.register(app)
pair_verbs.register(app)
eval_verbs.register(app)
sandbox_verbs.register(app)

RecipeArgument = Annotated[
    str, typer.Argument(help="A recipe's file, or the name of a shipped one.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one key, e.g. sft.coarse.epochs=2."),
]
RunsOption = Annotated[Path, typer.Option(help="Folder that holds the runs.")]


def _open_run(recipe: str, overrides: list[str] | None, runs: Path) -> Any:
    from align.recipe import check_files, find_recipe, load_recipe
    from align.run import Run

    path = find_recipe(recipe)
    loaded = load_recipe(path, overrides or [])
    check_files(loaded, path.parent)
    return Run(loaded, path.parent, runs / loaded.name)


@app.command()
def run(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    runs: RunsOption = Path("runs"),
    first: Annotated[str | None, typer.Option("--from", help="Begin at this stage.")] = None,
    last: Annotated[str | None, typer.Option("--until", help="Stop after this stage.")] = None,
) -> None:
    """Runs a recipe, or goes on with it where it stopped.

    Done stages are not done again; after a kill or a crash give the same command. A changed setting
    reruns exactly what depends on it, and the old result is kept under `superseded/`.

    Example: align run recipes/demo.yaml --set sft.coarse.learning_rate=5e-5 --until verify.r1
    """
    opened = _open_run(recipe, overrides, runs)
    opened.walk(first=first, last=last)
    from align.report.terminal import print_report

    print_report(opened.folder)


@app.command()
def plan(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Says what `align run` would do, stage by stage, with rough time and memory; runs no stage.

    The start checkpoint's size is looked at, so that it is fetched where it is not there yet.

    Example: align plan recipes/demo.yaml --set sample.round.n=8
    """
    from align.plan import estimates

    opened = _open_run(recipe, overrides, runs)
    steps = opened.plan()
    table = Table("stage", "state", "about", "memory", "why")
    for step, estimate in zip(steps, estimates(opened, steps), strict=True):
        table.add_row(step.instance.id, step.state, estimate.time, estimate.memory, step.reason)
    console.print(table)
    console.print(
        "[dim]times and memory are rough: measured on earlier runs where there are any[/]"
    )


@app.command()
def doctor(
    engine: Annotated[str, typer.Option(help="auto, docker or namespaces.")] = "auto",
    isolation: Annotated[str | None, typer.Option(help="Level to accept, e.g. ns.")] = None,
) -> None:
    """Proves on this machine that the sandbox's walls stand, and that training and serving can run.

    Each limit is proved by one attack. Exits with 1 when something that is needed fails.

    Example: align doctor --engine namespaces
    """
    from align.doctor import examine

    table = Table("", "check", "finding", "what to do")
    healthy = True
    for finding in examine(engine, isolation):
        healthy &= finding.ok
        mark = "[green]ok[/]" if finding.ok else "[red]fails[/]"
        table.add_row(mark, finding.name, finding.detail, "" if finding.ok else finding.mend)
    console.print(table)
    if not healthy:
        raise typer.Exit(1)


@app.command("try")
def try_model(
    model: Annotated[str, typer.Argument(help="A model folder, an exported one, or a Hub id.")],
    prompt: Annotated[str, typer.Argument(help="The request; with --suffix, the text before it.")],
    suffix: Annotated[
        str | None, typer.Option(help="Fill in between PROMPT and this text.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1)] = 400,
) -> None:
    """Asks a model one thing, with plain transformers, and prints its answer.

    Example: align try runs/demo/export/model "Write a function that reverses a string."
    """
    from align.trying import answer

    answer(model, prompt, suffix, max_tokens)


@recipes_app.command("ls")
def recipes_ls() -> None:
    """Lists the shipped recipes with what they do.

    Example: align recipes ls
    """
    from align.recipe import about_recipe, shipped_recipes

    table = Table("name", "about")
    for name, path in shipped_recipes().items():
        table.add_row(name, about_recipe(path))
    console.print(table)


@recipes_app.command("cp")
def recipes_cp(
    recipe: RecipeArgument,
    target: Annotated[Path, typer.Argument(help="New file, or a folder.")] = Path("."),
) -> None:
    """Copies a shipped recipe, to change it.

    Tables that it names by a relative path are still found beside the shipped one only if they are
    copied too, so the copy names them by their full path.

    Example: align recipes cp demo mine.yaml
    """
    from align.recipe import copy_recipe, find_recipe

    source = find_recipe(recipe)
    if target.is_dir():
        target = target / source.name
    if target.exists():
        raise RecipeError(f"{target} is there already; give another name")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(copy_recipe(source), encoding="utf-8")
    console.print(f"{target}: run it with `align run {target}`")


@recipes_app.command("validate")
def recipes_validate(recipe: RecipeArgument, overrides: SetOption = None) -> None:
    """Checks a recipe's keys, values and files; starts nothing.

    Example: align recipes validate mine.yaml --set sft.coarse.epochs=2
    """
    from align.recipe import check_files, find_recipe, load_recipe

    path = find_recipe(recipe)
    check_files(load_recipe(path, overrides or []), path.parent)
    console.print(f"{path}: ok")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Runs the command line; prints an error of ours without a traceback."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Else Python's end looks through all that torch and the tables have left: a second of waiting.
    atexit.register(gc.freeze)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, _interrupt)
    # Long cells must not be cut when the output is piped into a file.
    if not sys.stderr.isatty():
        console.width = max(shutil.get_terminal_size().columns, 160)
    try:
        app()
    except AlignError as error:
        console.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            if error.filename is None:
                raise
            console.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True)
            sys.exit(1)
        console.print(
            f"[red]error:[/] {escape(str(error))}: what was written before is kept; make room and "
            "run the same command again",
            soft_wrap=True,
        )
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            console.print("stopped; give the same command to go on")
        raise


if __name__ == "__main__":
    main()
