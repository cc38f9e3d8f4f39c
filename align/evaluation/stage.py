"""The eval stage: greedy answers to benchmark problems, run against their tests, scored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from align.artifacts import Row, canonical_json, read_shards, sha256_text, write_json
from align.chat import template_sha
from align.errors import ArtifactError, InputError, TrainingError
from align.evaluation.benchmarks import held_out, humaneval, infilling
from align.evaluation.benchmarks.base import Benchmark
from align.evaluation.results import score
from align.fim.formats import fim_tokens
from align.rows import SAMPLE, VERDICT
from align.sampling.policy import Policy, load_policy
from align.sampling.samples import policy_sampler, sample
from align.settings import EvalPrompt, EvalSettings
from align.skips import Skips
from align.stage import Context, Output, Summary
from align.verdicts import verdict_id, verdict_row
from sandbox import Sandbox, SandboxError, Task, TaskError, parse_task

RESULT = "result.json"
_KNOWN = (humaneval.NAME, *infilling.NAMES, held_out.NAME)


def run(
    settings: EvalSettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Evaluates the checkpoint `model`; writes `samples`, `verdicts` and `result.json`.

    The benchmark `held_out` reads the input of that name. Before anything is scored, the reference
    solutions must pass: a sandbox that refuses them would measure itself.

    Raises:
        InputError: An unknown benchmark, or one whose data is missing.
        CheckpointError: The model folder can't be used.
        ServingError: The model's server can't be started or kept alive; finished answers stay.
        ArtifactError: A reference solution fails, or the sandbox does.
    """
    skips = Skips(context)
    benchmarks = [
        load_benchmark(name, count, inputs, skips, settings.prompt)
        for name, count in settings.benchmarks.items()
    ]
    if not benchmarks:
        raise InputError(f"eval.benchmarks names none; known are {', '.join(_KNOWN)}")
    policy = load_policy(inputs["model"])
    benchmarks = [each for each in benchmarks if _can_ask(each, policy, context, skips)]
    try:
        with context.sandbox() as box:
            for benchmark in benchmarks:
                check_references(benchmark, box, context)
            samples_sha = _answer(settings, benchmarks, policy, out, context, skips)
            verdicts_sha = _execute(benchmarks, box, out, context)
            place = {"sandbox": box.engine, "isolation": box.isolation, "image": box.image}
    except SandboxError as error:
        raise ArtifactError(f"the sandbox stopped: {error}") from error

    samples: dict[str, list[Row]] = defaultdict(list)
    for row in read_shards(out.path / "samples"):
        samples[row["task_id"].partition(":")[0]].append(row)
    verdicts = {row["sample_id"]: row for row in read_shards(out.path / "verdicts")}
    scores = {
        benchmark.name: score(
            benchmark.name,
            samples[benchmark.name],
            verdicts,
            _conditions(settings, benchmark, policy, samples[benchmark.name]) | place,
        )
        for benchmark in benchmarks
    }
    for benchmark in benchmarks:
        if benchmark.measure is not None:
            scores[benchmark.name]["boundaries"] = benchmark.measure(samples[benchmark.name])
    result = {"model": policy.row(), "benchmarks": scores, "left_out": dict(skips.counts)}
    write_json(out.path / RESULT, result)
    counts = dict(skips.counts)
    for name, scored in scores.items():
        counts |= {f"{name}_n": scored["n"], f"{name}_passed": scored["passed"]}
    return Summary(
        content_sha=sha256_text(canonical_json([samples_sha, verdicts_sha, result])),
        counts=counts,
        details={**result, "skipped": skips.listed},
    )


def _can_ask(benchmark: Benchmark, policy: Policy, context: Context, skips: Skips) -> bool:
    """Says whether a model can be put a benchmark's questions: gaps need FIM tokens."""
    if benchmark.name not in infilling.NAMES:
        return True
    try:
        fim_tokens(policy.tokenizer)
    except TrainingError as error:
        context.warn(f"{benchmark.name} is not measured on {policy.folder}: {error}")
        skips.add("not_measured", benchmark.name, str(error))
        return False
    return True


def load_benchmark(
    name: str,
    count: int | None,
    inputs: Mapping[str, Path],
    skips: Skips,
    prompt: EvalPrompt = "own",
) -> Benchmark:
    """Returns a benchmark by its name in the recipe.

    Raises:
        InputError: There is none of that name, or its data is missing.
    """
    if name == humaneval.NAME:
        return humaneval.load(count, prompt)
    if name in infilling.NAMES:
        return infilling.load(name, count)
    if name != held_out.NAME:
        raise InputError(f"eval.benchmarks: {name} is not known; known are {', '.join(_KNOWN)}")
    if held_out.NAME not in inputs:
        raise InputError(f"the benchmark {name} needs a table of held-out tasks: name one")
    return held_out.load(inputs[held_out.NAME], count, skips)


def check_references(benchmark: Benchmark, box: Sandbox, context: Context) -> None:
    """Runs the reference solutions, so that no score comes from a broken sandbox or broken tests.

    Raises:
        ArtifactError: One of them is not accepted.
    """
    work = [
        (task.task_id, task, task.reference)
        for task in _tasks(benchmark).values()
        if task.reference is not None
    ]
    with context.progress(f"check {benchmark.name}", len(work)) as bar:
        for task_id, verdict in box.run_many(work):
            bar.advance()
            if not verdict.accepted:
                raise ArtifactError(
                    f"{task_id}: its reference solution is judged {verdict.outcome} "
                    f"({verdict.detail or 'no detail'}), so scores on {benchmark.name} would mean "
                    "nothing here: mend the task, or run `align doctor` to check the sandbox"
                )


def _tasks(benchmark: Benchmark) -> dict[str, Task]:
    tasks = {}
    for problem in benchmark.problems:
        try:
            task = parse_task(problem.task)
        except TaskError as error:
            raise InputError(f"{benchmark.name}: {error}") from error
        tasks[task.task_id] = task
    return tasks


def _max_tokens(settings: EvalSettings, benchmark: Benchmark) -> int:
    return min(settings.max_tokens, benchmark.max_tokens or settings.max_tokens)


def _answer(
    settings: EvalSettings,
    benchmarks: Sequence[Benchmark],
    policy: Policy,
    out: Output,
    context: Context,
    skips: Skips,
) -> str:
    """Draws one greedy answer to each problem; returns the table's content hash."""
    with out.table("samples", SAMPLE, "sample_id") as writer:
        for benchmark in benchmarks:
            sampler = policy_sampler(
                policy, temperature=0.0, top_p=1.0, max_tokens=_max_tokens(settings, benchmark)
            )
            sample(
                [problem.render(policy.tokenizer) for problem in benchmark.problems],
                1,
                policy=policy,
                sampler=sampler,
                writer=writer,
                context=context,
                instance=out.identity.instance,
                concurrency=settings.concurrency,
                skips=skips,
                title=f"answer {benchmark.name}",
            )
    return writer.content_sha()


def _execute(benchmarks: Sequence[Benchmark], box: Sandbox, out: Output, context: Context) -> str:
    """Runs every answer that has no verdict yet; returns the table's content hash."""
    tasks = {key: task for benchmark in benchmarks for key, task in _tasks(benchmark).items()}
    samples = list(read_shards(out.path / "samples"))
    with out.table("verdicts", VERDICT, "verdict_id") as writer:
        todo = [row for row in samples if verdict_id(row["sample_id"]) not in writer.done]
        work = ((row, tasks[row["task_id"]], row["code"]) for row in todo)
        with context.progress("run answers", len(samples)) as bar:
            bar.advance(len(samples) - len(todo))
            for row, verdict in box.run_many(work):
                writer.add(
                    verdict_row(row["sample_id"], row["task_id"], row["sample_index"], verdict)
                )
                bar.advance()
    return writer.content_sha()


def _conditions(
    settings: EvalSettings, benchmark: Benchmark, policy: Policy, samples: Sequence[Row]
) -> dict[str, Any]:
    """Returns everything about the answers that can change a score."""
    return {
        "prompt_form": benchmark.prompt_form,
        "template_sha": template_sha(policy.tokenizer),
        "extractor": ", ".join(sorted({row["extractor"] for row in samples})),
        "temperature": 0.0,
        "max_tokens": _max_tokens(settings, benchmark),
        "engine": ", ".join(sorted({row["sampler"]["engine"] for row in samples})),
        "data_sha": benchmark.data_sha,
        "problems": len(benchmark.problems),
        **policy.row(),
    }
