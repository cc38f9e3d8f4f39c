"""From rubric and candidate to messages.

Threat: the candidate is written by a model that is rewarded for its score. It must not be able to
end its own block, open a turn of the chat, or stand where instructions stand. Its text therefore
comes last, in a fence that it can't guess, with whatever could act as structure made inert.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from judges.errors import JudgeError
from judges.judgement import Candidate, sha256_of
from judges.rubric import PLACEHOLDER, Rubric

Message = dict[str, str]

# What opens a special token or a turn in the chat formats in use: ChatML and Llama 3 `<|name|>`,
# DeepSeek's full-width bars, Mistral's `[INST]`, Gemma's `<start_of_turn>`, SentencePiece's `</s>`.
_SPECIAL = re.compile(
    r"<(?=[|\uff5c])"
    r"|<(?=/?(?:s|bos|eos|pad|unk|mask|start_of_turn|end_of_turn|think|tool_call|tool_response)>)"
    r"|<(?=<SYS>>|</SYS>>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS)\])",
    re.IGNORECASE,
)
_FENCE = re.compile(r"<(?=\s*/?\s*candidate)", re.IGNORECASE)


@dataclass(frozen=True)
class Prompt:
    """What is sent for one judgement.

    Attributes:
        messages: System and user message; the judge answers with its rationale.
        question: The user message that follows the rationale and asks for the label.
        sha: Hash of all of it.
    """

    messages: tuple[Message, ...]
    question: str
    sha: str

    def with_rationale(self, rationale: str) -> list[Message]:
        """Returns the messages of the label request, which continue those of the rationale's."""
        return [
            *self.messages,
            # The judge can be talked into writing a special token, so its own words pass too.
            {"role": "assistant", "content": neutralise(rationale)},
            {"role": "user", "content": self.question},
        ]


def neutralise(text: str) -> str:
    """Makes chat special tokens and fence lines in untrusted text inert by a space after the `<`.

    It only ever inserts, so no new token can come into being by taking something out. Lone
    surrogates, which no request can carry, become question marks.
    """
    text = text.encode("utf-8", "replace").decode("utf-8")
    text = _SPECIAL.sub(lambda match: match.group() + " ", text)
    return _FENCE.sub("< ", text)


def nonce(seed: int, candidate_ids: Sequence[str], view: str) -> str:
    """Returns 16 hex digits that a candidate can't know and that a rerun finds again.

    Args:
        seed: The run's seed.
        candidate_ids: Ids of the candidates in the prompt, in order.
        view: Which look at them this is (each request has its own nonce).
    """
    return sha256_of(["nonce", seed, list(candidate_ids), view])[:16]


def render(
    rubric: Rubric, candidates: Sequence[Candidate], seed: int, view: str = "as is"
) -> Prompt:
    """Renders the request for one candidate (pointwise) or an ordered pair (pairwise).

    Raises:
        JudgeError: A field's text did not get into the prompt, or there is nothing to judge.
    """
    fence = nonce(seed, [candidate.candidate_id for candidate in candidates], view)
    keys = ["candidate"] if rubric.kind == "pointwise" else ["candidate_a", "candidate_b"]
    if len(keys) != len(candidates):
        raise JudgeError(
            f"rubric {rubric.full_name} is {rubric.kind}: it judges {len(keys)} candidate(s) at a "
            f"time, not {len(candidates)}"
        )
    fields = {
        "dimensions": _dimensions(rubric),
        "scale": "\n".join(f"{entry.label}: {entry.meaning}" for entry in rubric.scale),
        "task": neutralise(candidates[0].task),
    }
    for key, candidate in zip(keys, candidates, strict=True):
        fields[key] = _fenced(key, candidate.code, fence)
    user = _fill(rubric.template, fields).strip("\n")
    for key, text in fields.items():
        if text.strip("\n") not in user:
            raise JudgeError(
                f"rubric {rubric.full_name}: the text of {key!r} is not in the rendered prompt"
            )
    messages = ({"role": "system", "content": rubric.system}, {"role": "user", "content": user})
    return Prompt(messages, rubric.question, sha256_of([messages, rubric.question]))


def _fill(template: str, fields: Mapping[str, str]) -> str:
    # One pass: what a field brings in is never looked at again, so a candidate that contains
    # `{{task}}` stays as it is.
    return PLACEHOLDER.sub(lambda match: fields[match.group(1)], template)


def _dimensions(rubric: Rubric) -> str:
    total = sum(entry.weight for entry in rubric.dimensions)
    return "\n".join(
        f"- {entry.name} ({entry.weight / total:.0%}): {entry.description}"
        for entry in rubric.dimensions
    )


def _fenced(key: str, code: str, fence: str) -> str:
    body = neutralise(code.replace(fence, "").strip("\n"))
    return f"<{key} {fence}>\n{body}\n</{key} {fence}>"
