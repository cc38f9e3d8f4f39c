"""Proves that an exported folder is the model it was made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoTokenizer

from align.artifacts import sha256_text
from align.chat import encode_prompt, encode_text, stop_token_ids
from align.errors import ArtifactError
from align.training import load_model, load_tokenizer

_CHAT = [
    {"role": "system", "content": "Answer with code only."},
    {"role": "user", "content": "Write `add(a, b)` in Python.\n\nUse no import."},
]
_TEXTS = ("def add(a, b):\n    return", "import os\n\n\nclass Walker:\n    def __init__(self")


def check_export(source: Path, exported: Path) -> dict[str, Any]:
    """Loads both folders and compares what they compute, write and stop at.

    Args:
        source: The checkpoint that was exported.
        exported: The exported folder.

    Returns:
        What was compared: `prompts`, `tokens`, and `logits_sha`, the hash of all their logits.

    Raises:
        ArtifactError: Logits, tokens, chat template or stop tokens differ.
        CheckpointError: A folder can't be loaded.
    """
    expected_tokenizer = load_tokenizer(source)
    tokenizer = AutoTokenizer.from_pretrained(exported)
    _check_template(expected_tokenizer, tokenizer, exported)
    prompts = _prompts(expected_tokenizer)
    if prompts != _prompts(tokenizer):
        raise ArtifactError(f"{exported}: its tokenizer gives other tokens than that of {source}")
    _check_stops(tokenizer, exported)
    before, after = _logits(source, prompts), _logits(exported, prompts)
    for index, (left, right) in enumerate(zip(before, after, strict=True)):
        if not torch.equal(left, right):
            worst = float((left - right).abs().max()) if left.shape == right.shape else None
            raise ArtifactError(
                f"{exported} computes other logits than {source} (prompt {index}, off by "
                f"{worst}): the export is damaged; delete the folder and export again"
            )
    digest = sha256_text("".join(sha256_text(str(logits.tolist())) for logits in after))
    tokens = sum(len(prompt) for prompt in prompts)
    return {"prompts": len(prompts), "tokens": tokens, "logits_sha": digest}


def _prompts(tokenizer: Any) -> list[list[int]]:
    return [encode_prompt(tokenizer, _CHAT), *(encode_text(tokenizer, text) for text in _TEXTS)]


def _check_template(expected: Any, tokenizer: Any, exported: Path) -> None:
    for prompt in (True, False):
        left, right = (
            each.apply_chat_template(_CHAT, tokenize=False, add_generation_prompt=prompt)
            for each in (expected, tokenizer)
        )
        if left != right:
            raise ArtifactError(
                f"{exported}: its chat template writes {right!r} where the model was trained on "
                f"{left!r}; export again"
            )
    config = json.loads((exported / "tokenizer_config.json").read_text(encoding="utf-8"))
    if config.get("chat_template") != (exported / "chat_template.jinja").read_text(
        encoding="utf-8"
    ):
        raise ArtifactError(
            f"{exported}: chat_template.jinja and tokenizer_config.json hold different templates; "
            "export again"
        )


def _check_stops(tokenizer: Any, exported: Path) -> None:
    config = json.loads((exported / "generation_config.json").read_text(encoding="utf-8"))
    if not set(stop_token_ids(tokenizer)) <= set(config.get("eos_token_id") or ()):
        raise ArtifactError(
            f"{exported}: generation_config.json stops at {config.get('eos_token_id')}, not at "
            f"{stop_token_ids(tokenizer)}; export again"
        )


def _logits(folder: Path, prompts: list[list[int]]) -> list[torch.Tensor]:
    model = load_model(folder, "auto").eval()
    with torch.no_grad():
        return [
            cast(torch.Tensor, model(input_ids=torch.tensor([ids])).logits[0]) for ids in prompts
        ]
