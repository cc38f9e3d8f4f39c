"""A run around a training stage under test, and the script that is killed in the middle of one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
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

    @property
    def dtype(self) -> None:
        return None

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
    points: Sequence[str],
    stage: str,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Path],
    folder: Path,
) -> list[list[str]]:
    """Runs a stage again and again, each time in a process that SIGKILL ends at a point.

    Args:
        points: `step:N` (when that step is logged), `saving` (a point to resume from is written,
            but has not its name yet) or `merging`, one for each run.
        stage: `sft` or `dpo`.
        settings: Its settings.
        inputs: Its inputs.
        folder: Its folder.

    Returns:
        What lay in the folder's `checkpoints` after each kill.
    """
    plain = {name: str(path) for name, path in inputs.items()}
    call = json.dumps([list(points), stage, dict(settings), plain, str(folder)])
    command = [sys.executable, "-m", "tests.training_context", call]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    found: list[list[str]] = json.loads(result.stdout.splitlines()[-1])
    return found


def _main(call: str) -> None:
    import align.dpo
    import align.sft  # noqa: F401  # once, before the processes that need it are forked

    points, stage, settings, inputs, folder = json.loads(call)
    found = []
    for point in points:
        child = os.fork()
        if child == 0:
            _arm(point)
            train(
                stage, settings, {name: Path(path) for name, path in inputs.items()}, Path(folder)
            )
            os._exit(1)  # it was to be killed
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"{point}: the stage was not killed, but ended"
        assert os.WTERMSIG(status) == signal.SIGKILL
        names = [path.name for path in (Path(folder) / "checkpoints").glob("checkpoint-*")]
        found.append(sorted(names))
    print(json.dumps(found))


def _arm(point: str) -> None:
    from align import training

    def die(*args: Any, **kwargs: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if point == "saving":
        training.fsync_tree = die
    elif point == "merging":
        training.save_checkpoint = die
    else:
        last = int(point.removeprefix("step:"))
        log = QuietContext.log

        def log_or_die(self: QuietContext, event: str, **fields: Any) -> None:
            log(self, event, **fields)
            if fields.get("step") == last:
                die()

        QuietContext.log = log_or_die  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    _main(sys.argv[1])
