"""Fill-in-the-middle as token ids: file and repository level, in the orders PSM and SPM.

A model family's own tokens are found by looking into the tokenizer. They are put in by id: a
token's name in the code stays text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, cast, get_args

from align.chat import (
    IGNORED,
    TURN_END,
    TURN_START,
    Encoded,
    Tokenizer,
    encode_answer,
    encode_chat,
    encode_prompt,
    encode_text,
    stop_token_ids,
    token_id,
)
from align.errors import InputError, TrainingError
from align.row_checks import text_fault
from align.settings import FimWrapper

#: How a row is put: the raw string (prefix-suffix-middle, or suffix first), the raw string as the
#: user's turn of a chat, or a chat without any FIM token.
WRAPPERS: tuple[str, ...] = get_args(FimWrapper)

CHAT_SYSTEM = "You are a code completion assistant."
_TEXT_TEMPLATE = (
    "##Context Code##:\n{context}\n##Prefix Code##:\n{prefix}\n##Suffix Code##:\n{suffix}\n"
    "##Middle Code##:\n"
)


@dataclass(frozen=True)
class Family:
    """The names that a model family has for the parts of FIM.

    Attributes:
        end: What may end a middle; the first that the tokenizer knows does.
        repo: Stands before a repository's name; None where no repository format is known.
        file: Stands before a file's path.
    """

    name: str
    prefix: str
    suffix: str
    middle: str
    end: tuple[str, ...]
    repo: str | None = None
    file: str | None = None


QWEN = Family(
    "qwen2.5-coder",
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|fim_middle|>",
    ("<|endoftext|>",),
    "<|repo_name|>",
    "<|file_sep|>",
)
#: The first family all of whose tokens a tokenizer has is taken.
FAMILIES = (
    QWEN,
    Family("starcoder", "<fim_prefix>", "<fim_suffix>", "<fim_middle>", ("<|endoftext|>",)),
    Family("santacoder", "<fim-prefix>", "<fim-suffix>", "<fim-middle>", ("<|endoftext|>",)),
    Family("codellama", "▁<PRE>", "▁<SUF>", "▁<MID>", ("▁<EOT>",)),
    Family(
        "deepseek-coder",
        "<｜fim▁begin｜>",
        "<｜fim▁hole｜>",
        "<｜fim▁end｜>",
        ("<｜end▁of▁sentence｜>", "<|EOT|>"),
    ),
)


@dataclass(frozen=True)
class FimTokens:
    """A tokenizer's own ids for the parts of FIM.

    Attributes:
        family: Name of the model family.
        start: What the tokenizer puts before every text (its BOS token), often nothing.
    """

    family: str
    start: tuple[int, ...]
    prefix: int
    suffix: int
    middle: int
    end: int
    repo: int | None
    file: int | None


@dataclass(frozen=True)
class RepoContext:
    """What stands before the file of a row at repository level.

    Attributes:
        repo: The repository's name.
        path: Path of the row's own file.
        files: (path, content) of other files, in their order.
    """

    repo: str
    path: str
    files: tuple[tuple[str, str], ...]

    def to_json(self) -> str:
        """Returns the text that stands in a row's `context`."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> RepoContext:
        """Reads a row's `context`.

        Raises:
            InputError: It is not what `to_json` writes.
        """
        try:
            plain = json.loads(text)
            files = tuple((str(path), str(content)) for path, content in plain["files"])
            return cls(str(plain["repo"]), str(plain["path"]), files)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                "the context of a fim row must be JSON with repo, path and files, a list of path "
                f"and content ({type(error).__name__}: {error})"
            ) from error


def fim_tokens(tokenizer: Tokenizer) -> FimTokens:
    """Looks up which family's FIM tokens a tokenizer has.

    Raises:
        TrainingError: It has those of no known family.
    """
    return _probe(tokenizer, frozenset(tokenizer.added_tokens_encoder))


@lru_cache(maxsize=8)
def _probe(tokenizer: Tokenizer, names: frozenset[str]) -> FimTokens:
    known = tokenizer.added_tokens_encoder
    for family in FAMILIES:
        end = next((name for name in family.end if name in names), None)
        if end is None or not {family.prefix, family.suffix, family.middle} <= names:
            continue
        return FimTokens(
            family.name,
            _start(tokenizer),
            known[family.prefix],
            known[family.suffix],
            known[family.middle],
            known[end],
            known.get(family.repo) if family.repo else None,
            known.get(family.file) if family.file else None,
        )
    raise TrainingError(
        "the tokenizer has no FIM tokens (looked for those of "
        f"{', '.join(family.name for family in FAMILIES)}): take a model that was pre-trained on "
        "infilling, or set `fim.add_tokens: true` in the recipe, which adds Qwen's and trains them"
    )


def _start(tokenizer: Tokenizer) -> tuple[int, ...]:
    plain = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    whole = list(tokenizer("a", add_special_tokens=True)["input_ids"])
    where = next((i for i in range(len(whole)) if whole[i : i + len(plain)] == plain), 0)
    return tuple(whole[:where])


def encode_fim_prompt(
    tokenizer: Tokenizer,
    prefix: str,
    suffix: str,
    context: RepoContext | None = None,
    wrapper: str = "raw",
) -> list[int]:
    r"""Returns the ids before the middle.

    `raw` is `<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>`, with a context behind
    `<|repo_name|>{repo}\n<|file_sep|>{path}\n{content}\n...<|file_sep|>{path}\n` (sections 3.1
    and 3.2 of the Qwen2.5-Coder report, arXiv:2409.12186). `raw_spm` puts the suffix first and the
    prefix right before the middle (Bavarian et al., arXiv:2207.14255, section 3).

    Args:
        tokenizer: A tokenizer with the FIM tokens of a known family.
        prefix: Text before the gap.
        suffix: Text behind it.
        context: Other files of the repository.
        wrapper: One of `WRAPPERS`.

    Raises:
        InputError: The wrapper is not known, or the family has no repository format.
        TrainingError: The tokenizer has no FIM tokens, or no ChatML where the wrapper needs it.
    """
    if wrapper == "text":
        return encode_prompt(tokenizer, _text_messages(prefix, suffix, context))
    if wrapper not in WRAPPERS:
        raise InputError(_unknown(wrapper))
    tokens = fim_tokens(tokenizer)
    head = _repository(tokenizer, tokens, context) if context else []
    before, behind = encode_text(tokenizer, prefix), _inner(tokenizer, suffix)
    if wrapper == "raw_spm":
        ids = [*head, tokens.prefix, tokens.suffix, *behind, tokens.middle]
        ids += _inner(tokenizer, prefix)
    else:
        ids = [*head, tokens.prefix, *before, tokens.suffix, *behind, tokens.middle]
    if wrapper == "chatml":
        return _chat_around(tokenizer, ids)
    return [*tokens.start, *ids]


def encode_fim(
    tokenizer: Tokenizer,
    prefix: str,
    middle: str,
    suffix: str,
    context: RepoContext | None = None,
    wrapper: str = "raw",
) -> Encoded:
    """Returns a FIM row: trained are the middle and the token that ends it, nothing else.

    That token is the family's end of text for raw rows, `<|im_end|>` for chats.

    Raises:
        InputError: The middle is empty, the wrapper is not known, or the family has no repository
            format.
        TrainingError: The tokenizer has no FIM tokens, or no ChatML where the wrapper needs it.
    """
    if not middle:
        raise InputError("the middle is empty: there is nothing to fill in")
    if wrapper == "text":
        answer = {"role": "assistant", "content": middle}
        return encode_chat(tokenizer, [*_text_messages(prefix, suffix, context), answer])
    prompt = encode_fim_prompt(tokenizer, prefix, suffix, context, wrapper)
    if wrapper == "chatml":
        trained = encode_answer(tokenizer, middle)
        rest = encode_text(tokenizer, "\n")
    else:
        trained = [*_inner(tokenizer, middle), fim_tokens(tokenizer).end]
        rest = []
    labels = [IGNORED] * len(prompt) + trained + [IGNORED] * len(rest)
    return Encoded([*prompt, *trained, *rest], labels)


def encode_fim_row(tokenizer: Tokenizer, fim: Any) -> Encoded:
    """Encodes the `fim` column of a training row (`align.rows.TRAIN_ROW`).

    Raises:
        InputError: It is not what such a column holds.
        TrainingError: As `encode_fim`.
    """
    if not isinstance(fim, Mapping):
        raise InputError("a fim row needs `fim` with prefix, middle and suffix")
    wrapper = fim.get("wrapper") or "raw"
    if wrapper not in WRAPPERS:
        raise InputError(_unknown(wrapper))
    parts = [fim.get(key) for key in ("prefix", "middle", "suffix")]
    if not all(isinstance(part, str) for part in parts):
        raise InputError("prefix, middle and suffix of a fim row must be texts")
    written = fim.get("context")
    if written is not None and not isinstance(written, str):
        raise InputError("the context of a fim row must be a text")
    context = RepoContext.from_json(written) if written else None
    prefix, middle, suffix = cast(list[str], parts)
    others = (context.repo, context.path, *chain(*context.files)) if context else ()
    if fault := text_fault("".join((prefix, middle, suffix, *others))):
        raise InputError(f"the text of a fim row {fault}")
    return encode_fim(tokenizer, prefix, middle, suffix, context, wrapper)


def fim_stop_ids(tokenizer: Tokenizer) -> list[int]:
    """Returns the ids that end a middle: every FIM token but the one that calls for it.

    Raises:
        TrainingError: The tokenizer has no FIM tokens.
    """
    tokens = fim_tokens(tokenizer)
    own = [tokens.end, tokens.prefix, tokens.suffix, tokens.repo, tokens.file]
    return list(dict.fromkeys([*stop_token_ids(tokenizer), *(i for i in own if i is not None)]))


def _unknown(wrapper: Any) -> str:
    return f"the FIM wrapper {wrapper!r} is not known; use one of {', '.join(WRAPPERS)}"


def _repository(tokenizer: Tokenizer, tokens: FimTokens, context: RepoContext) -> list[int]:
    if tokens.repo is None or tokens.file is None:
        raise InputError(
            f"no repository format is known for models of the family {tokens.family}: leave the "
            "context out (fim.repository: 0)"
        )
    ids = [tokens.repo, *_inner(tokenizer, f"{context.repo}\n")]
    for path, content in context.files:
        ids += [tokens.file, *_inner(tokenizer, f"{path}\n{content}\n")]
    return [*ids, tokens.file, *_inner(tokenizer, f"{context.path}\n")]


def _inner(tokenizer: Tokenizer, text: str) -> list[int]:
    """Tokenises text that follows another token: without the space that SentencePiece puts first.

    CodeLlama's own code does the same for suffix and middle (arXiv:2308.12950, section 2.3).
    """
    ids = encode_text(tokenizer, text)
    first = _first_piece(tokenizer)
    if first is None or not text:
        return ids
    ids = encode_text(tokenizer, f"\n{text}")
    return ids[len(first) :] if ids[: len(first)] == list(first) else ids


@lru_cache(maxsize=8)
def _first_piece(tokenizer: Tokenizer) -> tuple[int, ...] | None:
    """Returns the ids of a line break at the start of a text where a space is put before it."""
    twice = encode_text(tokenizer, "\n\na")
    once = encode_text(tokenizer, "a")
    return None if twice[-len(once) :] == once else tuple(encode_text(tokenizer, "\n"))


def _text_messages(prefix: str, suffix: str, context: RepoContext | None) -> list[dict[str, str]]:
    others = "".join(f"{path}\n{content}\n" for path, content in context.files) if context else ""
    user = _TEXT_TEMPLATE.format(context=others, prefix=prefix, suffix=suffix)
    return [{"role": "system", "content": CHAT_SYSTEM}, {"role": "user", "content": user}]


def _chat_around(tokenizer: Tokenizer, ids: list[int]) -> list[int]:
    start, end = token_id(tokenizer, TURN_START), token_id(tokenizer, TURN_END)
    newline = encode_text(tokenizer, "\n")
    return [
        *(start, *encode_text(tokenizer, f"system\n{CHAT_SYSTEM}"), end, *newline),
        *(start, *encode_text(tokenizer, "user\n"), *ids, end, *newline),
        *(start, *encode_text(tokenizer, "assistant\n")),
    ]
