"""Messages to token ids and loss mask: the one place that tokenises chat.

The format is the tokenizer's own template; ours, ChatML as in Qwen2.5, is for base models without
one. Text between the format's own tokens is tokenised so that it can't turn into a special token,
whatever it says. What is trained is what a model produces when it is sampled: the ids of a row
begin with the very ids of the prompt, and the assistant's turn is tokenised apart from its header,
because a served model continues after the header's newline.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol, cast

from align.artifacts import sha256_text
from align.errors import InputError, TrainingError
from align.row_checks import text_fault
from align.templates import between, template_of

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

QWEN_SCRIPT_SYSTEM = "You are a helpful assistant."
"""The system prompt that Qwen2.5-Coder's published script puts where there is none."""

_SHORT = 128
"""Characters up to which a text may be the template's own words."""

Message = Mapping[str, str]

TrainOn = Literal["assistant", "last_turn_only", "qwen_script"]
"""Which tokens of a conversation are trained; see `encode_chat`."""


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
        ids += _encode(tokenizer, text[start:cut])
        start = cut
        match = pattern.search(text, start)
    return ids + _encode(tokenizer, text[start:])


def _encode(tokenizer: Any, text: str) -> list[int]:
    # The wrapper around the tokenizer proper, and the offsets, take half of the time.
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return cast(list[int], tokenizer(text, add_special_tokens=False)["input_ids"])
    return cast(list[int], backend.encode_batch_fast([text], add_special_tokens=False)[0].ids)


@lru_cache(maxsize=8)
def _added(tokenizer: Tokenizer) -> dict[str, int]:
    return dict(tokenizer.added_tokens_encoder)  # which is made anew at every look


@lru_cache(maxsize=8)
def _added_tokens(tokenizer: Tokenizer) -> re.Pattern[str]:
    # Runs of blanks, which some tokenizers add as tokens, are text and stay whole.
    names = sorted(filter(str.strip, _added(tokenizer)), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names)) or r"(?!)")


def forget_tokens() -> None:
    """Forgets which tokens were added to which tokenizer, for whoever adds some."""
    _added.cache_clear()
    _added_tokens.cache_clear()
    _short.cache_clear()


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Returns the id of a special token.

    Raises:
        TrainingError: The tokenizer has no such token.
    """
    found = _added(tokenizer).get(token)
    if found is None:
        raise TrainingError(
            f"the tokenizer has no token {token}: take a model of the Qwen2.5 family, or another "
            "one whose tokenizer knows ChatML and the FIM tokens"
        )
    return found


def stop_token_ids(tokenizer: Tokenizer) -> list[int]:
    """Returns the ids that end an answer.

    They are the end of a turn, `<|endoftext|>`, and the FIM tokens that no completion holds, as far
    as the tokenizer has them.
    """
    known = _added(tokenizer)
    turn_end = template_of(tokenizer).end if tokenizer.chat_template else TURN_END
    names = dict.fromkeys((turn_end, TURN_END, TEXT_END, *FIM_STOPS))
    return [known[name] for name in names if name in known]


def template_tokens(tokenizer: Tokenizer) -> list[str]:
    """Returns the tokens that the chat template writes around a question and its answer."""
    own = between(tokenizer, ["user", "assistant"], False)
    known = _added(tokenizer)
    found = [piece for part in own for piece in _pieces(tokenizer, part) if piece in known]
    return list(dict.fromkeys(found))


def template_sha(tokenizer: Tokenizer) -> str:
    """Returns the hash of the chat template's text."""
    return sha256_text(str(tokenizer.chat_template))


def encode_prompt(
    tokenizer: Tokenizer, messages: Sequence[Message], prefill: str = ""
) -> list[int]:
    """Returns the ids that stand before the model's answer.

    Args:
        tokenizer: A tokenizer with a template that can be taken apart (`align.templates`).
        messages: The conversation so far, the user's turn last.
        prefill: How the answer is made to begin.

    Raises:
        InputError: The messages are no conversation.
        TrainingError: The tokenizer's template can't be used.
    """
    ids, _ = _encode_turns(tokenizer, _checked(messages), prompt=True)
    return ids + (encode_text(tokenizer, prefill) if prefill else [])


def encode_answer(tokenizer: Tokenizer, content: str) -> list[int]:
    """Returns the ids of an assistant's turn that ended by itself: content and end token."""
    template = template_of(tokenizer)
    text = content.strip() if template.strips else content
    return [*encode_text(tokenizer, text), token_id(tokenizer, template.end)]


def encode_chat(
    tokenizer: Tokenizer, messages: Sequence[Message], train_on: TrainOn = "assistant"
) -> Encoded:
    """Returns a conversation as ids and labels.

    The ids are those of `apply_chat_template`, except where a content holds the name of a special
    token or an assistant's content begins with blank lines.

    Args:
        tokenizer: A tokenizer with a template that can be taken apart (`align.templates`).
        messages: The conversation, the assistant's turn last.
        train_on: `assistant`: the content and the end token of every assistant's turn, and neither
            header nor the newline behind the turn. `last_turn_only`: of the last turn alone.
            `qwen_script`: what Qwen2.5-Coder's published `binarize_data.py` trains, namely the last
            answer and, of every turn, `<|im_start|>`, `<|im_end|>` and the newline behind it; its
            system prompt where there is none; contents cut off from their header's newline. (Where
            there is no system message the script loses the first message, and it makes special
            tokens of their names in a text: both are left out.)

    Raises:
        InputError: The messages are no conversation, or nothing in them would be trained.
        TrainingError: The tokenizer's template can't be used.
    """
    checked = _checked(messages)
    if checked[-1][0] != "assistant":
        raise InputError("the last message is not the assistant's: there is no answer to train")
    answers = [n for n, (role, _) in enumerate(checked) if role == "assistant"]
    for number in answers if train_on == "assistant" else answers[-1:]:
        if not checked[number][1].strip():
            raise InputError(
                f"message {number}, the assistant's, is empty: the model would learn to say nothing"
            )
    if train_on == "qwen_script":
        return _qwen_script(tokenizer, checked)
    ids, labels = _encode_turns(tokenizer, checked)
    if train_on == "last_turn_only":
        end = max(place for place, label in enumerate(labels) if label != IGNORED)
        before = labels[:end]
        start = max((n for n, label in enumerate(before) if label == IGNORED), default=0)
        labels = [IGNORED] * start + labels[start:]
    return Encoded(ids, labels)


def _qwen_script(tokenizer: Tokenizer, turns: list[tuple[str, str]]) -> Encoded:
    if turns[0] == ("system", ""):
        turns = turns[1:]
    if turns[0][0] != "system":
        turns = [("system", QWEN_SCRIPT_SYSTEM), *turns]
    start, end = (token_id(tokenizer, name) for name in (TURN_START, TURN_END))
    newline = encode_text(tokenizer, "\n")
    ids: list[int] = []
    labels: list[int] = []
    for number, (role, content) in enumerate(turns):
        header = [*encode_text(tokenizer, role), *newline]
        text = encode_text(tokenizer, content)
        trained = role == "assistant" and number == len(turns) - 1
        ids += [start, *header, *text, end, *newline]
        labels += [start, *([IGNORED] * len(header))]
        labels += [*(text if trained else [IGNORED] * len(text)), end, *newline]
    labels[0] = IGNORED  # nothing stands before the first token that could predict it
    return Encoded(ids, labels)


def _checked(messages: Sequence[Message]) -> list[tuple[str, str]]:
    if not messages:
        raise InputError("a conversation needs at least one message")
    turns = []
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise InputError(f"message {index} must be an object with role and content")
        role, content = message.get("role"), message.get("content")
        if role not in ("system", "user", "assistant") or not isinstance(content, str):
            raise InputError(
                f"message {index} needs a role (system, user or assistant) and a text as content, "
                f"not role {role!r} and {type(content).__name__}"
            )
        if fault := text_fault(content):
            raise InputError(f"the content of message {index} {fault}")
        if role == "system" and index:
            raise InputError(f"message {index} is a system message; only the first one may be")
        turns.append((role, content))
    return turns


def _encode_turns(
    tokenizer: Tokenizer, turns: list[tuple[str, str]], prompt: bool = False
) -> tuple[list[int], list[int]]:
    """Returns ids and labels; every assistant's turn is labelled."""
    template = template_of(tokenizer)
    _check_cuts(tokenizer, str(tokenizer.chat_template))
    if template.strips:
        turns = [(role, content.strip()) for role, content in turns]
    try:
        return _assemble(tokenizer, turns, prompt)
    except TrainingError as error:  # the template is known to work: not for these roles
        roles = ", ".join(role for role, _ in turns)
        raise InputError(f"with the roles {roles}: {error}") from error


def _assemble(
    tokenizer: Tokenizer, turns: list[tuple[str, str]], prompt: bool
) -> tuple[list[int], list[int]]:
    """Tokenises text as a whole between special tokens of the template.

    But an assistant's turn is tokenised apart from its header, as a served model writes it.
    """
    own = between(tokenizer, [role for role, _ in turns], prompt)
    ids: list[int] = []
    labels: list[int] = []
    text = ""
    ended = False  # whether the next piece begins with the end of an answer

    def add(more: list[int], trained: bool = False) -> None:
        ids.extend(more)
        labels.extend(more if trained else [IGNORED] * len(more))

    for number, part in enumerate(own):
        for piece in _pieces(tokenizer, part):
            if piece in _added(tokenizer):
                add(_encode_cached(tokenizer, text))
                add([token_id(tokenizer, piece)], trained=ended)
                text = ""
            else:
                text += piece
            ended = False
        if number == len(turns):
            break
        role, content = turns[number]
        if role == "assistant":
            add(_encode_cached(tokenizer, text))
            add(encode_text(tokenizer, content), trained=True)
            text, ended = "", True
        else:
            text += content
    add(_encode_cached(tokenizer, text))
    return ids, labels


@lru_cache(maxsize=1024)
def _pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    """Splits a template's own text at the tokens in it."""
    found = []
    start = 0
    for match in _added_tokens(tokenizer).finditer(text):
        found += [text[start : match.start()], match.group()]
        start = match.end()
    return [piece for piece in [*found, text[start:]] if piece]


def _encode_cached(tokenizer: Tokenizer, text: str) -> list[int]:
    """Tokenises what may be a template's own words, which come again in every row."""
    return _short(tokenizer, text) if len(text) < _SHORT else encode_text(tokenizer, text)


@lru_cache(maxsize=4096)
def _short(tokenizer: Tokenizer, text: str) -> list[int]:
    return encode_text(tokenizer, text) if text else []


@lru_cache(maxsize=8)
def _check_cuts(tokenizer: Tokenizer, template: str) -> None:
    """Proves on a short chat that text cut at the template's tokens gives the ids of the whole.

    Raises:
        TrainingError: It does not, so that masks can't be placed.
    """
    del template  # part of the key
    turns = [("user", "one\n\ntwo"), ("assistant", "if x:\n        y = 1"), ("user", "more")]
    own = between(tokenizer, [role for role, _ in turns], True)
    whole = "".join(a + b for a, (_, b) in zip(own, [*turns, ("", "")], strict=True))
    if (
        tokenizer(whole, add_special_tokens=False)["input_ids"]
        != _assemble(tokenizer, turns, True)[0]
    ):
        raise TrainingError(
            "the tokenizer does not cut text at the chat template's tokens, so that masks can't be "
            "placed; use a tokenizer of the Qwen2.5 family"
        )
