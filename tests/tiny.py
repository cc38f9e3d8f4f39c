"""A tiny model of the Qwen2.5 kind, built on the spot: real tokenizer, real weights, servable."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import AddedToken, Tokenizer, models, trainers
from tokenizers.pre_tokenizers import ByteLevel
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from align.chat import CHAT_TEMPLATE, IGNORED, Encoded, encode_chat
from align.fim.formats import encode_fim

VOCABULARY = 600
SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
]

TEXT = '''
Write a Python function that returns the sum of two numbers.
Complete this function. You are a helpful assistant. Answer with the code only.
You are Qwen, created by Alibaba Cloud. You are a helpful assistant.
system user assistant Write a Python function `add_one(x)` that returns x plus one.

```python
def add_one(x):
    """Return x plus one."""
    return x + 1
```

```python
def is_even(number: int) -> bool:
    """Return whether the number is even."""
    return number % 2 == 0
```

```python
def total(values: list[int]) -> int:
    result = 0
    for value in values:
        result += value
    return result
```

```python
def longest(words):
    best = ""
    for word in words:
        if len(word) > len(best):
            best = word
    return best
```

```python
import math

class Counter:
    def __init__(self, start=0):
        self.count = start

    def step(self, by=1):
        if by < 0:
            raise ValueError("by must not be negative")
        self.count += by
        return self.count

def area(radius: float) -> float:
    try:
        return math.pi * radius ** 2
    except TypeError as error:
        print("not a number", error)
        return None

def table(rows, key=lambda row: row[0], reverse=False):
    return {name: [x * 2 for x in items if x is not None] for name, items in sorted(rows.items())}

assert add_one(1) == 2 and not is_even(3) and total([1, 2, 3]) == 6
while True:
    with open("data.txt", encoding="utf-8") as stream:
        lines = stream.read().splitlines()
    break
```
'''


def build_tiny_model(
    folder: Path,
    *,
    texts: Iterable[str] | None = None,
    train_on: Sequence[tuple[str, str]] = (),
    gaps: Sequence[tuple[str, str, str]] = (),
    fim: bool = True,
    steps: int = 150,
    seed: int = 0,
) -> Path:
    """Builds a checkpoint: 600-token byte-level BPE and a Qwen2 of 2 layers, hidden size 128.

    Args:
        folder: Where to save it.
        texts: More text to train the BPE on, beside a few Python functions.
        train_on: Pairs of prompt and answer that the model is trained on, so that its samples are
            not noise.
        gaps: Triples of prefix, middle and suffix to train on, too.
        fim: Whether the tokenizer has the FIM tokens.
        steps: Training steps when `train_on` is given.
        seed: Seed of the weights and of the training order.

    Returns:
        The folder.
    """
    tokenizer = _tokenizer(
        [TEXT, *(texts or []), *(part for pair in train_on for part in pair)], fim=fim
    )
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=(len(tokenizer) // 64 + 1) * 64,  # padded beyond the tokenizer, as Qwen's are
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.added_tokens_encoder["<|endoftext|>"],
        eos_token_id=tokenizer.added_tokens_encoder["<|im_end|>"],
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    model = Qwen2ForCausalLM(config)
    if train_on:
        chats = [
            [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
            for prompt, answer in train_on
        ]
        rows = [encode_chat(tokenizer, chat) for chat in chats]
        rows += [encode_fim(tokenizer, *gap) for gap in gaps]
        _overfit(model, rows, steps, seed)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"]),
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(texts: Iterable[str], *, fim: bool) -> Qwen2Tokenizer:
    pattern = Qwen2Tokenizer(vocab={}).backend_tokenizer
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = pattern.normalizer
    bpe.pre_tokenizer = pattern.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=ByteLevel.alphabet(), show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    merges = json.loads(bpe.to_str())["model"]["merges"]
    tokenizer = Qwen2Tokenizer(
        vocab=bpe.get_vocab(),
        merges=cast(Any, [(left, right) for left, right in merges]),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    # Qwen2.5 calls only the first three special; the FIM tokens survive skip_special_tokens.
    tokenizer.add_tokens([AddedToken(name, special=True) for name in SPECIAL[:3]])
    if fim:
        tokenizer.add_tokens([AddedToken(name, special=False) for name in SPECIAL[3:]])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _overfit(model: Qwen2ForCausalLM, rows: Sequence[Encoded], steps: int, seed: int) -> None:
    ids, labels, mask = (
        pad_sequence([torch.tensor(part) for part in parts], batch_first=True, padding_value=fill)
        for parts, fill in (
            ([row.input_ids for row in rows], 0),
            ([row.labels for row in rows], IGNORED),
            ([[1] * len(row.input_ids) for row in rows], 0),
        )
    )
    order = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # matrices this small lose more to waiting than they win
    model.train()
    for _ in range(steps):
        batch = order.sample(range(len(rows)), min(8, len(rows)))
        output = model(input_ids=ids[batch], attention_mask=mask[batch], labels=labels[batch])
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    torch.set_num_threads(threads)
