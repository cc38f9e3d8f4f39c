"""Sends completion requests to a model server: bounded, resent after faults, in no fixed order.

A prompt goes out as token ids, so that nothing on the way adds or changes a token. A fault of
transport or of the server is answered by asking for the server again (which starts a new one where
it died) and sending what was in flight once more; a request that the server refuses is an error.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import httpx

from align.errors import ServingError
from align.serving import is_loopback, served_name
from align.stage import ModelServers

KeyT = TypeVar("KeyT")

#: Stop texts that an OpenAI-compatible endpoint takes in one request.
MAX_STOPS = 4
_RESENDS = 3
_BACKOFF_S = 0.5
#: A request may wait behind many others, so this guards against a hung server alone.
_TIMEOUT = httpx.Timeout(connect=10.0, read=900.0, write=60.0, pool=None)


@dataclass(frozen=True)
class Sampler:
    """How an answer is drawn.

    Attributes:
        temperature: 0 is greedy.
        top_p: Share of the probability mass that is kept.
        max_tokens: Most tokens of an answer; the model's context may end it sooner.
        stop_token_ids: Tokens that end an answer, beside the model's own end of text.
        stop: Texts that end an answer, `MAX_STOPS` at the most; they are not in its text.

    Raises:
        ValueError: There are more.
    """

    temperature: float
    top_p: float
    max_tokens: int
    stop_token_ids: tuple[int, ...]
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks the number of stops."""
        if len(self.stop) > MAX_STOPS:
            raise ValueError(f"{len(self.stop)} stops; an endpoint takes {MAX_STOPS} at the most")


@dataclass(frozen=True)
class Request(Generic[KeyT]):
    """One prompt as token ids, how it is answered, and whatever the caller knows it by."""

    key: KeyT
    prompt_ids: Sequence[int]
    sampler: Sampler
    seed: int


@dataclass(frozen=True)
class Completion:
    """An answer as the server gave it.

    Attributes:
        text: The raw text, special tokens included, without the token that ended it.
        token_ids: All generated tokens, with the one that ended the answer.
        finish_reason: `stop` or `length`.
        stop_reason: The token id or the text that ended it; None for the model's own end of text.
        sum_logprob: Sum of the tokens' log-probs in nats, before temperature.
    """

    text: str
    token_ids: list[int]
    finish_reason: str
    stop_reason: str | None
    sum_logprob: float


@dataclass(frozen=True)
class ServedModel:
    """Who answers at a URL."""

    url: str
    name: str
    max_model_len: int
    engine: str


def clean_text(text: str) -> str:
    """Returns the text with U+FFFD for lone surrogates, which no table and no hash can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def look_up(servers: ModelServers, folder: Path) -> ServedModel:
    """Has a server of the checkpoint started where none runs, and asks what it serves, and how.

    Raises:
        CheckpointError: The folder can't be served as it is.
        ServingError: Nothing answers, or it serves several models and none is the folder's.
    """
    url = servers.model(folder)
    try:
        with httpx.Client(timeout=30.0, trust_env=not is_loopback(url)) as client:
            models = _json(client.get(f"{url}/models"))["data"]
            version = client.get(url.removesuffix("/v1") + "/version")
    except httpx.TransportError as error:
        raise ServingError(f"nothing answers at {url}: {error}") from error
    named = [model for model in models if model["id"] == served_name(folder)]
    chosen = named or models
    if len(chosen) != 1:
        names = ", ".join(model["id"] for model in models) or "none"
        raise ServingError(f"{url} serves several models or none ({names}): one was expected")
    if (length := chosen[0].get("max_model_len")) is None:
        raise ServingError(f"{url} does not say how long its context is: it is no vLLM server")
    engine = f"vllm {version.json()['version']}" if version.status_code == 200 else "unknown"
    parts = [engine, servers.dtype] if servers.dtype else [engine]
    return ServedModel(url, chosen[0]["id"], length, " ".join(parts))


def complete(
    servers: ModelServers,
    folder: Path,
    requests: Iterable[Request[KeyT]],
    *,
    concurrency: int,
    done: Callable[[Request[KeyT], Completion, ServedModel], None],
) -> None:
    """Sends all requests and hands each answer to `done` as soon as it is there.

    Args:
        servers: Where a server of the model comes from, again after a fault.
        folder: The checkpoint.
        requests: Taken one by one, as there is room.
        concurrency: Requests in flight.
        done: Called with each answer; an error in it ends everything.

    Raises:
        ServingError: A request was refused, or failed after all resends.
    """
    job = _Job(iter(requests), concurrency, done)
    while not job.finished:
        # Outside the event loop, so that Ctrl-C ends a server's start at once.
        server = look_up(servers, folder)
        asyncio.run(job.run(server))


class _Fault(Exception):
    """A request that got no answer, by no fault of its own."""


class _Job(Generic[KeyT]):
    def __init__(
        self,
        requests: Iterator[Request[KeyT]],
        concurrency: int,
        done: Callable[[Request[KeyT], Completion, ServedModel], None],
    ) -> None:
        self.finished = False
        self._requests = requests
        self._again: deque[tuple[Request[KeyT], int]] = deque()
        self._concurrency = concurrency
        self._done = done
        self._lost = False

    async def run(self, server: ServedModel) -> None:
        """Sends what is left, until all is answered or the server is lost."""
        self._lost = False
        limits = httpx.Limits(
            max_connections=self._concurrency, max_keepalive_connections=self._concurrency
        )
        outside = not is_loopback(server.url)
        async with httpx.AsyncClient(timeout=_TIMEOUT, limits=limits, trust_env=outside) as client:
            workers = [
                asyncio.create_task(self._work(client, server)) for _ in range(self._concurrency)
            ]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        self.finished = not self._lost

    def _next(self) -> tuple[Request[KeyT], int] | None:
        """Returns the next request and how often it was sent again, None when nothing is left."""
        if self._again:
            return self._again.popleft()
        request = next(self._requests, None)
        return None if request is None else (request, 0)

    async def _work(self, client: httpx.AsyncClient, server: ServedModel) -> None:
        while not self._lost and (item := self._next()) is not None:
            request, resends = item
            try:
                completion = await self._send(client, server, request)
            except _Fault as fault:
                if resends == _RESENDS:
                    raise ServingError(
                        f"a request to {server.url} failed {_RESENDS + 1} times, at last by "
                        f"{fault}; finished answers are kept: look into the server's log and run "
                        "the same command again"
                    ) from fault
                self._again.append((request, resends + 1))
                await asyncio.sleep(_BACKOFF_S * 2**resends * random.uniform(0.5, 1.5))
                if not self._lost and not await _alive(client, server):
                    self._lost = True
            else:
                self._done(request, completion, server)

    async def _send(
        self, client: httpx.AsyncClient, server: ServedModel, request: Request[KeyT]
    ) -> Completion:
        payload = _payload(server.name, request)
        try:
            response = await client.post(f"{server.url}/completions", json=payload)
        except httpx.TransportError as error:
            raise _Fault(f"{type(error).__name__} {error}") from error
        if response.status_code >= 500 or response.status_code in (408, 429):
            raise _Fault(f"status {response.status_code}: {response.text[:500]}")
        return _parse(_json(response))


async def _alive(client: httpx.AsyncClient, server: ServedModel) -> bool:
    try:
        response = await client.get(f"{server.url}/models", timeout=15.0)
    except httpx.TransportError:
        return False
    return response.status_code == 200


def _payload(model: str, request: Request[Any]) -> dict[str, Any]:
    sampler = request.sampler
    return {
        "model": model,
        "prompt": list(request.prompt_ids),
        "seed": request.seed,
        "temperature": sampler.temperature,
        "top_p": sampler.top_p,
        "max_tokens": sampler.max_tokens,
        "stop_token_ids": list(sampler.stop_token_ids),
        "stop": list(sampler.stop),
        "skip_special_tokens": False,
        "return_token_ids": True,
        "logprobs": 0,  # the sampled token's own, no alternatives
        "return_tokens_as_token_ids": True,  # holds for tokens that have no text, too
    }


def _json(response: httpx.Response) -> Any:
    if response.status_code != 200:
        raise ServingError(
            f"{response.request.url} refused a request with status {response.status_code}: "
            f"{response.text[:500]}"
        )
    try:
        return response.json()
    except ValueError as error:
        raise ServingError(f"{response.request.url} answered no JSON: {error}") from error


def _parse(body: Any) -> Completion:
    choices = body.get("choices") if isinstance(body, dict) else None
    choice = choices[0] if choices else {}
    if choice.get("finish_reason") not in ("stop", "length"):
        # A server that goes down answers what was in flight with what it has so far (`abort`).
        raise _Fault(f"the answer was not finished: {choice.get('finish_reason')}")
    logprobs = (choice.get("logprobs") or {}).get("token_logprobs")
    token_ids = choice.get("token_ids")
    if logprobs is None or token_ids is None:
        raise ServingError("the server gave no token ids and log-probs: a vLLM server is needed")
    stop_reason = choice.get("stop_reason")
    return Completion(
        text=clean_text(choice["text"]),
        token_ids=token_ids,
        finish_reason=choice["finish_reason"],
        stop_reason=None if stop_reason is None else str(stop_reason),
        sum_logprob=float(sum(logprobs)),
    )
