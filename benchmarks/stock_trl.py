"""What the benchmarks against stock TRL share: its settings, the search for the best, processes."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Result = dict[str, Any]
Choices = Mapping[str, Result]

CHECKPOINTING: Choices = {"checkpointing": {"checkpointing": True}}
WEIGHTS: Choices = {
    "bf16 weights, no autocast": {"dtype": "bfloat16", "autocast": False},
    "fp32 weights, autocast": {"dtype": "float32", "autocast": True},
    "fp32 weights, no autocast": {"dtype": "float32", "autocast": False},
}


def weight_choices(dtype: str) -> Choices:
    """How weights may be held and computed with; emulated bfloat16 is not worth a try."""
    return WEIGHTS if dtype == "bfloat16" else {}


def common_arguments(folder: str) -> Result:
    """What both sides' trainers are told: one pass in the given order, each step logged."""
    return {
        "output_dir": folder,
        "num_train_epochs": 1,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "seed": 0,
        "train_sampling_strategy": "sequential",
        "dataloader_pin_memory": False,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not has_gpu(),
    }


def has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def peak_bytes() -> int:
    """The most memory that this process has held, the GPU's where there is one."""
    import torch

    if has_gpu():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_process(module: str, job: Mapping[str, Any]) -> Result:
    """Trains in a process of its own, so that memory and threads are its own."""
    command = [sys.executable, "-m", module, "--job", json.dumps(job)]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{job}\n{done.stderr[-3000:]}")
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result


def find_best(
    kinds: Sequence[Choices], plain: Result, run: Callable[[str, Result], Result], rate: str
) -> tuple[Result, dict[str, Result]]:
    """TRL's fastest setting, one choice after the other, and what each setting reached.

    Args:
        kinds: Choices that are made one after the other, each by name.
        plain: The setting from which the search starts.
        run: Trains with a setting, given its name.
        rate: Which figure of a result is to be high.
    """
    best: Result = {}
    tried: dict[str, Result] = {}
    name = ""
    for choices in kinds:
        base, prefix = dict(best), name
        for label, change in choices.items():
            setting = {**plain, **base, **change}
            if setting == best:
                continue
            full_name = f"{prefix}, {label}" if prefix else label
            tried[full_name] = run(full_name, setting) | {"setting": setting}
            if not name or tried[full_name][rate] > tried[name][rate]:
                best, name = setting, full_name
    return best, tried
