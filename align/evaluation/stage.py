"""The eval stage: answers to benchmark problems, run against their tests, scored."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from align.artifacts import (
    Row,
    TableWriter,
    canonical_json,
    read_shards,
    sha256_text,
    write_json,
)
from align.errors import ArtifactError, CheckpointError, InputError, TrainingError
from align.evaluation.benchmarks import held_out, load, needs_fim
from align.evaluation.benchmarks.base import Benchmark, Measure
from align.evaluation.execution import Execution
from align.evaluation.results import MOST_INFRA, RESULT, score
from align.evaluation.scores import INFRA, share_interval
from align.fim.formats import fim_tokens
from align.rows import SAMPLE, VERDICT
from align.sampling.forms import FORMS, Form, form_of
from align.sampling.policy import Policy, load_policy
from align.sampling.samples import Prompt, policy_sampler, sample
from align.settings import EvalSettings
from align.skips import Skips
from align.stage import Context, Output, Summary
from align.tables import read_samples
from align.verdicts import verdict_id, verdict_row
from sandbox import Sandbox, SandboxError, Task, TaskError, parse_task

#: What an answer that was drawn before must say of itself.
_OF_A_SAMPLE = (
    *("sample_id", "task_id", "sample_index", "text"),
    *("finish_reason", "n_tokens", "policy", "sampler"),
)
#: A program may take so many times what the reference takes, and no less than the sandbox's own
#: limit of a test.
TIME_FACTOR = 4.0
#: What the reference itself may take, as a multiple of that limit.
_REFERENCE_FACTOR = 8.0


def run(
    settings: EvalSettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Evaluates the checkpoint `model`; writes `samples`, `verdicts` and `result.json`.

    With the input `samples` nothing is drawn: code is found again in the texts of that table, by
    the rules of today, and run. The benchmark `held_out` reads the input of that name. Before
    anything is scored, the reference solutions must pass: a sandbox that refuses them would measure
    itself.

    Raises:
        InputError: An unknown benchmark, one whose data is missing, or samples of other problems.
        CheckpointError: The model folder can't be used.
        ServingError: The model's server can't be started or kept alive; finished answers stay.
        ArtifactError: A reference solution fails, or the sandbox does.
    """
    skips = Skips(context)
    benchmarks = [
        load_benchmark(name, count, inputs, skips, form_of(settings.prompt, settings.block))
        for name, count in settings.benchmarks.items()
    ]
    if not benchmarks:
        raise InputError("eval.benchmarks names none; `align eval ls` lists them")
    policy = None if "samples" in inputs else load_policy(inputs["model"])
    if policy is not None:
        benchmarks = [each for each in benchmarks if _can_ask(each, policy, context, skips)]
    try:
        with context.sandbox() as box:
            tasks: dict[str, Task] = {}
            for benchmark in benchmarks:
                tasks |= check_references(benchmark, box, context)
            with (
                out.table("samples", SAMPLE, "sample_id") as samples,
                Execution(box, tasks) as execution,
            ):
                if policy is None:
                    form = form_of(settings.prompt, settings.block)
                    _take(benchmarks, form, inputs["samples"], samples, skips)
                else:
                    _answer(settings, benchmarks, policy, samples, execution, out, context, skips)
            verdicts_sha = _execute(box, tasks, execution.verdicts, out, context)
            place = {"sandbox": box.engine, "isolation": box.isolation, "image": box.image}
    except SandboxError as error:
        raise ArtifactError(f"the sandbox stopped: {error}") from error

    rows: dict[str, list[Row]] = defaultdict(list)
    for row in read_shards(out.path / "samples"):
        rows[_benchmark(row)].append(row)
    verdicts = {row["sample_id"]: row for row in read_shards(out.path / "verdicts")}
    scores = {}
    seed = None if policy is None else context.seed  # of answers that were drawn elsewhere: unknown
    for benchmark in benchmarks:
        own = sorted(rows[benchmark.name], key=lambda row: (row["task_id"], row["sample_index"]))
        conditions = _conditions(benchmark, own, seed) | place
        scores[benchmark.name] = score(benchmark.name, own, verdicts, conditions)
        if benchmark.measure is not None:
            scores[benchmark.name]["boundaries"] = benchmark.measure(own, verdicts)
            intervals = _boundary_intervals(benchmark.measure, own, verdicts)
            scores[benchmark.name]["boundary_intervals"] = intervals
    model = _one_policy(row for own in rows.values() for row in own)
    result = {"model": model, "benchmarks": scores, "left_out": dict(skips.counts)}
    write_json(out.path / RESULT, result)
    counts = dict(skips.counts)
    for name, scored in scores.items():
        counts |= {f"{name}_n": scored["n"], f"{name}_passed": scored["passed"]}
    return Summary(
        content_sha=sha256_text(canonical_json([samples.content_sha(), verdicts_sha, result])),
        counts=counts,
        details={**result, "skipped": skips.listed},
    )


def _can_ask(benchmark: Benchmark, policy: Policy, context: Context, skips: Skips) -> bool:
    """Says whether a model can be put a benchmark's questions: gaps need FIM tokens."""
    if not needs_fim(benchmark.name):
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
    form: Form = FORMS["own"],
) -> Benchmark:
    """Returns a benchmark by its name in the recipe.

    Raises:
        InputError: There is none of that name, or its data is missing.
    """
    if name != held_out.NAME:
        return load(name, count, form)
    if held_out.NAME not in inputs:
        raise InputError(f"the benchmark {name} needs a table of held-out tasks: name one")
    return held_out.load(inputs[held_out.NAME], count, skips, form)


def check_references(benchmark: Benchmark, box: Sandbox, context: Context) -> dict[str, Task]:
    """Runs the reference solutions, so that no score comes from a broken sandbox or broken tests.

    Returns:
        The tasks by id, each with the time that its reference allows.

    Raises:
        ArtifactError: One of them is not accepted.
    """
    tasks = _tasks(benchmark)
    work = [
        (task, dataclasses.replace(task, limits=task.limits.scaled(_REFERENCE_FACTOR)), code)
        for task in tasks.values()
        if (code := task.reference) is not None
    ]
    failed = []
    with context.progress(f"check {benchmark.name}", len(work)) as bar:
        for task, verdict in box.run_many(work):
            bar.advance()
            if verdict.accepted:
                tasks[task.task_id] = _with_time(task, max(test.cpu_ms for test in verdict.tests))
            else:
                failed.append(f"{task.task_id} ({verdict.outcome}: {verdict.detail})")
    rate = f"{len(work) - len(failed)} of {len(work)} reference solutions pass"
    context.say(f"{benchmark.name}: {rate}")
    if failed:
        raise ArtifactError(
            f"{benchmark.name}: {rate}, so that a score would mean nothing here. Mend these tasks, "
            "or run `align doctor` to check the sandbox (a program that lacks a library needs "
            f"another --image): {'; '.join(sorted(failed)[:5])}"
        )
    return tasks


def _with_time(task: Task, cpu_ms: float) -> Task:
    seconds = TIME_FACTOR * cpu_ms / 1000
    if seconds <= task.limits.cpu_s:
        return task
    # whole seconds, or no two runs would have one limit
    limits = dataclasses.replace(task.limits, cpu_s=float(math.ceil(seconds)), wall_s=None)
    return dataclasses.replace(task, limits=limits)


def _tasks(benchmark: Benchmark) -> dict[str, Task]:
    tasks = {}
    for problem in benchmark.problems:
        try:
            task = parse_task(problem.task)
        except TaskError as error:
            raise InputError(f"{benchmark.name}: {error}") from error
        tasks[task.task_id] = task
    return tasks


def _answer(
    settings: EvalSettings,
    benchmarks: Sequence[Benchmark],
    policy: Policy,
    writer: TableWriter,
    execution: Execution,
    out: Output,
    context: Context,
    skips: Skips,
) -> None:
    """Draws the answers to all problems together, so that none waits for the last of a set."""
    prompts = [
        _checked(problem.prompt(policy.tokenizer, benchmark.max_tokens), policy)
        for benchmark in benchmarks
        for problem in benchmark.problems
    ]
    sampler = policy_sampler(
        policy,
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_tokens=settings.max_tokens,
    )
    sample(
        prompts,
        settings.n,
        policy=policy,
        samplers=[sampler],
        writer=writer,
        context=context,
        instance=out.identity.instance,
        concurrency=settings.concurrency,
        skips=skips,
        title="answer",
        drawn=execution.add,
    )


def _checked(prompt: Prompt, policy: Policy) -> Prompt:
    """Refuses a prompt that begins with two tokens of the text's begin, a fault that costs points.

    Raises:
        CheckpointError: It does.
    """
    begin = getattr(policy.tokenizer, "bos_token_id", None)
    if begin is not None and prompt.ids[:2] == (begin, begin):
        raise CheckpointError(
            f"{policy.folder}: its template and its tokenizer both put the token that begins a "
            "text; let one of them do it"
        )
    return prompt


def _take(
    benchmarks: Sequence[Benchmark], form: Form, table: Path, writer: TableWriter, skips: Skips
) -> None:
    """Takes over samples that were drawn before, with their code found again.

    Raises:
        InputError: None of them is of these benchmarks, one was asked for in another form, or the
            table can't be read.
    """
    formed = {each.name for each in benchmarks if each.prompt_form == form.name}
    problems = {p.task["task_id"]: p for benchmark in benchmarks for p in benchmark.problems}
    for place, row in read_samples(table, _OF_A_SAMPLE):
        problem = problems.get(row["task_id"])
        if problem is None:
            skips.add("other_problem", place, f"{row['task_id']} is not of these benchmarks")
        elif row["sample_id"] not in writer.done:
            if _benchmark(row) in formed or row.get("prefill"):
                _check_form(place, row, form)
            code = problem.find_code(row["text"])
            writer.add({**row, "code": code, "extractor": problem.extractor})
    if not writer.rows:
        raise InputError(f"{table} holds no sample of these benchmarks: {skips.first()}")


def _check_form(place: str, row: Row, form: Form) -> None:
    """Refuses an answer to another form; raises InputError."""
    begun = row.get("prefill") or ""
    if begun != form.prefill:
        raise InputError(
            f"{place}: this answer was begun by {begun!a}, and the form {form.key} begins one by "
            f"{form.prefill!a}: name the --prompt it was asked by"
        )
    if "messages" in row and (row["messages"] is None) != (form.key == "raw"):
        asked = "raw text" if row["messages"] is None else "a chat"
        raise InputError(
            f"{place}: this is an answer to {asked}, which the form {form.key} does not ask by: "
            "name the --prompt it was asked by"
        )


def _execute(
    box: Sandbox, tasks: Mapping[str, Task], ready: Sequence[Row], out: Output, context: Context
) -> str:
    """Writes the verdicts that are there, and runs what has none; returns the table's hash.

    Runs that the sandbox failed are run again, and written only where they stay few, so that a
    second command can run them once more.

    Raises:
        ArtifactError: Too many runs failed through no fault of the code.
    """
    faults: list[Row] = []
    sizes: Counter[str] = Counter()
    with out.table("verdicts", VERDICT, "verdict_id") as writer:
        for row in ready:
            if row["outcome"] != INFRA:
                writer.add(row)
        samples = []
        for row in read_shards(out.path / "samples"):
            sizes[_benchmark(row)] += 1
            if verdict_id(row["sample_id"]) not in writer.done:
                samples.append(row)
        with context.progress("run answers", len(samples)) as bar:
            work = ((row, tasks[row["task_id"]], row["code"]) for row in samples)
            for row, verdict in box.run_many(work):
                made = verdict_row(row["sample_id"], row["task_id"], row["sample_index"], verdict)
                if made["outcome"] == INFRA:
                    faults.append(made)
                else:
                    writer.add(made)
                bar.advance()
        for name, count in Counter(map(_benchmark, faults)).items():
            if count > MOST_INFRA * sizes[name]:
                raise ArtifactError(
                    f"{name}: {count} of {sizes[name]} runs failed in the sandbox, not in the code "
                    f"({faults[0]['detail']}). A score over the rest would mislead; all other "
                    "verdicts are kept: run the same command again"
                )
        for row in faults:
            writer.add(row)
    return writer.content_sha()


def _benchmark(row: Row) -> str:
    """Returns the name of the benchmark that a sample or a verdict is of."""
    name: str = row["task_id"].partition(":")[0]
    return name


def _conditions(benchmark: Benchmark, samples: Sequence[Row], seed: int | None) -> dict[str, Any]:
    """Returns everything about the answers that can change a score, as they were drawn."""

    def all_of(values: Iterable[Any]) -> Any:
        found = set(values)
        return found.pop() if len(found) == 1 else ", ".join(sorted(map(str, found)))

    answers = Counter(row["task_id"] for row in samples)
    # The rule, not what it came to: a reference takes another time in every run.
    own = [f"{task.limits.cpu_s:g}" for task in _tasks(benchmark).values()]
    return {
        "prompt_form": benchmark.prompt_form,
        "template_sha": all_of(row["template_sha"] for row in samples),
        "stop": sorted({text for row in samples for text in row["sampler"]["stop"] or ()}),
        "extractor": all_of(row["extractor"] for row in samples),
        "temperature": all_of(row["sampler"]["temperature"] for row in samples),
        "top_p": all_of(row["sampler"]["top_p"] for row in samples),
        "samples": max(answers.values(), default=0),
        "seed": seed,
        "max_tokens": max((row["sampler"]["max_tokens"] for row in samples), default=0),
        "engine": all_of(row["sampler"]["engine"] for row in samples),
        "data_sha": benchmark.data_sha,
        "problems": len(benchmark.problems),
        "limits": f"cpu {all_of(own)} s, or {TIME_FACTOR:g} times the reference's",
        **_one_policy(samples),
    }


def _boundary_intervals(
    measure: Measure, samples: Sequence[Row], verdicts: Mapping[str, Row]
) -> dict[str, tuple[float, float]]:
    """Returns the interval of each share that is measured, by problem."""
    by_problem: dict[str, list[Row]] = defaultdict(list)
    for row in samples:
        if verdicts[row["sample_id"]]["outcome"] != INFRA:
            by_problem[row["task_id"]].append(row)
    shares: dict[str, dict[str, float]] = defaultdict(dict)
    for problem, own in by_problem.items():
        for name, share in measure(own, verdicts).items():
            shares[name][problem] = share
    return {name: share_interval(rates) for name, rates in shares.items()}


def _one_policy(samples: Iterable[Row]) -> dict[str, Any]:
    """Returns who answered.

    Raises:
        InputError: Several did.
    """
    policies = {canonical_json(row["policy"]): row["policy"] for row in samples}
    if len(policies) > 1:
        raise InputError("the samples are of several models: evaluate those of each by themselves")
    return dict(next(iter(policies.values()), {}))
