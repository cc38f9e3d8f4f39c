"""`align judge` and the verbs under it: calibrate, rows, rubrics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from align.alone import do_stage, model_path, serving_of, settings_of, table_path
from align.context import console
from align.errors import RecipeError
from align.settings import CalibrationSettings, JudgeSettings
from align.verbs import (
    EndpointOption,
    ModelOption,
    OutOption,
    SamplesOption,
    SeedOption,
    ServeSetOption,
    TasksOption,
    VerdictsOption,
)

judge_app = typer.Typer(invoke_without_command=True)
RubricOption = Annotated[
    str | None,
    typer.Option(help="A shipped rubric, a YAML file, or a folder with a rubric.yaml."),
]


def register(app: typer.Typer) -> None:
    """Adds the verbs to the command."""
    app.add_typer(judge_app, name="judge")


@judge_app.callback()
def judge(
    invoked: typer.Context,
    model: Annotated[str | None, typer.Option(help="A model folder or a Hub id.")] = None,
    tasks: Annotated[str | None, typer.Option(help="Tasks of the samples.")] = None,
    samples: Annotated[str | None, typer.Option(help="Samples to judge.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="A folder, or one file.")] = None,
    verdicts: Annotated[str | None, typer.Option(help="Verdicts, to compare scores with.")] = None,
    rubric: RubricOption = None,
    endpoint: EndpointOption = None,
    overrides: ServeSetOption = None,
    seed: SeedOption = 0,
) -> None:
    """Scores samples by a rubric with a judge model; a score never outranks an execution.

    Example: align judge --model Qwen/Qwen2.5-Coder-1.5B-Instruct --tasks t.jsonl --samples
    s.parquet --out judgements.parquet
    """
    if invoked.invoked_subcommand is not None:
        return
    if model is None or tasks is None or samples is None or out is None:
        raise RecipeError("align judge needs --model, --tasks, --samples and --out")
    serving, own = serving_of(None, overrides)
    given = {"model": model, "rubric": rubric, "endpoint": endpoint}
    settings = settings_of(JudgeSettings, given, own)
    inputs = {"tasks": table_path(tasks), "samples": table_path(samples)}
    if verdicts:
        inputs["verdicts"] = table_path(verdicts)
    if settings.endpoint is None:
        inputs["model"] = model_path(model)
    do_stage("judging", settings, inputs, out, table="judgements", seed=seed, serving=serving)


@judge_app.command()
def calibrate(
    model: ModelOption,
    tasks: TasksOption,
    samples: SamplesOption,
    verdicts: VerdictsOption,
    out: OutOption,
    rubric: RubricOption = None,
    endpoint: EndpointOption = None,
    overrides: ServeSetOption = None,
    seed: SeedOption = 0,
) -> None:
    """Measures a judge on executed samples: what its word is worth, and how it can be fooled.

    Writes calibration.json and a page with plots.

    Example: align judge calibrate --model JUDGE --tasks t.jsonl --samples s.parquet --verdicts
    v.parquet --rubric answer_select --out calibrated
    """
    serving, own = serving_of(None, overrides)
    given = {"model": model, "rubric": rubric, "endpoint": endpoint}
    settings = settings_of(CalibrationSettings, given, own)
    inputs = {
        "tasks": table_path(tasks),
        "samples": table_path(samples),
        "verdicts": table_path(verdicts),
    }
    if settings.endpoint is None:
        inputs["model"] = model_path(model)
    do_stage("calibration", settings, inputs, out, seed=seed, serving=serving)
    console.print(f"page: {escape(str(out / 'calibration.html'))}", soft_wrap=True)


@judge_app.command()
def rows(
    model: ModelOption,
    table: Annotated[str, typer.Option("--rows", help="Rows that `align data` wrote.")],
    out: OutOption,
    rubric: Annotated[str, typer.Option(help="A checklist of the nine items.")] = "checklist",
    endpoint: EndpointOption = None,
    overrides: ServeSetOption = None,
    seed: SeedOption = 0,
) -> None:
    """Scores instruction rows by nine yes-or-no questions; `data.quality` then filters by them.

    Example: align judge rows --model JUDGE --rows data/rows --out scored.parquet
    """
    serving, own = serving_of(None, overrides)
    given = {"model": model, "rubric": rubric, "endpoint": endpoint}
    settings = settings_of(JudgeSettings, given, own)
    inputs = {"rows": table_path(table)}
    if settings.endpoint is None:
        inputs["model"] = model_path(model)
    do_stage("row_scoring", settings, inputs, out, table="rows", seed=seed, serving=serving)


@judge_app.command()
def rubrics() -> None:
    """Lists the shipped rubrics."""
    from judges import load_rubric, shipped_rubrics

    table = Table("rubric", "kind", "measures", "looks at")
    for name in shipped_rubrics():
        rubric = load_rubric(name)
        looks = ", ".join(dimension.name for dimension in rubric.dimensions)
        table.add_row(rubric.full_name, rubric.kind, rubric.measures, looks)
    console.print(table)
