"""Prompts in, sample rows out: the request code that sampling and evaluation share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from align.artifacts import Row, TableWriter, canonical_json, sha256_text, short_id
from align.chat import stop_token_ids, template_sha
from align.completions import Completion, Request, Sampler, ServedModel, complete, look_up
from align.sampling.extract import EXTRACTOR
from align.sampling.policy import Policy
from align.skips import Skips
from align.stage import Context


class FindCode(Protocol):
    """How the code of an answer is found; bound to its prompt."""

    def __call__(self, text: str) -> str | None:
        """Returns the code in the answer's text, None where there is none."""


@dataclass(frozen=True)
class Prompt:
    """One prompt, ready to be sent.

    Attributes:
        task_id: Whose it is.
        place: Where the task stands, for messages.
        ids: Token ids.
        messages: The conversation that the ids were rendered from; None for raw text.
        prefill: How the answer was made to begin.
        find_code: Finds the code in an answer.
        extractor: Name and version of that rule.
        stop: Texts that end an answer, beside the tokens that do.
        max_tokens: An upper bound for answers of its own; None takes the sampler's.
    """

    task_id: str
    place: str
    ids: tuple[int, ...]
    messages: Sequence[Mapping[str, str]] | None
    find_code: FindCode
    prefill: str = ""
    extractor: str = EXTRACTOR
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None

    def sampler(self, general: Sampler) -> Sampler:
        """Returns the sampler that this prompt is answered by."""
        most = min(general.max_tokens, self.max_tokens or general.max_tokens)
        return replace(general, max_tokens=most, stop=self.stop)


@dataclass(frozen=True)
class _Key:
    sample_id: str
    prompt: Prompt
    index: int


def answer_seed(run_seed: int, instance: str, task_id: str, index: int) -> int:
    """Returns a sample's own seed in 31 bits; hashed, so that no two samples share a stream."""
    digest = sha256_text(canonical_json([run_seed, instance, task_id, index]))
    return int(digest[:8], 16) & 0x7FFFFFFF


def policy_sampler(policy: Policy, *, temperature: float, top_p: float, max_tokens: int) -> Sampler:
    """Returns a sampler that stops at the tokens which end this policy's answers."""
    stops = tuple(stop_token_ids(policy.tokenizer))
    return Sampler(temperature, top_p, max_tokens, stops)


def sample(
    prompts: Sequence[Prompt],
    n: int,
    *,
    policy: Policy,
    samplers: Sequence[Sampler],
    writer: TableWriter,
    context: Context,
    instance: str,
    concurrency: int,
    skips: Skips,
    title: str = "sample",
    drawn: Callable[[Row], None] | None = None,
) -> None:
    """Draws `n` answers to each prompt and writes one row each; those written before stay.

    A prompt's answers take the samplers in turn. `drawn` is told of each row once it is written.
    Prompts that leave no room for an answer in the context are skipped and counted as
    `prompt_too_long`.

    Raises:
        ServingError: The server can't be kept alive, or refuses a request.
    """
    todo = [
        request
        for prompt in prompts
        for request in _requests(prompt, n, policy, samplers, context.seed, instance)
        if request.key.sample_id not in writer.done
    ]
    if not todo:
        return
    room = look_up(context.servers, policy.folder).max_model_len
    for prompt in prompts:
        if len(prompt.ids) >= room:
            reason = (
                f"task {prompt.task_id}: its prompt of {len(prompt.ids)} tokens leaves no room in "
                f"the context of {room}"
            )
            skips.add("prompt_too_long", prompt.place, reason)
    fitting = [request for request in todo if len(request.prompt_ids) < room]
    sha = template_sha(policy.tokenizer)
    with context.progress(title, n * len(prompts)) as bar:
        bar.advance(n * len(prompts) - len(fitting))

        def write(request: Request[_Key], answer: Completion, served: ServedModel) -> None:
            row = _row(request, answer, served, policy, sha)
            writer.add(row)
            bar.advance()
            if drawn is not None:
                drawn(row)

        complete(context.servers, policy.folder, fitting, concurrency=concurrency, done=write)


def _requests(
    prompt: Prompt,
    n: int,
    policy: Policy,
    samplers: Sequence[Sampler],
    run_seed: int,
    instance: str,
) -> Iterator[Request[_Key]]:
    prompt_sha = sha256_text(canonical_json(prompt.ids))
    for index in range(n):
        sampler = prompt.sampler(samplers[index % len(samplers)])
        seed = answer_seed(run_seed, instance, prompt.task_id, index)
        drawn = _sampler_row(sampler, seed)
        sample_id = short_id(
            "s", prompt.task_id, policy.weights_sha, prompt_sha, drawn, instance, index
        )
        yield Request(_Key(sample_id, prompt, index), prompt.ids, sampler, seed)


def _sampler_row(sampler: Sampler, seed: int) -> dict[str, Any]:
    return {
        "temperature": sampler.temperature,
        "top_p": sampler.top_p,
        "max_tokens": sampler.max_tokens,
        "stop": list(sampler.stop),
        "seed": seed,
    }


def _row(
    request: Request[_Key],
    answer: Completion,
    served: ServedModel,
    policy: Policy,
    sha: str,
) -> Row:
    key = request.key
    prompt = key.prompt
    return {
        "sample_id": key.sample_id,
        "task_id": prompt.task_id,
        "sample_index": key.index,
        "messages": None if prompt.messages is None else [dict(m) for m in prompt.messages],
        "prefill": prompt.prefill,
        "template_sha": None if prompt.messages is None else sha,
        "text": answer.text,
        "token_ids": answer.token_ids,
        "code": prompt.find_code(answer.text),
        "extractor": prompt.extractor,
        "finish_reason": answer.finish_reason,
        "stop_reason": answer.stop_reason,
        "n_tokens": len(answer.token_ids),
        "sum_logprob": answer.sum_logprob,
        "policy": policy.row(),
        "sampler": _sampler_row(request.sampler, request.seed) | {"engine": served.engine},
    }
