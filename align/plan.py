"""Rough time and memory of a run's stages, before it starts.

A stage that ran before in this folder is estimated by what it took. The others are estimated from
the model's size, the rows, and a short measurement of this machine's matrix products:

* training: 4 N floating-point operations a token with an adapter, 6 N without (N parameters), at
  half of the measured rate;
* generation: 2 N operations a token at a quarter of it (batched decoding is bound by memory).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from align.manifest import read_manifest
from align.memory import (
    Shape,
    free_bytes,
    most_tokens,
    needs_checkpointing,
    shape_of,
    training_bytes,
)
from align.pipeline import External
from align.precision import compute_dtype
from align.settings import (
    DpoSettings,
    EvalSettings,
    JudgeSettings,
    SampleSettings,
    SftSettings,
)
from align.tables import read_rows

if TYPE_CHECKING:
    from align.pipeline import Instance
    from align.run import Run, Step

_TOKENS_OF_A_ROW = 160
_TOKENS_OF_A_PROMPT = 200
_SERVER_START_S = 40.0
_PROBLEMS = 164  # HumanEval's
_GIB = 2**30


@dataclass(frozen=True)
class Estimate:
    """Time and memory of a stage, as text for people."""

    time: str
    memory: str


def estimates(run: Run, steps: Sequence[Step]) -> list[Estimate]:
    """Returns an estimate for each step; done steps cost nothing."""
    todo = [step for step in steps if step.state != "done"]
    if not todo:
        return [Estimate("-", "-") for _ in steps]
    start = _start_folder(run)
    if start is None:
        return [Estimate("-" if step.state == "done" else "10 s", "< 1 GiB") for step in steps]
    model = shape_of(start)
    rate = matmul_rate()
    rows, tasks = _count(run, "rows"), _count(run, "tasks")
    found = []
    for step in steps:
        if step.state == "done":
            found.append(Estimate("-", "-"))
            continue
        seconds = _measured(run, step.instance) or _seconds(
            step.instance, model, rate, _available(run, step.instance, rows, tasks), tasks
        )
        found.append(Estimate(_clock(seconds), _memory(run, step.instance, model)))
    return found


def matmul_rate() -> float:
    """Returns the matrix-product rate of the device that will train, in FLOP a second.

    It is measured in the type that `dtype: auto` takes there.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = 8192 if device == "cuda" else 1024
    left = torch.randn(size, size, device=device, dtype=getattr(torch, compute_dtype("auto")))
    (left @ left).sum().item()
    started, best = time.monotonic(), float("inf")
    while time.monotonic() - started < 0.3:
        began = time.monotonic()
        (left @ left).sum().item()
        best = min(best, time.monotonic() - began)  # whoever else computes is no part of it
    return 2 * size**3 / best


def _start_folder(run: Run) -> Path | None:
    return next((run.inputs(i)["model"] for i in run.instances if "model" in i.inputs), None)


def _count(run: Run, kind: str) -> int:
    manifest = read_manifest(run.path("data"))
    if manifest:
        return int(manifest["counts"].get(kind, 0))
    data = next(i for i in run.instances if i.id == "data")
    # A table that the run itself is to make is not there yet.
    paths = [
        path
        for name, path in run.inputs(data).items()
        if name.startswith(f"{kind}.")
        and (path.exists() or isinstance(data.inputs[name], External))
    ]
    if kind == "rows":
        sources = zip(paths, run.recipe.data.rows, strict=True)
        tables = [
            read_rows(path, _pass_over, split=source.split, subset=source.subset)
            for path, source in sources
        ]
    else:
        tables = [read_rows(path, _pass_over) for path in paths]
    return sum(sum(1 for _ in table) for table in tables)


def _pass_over(place: str, reason: str) -> None:
    """The data stage will list the row."""


def _available(run: Run, instance: Instance, rows: int, tasks: int) -> int:
    """Rows or pairs that a training finds, if half of the tasks are solved, by one pair a task."""
    fim = run.recipe.fim
    sampled = min(tasks, run.recipe.sample.fine.max_tasks or tasks)
    drawn = min(tasks, run.recipe.sample.round.max_tasks or tasks)
    sources = {
        "data": rows,
        "fine": sampled // 2,
        "fim": fim.rows if fim else 0,
        "chosen": drawn,
        "pairs": drawn,
    }
    return sum(number for name, number in sources.items() if name in instance.inputs)


def _measured(run: Run, instance: Instance) -> float | None:
    folders = [*(run.folder / "superseded").glob(f"{instance.id}-*"), run.path(instance.id)]
    times = [manifest["seconds"] for folder in folders if (manifest := read_manifest(folder))]
    return float(times[-1]) if times else None


def _seconds(instance: Instance, model: Shape, rate: float, rows: int, tasks: int) -> float:
    settings = instance.settings
    decode = 2 * model.parameters / (0.25 * rate)
    prefill = 2 * model.parameters / (0.5 * rate)
    if isinstance(settings, SftSettings):
        used = min(rows, settings.max_rows or rows) * _TOKENS_OF_A_ROW
        tokens = min(used, settings.max_tokens or used) * settings.epochs
        work = 4 if settings.lora else 6
        return 15 + tokens * work * model.parameters / (0.5 * rate)
    if isinstance(settings, DpoSettings):
        pairs = min(rows, settings.max_pairs or rows)
        tokens = pairs * (_TOKENS_OF_A_PROMPT + 2 * _TOKENS_OF_A_ROW)  # the prompt once for both
        passes = settings.epochs * (4 if settings.lora else 6) + 2  # and once for the reference
        return 15 + tokens * passes * model.parameters / (0.5 * rate)
    if isinstance(settings, SampleSettings):
        requests = min(tasks, settings.max_tasks or tasks) * settings.n
        return _SERVER_START_S + requests * (
            settings.max_tokens / 2 * decode + _TOKENS_OF_A_PROMPT * prefill
        )
    if isinstance(settings, JudgeSettings) and settings.executed:
        requests = settings.max_samples or tasks
        return _SERVER_START_S + requests * (
            settings.rationale_tokens * decode + 2 * _TOKENS_OF_A_PROMPT * prefill
        )
    if isinstance(settings, EvalSettings):
        problems = settings.n * sum(number or _PROBLEMS for number in settings.benchmarks.values())
        tokens = problems * settings.max_tokens / 3
        return _SERVER_START_S / 2 + tokens * decode + problems * _TOKENS_OF_A_PROMPT * prefill
    return 10.0


def _memory(run: Run, instance: Instance, model: Shape) -> str:
    settings = instance.settings
    served = run.recipe.serving.dtype
    width = 4 if (compute_dtype("auto") if served == "auto" else served) == "float32" else 2
    weights = width * model.parameters
    if isinstance(settings, SftSettings | DpoSettings):
        tokens = most_tokens(settings)
        checkpointing = needs_checkpointing(model, settings, free_bytes(), tokens)
        size = _gib(training_bytes(model, settings, checkpointing, tokens))
        return f"{size}, layers computed twice if rows are long" if checkpointing else size
    if isinstance(settings, SampleSettings | JudgeSettings | EvalSettings):
        if run.recipe.serving.endpoint:
            return "elsewhere"
        return _gib(weights + run.recipe.serving.kv_cache_gib * _GIB + 2.5 * _GIB)
    return "< 1 GiB"


def _gib(size: float) -> str:
    return f"{size / _GIB:.1f} GiB"


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
