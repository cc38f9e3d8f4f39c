"""Fill-in-the-middle as token ids: the raw format that Qwen2.5-Coder was pre-trained on."""

from __future__ import annotations

from align.chat import IGNORED, TEXT_END, Encoded, Tokenizer, encode_text, token_id
from align.errors import InputError


def encode_fim_prompt(tokenizer: Tokenizer, prefix: str, suffix: str) -> list[int]:
    """Returns the ids before the middle: prefix, then suffix, then the call for the middle.

    `<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>`, as in section 3.1 of the
    Qwen2.5-Coder report (arXiv:2409.12186).

    Raises:
        TrainingError: The tokenizer has no FIM tokens.
    """
    return [
        token_id(tokenizer, "<|fim_prefix|>"),
        *encode_text(tokenizer, prefix),
        token_id(tokenizer, "<|fim_suffix|>"),
        *encode_text(tokenizer, suffix),
        token_id(tokenizer, "<|fim_middle|>"),
    ]


def encode_fim(tokenizer: Tokenizer, prefix: str, middle: str, suffix: str) -> Encoded:
    """Returns a FIM row: trained are the middle and the `<|endoftext|>` that ends it.

    Raises:
        InputError: The middle is empty.
        TrainingError: The tokenizer has no FIM tokens.
    """
    if not middle:
        raise InputError("the middle is empty: there is nothing to fill in")
    prompt = encode_fim_prompt(tokenizer, prefix, suffix)
    answer = [*encode_text(tokenizer, middle), token_id(tokenizer, TEXT_END)]
    return Encoded(prompt + answer, [IGNORED] * len(prompt) + answer)
