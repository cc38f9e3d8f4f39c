"""Runs answers while others are still being drawn."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Self

from align.artifacts import Row
from align.verdicts import verdict_row
from sandbox import Sandbox, Task


class Execution:
    """Runs samples in a thread of its own, in the order in which they come.

    Use it as a context manager: leaving it waits for what was added; leaving it by an error drops
    what has not begun. Verdicts stay in memory until then: one that outlives its sample, where the
    process is killed, would be taken for that of the next sample of the same id.

    Args:
        box: The sandbox.
        tasks: By task id.
    """

    def __init__(self, box: Sandbox, tasks: Mapping[str, Task]) -> None:
        self.verdicts: list[Row] = []
        self._box = box
        self._tasks = tasks
        self._samples: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self._stopped = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="execution", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped = error is not None
        self._samples.put(None)
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    def add(self, sample: Row) -> None:
        """Has a sample run; raises what ended the thread, so that no answer is drawn in vain."""
        if self._error is not None:
            raise self._error
        self._samples.put(sample)

    def _run(self) -> None:
        try:
            for row, verdict in self._box.run_many(self._work()):
                self.verdicts.append(
                    verdict_row(row["sample_id"], row["task_id"], row["sample_index"], verdict)
                )
        except BaseException as error:
            self._error = error

    def _work(self) -> Iterator[tuple[Row, Task, str | None]]:
        while (row := self._samples.get()) is not None and not self._stopped:
            yield row, self._tasks[row["task_id"]], row["code"]
