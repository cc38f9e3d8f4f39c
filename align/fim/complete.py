"""Fills a gap with a model: raw FIM ids in, the middle out, cut where the gap ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import httpx

from align.chat import Tokenizer
from align.errors import ServingError
from align.fim.formats import RepoContext, encode_fim_prompt, fim_stop_ids
from align.serving import is_loopback

_TELLING = 8
"""A copy of what follows the gap is one from so many characters on."""
_FENCE = re.compile(r"^[ \t]*```[\w+#-]*[ \t]*\n", re.MULTILINE)
_NEUTRAL = {"top_p": 1.0, "repetition_penalty": 1.0}
"""A checkpoint's own sampling settings are made for chats."""
_TIMEOUT = httpx.Timeout(300.0, connect=10.0)


def complete(
    model: str | Path,
    prefix: str,
    suffix: str,
    context: RepoContext | None = None,
    *,
    endpoint: str | None = None,
    max_tokens: int = 256,
    temperature: float = 0.0,
) -> str:
    """Returns what a model puts between a prefix and a suffix.

    The raw format is used, which a chat model answers without a fence or a sentence if it was kept
    in training; where it was not, what is outside the gap is cut off (see `cut_at_boundaries`).

    Args:
        model: Hub id or folder of the checkpoint; of an endpoint's, too, for its tokenizer.
        prefix: Text before the gap.
        suffix: Text behind it.
        context: Other files of the repository.
        endpoint: URL (ending in `/v1`) of a server of this model that takes token ids, such as
            vLLM's; None computes here.
        max_tokens: Most tokens of the answer.
        temperature: 0 is greedy.

    Raises:
        CheckpointError: The model is not to be had.
        TrainingError: The model has no FIM tokens.
        InputError: A context is given, but the model's family has no repository format.
        ServingError: The endpoint does not answer as it should.
    """
    from transformers import AutoTokenizer

    from align.checkpoint import resolve_model

    folder = resolve_model(str(model))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = encode_fim_prompt(cast(Tokenizer, tokenizer), prefix, suffix, context)
    stops = fim_stop_ids(cast(Tokenizer, tokenizer))
    if endpoint is None:
        answer = _generate(folder, ids, stops, max_tokens, temperature)
    else:
        answer = _ask(endpoint.rstrip("/"), ids, stops, max_tokens, temperature)
    kept = [token for token in answer if token not in stops]
    return cut_at_boundaries(str(tokenizer.decode(kept)), prefix, suffix)


def cut_at_boundaries(text: str, prefix: str, suffix: str) -> str:
    """Returns an answer without what is not of the gap.

    Of an answer that opens a Markdown fence, at its start or behind a sentence, the fence's inside
    is taken; another answer ends where a fence begins. A repetition of the prefix's last line at
    the start goes, too, and everything from a copy of the suffix's first lines on.

    Args:
        text: The answer as produced.
        prefix: Text before the gap.
        suffix: Text behind it.
    """
    opening = _FENCE.search(text)
    if opening and _leads_to_code(text[: opening.start()]):
        text = text[opening.end() :]
        last = prefix.rpartition("\n")[2]
        if last.strip() and text.startswith(last):
            text = text[len(last) :]
    text = _before(text, "\n```", keep=1).removesuffix("```")
    copy = _copy_of(suffix, text)
    if copy is not None:
        text = text[:copy]
        if suffix.startswith("\n"):
            text = text.rstrip("\n")
    return text


def _leads_to_code(text: str) -> bool:
    """Says whether what stands before a fence leads to it: nothing, or sentences."""
    words = text.split()
    if not words:
        return True
    first = words[0].strip("\"'*,:!.").lower()
    begins = text.lstrip()[0].isupper() or first in ("here", "here's", "sure", "this", "the", "to")
    return begins and len(words) > 1 and words[-1].rstrip("*").endswith((":", ".", "!"))


def _copy_of(suffix: str, text: str) -> int | None:
    """Returns where in a text a copy of the suffix begins, as far as the text goes on.

    One equal line may well belong in a gap; two are a copy, or one where the suffix has no more.
    """
    ahead = [line.rstrip() for line in suffix.split("\n") if line.strip()]
    if not ahead or len(ahead[0].strip()) < _TELLING:
        return None
    lines = text.split("\n")
    place = 0
    for number, line in enumerate(lines):
        # The suffix may go on with the line in which the gap is: then its copy does, too.
        begins = line.rstrip() == ahead[0]
        inside = line.rstrip().endswith(ahead[0]) and not ahead[0][0].isspace()
        if begins or (inside and not suffix.startswith("\n") and line.strip() != ahead[0]):
            behind = [each.rstrip() for each in lines[number + 1 :] if each.strip()]
            pairs = list(zip(behind, ahead[1:], strict=False))
            ends = len(pairs) == len(behind) and not text.endswith("\n")
            cut_off = bool(pairs) and ends and ahead[len(pairs)].startswith(pairs[-1][0])
            same = all(one == other for one, other in (pairs[:-1] if cut_off else pairs))
            if same and (pairs or len(ahead) == 1):
                return place + (0 if begins else line.rindex(ahead[0]))
        place += len(line) + 1
    return None


def _before(text: str, mark: str, keep: int) -> str:
    where = text.find(mark)
    return text if where < 0 else text[: where + keep]


def _generate(
    folder: Path, ids: list[int], stops: Sequence[int], max_tokens: int, temperature: float
) -> list[int]:
    import torch
    from transformers import AutoModelForCausalLM

    from align.precision import compute_dtype

    # The class is known when the folder is read, so its type says nothing here.
    network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=compute_dtype("auto"))
    if torch.cuda.is_available():
        network = network.cuda()
    inputs = torch.tensor([ids], device=network.device)
    sampling = {"do_sample": True, "temperature": temperature} if temperature else {}
    with torch.no_grad():
        output = network.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=max_tokens,
            eos_token_id=list(stops),
            **{"do_sample": False, **sampling, **_NEUTRAL, "top_k": 0},
        )
    return [int(token) for token in output[0, len(ids) :]]


def _ask(
    url: str, ids: list[int], stops: Sequence[int], max_tokens: int, temperature: float
) -> list[int]:
    try:
        with httpx.Client(timeout=_TIMEOUT, trust_env=not is_loopback(url)) as client:
            models = client.get(f"{url}/models").raise_for_status().json()["data"]
            body = {
                "model": models[0]["id"],
                "prompt": ids,
                "max_tokens": max_tokens,
                "temperature": temperature,
                **_NEUTRAL,
                "stop_token_ids": list(stops),
                "skip_special_tokens": False,
                "return_token_ids": True,
            }
            answer = client.post(f"{url}/completions", json=body).raise_for_status().json()
            return [int(token) for token in answer["choices"][0]["token_ids"]]
    except (httpx.HTTPError, KeyError, IndexError, TypeError, ValueError) as error:
        raise ServingError(
            f"{url} gave no completion ({type(error).__name__}: {error}): a server that takes and "
            "returns token ids is needed, such as vLLM's"
        ) from error
