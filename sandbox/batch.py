"""Many programs through one sandbox: lazily in, in order of completion out."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from sandbox.task import Task
from sandbox.verdict import Verdict

K = TypeVar("K")
T = TypeVar("T")
R = TypeVar("R")
Run = Callable[[Task, str | None], Verdict]


# Items that are taken ahead of the first unfinished one, for each worker.
_AHEAD = 4


def in_order(items: Iterable[T], work: Callable[[T], R], workers: int) -> Iterator[tuple[T, R]]:
    """Yield each item with what ``work`` makes of it, in the items' order, several at work at once.

    Raises what ``work`` raises.
    """
    executor = ThreadPoolExecutor(workers)
    running: deque[tuple[T, Future[R]]] = deque()
    try:
        for item in items:
            running.append((item, executor.submit(work, item)))
            if len(running) >= _AHEAD * workers:
                first, future = running.popleft()
                yield first, future.result()
        for first, future in running:
            yield first, future.result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


class Batch:
    """Worker threads between a lazy iterable and a bounded queue of results."""

    def __init__(
        self, jobs: Iterable[tuple[Any, Task, str | None]], run: Run, workers: int
    ) -> None:
        self._jobs = iter(jobs)
        self._run = run
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._done: queue.Queue[tuple[str, Any, Any]] = queue.Queue(maxsize=2 * workers)
        # Twice as many as can run: one makes the next request ready while another's is out.
        threads = 2 * workers
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        try:
            while not self._stopping.is_set():
                with self._lock:
                    job = next(self._jobs, None)
                if job is None:
                    break
                key, task, code = job
                self._put(("verdict", key, self._run(task, code)))
            self._put(("end", None, None))
        except BaseException as error:
            self._put(("error", None, error))

    def _put(self, item: tuple[str, Any, Any]) -> None:
        while not self._stopping.is_set():
            try:
                self._done.put(item, timeout=0.2)
                return
            except queue.Full:
                continue

    def results(self) -> Iterator[tuple[Any, Verdict]]:
        """Yield until every worker has ended; raise what a worker raised."""
        left = len(self._threads)
        while left:
            kind, key, value = self._done.get()
            if kind == "error":
                raise value
            if kind == "end":
                left -= 1
            else:
                yield key, value

    def stop(self) -> None:
        """Take no more jobs; runs under way end by themselves or with their slots."""
        self._stopping.set()


async def run_all(
    jobs: Iterable[tuple[K, Task, str | None]] | AsyncIterable[tuple[K, Task, str | None]],
    run: Run,
    workers: int,
) -> AsyncIterator[tuple[K, Verdict]]:
    """Run jobs on threads beside an event loop; yields key and verdict in order of completion.

    At most two jobs a worker are taken ahead of what has been yielded.
    """
    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(2 * workers)
    running: dict[asyncio.Future[Any], K] = {}
    source = _aiter(jobs)
    coming: asyncio.Future[Any] | None = None
    more = True
    try:
        while more or running:
            if more and coming is None and len(running) < 2 * workers:
                coming = asyncio.ensure_future(anext(source, None))
            waited = [*running, *([coming] if coming is not None else [])]
            done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if coming is not None and coming in done:
                job, coming = coming.result(), None
                if job is None:
                    more = False
                else:
                    key, task, code = job
                    running[loop.run_in_executor(executor, run, task, code)] = key
            for future in [future for future in running if future in done]:
                yield running.pop(future), future.result()
    finally:
        if coming is not None:
            coming.cancel()
        executor.shutdown(wait=False, cancel_futures=True)


async def _aiter(jobs: Iterable[K] | AsyncIterable[K]) -> AsyncIterator[K]:
    if isinstance(jobs, AsyncIterable):
        async for job in jobs:
            yield job
    else:
        for job in jobs:
            yield job
