"""The data stage: reads instruction rows and tasks, splits them by problem, decontaminates them."""

from align.data.stage import run

__all__ = ["run"]
