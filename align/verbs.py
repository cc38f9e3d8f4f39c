"""One verb a stage, each usable alone on files: reads tables, writes a folder or one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from align.alone import do_stage, model_path, serving_of, settings_of, table_path
from align.benchmark_files import KNOWN_BENCHMARKS
from align.context import console
from align.errors import InputError, RecipeError
from align.recipe import parse_settings
from align.settings import (
    DpoSettings,
    ExportSettings,
    FimSettings,
    SampleSettings,
    SandboxSettings,
    SelectSettings,
    SftSettings,
    VerifySettings,
)
from align.tables import resolve_table

OutOption = Annotated[
    Path, typer.Option("--out", help="A folder; or X.parquet / X.jsonl for one file.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting of this stage, a key of its section in a recipe; a wrong one names all.",
    ),
]
ServeSetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting of this stage, or serving.KEY=VALUE for its server.",
    ),
]
SeedOption = Annotated[int, typer.Option(help="The run's seed.")]
ModelOption = Annotated[str, typer.Option("--model", help="A model folder or a Hub id.")]
TasksOption = Annotated[str, typer.Option("--tasks", help="Tasks: folder, parquet, JSONL, Hub id.")]
SamplesOption = Annotated[str, typer.Option("--samples", help="Samples: folder, parquet, JSONL.")]
VerdictsOption = Annotated[str, typer.Option("--verdicts", help="Verdicts of the samples.")]
JudgementsOption = Annotated[str | None, typer.Option(help="Judgements of the samples.")]
EngineOption = Annotated[str, typer.Option(help="auto, docker or namespaces.")]
IsolationOption = Annotated[
    str | None, typer.Option(help="Accept this level: container+ns, container or ns.")
]
WorkersOption = Annotated[int, typer.Option(min=1, help="Programs at once.")]
EndpointOption = Annotated[
    str | None, typer.Option(help="Use this OpenAI-compatible URL; start no server.")
]


def register(app: typer.Typer) -> None:
    """Adds the verbs to the command."""
    for verb in (
        fim,
        sft,
        sample,
        verify,
        select,
        dpo,
        export,
        report,
    ):
        app.command()(verb)


def fim(
    model: ModelOption,
    out: OutOption,
    corpus: Annotated[
        list[str] | None,
        typer.Option(help="Folder, git repository, archive or Hub id; may be given again."),
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Rows to cut.")] = None,
    overrides: SetOption = None,
    seed: SeedOption = 0,
) -> None:
    """Cuts fill-in-the-middle rows from source files (default: the installed packages).

    The model's tokenizer counts the tokens.

    Example: align fim --model Qwen/Qwen2.5-Coder-0.5B --corpus ~/src/project --rows 500 --out fim
    """
    settings = settings_of(FimSettings, {"corpus": corpus, "rows": rows}, overrides)
    inputs = {"model": model_path(model)}
    for name in settings.decontaminate:
        if name not in KNOWN_BENCHMARKS:
            inputs[f"benchmark.{name}"] = table_path(name)
    do_stage("fim", settings, inputs, out, table="rows", seed=seed)


def sft(
    model: ModelOption,
    rows: Annotated[
        list[str],
        typer.Option(
            metavar="[NAME=]TABLE",
            help="Rows to train on (written by data, fim or select); may be given again by name.",
        ),
    ],
    out: OutOption,
    overrides: SetOption = None,
    seed: SeedOption = 0,
) -> None:
    """Fine-tunes a model on rows; ends in a merged model folder with its adapter beside it.

    Several tables need names, by which `mix` gives their shares: --rows chat=fine/rows --rows
    fim=fim/rows --set mix.chat=0.7 --set mix.fim=0.3

    Example: align sft --model Qwen/Qwen2.5-Coder-0.5B --rows data/rows --out tuned --set epochs=2
    """
    settings = settings_of(SftSettings, {}, overrides)
    inputs = {"model": model_path(model)}
    for each in rows:
        name, equals, table = each.partition("=")
        if not equals or resolve_table(each) is not None:
            name, table = "rows", each
        if not name.isidentifier() or name in inputs:
            raise RecipeError(
                f"--rows {each}: the name {name!r} is taken or none; write --rows NAME=TABLE"
            )
        inputs[name] = table_path(table)
    do_stage("sft", settings, inputs, out, seed=seed)


def sample(
    model: ModelOption,
    tasks: TasksOption,
    out: OutOption,
    n: Annotated[int | None, typer.Option(min=1, help="Samples a task.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0)] = None,
    endpoint: EndpointOption = None,
    overrides: ServeSetOption = None,
    seed: SeedOption = 0,
) -> None:
    """Samples n answers a task from a model through a vLLM server that it starts.

    Example: align sample --model tuned/model --tasks data/tasks --n 8 --out samples.parquet
    """
    serving, own = serving_of(endpoint, overrides)
    settings = settings_of(SampleSettings, {"n": n, "temperature": temperature}, own)
    inputs = {"model": model_path(model), "tasks": table_path(tasks)}
    do_stage("sampling", settings, inputs, out, table="samples", seed=seed, serving=serving)


def verify(
    tasks: TasksOption,
    samples: SamplesOption,
    out: OutOption,
    engine: EngineOption = "auto",
    isolation: IsolationOption = None,
    workers: WorkersOption = 2,
    repeat: Annotated[int, typer.Option(min=1, help="Runs a sample; disagreement is flaky.")] = 1,
    seed: SeedOption = 0,
) -> None:
    """Runs every sample against its task's tests in the sandbox.

    A samples file needs only task_id, sample_index and code or text. Exits with 0 when the work was
    done, whatever the verdicts.

    Example: align verify --tasks tasks.jsonl --samples samples.parquet --out verdicts.parquet
    """
    settings = settings_of(VerifySettings, {"repeat": repeat}, None)
    box = parse_settings(
        SandboxSettings, {"engine": engine, "isolation": isolation, "workers": workers}, "option"
    )
    inputs = {"tasks": table_path(tasks), "samples": table_path(samples)}
    do_stage("verify", settings, inputs, out, table="verdicts", seed=seed, sandbox=box)


def select(
    samples: SamplesOption,
    verdicts: VerdictsOption,
    out: OutOption,
    judgements: JudgementsOption = None,
    overrides: SetOption = None,
) -> None:
    """Rejection sampling: keeps the best accepted answer of each task as rows to train on.

    Answers to tasks without tests have no verdict; of those the one that the judge scored highest
    is kept, where judgements are given.

    Example: align select --samples samples.parquet --verdicts verdicts.parquet --out fine.parquet
    """
    settings = settings_of(SelectSettings, {}, overrides)
    inputs = {"samples": table_path(samples), "verdicts": table_path(verdicts)}
    if judgements:
        inputs["judgements"] = table_path(judgements)
    do_stage("selection", settings, inputs, out, table="rows")


def dpo(
    model: ModelOption,
    pairs: Annotated[str, typer.Option(help="Pairs, as `align pair` writes them.")],
    out: OutOption,
    overrides: SetOption = None,
    seed: SeedOption = 0,
) -> None:
    """Direct preference optimisation from a model on pairs; the reference is the model itself.

    Example: align dpo --model tuned/model --pairs pairs.parquet --out aligned --set beta=0.1
    """
    settings = settings_of(DpoSettings, {}, overrides)
    inputs = {"model": model_path(model), "pairs": table_path(pairs)}
    do_stage("dpo", settings, inputs, out, seed=seed)


def export(
    model: ModelOption,
    out: OutOption,
    pairs: Annotated[str | None, typer.Option(help="Pairs to export with a dataset card.")] = None,
    push: Annotated[
        str | None, typer.Option(metavar="REPO", help="Upload the model to this Hub id.")
    ] = None,
    push_pairs: Annotated[
        str | None, typer.Option(metavar="REPO", help="Upload the pairs to this Hub id.")
    ] = None,
) -> None:
    """Writes a model folder that anything loads, with its card, and checks it by reloading it.

    Example: align export --model aligned/model --out released --push me/my-coder
    """
    if push_pairs and not pairs:
        raise RecipeError("--push-pairs needs --pairs: which pairs are meant?")
    inputs = {"model": model_path(model)}
    if pairs:
        inputs["pairs"] = table_path(pairs)
    do_stage("export", ExportSettings(), inputs, out)
    from align.export import push as upload

    if push:
        console.print(f"uploaded: {upload(out / 'model', push)}")
    if push_pairs:
        console.print(f"uploaded: {upload(out / 'pairs', push_pairs, 'dataset')}")


def report(
    runs: Annotated[list[Path], typer.Argument(help="A run's folder, or those of several seeds.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The HTML file; default RUN/report.html, of several seeds seeds.html."),
    ] = None,
) -> None:
    """Writes a run's report again, from what is there, and prints its table.

    Given the runs of one recipe with several seeds, it writes what they show together: means over
    the seeds, and what each checkpoint changes problem by problem.

    Example: align report runs/demo

    Example: align report runs/seed-0 runs/seed-1 runs/seed-2 --out seeds.html
    """
    from align.report import write_report
    from align.report.seeds import collect_seeds
    from align.report.seeds_page import print_seeds, write_seeds_page
    from align.report.terminal import print_report

    for run in runs:
        if not run.is_dir():
            raise InputError(f"{run}: no such run")
    if len(runs) > 1:
        view = collect_seeds(runs)
        path = write_seeds_page(view, out or Path("seeds.html"))
        print_seeds(view)
    else:
        path = write_report(runs[0], out or runs[0] / "report.html")
        print_report(runs[0])
    console.print(f"report: {path}")
