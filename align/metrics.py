"""What becomes of a training's metrics: the run's log, a progress bar, trackers, the curve."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Any

from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations.integration_utils import (
    TensorBoardCallback,
    TrackioCallback,
    WandbCallback,
)

from align.errors import TrainingError
from align.processes import is_first
from align.settings import DpoSettings, SftSettings
from align.stage import Context, Output, Progress


def metric_callbacks(settings: SftSettings | DpoSettings, out: Output) -> list[TrainerCallback]:
    """Returns what sends each step's metrics to the trackers that the settings name.

    Raises:
        TrainingError: A tracker's package is not installed.
    """
    for name in settings.report_to:
        if find_spec(name) is None:
            raise TrainingError(f"report_to: {name} is not installed; `pip install {name}`")
    found: list[TrainerCallback] = []
    if not is_first():
        return found
    if "tensorboard" in settings.report_to:
        from torch.utils.tensorboard import SummaryWriter

        found.append(TensorBoardCallback(SummaryWriter(out.path / "tensorboard")))
    if "wandb" in settings.report_to:
        found.append(WandbCallback())
    if "trackio" in settings.report_to:
        found.append(TrackioCallback())
    return found


class Reporter(TrainerCallback):
    """Passes every logged step on to the run: its log, and a progress bar.

    Args:
        context: The run.
        title: The bar's title.
        names: Which of the trainer's metrics are kept, and under which name.
    """

    def __init__(self, context: Context, title: str, names: Mapping[str, str]) -> None:
        """Sets the bar up; it opens when training begins."""
        self._context = context
        self._title = title
        self._names = names
        self._opened: AbstractContextManager[Progress] | None = None
        self._bar: Progress | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Opens the bar, advanced by the steps of earlier attempts."""
        self._opened = self._context.progress(self._title, state.max_steps)
        self._bar = self._opened.__enter__()
        self._bar.advance(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Logs a step."""
        if logs is None or "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise TrainingError(
                f"the loss of step {state.global_step} is {logs['loss']}: training has diverged, "
                "and nothing of it is kept; lower learning_rate, or raise warmup"
            )
        self._context.log("train", step=state.global_step, **kept(logs, self._names))
        if self._bar is not None:
            self._bar.advance()
            self._bar.note(f"loss {logs['loss']:.4f}")

    def close(self) -> None:
        """Closes the bar."""
        if self._opened is not None:
            self._opened.__exit__(None, None, None)
            self._opened = None


def kept(logs: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, float]:
    """Returns the metrics of one step under their names in the report."""
    return {name: float(logs[key]) for key, name in names.items() if key in logs}


def curve(trainer: Trainer, names: Mapping[str, str]) -> list[dict[str, float]]:
    """Returns every step's metrics, those of earlier attempts included."""
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    return [{"step": entry["step"], **kept(entry, names)} for entry in history]
