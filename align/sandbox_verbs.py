"""Verbs over the sandbox: the systems that programs see, and the tasks that judge them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from align.alone import do_stage, settings_of, table_path
from align.context import console
from align.errors import ArtifactError
from align.recipe import parse_settings
from align.settings import MakeSettings, SandboxSettings
from align.verbs import EngineOption, IsolationOption, SetOption, WorkersOption

if TYPE_CHECKING:
    from align.checking import Checked
    from sandbox.images.store import System

sandbox_app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Build, list and prune what programs see as their system.\n\n"
        "With a Docker engine it is an image in that engine; without one a root file system in the "
        "user's cache folder ($XDG_CACHE_HOME/code-align). Both come from one definition and are "
        "built by themselves on first use."
    ),
)
tasks_app = typer.Typer(
    no_args_is_help=True, help="Make tasks, and check them before samples are judged by them."
)

BuildEngineOption = Annotated[
    str,
    typer.Option(help="auto, docker or namespaces (root file systems; leave Docker alone)."),
]


def register(app: typer.Typer) -> None:
    """Adds the verbs to the command."""
    app.add_typer(sandbox_app, name="sandbox")
    app.add_typer(tasks_app, name="tasks")


@contextmanager
def _client(engine: str) -> Iterator[Any]:
    """Gives a client of the Docker engine, or None and says why; the sandbox's errors are ours."""
    from sandbox import SandboxError
    from sandbox.images.store import engine_or_reason

    try:
        client, reason = engine_or_reason(engine)
        if reason:
            console.print(f"[dim]root file systems only: {escape(reason)}[/]", soft_wrap=True)
        try:
            yield client
        finally:
            if client is not None:
                client.close()
    except SandboxError as error:
        raise ArtifactError(str(error)) from error


@sandbox_app.command("build")
def build(
    image: Annotated[
        str | None,
        typer.Option(
            help="python (standard library) or python-data (numpy and pandas too); default: "
            "$ALIGN_SANDBOX_IMAGE, else python."
        ),
    ] = None,
    engine: BuildEngineOption = "auto",
    locked: Annotated[
        bool, typer.Option(help="Exit with 1 where packages differ from the locked ones.")
    ] = False,
) -> None:
    """Builds the image, or the root file system where no Docker engine answers.

    What is there already is not built again. Packages that differ from sandbox/images/*.lock
    are listed: verdicts of the two systems may differ.

    Programs run on `python` unless ALIGN_SANDBOX_IMAGE names another image, so tasks that need
    numpy or pandas want:

    align sandbox build --image python-data

    ALIGN_SANDBOX_IMAGE=python-data align verify ...
    """
    from sandbox import images
    from sandbox.images import store

    with _client(engine) as client:
        made = store.build(client, image)
    console.print(_table([made]))
    differences = images.drift(image)
    for line in differences:
        console.print(escape(line), soft_wrap=True)
    if differences and locked:
        raise typer.Exit(1)


@sandbox_app.command("list")
def list_(engine: BuildEngineOption = "auto") -> None:
    """Lists images and root file systems: version, digest, size, and what uses them.

    `image` is the definition of today that it was built from; what is `old` goes with
    `align sandbox prune`. A root file system's digest is that of its list of packages
    (the file of the same name ending in .packages, one name=version a line): two machines with the
    same digest run programs on the same packages.

    Example: align sandbox list
    """
    from sandbox.images import store

    with _client(engine) as client:
        found = store.systems(client)
    if found:
        console.print(_table(found))
    else:
        console.print("nothing is built yet: `align sandbox build`, or it is done on first use")


@sandbox_app.command("prune")
def prune(
    engine: BuildEngineOption = "auto",
    dry_run: Annotated[bool, typer.Option(help="Only say what would go.")] = False,
) -> None:
    """Removes what is neither current nor in use, and containers whose owner died.

    Images and root file systems of older definitions, what killed builds left behind, and strays.
    Nothing that a definition of today builds, and nothing that a sandbox is running on, is touched.
    Exits with 1 when something could not be removed.

    Example: align sandbox prune --dry-run
    """
    from sandbox.images import store

    with _client(engine) as client:
        done = store.prune(client, dry_run)
    if done.removed:
        console.print(_table(list(done.removed)))
    size = _mib(sum(system.size for system in done.removed))
    verb = "would remove" if dry_run else "removed"
    console.print(f"{verb} {len(done.removed)} ({size}), stray containers: {done.strays}")
    for system, reason in done.failed:
        console.print(f"[red]kept[/] {escape(f'{system.name}: {reason}')}", soft_wrap=True)
    if done.failed:
        raise typer.Exit(1)


def _table(systems: list[System]) -> Table:
    table = Table("kind", "name", "version", "digest", "size", "image", "in use")
    for each in systems:
        digest = each.digest.removeprefix("sha256:")[:12]
        marks = (each.variant or "[yellow]old[/]", "yes" if each.in_use else "no")
        table.add_row(each.kind, each.name, each.version, digest, _mib(each.size), *marks)
    return table


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


@tasks_app.command("make")
def make(
    rows: Annotated[list[str], typer.Option(help="Instruction rows; may be given again.")],
    out: Annotated[Path, typer.Option("--out", help="X.parquet, X.jsonl, or a folder.")],
    engine: EngineOption = "auto",
    isolation: IsolationOption = None,
    workers: WorkersOption = 2,
    overrides: SetOption = None,
) -> None:
    """Makes tasks with tests out of instructions that are answered by a Python function.

    The function runs in the sandbox on the inputs of its own example and on others of their kind;
    what it returns is expected from then on. Tests are the calls that tell the most mutants of it,
    and a task whose tests tell too few is left out. Decontaminate what you made before you train:
    `align data --tasks` does.

    Example: align tasks make --rows code_alpaca.json --out tasks.parquet
    """
    settings: MakeSettings = settings_of(MakeSettings, {"rows": rows}, overrides)
    box = parse_settings(
        SandboxSettings, {"engine": engine, "isolation": isolation, "workers": workers}, "option"
    )
    inputs = {f"rows.{i}": table_path(source.path) for i, source in enumerate(settings.rows)}
    do_stage("making", settings, inputs, out, table="tasks", sandbox=box)


@tasks_app.command("check")
def check(
    tasks: Annotated[str, typer.Argument(help="Tasks: folder, parquet, JSONL, Hub id.")],
    k: Annotated[int, typer.Option(min=1, help="Runs of each reference.")] = 5,
    engine: EngineOption = "auto",
    isolation: IsolationOption = None,
    workers: WorkersOption = 2,
    out: Annotated[
        Path | None, typer.Option(help="Write the sound tasks: X.parquet or X.jsonl.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Show every task, not only some.")] = False,
) -> None:
    """Checks that tasks can judge, and gives each the time limit that its reference calls for.

    A task is sound where its reference passes all of k runs, and an empty program and a stub that
    always raises fail. It is weak where its tests must run beside the program, whose verdicts can
    then be forged. Its limit is 4 s of CPU time for a test, or 4 times the reference's slowest
    where that is more.

    --out writes the sound tasks with these limits and leaves the bad ones out, so that nothing uses
    them. Exits with 0 when all are sound, with 1 when some are not.

    Example: align tasks check tasks.jsonl --k 5 --out checked.parquet
    """
    from align.checking import check_name, check_table, summary, write_sound

    if out is not None:
        check_name(out)
    box = parse_settings(
        SandboxSettings, {"engine": engine, "isolation": isolation, "workers": workers}, "option"
    )
    checked = check_table(table_path(tasks), box, k)
    shown = [each for each in checked if every or _stands_out(each)]
    if shown:
        console.print(_tasks_table(shown))
    counts = Table("", "count", title=tasks, title_justify="left")
    for name, value in summary(checked).items():
        counts.add_row(name, str(value))
    console.print(counts)
    if out is not None:
        written = write_sound(out, checked)
        console.print(f"{out}: {written} tasks, {len(checked) - written} left out")
    if any(each.problem for each in checked):
        raise typer.Exit(1)


def _stands_out(each: Checked) -> bool:
    report = each.report
    return bool(each.problem) or report is None or report.strength == "weak" or _raised(each)


def _raised(each: Checked) -> bool:
    return each.report is not None and each.report.limits.cpu_s > 4


def _tasks_table(checked: list[Checked]) -> Table:
    table = Table("", "task", "strength", "reference ms", "limit s", "reason")
    for each in checked:
        mark = "[red]bad[/]" if each.problem else "[green]ok[/]"
        values = ["", "", ""]
        if each.report is not None and each.report.cpu_ms:
            report = each.report
            values = [report.strength, f"{report.cpu_ms:.0f}", f"{report.limits.cpu_s:g}"]
        table.add_row(mark, escape(each.name), *values, escape(each.problem))
    return table
