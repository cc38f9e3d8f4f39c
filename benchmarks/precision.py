"""Measure in which floating-point type this machine computes a model faster.

    python -m benchmarks.precision --json FILE [--model NAME] [--rounds 3]

Matrix products of the model's own shapes, a forward pass over one prompt, and a step of batched
decoding, in float32 and in bfloat16 in turn. `align.precision` decides by the processor's flags;
this says whether it decides right here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tables import machine, print_machine, print_table

MODEL = "Qwen/Qwen2.5-Coder-0.5B"
TYPES = ("float32", "bfloat16")
PROMPT, SEQUENCES = 512, 32


def seconds(work: Callable[[], object]) -> float:
    """The time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(folder: Path, dtype: str) -> dict[str, float]:
    """One round in one type: GFLOP/s, prompt tokens a second, decoded tokens a second."""
    import torch
    from transformers import AutoModelForCausalLM

    kind = getattr(torch, dtype)
    # The class is known when the folder is read, so its type says nothing here.
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=kind).eval()
    hidden, wide = model.config.hidden_size, model.config.intermediate_size
    left, weight = torch.randn(PROMPT, hidden).to(kind), torch.randn(wide, hidden).to(kind)
    prompt = torch.randint(0, model.config.vocab_size, (1, PROMPT))
    step = torch.randint(0, model.config.vocab_size, (SEQUENCES, 1))
    with torch.no_grad():
        model(prompt[:, :16])
        product = min(seconds(lambda: left @ weight.t()) for _ in range(10))
        reading = seconds(lambda: model.base_model(prompt))
        writing = min(seconds(lambda: model(step)) for _ in range(2))
    return {
        "gflops": 2 * PROMPT * hidden * wide / product / 1e9,
        "prompt_tokens_per_s": PROMPT / reading,
        "decoded_tokens_per_s": SEQUENCES / writing,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--model", default=MODEL, help="Hub id or folder")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    from align.checkpoint import resolve_model
    from align.precision import compute_dtype

    folder = resolve_model(options.model)
    rounds = [{dtype: measure(folder, dtype) for dtype in TYPES} for _ in range(options.rounds)]
    names = list(rounds[0][TYPES[0]])
    medians = {
        dtype: {name: statistics.median(each[dtype][name] for each in rounds) for name in names}
        for dtype in TYPES
    }
    print_machine()
    print_table(["", *names], [[d, *(f"{medians[d][n]:.1f}" for n in names)] for d in TYPES])
    print(f"`dtype: auto` is {compute_dtype('auto')} here")
    if options.json:
        found = {"medians": medians, "rounds": rounds, "machine": machine()}
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
