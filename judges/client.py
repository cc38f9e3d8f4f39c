"""An asynchronous client for one model behind an OpenAI-compatible URL.

It returns what the server said or raises what went wrong; it never stands in with a value. Faults
of the transport (no connection, a hang-up, a time-out, 429, 5xx) are tried again with growing,
jittered pauses. An answer that came and is wrong is not: asking again until it fits would select
answers.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from judges.cache import AnswerCache
from judges.errors import JudgeError, RequestFault
from judges.judgement import Status, Usage, sha256_of
from judges.prompts import Message

ATTEMPTS = 4
BACKOFF_S = 0.5
_RETRIED_STATUS = {408, 429}
_SETUP_STATUS = {401, 403, 404, 405}
"""A wrong key, model or URL: every other request would fail alike, so the run has to hear of it."""


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _TopLogprob(_Reply):
    token: str
    logprob: float


class _TokenLogprobs(_Reply):
    top_logprobs: list[_TopLogprob] = Field(default_factory=list)


class _Logprobs(_Reply):
    content: list[_TokenLogprobs] | None = None


ReplyT = TypeVar("ReplyT", bound=_Reply)


class _Message(_Reply):
    content: str | None = None
    refusal: str | None = None


class _Choice(_Reply):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Bill(_Reply):
    prompt_tokens: int
    completion_tokens: int


class _ChatReply(_Reply):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Bill


class _TokenizeReply(_Reply):
    tokens: list[int]


@dataclass(frozen=True)
class Completion:
    """One answer of the model.

    Attributes:
        text: What it wrote; may be empty.
        finish_reason: As the server says (`stop`, `length`, `content_filter` ...).
        refusal: The server's own refusal field, empty if there is none.
        first_logprobs: Log-probabilities at the first position by token, where asked for.
        usage: Tokens of this request.
    """

    text: str
    finish_reason: str
    refusal: str
    first_logprobs: Mapping[str, float]
    usage: Usage


def server_root(base_url: str) -> str:
    """Returns the URL without `/v1`, where vLLM has its own endpoints too.

    Raises:
        JudgeError: It is not an http(s) URL.
    """
    if not base_url.startswith(("http://", "https://")):
        raise JudgeError(
            f"judge URL {base_url!r} is not an http(s) URL; give the server's, such as "
            "http://127.0.0.1:8000/v1"
        )
    return base_url.rstrip("/").removesuffix("/v1")


class ChatClient:
    """Sends requests to one model of one server, at most `concurrency` at a time.

    Belongs to the event loop in which it is first used.

    Args:
        root: The server's URL, as `server_root` gives it.
        model: Name of the served model.
        concurrency: Requests in flight at once.
        timeout_s: Seconds for one attempt.
        api_key: Sent as a bearer token.
        cache: Where completions are looked up, and kept when they are whole.
        identity: What the model is, beyond its name; kept answers belong to it.
    """

    def __init__(
        self,
        root: str,
        model: str,
        *,
        concurrency: int,
        timeout_s: float,
        api_key: str | None = None,
        cache: AnswerCache | None = None,
        identity: str = "",
    ) -> None:
        """Sets the client up; nothing is sent yet."""
        self.model = model
        self.spent = Usage()
        self._identity = identity
        self._cache = cache
        self._root = root
        self._slots = asyncio.Semaphore(concurrency)
        self._alike: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(timeout_s),
            limits=httpx.Limits(max_connections=concurrency),
            # A server of this machine is not behind the environment's proxy.
            trust_env=httpx.URL(root).host not in ("127.0.0.1", "localhost", "::1"),
        )

    async def chat(self, messages: Sequence[Message], **fields: Any) -> Completion:
        """Asks for one completion.

        Args:
            messages: The conversation.
            **fields: Further fields of the request body.

        Raises:
            RequestFault: No usable answer came.
            JudgeError: The server rejects the key, the model or the URL.
        """
        body = {"model": self.model, "messages": list(messages), **fields}
        if self._cache is None:
            reply = await self._ask(body)
        else:
            named = {**body, "model": self._identity} if self._identity else body
            request = sha256_of(named)
            # Of requests that are alike the first asks, and the others find its answer kept.
            async with self._alike.setdefault(request, asyncio.Lock()):
                reply = await self._known(self._cache, request, body)
        choice = reply.choices[0]
        tokens = choice.logprobs.content if choice.logprobs else None
        first = tokens[0].top_logprobs if tokens else []
        return Completion(
            text=choice.message.content or "",
            finish_reason=choice.finish_reason or "",
            refusal=choice.message.refusal or "",
            first_logprobs={entry.token: entry.logprob for entry in first},
            usage=Usage(reply.usage.prompt_tokens, reply.usage.completion_tokens, 1),
        )

    async def _ask(self, body: dict[str, Any]) -> _ChatReply:
        reply = _parse(_ChatReply, await self._post("/v1/chat/completions", body))
        self.spent += Usage(reply.usage.prompt_tokens, reply.usage.completion_tokens, 1)
        return reply

    async def _known(self, cache: AnswerCache, request: str, body: dict[str, Any]) -> _ChatReply:
        known = cache.get(request)
        if known is not None:
            return _parse(_ChatReply, known.encode())
        reply = await self._ask(body)
        # Any other end (a filter, a server that is going down) may be another one next time.
        if reply.choices[0].finish_reason in ("stop", "length"):
            cache.put(request, reply.model_dump_json())
        return reply

    async def token_ids(self, text: str) -> list[int]:
        """Returns the ids of `text` in the model's own tokenizer, without special tokens.

        Raises:
            RequestFault: No usable answer came.
            JudgeError: The server has no `/tokenize` (vLLM has).
        """
        body = {"model": self.model, "prompt": text, "add_special_tokens": False}
        return _parse(_TokenizeReply, await self._post("/tokenize", body)).tokens

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> ChatClient:
        """Returns the client itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the connections."""
        await self.aclose()

    async def _post(self, path: str, body: dict[str, Any]) -> bytes:
        fault = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(BACKOFF_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
            try:
                async with self._slots:
                    answer = await self._http.post(self._root + path, json=body)
            except httpx.TransportError as error:
                fault = f"{type(error).__name__} {error}".rstrip()
                continue
            if answer.is_success:
                return answer.content
            moved = f" to {answer.headers.get('Location')}" if answer.is_redirect else ""
            fault = f"HTTP {answer.status_code}{moved}: {answer.text[:300]}"
            if answer.status_code in _SETUP_STATUS or answer.status_code < 400:
                raise JudgeError(
                    f"judge {self.model} at {self._root}{path}: {fault}; check the URL, the "
                    "model's name and the key"
                )
            if answer.status_code < 500 and answer.status_code not in _RETRIED_STATUS:
                raise RequestFault(_status_of_rejection(answer), f"{path}: {fault}")
        raise RequestFault(
            Status.INFRA_ERROR, f"{self._root}{path}: {fault} (after {ATTEMPTS} attempts)"
        )


def _status_of_rejection(answer: httpx.Response) -> Status:
    # OpenAI's code, and the words that it and vLLM share, for a prompt longer than the context.
    if "context_length_exceeded" in answer.text or "maximum context length" in answer.text:
        return Status.TRUNCATED
    return Status.INFRA_ERROR


def _parse(model: type[ReplyT], content: bytes) -> ReplyT:
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise RequestFault(
            Status.PARSE_ERROR, f"the server's answer is not a {model.__name__[1:]}: {error}"
        ) from error
