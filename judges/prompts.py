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
# DeepSeek's full-width bars, Mistral's `[INST]`, Gemma's `<start_of_turn>` and `<turn|>`,
# SentencePiece's `</s>`, Seed's `<seed:eos>` and its brackets.
_SPECIAL = re.compile(
    r"<(?=[|\uff5c])"
    r"|<(?=/?(?:s|bos|eos|pad|unk|mask|start_of_turn|end_of_turn|think|tool_call|tool_response)>)"
    r"|<(?=<SYS>>|</SYS>>)"
    r"|<(?=/?seed:|/?[a-z_]+\|>)|[<\u2039](?=\[[^\]\s]{1,40}\]>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS)\])",
    re.IGNORECASE,
)
_FENCE = re.compile(r"<(?=\s*/?\s*candidate)", re.IGNORECASE)
# What other judges read a verdict from, and tags that would stand for a speaker or a grade.
_VERDICT = re.compile(
    r"\[(?=\[[A-Za-z0-9]{1,6}\]\]|RESULT\])"
    r"|<(?=/?\s*(?:verdict|score|grade|rating|answer|result|system|user|assistant|reviewer)\s*>)"
    r"|\\(?=boxed\{)",
    re.IGNORECASE,
)
# Characters that show as nothing or turn the direction of what follows: text that only the model
# sees. Not removed but shown, since taking out could bring other characters together.
_UNSEEN = re.compile(
    "[\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff"
    "\U000e0000-\U000e007f\U000e0100-\U000e01ef]"
)
_SHOWN = "\ufffd"


@dataclass(frozen=True)
class Prompt:
    """What is sent for one judgement.

    Attributes:
        messages: System and user message; the judge answers with its rationale.
        questions: By name the user messages that may follow the rationale, each for one label.
        sha: Hash of all of it.
    """

    messages: tuple[Message, ...]
    questions: Mapping[str, str]
    sha: str

    def with_rationale(self, rationale: str, question: str) -> list[Message]:
        """Returns the messages of a label request, which continue those of the rationale's."""
        return [
            *self.messages,
            # The judge can be talked into writing a special token, so its own words pass too.
            {"role": "assistant", "content": neutralise(rationale)},
            {"role": "user", "content": self.questions[question]},
        ]


def neutralise(text: str) -> str:
    """Makes what could act as structure in untrusted text inert.

    Chat special tokens, fence lines, verdict marks and tags get a space behind their first
    character; characters that can't be seen become one that can. Nothing is taken out, so no new
    token can come into being by it. Lone surrogates, which no request can carry, become question
    marks.
    """
    text = text.encode("utf-8", "replace").decode("utf-8")
    text = _UNSEEN.sub(_SHOWN, text)
    for pattern in (_SPECIAL, _VERDICT):
        text = pattern.sub(lambda match: match.group() + " ", text)
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
    rubric: Rubric,
    candidates: Sequence[Candidate],
    seed: int,
    view: str = "as is",
    *,
    guarded: bool = True,
) -> Prompt:
    """Renders the request for one candidate, or for an ordered pair where the rubric is pairwise.

    Args:
        rubric: What is asked.
        candidates: Of one task.
        seed: The run's seed.
        view: Which look at them this is.
        guarded: False puts the candidate in a plain block, as it is: to measure what the guard is
            worth, and for nothing else.

    Raises:
        JudgeError: A field's text did not get into the prompt, or there is nothing to judge.
    """
    fence = nonce(seed, [candidate.candidate_id for candidate in candidates], view)
    keys = ["candidate_a", "candidate_b"] if rubric.kind == "pairwise" else ["candidate"]
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
    for key in rubric.needs:
        if not (text := getattr(candidates[0], key)):
            raise JudgeError(
                f"rubric {rubric.full_name} shows the judge each candidate's {key}, and candidate "
                f"{candidates[0].candidate_id!r} has none"
            )
        fields[key] = neutralise(text)
    for key, candidate in zip(keys, candidates, strict=True):
        fields[key] = _fenced(key, candidate.code, fence) if guarded else _plain(candidate.code)
    user = _fill(rubric.template, fields).strip("\n")
    for key in PLACEHOLDER.findall(rubric.template):
        if fields[key].strip("\n") not in user:
            raise JudgeError(
                f"rubric {rubric.full_name}: the text of {key!r} is not in the rendered prompt"
            )
    messages = ({"role": "system", "content": rubric.system}, {"role": "user", "content": user})
    questions = rubric.questions
    return Prompt(messages, questions, sha256_of([messages, questions]))


def _fill(template: str, fields: Mapping[str, str]) -> str:
    # One pass: what a field brings in is never looked at again, so a candidate that contains
    # `{{task}}` stays as it is.
    return PLACEHOLDER.sub(lambda match: fields[match.group(1)], template)


def _dimensions(rubric: Rubric) -> str:
    if rubric.kind == "checklist":
        return "\n".join(f"- {entry.description}" for entry in rubric.dimensions)
    total = sum(entry.weight for entry in rubric.dimensions)
    return "\n".join(
        f"- {entry.name} ({entry.weight / total:.0%}): {entry.description}"
        for entry in rubric.dimensions
    )


def _plain(code: str) -> str:
    return f"```\n{code.encode('utf-8', 'replace').decode().strip()}\n```"


def _fenced(key: str, code: str, fence: str) -> str:
    body = neutralise(code.replace(fence, "").strip("\n"))
    return f"<{key} {fence}>\n{body}\n</{key} {fence}>"
