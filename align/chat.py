"""Messages to token ids and loss mask: the one place that tokenises chat.

The format is ChatML, as in Qwen2.5. Text between the format's own tokens is tokenised so that it
can't turn into a special token, whatever it says. What is trained is what a model produces when it
is sampled: the ids of a row begin with the very ids of the prompt, and the assistant's turn is
tokenised apart from its header, because a served model continues after the header's newline.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, cast

from align.artifacts import sha256_text
from align.errors import InputError, TrainingError

IGNORED = -100
"""Label of a token that is not trained (the value that torch's cross entropy leaves out)."""

DEFAULT_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."

CHAT_TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' %}"
    "{{- '<|im_start|>system\\n" + DEFAULT_SYSTEM + "<|im_end|>\\n' }}"
    "{%- endif %}"
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""Jinja text that writes what Qwen2.5's own template writes for messages without tools."""

TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
TEXT_END = "<|endoftext|>"
FIM_STOPS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>")

Message = Mapping[str, str]


class Tokenizer(Protocol):
    """What is used of a Hugging Face tokenizer."""

    chat_template: Any

    def __hash__(self) -> int:
        """Tokenizers are told apart by identity."""

    def __call__(self, text: str, *, add_special_tokens: bool) -> Mapping[str, Any]:
        """Tokenises a text."""

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """Renders messages."""

    def convert_tokens_to_ids(self, tokens: str) -> Any:
        """Returns the id of one token."""

    @property
    def added_tokens_encoder(self) -> Mapping[str, int]:
        """Ids of the tokens that are matched before the text is cut into pieces."""


@dataclass(frozen=True)
class Encoded:
    """One row for a trainer.

    Attributes:
        input_ids: Token ids.
        labels: The same ids where the token is trained, `IGNORED` elsewhere.
    """

    input_ids: list[int]
    labels: list[int]


def encode_text(tokenizer: Tokenizer, text: str) -> list[int]:
    """Tokenises plain text; a special token's name in it stays text.

    Names are cut after their first character and the parts are tokenised alone, which also holds
    for added tokens that their tokenizer does not call special (Qwen's FIM tokens).
    """
    pattern = _added_tokens(tokenizer)
    ids: list[int] = []
    start = 0
    match = pattern.search(text)
    while match:
        cut = match.start() + 1
        ids += tokenizer(text[start:cut], add_special_tokens=False)["input_ids"]
        start = cut
        match = pattern.search(text, start)
    ids += tokenizer(text[start:], add_special_tokens=False)["input_ids"]
    return ids


@lru_cache(maxsize=8)
def _added_tokens(tokenizer: Tokenizer) -> re.Pattern[str]:
    names = sorted(tokenizer.added_tokens_encoder, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names)) or r"(?!)")


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Returns the id of a special token.

    Raises:
        TrainingError: The tokenizer has no such token.
    """
    found = tokenizer.added_tokens_encoder.get(token)
    if found is None:
        raise TrainingError(
            f"the tokenizer has no token {token}: take a model of the Qwen2.5 family, or another "
            "one whose tokenizer knows ChatML and the FIM tokens"
        )
    return found


def stop_token_ids(tokenizer: Tokenizer) -> list[int]:
    """Returns the ids that end an answer.

    They are `<|im_end|>`, `<|endoftext|>`, and the FIM tokens that no completion holds, as far as
    the tokenizer has them.
    """
    known = tokenizer.added_tokens_encoder
    return [known[name] for name in (TURN_END, TEXT_END, *FIM_STOPS) if name in known]


def template_sha(tokenizer: Tokenizer) -> str:
    """Returns the hash of the chat template's text."""
    return sha256_text(str(tokenizer.chat_template))


def encode_prompt(
    tokenizer: Tokenizer, messages: Sequence[Message], prefill: str = ""
) -> list[int]:
    """Returns the ids that stand before the model's answer.

    Args:
        tokenizer: A tokenizer with a ChatML template.
        messages: The conversation so far, the user's turn last.
        prefill: How the answer is made to begin.

    Raises:
        InputError: The messages are no conversation.
        TrainingError: The tokenizer's template is not ChatML.
    """
    ids, _ = _encode_turns(tokenizer, _checked(messages))
    ids += _header(tokenizer, "assistant")
    return ids + (encode_text(tokenizer, prefill) if prefill else [])


def encode_answer(tokenizer: Tokenizer, content: str) -> list[int]:
    """Returns the ids of an assistant's turn that ended by itself: content and `<|im_end|>`."""
    return [*encode_text(tokenizer, content), token_id(tokenizer, TURN_END)]


def encode_chat(tokenizer: Tokenizer, messages: Sequence[Message]) -> Encoded:
    """Returns a conversation as ids and labels; every assistant's turn is trained.

    A turn's labels are its content and `<|im_end|>`; its header and the newline after it are not
    trained. The ids are those of `apply_chat_template`, except where a content holds the name of a
    special token or an assistant's content begins with blank lines.

    Args:
        tokenizer: A tokenizer with a ChatML template.
        messages: The conversation, the assistant's turn last.

    Raises:
        InputError: The messages are no conversation, or nothing in them would be trained.
        TrainingError: The tokenizer's template is not ChatML.
    """
    checked = _checked(messages)
    if checked[-1][0] != "assistant":
        raise InputError("the last message is not the assistant's: there is no answer to train")
    if not any(content for role, content in checked if role == "assistant"):
        raise InputError("every assistant message is empty: there is no answer to train")
    ids, labels = _encode_turns(tokenizer, checked)
    return Encoded(ids, labels)


def _checked(messages: Sequence[Message]) -> list[tuple[str, str]]:
    if not messages:
        raise InputError("a conversation needs at least one message")
    turns = []
    for index, message in enumerate(messages):
        role, content = message.get("role"), message.get("content")
        if role not in ("system", "user", "assistant") or not isinstance(content, str):
            raise InputError(
                f"message {index} needs a role (system, user or assistant) and a text as content, "
                f"not role {role!r} and {type(content).__name__}"
            )
        if role == "system" and index:
            raise InputError(f"message {index} is a system message; only the first one may be")
        turns.append((role, content))
    return turns


def _encode_turns(
    tokenizer: Tokenizer, turns: list[tuple[str, str]]
) -> tuple[list[int], list[int]]:
    default = _default_system(tokenizer, str(tokenizer.chat_template))
    if turns[0][0] != "system" and default is not None:
        turns = [("system", default), *turns]
    return _chatml(tokenizer, turns)


def _chatml(tokenizer: Tokenizer, turns: list[tuple[str, str]]) -> tuple[list[int], list[int]]:
    ids: list[int] = []
    labels: list[int] = []
    newline = encode_text(tokenizer, "\n")
    for role, content in turns:
        if role == "assistant":
            header = _header(tokenizer, role)
            answer = encode_answer(tokenizer, content)
            ids += [*header, *answer, *newline]
            labels += [IGNORED] * len(header) + answer + [IGNORED] * len(newline)
        else:
            turn = [
                token_id(tokenizer, TURN_START),
                *encode_text(tokenizer, f"{role}\n{content}"),
                token_id(tokenizer, TURN_END),
                *newline,
            ]
            ids += turn
            labels += [IGNORED] * len(turn)
    return ids, labels


def _header(tokenizer: Tokenizer, role: str) -> list[int]:
    return [token_id(tokenizer, TURN_START), *encode_text(tokenizer, f"{role}\n")]


@lru_cache(maxsize=8)
def _default_system(tokenizer: Tokenizer, template: str) -> str | None:
    """Probes the template: is it ChatML, and which system prompt does it add by itself?"""
    del template  # part of the key: another template is another answer
    if not tokenizer.chat_template:
        raise TrainingError("the tokenizer has no chat template; give it align.chat.CHAT_TEMPLATE")
    user = {"role": "user", "content": "  two\n\nlines "}
    probe = [
        {"role": "system", "content": "Be brief."},
        user,
        {"role": "assistant", "content": "x = 1\n"},
        user,
    ]
    turns = [(message["role"], message["content"]) for message in probe]
    ids = _chatml(tokenizer, turns)[0] + _header(tokenizer, "assistant")
    text = _chatml_text(turns) + f"{TURN_START}assistant\n"
    rendered = tokenizer.apply_chat_template(probe, tokenize=False, add_generation_prompt=True)
    if rendered != text:
        raise TrainingError(
            f"the tokenizer's chat template is not ChatML: it wrote {rendered!r} where {text!r} "
            "was expected; use a checkpoint with Qwen2.5's template"
        )
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    if whole != ids:
        raise TrainingError(
            "the tokenizer does not cut text at ChatML's tokens, so that masks can't be placed; "
            "use a tokenizer of the Qwen2.5 family"
        )
    bare = cast(str, tokenizer.apply_chat_template([user], tokenize=False))
    plain = _chatml_text([("user", user["content"])])
    if bare == plain:
        return None
    start, end = f"{TURN_START}system\n", f"{TURN_END}\n{plain}"
    if not (bare.startswith(start) and bare.endswith(end)):
        raise TrainingError(f"the chat template adds more than a system prompt: {bare!r}")
    return bare[len(start) : -len(end)]


def _chatml_text(turns: list[tuple[str, str]]) -> str:
    return "".join(f"{TURN_START}{role}\n{content}{TURN_END}\n" for role, content in turns)
