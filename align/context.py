"""The run around a stage: log, progress bars, warnings, model servers, the sandbox."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from align.errors import ArtifactError
from align.settings import SandboxSettings, ServingSettings
from align.stage import ModelServers
from align.stage import Progress as ProgressBar

if TYPE_CHECKING:
    from sandbox import Sandbox

console = Console(stderr=True, highlight=False)


class _Rate(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "", style="dim")


@dataclass
class _Bar:
    display: Progress
    task: Any

    def advance(self, steps: int = 1) -> None:
        self.display.advance(self.task, steps)

    def note(self, text: str) -> None:
        self.display.update(self.task, note=text)


@contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[ProgressBar]:
    """Shows a progress bar; where stderr is no terminal, nothing is drawn."""
    display = Progress(
        TextColumn(f"{title:>12}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
        console=console,
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with display:
        yield _Bar(display, display.add_task(title, total=total, note=""))


class RunContext:
    """The `align.stage.Context` of runs and of single verbs.

    Use it as a context manager: leaving it stops the model server.

    Args:
        folder: Where `log.jsonl` and the servers' logs are written.
        seed: The run's seed.
        sandbox: Where untrusted code runs.
        serving: How models are served.
    """

    def __init__(
        self, folder: Path, *, seed: int, sandbox: SandboxSettings, serving: ServingSettings
    ) -> None:
        from align.serving import Servers

        self._folder = folder
        self._seed = seed
        self._sandbox = sandbox
        self._servers = Servers(serving, folder / "servers")
        self.stage = ""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._log = (folder / "log.jsonl").open("a", encoding="utf-8")
        except OSError as error:
            raise ArtifactError(f"{folder} can't be written: {error}") from error

    def __enter__(self) -> RunContext:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._servers.stop()
        finally:
            self._log.close()

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self._seed

    @property
    def servers(self) -> ModelServers:
        """The model servers of this run."""
        return self._servers

    @contextmanager
    def sandbox(self) -> Iterator[Sandbox]:
        """Opens the sandbox; closing it ends its containers."""
        from sandbox import Sandbox

        settings = self._sandbox
        with Sandbox(**dict(settings)) as box:
            self.log("sandbox", engine=box.engine, isolation=box.isolation, image=box.image)
            yield box

    def log(self, event: str, **fields: Any) -> None:
        """Appends one line to `log.jsonl`."""
        now = time.time()
        stamp = (
            time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
        )
        line = {"time": stamp, "stage": self.stage, "event": event, **fields}
        self._log.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
        self._log.flush()

    def say(self, message: str) -> None:
        """Tells the user something worth knowing before the stage is done, and logs it."""
        self.log("note", message=message)
        console.print(f"  {escape(message)}")

    def warn(self, message: str) -> None:
        """Tells the user something that is not an error, and logs it."""
        self.log("warning", message=message)
        console.print(f"[yellow]warning:[/] {escape(message)}")

    @contextmanager
    def progress(self, title: str, total: int | None) -> Iterator[ProgressBar]:
        """Shows a progress bar; where stderr is no terminal, nothing is drawn."""
        with progress_bar(self.stage or title, total) as bar:
            yield bar
