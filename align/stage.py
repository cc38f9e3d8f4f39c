"""The shape that every stage has: settings, named inputs, an output folder, and the run around it.

`run.py` and the command line know of a stage only its `StageFunction`. A stage reads its inputs
from files, writes its tables through `Output.table`, and returns a `Summary`; whoever called it
writes the manifest, and with that the stage is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pyarrow as pa

from align.artifacts import Identity, TableWriter

if TYPE_CHECKING:
    from sandbox import Sandbox

SettingsT = TypeVar("SettingsT", contravariant=True)


@dataclass(frozen=True)
class Output:
    """The folder that one stage instance writes.

    Attributes:
        path: The folder; it exists.
        identity: What the instance is made from.
        shard_rows: Shards close at this many rows.
        shard_seconds: Shards close at this age.
    """

    path: Path
    identity: Identity
    shard_rows: int = 5000
    shard_seconds: float = 60.0

    def table(self, name: str, schema: pa.Schema, id_column: str) -> TableWriter:
        """Opens (or opens again) the table `name` for writing, as a context manager."""
        return TableWriter(
            self.path / name,
            schema,
            id_column,
            self.identity,
            shard_rows=self.shard_rows,
            shard_seconds=self.shard_seconds,
        )


@dataclass(frozen=True)
class Summary:
    """What a stage says of itself when it is done.

    Attributes:
        content_sha: Content hash of the artifact, the input hash of whatever reads it.
        counts: Numbers for people and the report: rows, outcomes, skips.
        details: Further plain data for the report (metrics, curves, settings in effect).
    """

    content_sha: str
    counts: Mapping[str, int] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


class Progress(Protocol):
    """A bar for one piece of long work."""

    def advance(self, steps: int = 1) -> None:
        """Says that `steps` more units are done."""

    def note(self, text: str) -> None:
        """Shows a short text beside the bar (a loss, a rate)."""


class ModelServers(Protocol):
    """Starts and stops model servers; `align.serving.Servers` is the real one."""

    def model(self, folder: Path) -> str:
        """Returns the base URL (ending in `/v1`) of a server that answers for this checkpoint.

        A server that already serves it is used again; one that serves another model is stopped
        first. The served model's name is `served_name(folder)` of `align.serving`.
        """

    @property
    def dtype(self) -> str | None:
        """The type in which a server computes, None for an endpoint that was given."""

    def stop(self) -> None:
        """Stops the running server, if any; training calls it to have the memory."""


class Context(Protocol):
    """The run around a stage."""

    @property
    def seed(self) -> int:
        """The run's seed; stages derive theirs from it and the instance id."""

    @property
    def servers(self) -> ModelServers:
        """The model servers of this run."""

    def sandbox(self) -> AbstractContextManager[Sandbox]:
        """Opens the sandbox of this run; closing it ends its containers."""

    def log(self, event: str, **fields: Any) -> None:
        """Appends one line to the run's `log.jsonl`."""

    def say(self, message: str) -> None:
        """Tells the user something worth knowing before the stage is done, and logs it."""

    def warn(self, message: str) -> None:
        """Tells the user something that is not an error, and logs it."""

    def progress(self, title: str, total: int | None) -> AbstractContextManager[Progress]:
        """Shows a progress bar with rate and time left (nothing where there is no terminal)."""


class StageFunction(Protocol[SettingsT]):
    """The entry of a stage."""

    def __call__(
        self, settings: SettingsT, inputs: Mapping[str, Path], out: Output, context: Context
    ) -> Summary:
        """Does the stage's work; called again after a crash, it goes on where it stopped."""
