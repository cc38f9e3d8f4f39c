"""The sandbox's own errors: a broken wall and a broken task, never a verdict."""

from __future__ import annotations


class SandboxError(RuntimeError):
    """The sandbox can't be started or trusted; says what to do about it."""


class TaskError(ValueError):
    """A task row is malformed; names the field."""


class SlotBroken(SandboxError):
    """One slot died or spoke nonsense: destroy it and run the job elsewhere."""
