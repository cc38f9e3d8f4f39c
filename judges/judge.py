"""The judge: one model, one rubric, and the ways to ask it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from queue import SimpleQueue
from types import TracebackType
from typing import Any, TypeVar

from judges.cache import AnswerCache
from judges.client import ChatClient, server_root
from judges.errors import JudgeError
from judges.judgement import Candidate, Judgement, Preference, Usage
from judges.labels import LabelTokens, resolve_labels
from judges.pairwise import compare_candidates
from judges.pointwise import Manner, score_candidate
from judges.rubric import Rubric

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

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
        guarded: False puts candidates as they are, to measure what the guard is worth.
        identity: What the model is, beyond the name under which it is served: its weights, adapter,
            engine. Answers that are kept belong to it.
        budget_tokens: Tokens, read and written, after which no further candidate is asked about.
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
        guarded: bool = True,
        identity: str = "",
        budget_tokens: int | None = None,
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
        self._concurrency = concurrency
        self._budget = budget_tokens
        self._manner = Manner(seed, rationale_tokens, injection_threshold, guarded)
        self._spent_before = Usage()
        root = server_root(base_url)
        self._connect: Callable[[], ChatClient] = lambda: ChatClient(
            root,
            model,
            concurrency=concurrency,
            timeout_s=timeout_s,
            api_key=api_key,
            cache=cache,
            identity=identity,
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
        return await self._compare(self._running_session(), a, b, margin)

    def score_many(self, candidates: Iterable[Candidate]) -> Iterator[Judgement]:
        """Judges many candidates from synchronous code.

        Judgements come in order of completion, each with its candidate's id. The iterable is read
        in the caller's thread, only as far ahead as slots need, and no further while nobody takes
        judgements or once the budget is spent; what is under way then is still answered. Requests
        run in a thread with an event loop of its own; leaving the loop early cancels what is in
        flight.

        Raises:
            JudgeError: The judge can't work as it is set up.
        """
        self._need("pointwise", "checklist")
        return self._many(candidates, self._score)

    def compare_many(
        self, pairs: Iterable[tuple[Candidate, Candidate]], *, margin: float = 0.25
    ) -> Iterator[Preference]:
        """Compares many pairs from synchronous code, each in both orders; see `score_many`.

        Raises:
            JudgeError: The judge can't work as it is set up, or a pair is none.
        """
        self._need("pairwise")
        return self._many(
            pairs, lambda session, pair: self._compare(session, pair[0], pair[1], margin)
        )

    @property
    def spent(self) -> Usage:
        """What was read and written for this judge so far; answers that were kept cost nothing."""
        now = self._session.client.spent if self._session else Usage()
        return self._spent_before + now

    @property
    def budget_spent(self) -> bool:
        """Whether the budget is used up, so that no further candidate is asked about."""
        spent = self.spent
        return (
            self._budget is not None
            and spent.prompt_tokens + spent.completion_tokens >= self._budget
        )

    def _many(
        self,
        items: Iterable[ItemT],
        ask: Callable[[_Session, ItemT], Coroutine[Any, Any, ResultT]],
    ) -> Iterator[ResultT]:
        with _background_loop() as loop:
            session = self._session = _Session(self._connect(), self.rubric)
            done: SimpleQueue[Future[ResultT]] = SimpleQueue()
            source = iter(items)
            under_way, exhausted = 0, False
            try:
                while under_way or not exhausted:
                    exhausted = exhausted or self.budget_spent
                    if not exhausted and under_way < _WINDOW * self._concurrency:
                        try:
                            item = next(source)
                        except StopIteration:
                            exhausted = True
                            continue
                        future = _submit(loop, ask(session, item))
                        future.add_done_callback(done.put)
                        under_way += 1
                        if done.empty():
                            continue
                    if not under_way:
                        break
                    result = done.get().result()
                    under_way -= 1
                    yield result
            finally:
                _submit(loop, _cancel_others()).result()
                _submit(loop, session.client.aclose()).result()
                self._leave()

    def _leave(self) -> None:
        if self._session is not None:
            self._spent_before += self._session.client.spent
            self._session = None

    async def aclose(self) -> None:
        """Closes the connections that `score` and `compare` opened."""
        if self._session is not None:
            await self._session.client.aclose()
            self._leave()

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

    async def _compare(
        self, session: _Session, a: Candidate, b: Candidate, margin: float
    ) -> Preference:
        return await compare_candidates(
            session.client, session.labels, self.rubric, a, b, self._manner, margin
        )

    async def _score(self, session: _Session, candidate: Candidate) -> Judgement:
        self._need("pointwise", "checklist")
        return await score_candidate(
            session.client,
            session.labels,
            self.rubric,
            candidate,
            self._manner,
        )

    def _running_session(self) -> _Session:
        # Connections belong to an event loop; a judge that is used in a second one connects anew.
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            self._leave()
            self._session, self._loop = _Session(self._connect(), self.rubric), loop
        return self._session

    def _need(self, *kinds: str) -> None:
        if self.rubric.kind not in kinds:
            verb = "compare" if self.rubric.kind == "pairwise" else "score"
            raise JudgeError(
                f"rubric {self.rubric.full_name} is {self.rubric.kind}: use {verb}, or a "
                f"{' or '.join(kinds)} rubric"
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
