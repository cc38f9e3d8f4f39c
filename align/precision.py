"""In which floating-point type a model is computed: the one asked for, or the one fast here.

Processors without instructions for bfloat16 products emulate them, four to eight times slower than
float32 (measured with AVX2: docs/benchmarks.md); those that have them need half of the memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Precision = Literal["auto", "bfloat16", "float32"]

_CPU_FACTS = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # the last is ARM's


def cpu_dtype(facts: Path = _CPU_FACTS) -> Literal["bfloat16", "float32"]:
    """Returns the type whose products this machine's processor computes fastest.

    Args:
        facts: The kernel's description of the processors.
    """
    try:
        lines = facts.read_text(encoding="utf-8").splitlines()
    except OSError:
        return "float32"
    for line in lines:
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return "float32" if _BFLOAT16_FLAGS.isdisjoint(flags.split()) else "bfloat16"
    return "float32"


def compute_dtype(wanted: Precision) -> Literal["bfloat16", "float32"]:
    """Returns the type in which a model is computed in this process, on the device that trains.

    Args:
        wanted: `auto` is bfloat16 where the device multiplies it itself, else float32.
    """
    if wanted != "auto":
        return wanted
    import torch

    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if fast else "float32"
    return "bfloat16" if torch.accelerator.is_available() else cpu_dtype()
