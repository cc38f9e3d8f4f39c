"""The sample stage: draws answers to tasks from a policy through a model server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from align.artifacts import Row, read_shards, sha256_text
from align.errors import InputError
from align.questions import head_of
from align.rows import SAMPLE
from align.sampling.forms import FORMS, Form, conversation
from align.sampling.policy import load_policy
from align.sampling.prompts import task_prompt
from align.sampling.samples import policy_sampler, sample
from align.settings import SampleSettings
from align.skips import Skips
from align.stage import Context, Output, Summary
from align.tables import read_rows


def run(
    settings: SampleSettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Draws `n` answers to each task of `tasks` from the checkpoint `model`; writes `samples`.

    Tasks that are held out for evaluation are never sampled; they are counted as `held_out`, those
    that a prompt can't hold as `not_in_form`, and prompts longer than the context as
    `prompt_too_long`.

    Raises:
        InputError: The tasks can't be used: none, two with one id, or one without a prompt.
        CheckpointError: The model folder can't be used.
        ServingError: The model's server can't be started or kept alive; finished answers stay.
    """
    skips = Skips(context)
    tasks = load_tasks(inputs["tasks"], skips)
    policy = load_policy(inputs["model"])
    form = FORMS[settings.prompt]
    prompts = {}
    for place, task in tasks:
        if (asked := _asked(task, form)) is None:
            reason = f"task {task['task_id']} can't be asked by the prompt {form.key}"
            skips.add("not_in_form", place, reason)
            continue
        prompt = task_prompt(
            policy.tokenizer, place, asked, form.prefill, instruction=settings.instruction
        )
        length, most = len(prompt.ids), settings.max_prompt_tokens
        if most is not None and length > most:
            skips.add("prompt_over_limit", place, f"{length} tokens, more than {most}")
        else:
            prompts[prompt.task_id] = replace(prompt, stop=form.stop)
    instance = out.identity.instance
    chosen = choose_tasks(prompts, settings.max_tasks, f"{context.seed}:{instance}")
    given = settings.temperature
    samplers = [
        policy_sampler(
            policy, temperature=each, top_p=settings.top_p, max_tokens=settings.max_tokens
        )
        for each in (given if isinstance(given, list) else [given])
    ]
    with out.table("samples", SAMPLE, "sample_id") as writer:
        sample(
            [prompts[task_id] for task_id in chosen],
            settings.n,
            policy=policy,
            samplers=samplers,
            writer=writer,
            context=context,
            instance=instance,
            concurrency=settings.concurrency,
            skips=skips,
        )
    finishes: Counter[str] = Counter()
    counts = Counter(dict.fromkeys(("samples", "with_code", "without_code", "tokens"), 0))
    engines: set[str] = set()
    for row in read_shards(out.path / "samples"):
        engines.add(row["sampler"]["engine"])
        counts["samples"] += 1
        counts["with_code" if row["code"] is not None else "without_code"] += 1
        counts["tokens"] += row["n_tokens"]
        finishes[f"finish_{row['finish_reason']}"] += 1
    if not counts["samples"]:
        raise InputError(f"no task of {inputs['tasks']} could be sampled: {skips.first()}")
    return Summary(
        content_sha=writer.content_sha(),
        counts={"tasks": len(chosen), **counts, **finishes, **skips.counts},
        details={"engine": sorted(engines), "policy": policy.row(), "skipped": skips.listed},
    )


def load_tasks(location: Path, skips: Skips) -> list[tuple[str, Row]]:
    """Returns the tasks that may be sampled, as (place, task).

    Raises:
        InputError: There is no task, a task has no id, or two have the same.
    """
    tasks: dict[str, tuple[str, Row]] = {}
    for place, task in read_rows(location):
        task_id = task.get("task_id")
        if not isinstance(task_id, str) or not task_id:
            raise InputError(f"{place}: a task needs a task_id")
        if task_id in tasks:
            raise InputError(
                f"{place}: task {task_id} stands already at {tasks[task_id][0]}; give every task "
                "its own task_id"
            )
        if task.get("split") == "held_out":
            skips.add("held_out", place, f"task {task_id} is held out for evaluation")
            continue
        tasks[task_id] = (place, task)
    if not tasks:
        raise InputError(f"{location} holds no task to sample: {skips.first()}")
    return list(tasks.values())


def _asked(task: Row, form: Form) -> Row | None:
    """Returns a task as a form asks for it, None where it can't."""
    if form.key == "own":
        return task
    head = head_of(task)
    return None if head is None else task | {"messages": conversation(form.key, head, "")}


def choose_tasks(task_ids: Iterable[str], most: int | None, draw: str) -> list[str]:
    """Returns at most `most` ids, in order; another draw chooses others.

    A round that sampled the tasks whose answers its policy has just been trained on would find few
    that it fails.
    """
    ranked = sorted(task_ids, key=lambda task_id: sha256_text(f"{draw}:{task_id}"))
    return sorted(ranked[:most])
