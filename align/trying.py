"""Asks a model one thing with plain transformers, as the user of an exported folder would."""

from __future__ import annotations

import sys
from typing import Any


def answer(model: str, prompt: str, suffix: str | None, max_tokens: int) -> None:
    """Prints a model's greedy answer to stdout as it comes.

    With `suffix` the model fills in what stands between `prompt` and it; else `prompt` is a user's
    chat turn.

    Raises:
        CheckpointError: The model is not to be had.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, TextStreamer

    from align.chat import encode_prompt
    from align.checkpoint import resolve_model
    from align.context import console
    from align.fim.formats import encode_fim_prompt
    from align.precision import compute_dtype

    folder = resolve_model(model)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # The class is known when the folder is read, so its type says nothing here.
    network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=compute_dtype("auto"))
    if torch.cuda.is_available():
        network = network.cuda()
    if suffix is None:
        ids = encode_prompt(tokenizer, [{"role": "user", "content": prompt}])
    else:
        ids = encode_fim_prompt(tokenizer, prompt, suffix)
    inputs = torch.tensor([ids], device=network.device)
    with torch.no_grad():
        output = network.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=max_tokens,
            do_sample=False,
            streamer=TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True),
        )
    sys.stdout.flush()
    stopped = output.shape[1] - len(ids) < max_tokens
    end = "stopped by itself" if stopped else f"cut at {max_tokens} tokens"
    console.print(f"{output.shape[1] - len(ids)} tokens, {end}", style="dim")
