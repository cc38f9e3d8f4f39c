"""The judge: one model, one rubric, and the ways to ask it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from judges.cache import AnswerCache
from judges.client import ChatClient, server_root
from judges.errors import JudgeError
from judges.judgement import Candidate, Judgement, Preference
from judges.labels import LabelTokens, resolve_labels
from judges.pairwise import compare_candidates
from judges.pointwise import score_candidate
from judges.rubric import Rubric

# `score_many` keeps this many candidates per slot under way, so that a slot is never empty while
# the consumer handles a judgement.
_WINDOW = 2


class Judge:
    """Scores or compares candidates with a model behind an OpenAI-compatible URL (vLLM).

    With an event loop of your own use it as `async with Judge(...) as judge`; `score_many` needs
    none.

    Args:
        base_url: The server, with or without `/v1`.
        model: Name of the served model.
        rubric: What to ask; a pointwise rubric for scores, a pairwise one for comparisons.
        seed: Fixes, with the candidates' ids, every byte of every prompt.
        concurrency: Requests in flight at once.
        rationale_tokens: Cap of the rationale.
        timeout_s: Seconds for one attempt of one request.
        api_key: Sent as a bearer token.
        injection_threshold: A score that falls by more than this share of the scale's range without
            comments and docstrings is flagged. None: no second look.
        cache: Keeps answers; a request that it holds is not sent. Whoever opened it closes it.

    Raises:
        JudgeError: An argument can't work.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        rubric: Rubric,
        *,
        seed: int = 0,
        concurrency: int = 16,
        rationale_tokens: int = 96,
        timeout_s: float = 120,
        api_key: str | None = None,
        injection_threshold: float | None = 0.5,
        cache: AnswerCache | None = None,
    ) -> None:
        """Sets the judge up; nothing is sent yet."""
        if concurrency < 1 or rationale_tokens < 1 or timeout_s <= 0:
            raise JudgeError(
                f"concurrency {concurrency}, rationale_tokens {rationale_tokens} and timeout_s "
                f"{timeout_s} must all be positive"
            )
        if injection_threshold is not None and not 0 < injection_threshold < 1:
            raise JudgeError(
                f"injection_threshold {injection_threshold} must lie between 0 and 1, or be None"
            )
        self.rubric = rubric
        self.model = model
        self._seed = seed
        self._concurrency = concurrency
        self._rationale_tokens = rationale_tokens
        self._injection_threshold = injection_threshold
        root = server_root(base_url)
        self._connect: Callable[[], ChatClient] = lambda: ChatClient(
            root, model, concurrency=concurrency, timeout_s=timeout_s, api_key=api_key, cache=cache
        )
        self._session: _Session | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def score(self, candidate: Candidate) -> Judgement:
        """Judges one candidate.

        Raises:
            JudgeError: The judge can't work as it is set up (kind of rubric, labels, key, model).
                What happens to one request is a status.
        """
        return await self._score(self._running_session(), candidate)

    async def compare(self, a: Candidate, b: Candidate, *, margin: float = 0.25) -> Preference:
        """Compares two candidates of one task, in both orders.

        Args:
            a: One.
            b: The other.
            margin: Largest difference between the orders, in probability that `a` is better, that
                still counts as an opinion.

        Raises:
            JudgeError: The two are not two answers to one task, or the judge can't work as set up.
        """
        self._need("pairwise")
        session = self._running_session()
        return await compare_candidates(
            session.client,
            session.labels,
            self.rubric,
            a,
            b,
            seed=self._seed,
            rationale_tokens=self._rationale_tokens,
            margin=margin,
        )

    def score_many(self, candidates: Iterable[Candidate]) -> Iterator[Judgement]:
        """Judges many candidates from synchronous code.

        Judgements come in order of completion, each with its candidate's id. The iterable is read
        in the caller's thread, only as far ahead as slots need, and no further while nobody takes
        judgements. Requests run in a thread with an event loop of its own; leaving the loop early
        cancels what is in flight.

        Raises:
            JudgeError: The judge can't work as it is set up.
        """
        self._need("pointwise")
        with _background_loop() as loop:
            session = _Session(self._connect(), self.rubric)
            done: SimpleQueue[Future[Judgement]] = SimpleQueue()
            source = iter(candidates)
            under_way, exhausted = 0, False
            try:
                while under_way or not exhausted:
                    if not exhausted and under_way < _WINDOW * self._concurrency:
                        try:
                            candidate = next(source)
                        except StopIteration:
                            exhausted = True
                            continue
                        future = _submit(loop, self._score(session, candidate))
                        future.add_done_callback(done.put)
                        under_way += 1
                        if done.empty():
                            continue
                    judgement = done.get().result()
                    under_way -= 1
                    yield judgement
            finally:
                _submit(loop, _cancel_others()).result()
                _submit(loop, session.client.aclose()).result()

    async def aclose(self) -> None:
        """Closes the connections that `score` and `compare` opened."""
        if self._session is not None:
            await self._session.client.aclose()
            self._session = None

    async def __aenter__(self) -> Judge:
        """Returns the judge itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the connections."""
        await self.aclose()

    async def _score(self, session: _Session, candidate: Candidate) -> Judgement:
        self._need("pointwise")
        return await score_candidate(
            session.client,
            session.labels,
            self.rubric,
            candidate,
            seed=self._seed,
            rationale_tokens=self._rationale_tokens,
            injection_threshold=self._injection_threshold,
        )

    def _running_session(self) -> _Session:
        # Connections belong to an event loop; a judge that is used in a second one connects anew.
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            self._session, self._loop = _Session(self._connect(), self.rubric), loop
        return self._session

    def _need(self, kind: str) -> None:
        if self.rubric.kind != kind:
            verb = "compare" if self.rubric.kind == "pairwise" else "score"
            raise JudgeError(
                f"rubric {self.rubric.full_name} is {self.rubric.kind}: use {verb}, or a {kind} "
                "rubric"
            )


class _Session:
    """A client and the rubric's labels in its server's tokenizer, resolved once."""

    def __init__(self, client: ChatClient, rubric: Rubric) -> None:
        self.client = client
        self._rubric = rubric
        self._resolving: asyncio.Task[LabelTokens] | None = None

    async def labels(self) -> LabelTokens:
        """Returns the labels; those who ask while the server is asked share one answer."""
        task = self._resolving
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = asyncio.ensure_future(resolve_labels(self.client, self._rubric))
            self._resolving = task
        return await asyncio.shield(task)


def _submit(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
    return asyncio.run_coroutine_threadsafe(coroutine, loop)


@contextmanager
def _background_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Runs an event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="judge", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
