"""One verb a stage, each usable alone on files: reads tables, writes a folder or one file."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from align.artifacts import Identity, canonical_json, read_shards, sha256_text, write_parquet
from align.context import RunContext, console
from align.errors import InputError, RecipeError
from align.manifest import begin, finish, path_sha, read_identity, read_manifest
from align.recipe import apply_override, parse_settings
from align.run import stage_function
from align.settings import (
    DataSettings,
    DpoSettings,
    EvalSettings,
    ExportSettings,
    FimSettings,
    JudgeSettings,
    PairSettings,
    SampleSettings,
    SandboxSettings,
    SelectSettings,
    ServingSettings,
    Settings,
    SftSettings,
    VerifySettings,
)
from align.stage import Output
from align.tables import resolve_table

OutOption = Annotated[
    Path, typer.Option("--out", help="A folder; or X.parquet / X.jsonl for one file.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting of this stage (see its section)."),
]
SeedOption = Annotated[int, typer.Option(help="The run's seed.")]
ModelOption = Annotated[str, typer.Option("--model", help="A model folder or a Hub id.")]
TasksOption = Annotated[str, typer.Option("--tasks", help="Tasks: folder, parquet, JSONL, Hub id.")]
SamplesOption = Annotated[str, typer.Option("--samples", help="Samples: folder, parquet, JSONL.")]
VerdictsOption = Annotated[str, typer.Option("--verdicts", help="Verdicts of the samples.")]
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
        data,
        fim,
        sft,
        sample,
        verify,
        judge,
        select,
        pair,
        dpo,
        evaluate,
        export,
        report,
    ):
        app.command("eval" if verb is evaluate else verb.__name__)(verb)


def table_path(location: str) -> Path:
    """Returns a table's local path, or a Hub id as a path.

    Raises:
        InputError: Nothing is there.
    """
    path = resolve_table(location)
    if path is None:
        from align.recipe import looks_like_hub_id

        if looks_like_hub_id(location):
            return Path(location)
        raise InputError(f"{location}: no such file or folder")
    return path


def model_path(name: str) -> Path:
    """Returns the folder of a model by path or Hub id."""
    from align.checkpoint import resolve_model

    return resolve_model(name)


def settings_of(
    model: type[Settings], given: Mapping[str, Any], overrides: list[str] | None
) -> Any:
    """Builds a stage's settings from options and `--set`; options that are None are left out."""
    content = {key: value for key, value in given.items() if value is not None}
    for override in overrides or []:
        apply_override(content, override)
    return parse_settings(model, content, "--set")


def do_stage(
    stage: str,
    settings: Settings,
    inputs: Mapping[str, Path],
    out: Path,
    *,
    table: str | None = None,
    seed: int = 0,
    sandbox: SandboxSettings | None = None,
    serving: ServingSettings | None = None,
) -> None:
    """Runs one stage on files; a killed verb goes on where it stopped.

    `table` names the table that `--out X.parquet` holds; None where a stage writes no single one.

    Raises:
        RecipeError: `--out` is one file, and the stage writes a folder.
    """
    one_file = out.suffix in (".parquet", ".jsonl")
    if one_file and table is None:
        raise RecipeError(f"--out {out}: this stage writes a folder; give a name without ending")
    folder = out.with_name(f".{out.name}.work") if one_file else out
    config = {"stage": stage, "settings": settings.model_dump(mode="json"), "seed": seed}
    hashes = {name: path_sha(path) for name, path in inputs.items()}
    identity = Identity(stage, sha256_text(canonical_json(config)), hashes)
    present = read_identity(folder) if folder.exists() else None
    if present is not None and present != identity:
        raise RecipeError(
            f"--out {out} holds results of other settings or inputs; give another, or delete it"
        )
    if present == identity and read_manifest(folder) is not None:
        console.print(f"{out} is done already")
        return
    with RunContext(
        folder,
        seed=seed,
        sandbox=sandbox or SandboxSettings(),
        serving=serving or ServingSettings(),
    ) as context:
        context.stage = stage
        started = time.monotonic()
        begin(folder, identity)
        summary = stage_function(stage)(settings, inputs, Output(folder, identity), context)
        plain = settings.model_dump(mode="json")
        seconds = time.monotonic() - started
        finish(folder, identity, summary, settings=plain, seed=seed, seconds=seconds)
    if one_file and table is not None:
        _one_file(folder / table, out)
        shutil.rmtree(folder)
    _print_counts(out, summary.counts, seconds)


def _one_file(table: Path, out: Path) -> None:
    import json

    import pyarrow.parquet as pq

    from align.artifacts import shard_paths

    rows = list(read_shards(table))
    if out.suffix == ".parquet":
        schema = pq.read_schema(shard_paths(table)[0]).remove_metadata()
        write_parquet(out, rows, schema)
    else:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        out.write_text(text, encoding="utf-8")


def _print_counts(out: Path, counts: Mapping[str, int], seconds: float) -> None:
    from rich.table import Table

    view = Table("", "count", title=f"{out}  ({seconds:.1f} s)", title_justify="left")
    for name, value in counts.items():
        view.add_row(name, str(value))
    console.print(view)


def data(
    out: OutOption,
    rows: Annotated[list[str] | None, typer.Option(help="Chat rows; may be given again.")] = None,
    tasks: Annotated[list[str] | None, typer.Option(help="Tasks; may be given again.")] = None,
    overrides: SetOption = None,
    seed: SeedOption = 0,
) -> None:
    """Reads chat rows and tasks, checks and decontaminates them, and holds tasks out.

    Example: align data --rows chats.jsonl --tasks tasks.jsonl --out data --set held_out=0.1
    """
    settings = settings_of(DataSettings, {"rows": rows, "tasks": tasks}, overrides)
    inputs = {}
    for kind, names in (("rows", settings.rows), ("tasks", settings.tasks)):
        inputs.update({f"{kind}.{i}": table_path(name) for i, name in enumerate(names)})
    do_stage("data", settings, inputs, out, seed=seed)


def fim(
    out: OutOption,
    corpus: Annotated[
        list[str] | None, typer.Option(help="Folder of source files; may be given again.")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Rows to cut.")] = None,
    overrides: SetOption = None,
    seed: SeedOption = 0,
) -> None:
    """Cuts fill-in-the-middle rows from source files (default: the installed packages).

    Example: align fim --corpus ~/src/project --rows 500 --out fim.parquet
    """
    settings = settings_of(FimSettings, {"corpus": corpus, "rows": rows}, overrides)
    do_stage("fim", settings, {}, out, table="rows", seed=seed)


def sft(
    model: ModelOption,
    rows: Annotated[str, typer.Option(help="Rows to train on (written by data, fim or select).")],
    out: OutOption,
    overrides: SetOption = None,
    seed: SeedOption = 0,
) -> None:
    """Fine-tunes a model on rows; ends in a merged model folder with its adapter beside it.

    Example: align sft --model Qwen/Qwen2.5-Coder-0.5B --rows data/rows --out tuned --set epochs=2
    """
    settings = settings_of(SftSettings, {}, overrides)
    inputs = {"model": model_path(model), "rows": table_path(rows)}
    do_stage("sft", settings, inputs, out, seed=seed)


def sample(
    model: ModelOption,
    tasks: TasksOption,
    out: OutOption,
    n: Annotated[int | None, typer.Option(min=1, help="Samples a task.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0)] = None,
    endpoint: EndpointOption = None,
    overrides: SetOption = None,
    seed: SeedOption = 0,
) -> None:
    """Samples n answers a task from a model through a vLLM server that it starts.

    Example: align sample --model tuned/model --tasks data/tasks --n 8 --out samples.parquet
    """
    settings = settings_of(SampleSettings, {"n": n, "temperature": temperature}, overrides)
    inputs = {"model": model_path(model), "tasks": table_path(tasks)}
    serving = ServingSettings(endpoint=endpoint)
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


def judge(
    model: ModelOption,
    tasks: TasksOption,
    samples: SamplesOption,
    out: OutOption,
    verdicts: Annotated[str | None, typer.Option(help="Verdicts, to compare scores with.")] = None,
    rubric: Annotated[str | None, typer.Option(help="A shipped rubric or a YAML file.")] = None,
    endpoint: EndpointOption = None,
    overrides: SetOption = None,
    seed: SeedOption = 0,
) -> None:
    """Scores samples by a rubric with a judge model; a score never outranks an execution.

    Example: align judge --model Qwen/Qwen2.5-Coder-1.5B-Instruct --tasks t.jsonl --samples
    s.parquet --out judgements.parquet
    """
    given = {"model": model, "rubric": rubric, "endpoint": endpoint}
    settings = settings_of(JudgeSettings, given, overrides)
    inputs = {"tasks": table_path(tasks), "samples": table_path(samples)}
    if verdicts:
        inputs["verdicts"] = table_path(verdicts)
    if endpoint is None:
        inputs["model"] = model_path(model)
    do_stage("judging", settings, inputs, out, table="judgements", seed=seed)


def select(
    samples: SamplesOption,
    verdicts: VerdictsOption,
    out: OutOption,
    overrides: SetOption = None,
) -> None:
    """Rejection sampling: keeps the best accepted answer of each task as rows to train on.

    Example: align select --samples samples.parquet --verdicts verdicts.parquet --out fine.parquet
    """
    settings = settings_of(SelectSettings, {}, overrides)
    inputs = {"samples": table_path(samples), "verdicts": table_path(verdicts)}
    do_stage("selection", settings, inputs, out, table="rows")


def pair(
    samples: SamplesOption,
    verdicts: VerdictsOption,
    out: OutOption,
    judgements: Annotated[str | None, typer.Option(help="Judgements of the samples.")] = None,
    overrides: SetOption = None,
) -> None:
    """Builds preference pairs from samples and what running them showed.

    Example: align pair --samples s.parquet --verdicts v.parquet --out pairs.parquet
    """
    settings = settings_of(PairSettings, {}, overrides)
    inputs = {"samples": table_path(samples), "verdicts": table_path(verdicts)}
    if judgements:
        inputs["judgements"] = table_path(judgements)
    do_stage("preference", settings, inputs, out, table="pairs")


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


def evaluate(
    model: ModelOption,
    out: OutOption,
    bench: Annotated[
        list[str] | None,
        typer.Option(help="humaneval, humaneval_infilling, or with a number: humaneval=40."),
    ] = None,
    engine: EngineOption = "auto",
    isolation: IsolationOption = None,
    workers: WorkersOption = 2,
    endpoint: EndpointOption = None,
    overrides: SetOption = None,
    seed: SeedOption = 0,
) -> None:
    """Measures greedy pass@1 of a model, with its confidence interval.

    Example: align eval --model aligned/model --bench humaneval_infilling=100 --out e
    """
    benchmarks: dict[str, int | None] = {}
    for name in bench or ["humaneval"]:
        key, _, number = name.partition("=")
        if number and not number.isdigit():
            raise RecipeError(f"--bench {name}: write NAME or NAME=NUMBER")
        benchmarks[key] = int(number) if number else None
    settings = settings_of(EvalSettings, {"benchmarks": benchmarks}, overrides)
    box = parse_settings(
        SandboxSettings, {"engine": engine, "isolation": isolation, "workers": workers}, "option"
    )
    serving = ServingSettings(endpoint=endpoint)
    inputs = {"model": model_path(model)}
    do_stage("evaluation", settings, inputs, out, seed=seed, sandbox=box, serving=serving)


def export(
    model: ModelOption,
    out: OutOption,
    pairs: Annotated[str | None, typer.Option(help="Pairs to export with a dataset card.")] = None,
    push: Annotated[str | None, typer.Option(metavar="REPO", help="Upload to this Hub id.")] = None,
) -> None:
    """Writes a model folder that anything loads, with its card, and checks it by reloading it.

    Example: align export --model aligned/model --out released --push me/my-coder
    """
    inputs = {"model": model_path(model)}
    if pairs:
        inputs["pairs"] = table_path(pairs)
    do_stage("export", ExportSettings(repo=push), inputs, out)
    if push:
        from align.export import push as upload

        upload(out / "model", push)


def report(
    run: Annotated[Path, typer.Argument(help="A run's folder, e.g. runs/demo.")],
    out: Annotated[
        Path | None, typer.Option(help="The HTML file; default RUN/report.html.")
    ] = None,
) -> None:
    """Writes a run's report again, from what is there, and prints its table.

    Example: align report runs/demo
    """
    from align.report import write_report
    from align.report.terminal import print_report

    if not run.is_dir():
        raise InputError(f"{run}: no such run")
    path = write_report(run, out or run / "report.html")
    print_report(run)
    console.print(f"report: {path}")
