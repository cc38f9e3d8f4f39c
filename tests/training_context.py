"""A run around a training stage under test, and the script that is killed in the middle of one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.artifacts import Identity
from align.stage import Output, Summary
from tests.conftest import RecordingContext

ROOT = Path(__file__).parent.parent


class NoServers:
    """Counts how often the servers were asked to go."""

    def __init__(self) -> None:
        self.stopped = 0

    def model(self, folder: Path) -> str:
        raise AssertionError(f"training serves no model, and not {folder}")

    def stop(self) -> None:
        self.stopped += 1


class QuietContext(RecordingContext):
    """A context whose servers can only be stopped."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__(seed)
        self._servers = NoServers()

    @property
    def servers(self) -> NoServers:
        return self._servers

    def steps(self) -> list[dict[str, Any]]:
        """Returns the training steps that were logged."""
        return [fields for event, fields in self.events if event == "train"]


def train(
    stage: str, settings: Mapping[str, Any], inputs: Mapping[str, Path], folder: Path
) -> tuple[Summary, QuietContext]:
    """Runs `align.sft` or `align.dpo` with one thread, into a folder."""
    import torch

    from align import dpo, sft
    from align.settings import DpoSettings, SftSettings

    torch.set_num_threads(1)
    folder.mkdir(exist_ok=True)
    context = QuietContext()
    out = Output(folder, Identity(stage, "config"))
    if stage == "sft":
        return sft.run(SftSettings.model_validate(settings), inputs, out, context), context
    return dpo.run(DpoSettings.model_validate(settings), inputs, out, context), context


def train_until_killed(
    point: str,
    stage: str,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Path],
    folder: Path,
) -> None:
    """Runs a stage in a process that SIGKILL ends at a point: `step:N`, `saving` or `merging`."""
    plain = {name: str(path) for name, path in inputs.items()}
    call = json.dumps([point, stage, dict(settings), plain, str(folder)])
    command = [sys.executable, "-m", "tests.training_context", call]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == -signal.SIGKILL, result.stderr[-2000:]


def _main(call: str) -> None:
    from align import training

    point, stage, settings, inputs, folder = json.loads(call)

    def die(*args: Any, **kwargs: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if point == "saving":  # the point's files are written, but it has not its name yet
        training._fsync_tree = die  # type: ignore[assignment]
    elif point == "merging":
        training.save_checkpoint = die  # type: ignore[assignment]
    else:
        last = int(point.removeprefix("step:"))
        log = QuietContext.log

        def log_or_die(self: QuietContext, event: str, **fields: Any) -> None:
            log(self, event, **fields)
            if fields.get("step") == last:
                die()

        QuietContext.log = log_or_die  # type: ignore[method-assign]
    train(stage, settings, {name: Path(path) for name, path in inputs.items()}, Path(folder))


if __name__ == "__main__":
    _main(sys.argv[1])
