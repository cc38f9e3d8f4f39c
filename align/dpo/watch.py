"""What a preference training shows while it goes on, and what of it deserves a word of warning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from align.metrics import kept
from align.processes import world_size
from align.settings import DpoSettings
from align.stage import Context

METRICS = {
    "loss": "loss",
    "preference_loss": "preference_loss",
    "nll": "nll",
    "rewards/margins": "margin",
    "rewards/accuracies": "accuracy",
    "logps/chosen": "logp_chosen",
    "logps/rejected": "logp_rejected",
    "shifts/chosen": "shift_chosen",
    "shifts/rejected": "shift_rejected",
    "entropy": "entropy",
    "kl": "kl",
    "learning_rate": "lr",
}
HELD_OUT = {f"eval_{name}": kept_as for name, kept_as in METRICS.items() if name != "learning_rate"}
SAMPLES = {
    "samples/length": "length",
    "samples/repetition": "repetition",
    "samples/kl": "kl",
}

_WINDOW = 5
"""Steps over which a figure is averaged before it is judged."""

_FALL = 0.1
"""Nats a token by which the chosen answers may become less likely."""

_EARLY_PAIRS = 16
"""Pairs after whose flawless separation, from the first update on, the data are in doubt."""

_GROWTH = 1.3
_REPETITION = 0.2

Point = Mapping[str, float]


@dataclass(frozen=True)
class Alert:
    """Something in a training's figures that mostly has one cause.

    Attributes:
        kind: `chosen_falls`, `too_easy`, `longer` or `repeats`.
        step: The optimiser step after which it showed.
        message: What was seen, the likely cause, and what to do.
    """

    kind: str
    step: int
    message: str


def alerts(steps: Sequence[Point], samples: Sequence[Point], pairs_a_step: int) -> list[Alert]:
    """Returns each kind of alert once, at the step that first deserved it.

    Args:
        steps: The curve, under the names of `METRICS`.
        samples: What sampled answers looked like, under the names of `SAMPLES`.
        pairs_a_step: Pairs of one optimiser step.
    """
    found: dict[str, Alert] = {}
    for number in range(len(steps)):
        for alert in _of_step(steps, number, pairs_a_step):
            found.setdefault(alert.kind, alert)
    for number in range(1, len(samples)):
        for alert in _of_sample(samples[0], samples[number]):
            found.setdefault(alert.kind, alert)
    return sorted(found.values(), key=lambda alert: alert.step)


def _of_step(steps: Sequence[Point], number: int, pairs_a_step: int) -> Iterator[Alert]:
    """Yields what the curve up to a step deserves, as far as that step decides it."""
    step = int(steps[number]["step"])
    window = steps[max(0, number + 1 - _WINDOW) : number + 1]
    fall = -_mean(window, "shift_chosen")
    margin = _mean(window, "margin")
    if len(window) == _WINDOW and fall > _FALL and margin > 0:
        yield Alert(
            "chosen_falls",
            step,
            f"step {step}: the chosen answers have become {fall:.2f} nats a token less likely than "
            f"under the reference, while the margin rose to {margin:.2f}. The loss sees only the "
            "difference: pairs that hardly differ, or steps that are too large, push both answers "
            "down. Raise nll_weight, lower learning_rate, or set weighting: target",
        )
    # Up to the first update all margins are zero, or what rounding leaves: a warmup begins at 0.
    updated = next((n for n, each in enumerate(steps) if each["lr"] > 0), number)
    needed = -(-_EARLY_PAIRS // pairs_a_step)
    early = steps[updated + 1 : number + 1]
    if len(early) == needed and all(each["accuracy"] == 1.0 for each in early):
        yield Alert(
            "too_easy",
            step,
            f"step {step}: every pair has been told apart right from the first update on. The "
            "answers differ in something that is learnt at once (length, a missing fence, an "
            "answer that was cut), or the policy was trained on these chosen answers: look at "
            "`align pair` output, and choose nearer negatives",
        )


def _of_sample(first: Point, now: Point) -> Iterator[Alert]:
    step = int(now["step"])
    if now["length"] > _GROWTH * first["length"]:
        yield Alert(
            "longer",
            step,
            f"step {step}: sampled answers have grown from {first['length']:.0f} to "
            f"{now['length']:.0f} tokens. Chosen answers that are longer than rejected ones teach "
            "length: balance the pairs' lengths, or set loss: sigmoid_norm, or ld_alpha",
        )
    if now["repetition"] > max(_REPETITION, 2 * first["repetition"]):
        yield Alert(
            "repeats",
            step,
            f"step {step}: {now['repetition']:.0%} of what sampled answers hold they said before "
            f"({first['repetition']:.0%} at first). The policy is leaving the text it knew: lower "
            "learning_rate, raise beta or nll_weight, or set mask_end",
        )


def _mean(points: Sequence[Point], name: str) -> float:
    return sum(point[name] for point in points) / len(points)


def points(
    history: Sequence[Mapping[str, Any]], names: Mapping[str, str]
) -> list[dict[str, float]]:
    """Returns the entries of a trainer's log that hold the first of the names, renamed."""
    marker = next(iter(names))
    return [{"step": entry["step"], **kept(entry, names)} for entry in history if marker in entry]


class Watch(TrainerCallback):
    """Warns once of each alert, logs what held-out pairs and samples show, and stops early.

    What went before is read from the trainer's own log, which a point to resume from holds.

    Args:
        settings: The stage's settings.
        context: The run.
    """

    def __init__(self, settings: DpoSettings, context: Context) -> None:
        """Has seen nothing yet."""
        self._settings = settings
        self._context = context
        self._steps: list[dict[str, float]] = []
        self._samples: list[dict[str, float]] = []
        self._warned: set[str] = set()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Takes in what earlier attempts saw, and what they warned of."""
        self._steps = points(state.log_history, METRICS)
        self._samples = points(state.log_history, SAMPLES)
        size = pairs_a_step(self._settings)
        self._warned = {alert.kind for alert in alerts(self._steps, self._samples, size)}

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Judges the newest figures."""
        newest = [{"step": state.global_step, **(logs or {})}]
        found: list[Alert] = []
        for point in points(newest, HELD_OUT):
            self._context.log("held_out", **point)
        for point in points(newest, SAMPLES):
            self._context.log("samples", **point)
            self._samples.append(point)
            found += _of_sample(self._samples[0], point)
        for point in points(newest, METRICS):
            self._steps.append(point)
            found += _of_step(self._steps, len(self._steps) - 1, pairs_a_step(self._settings))
        for alert in found:
            if alert.kind not in self._warned:
                self._warned.add(alert.kind)
                self._context.warn(alert.message)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ends the training where the held-out loss has not fallen for long enough."""
        losses = [point["loss"] for point in points(state.log_history, HELD_OUT)]
        if out_of_patience(losses, self._settings.patience):
            control.should_training_stop = True
            self._context.say(
                f"step {state.global_step}: the loss on held-out pairs has not fallen for "
                f"{self._settings.patience} looks; training ends here"
            )


def out_of_patience(losses: Sequence[float], patience: int | None) -> bool:
    """Says whether the last `patience` losses are none of them below all earlier ones."""
    if patience is None or len(losses) <= patience:
        return False
    return min(losses[-patience:]) >= min(losses[:-patience])


def pairs_a_step(settings: DpoSettings) -> int:
    """Returns how many pairs an optimiser step trains on."""
    return settings.batch_pairs * settings.accumulate * world_size()


def watched(history: Sequence[Mapping[str, Any]], settings: DpoSettings) -> dict[str, Any]:
    """Returns what a finished training showed: held-out figures, samples, alerts.

    Args:
        history: The trainer's log.
        settings: The stage's settings.
    """
    steps, samples = points(history, METRICS), points(history, SAMPLES)
    found = alerts(steps, samples, pairs_a_step(settings))
    return {
        "held_out": points(history, HELD_OUT),
        "samples": samples,
        "alerts": [asdict(alert) for alert in found],
    }
