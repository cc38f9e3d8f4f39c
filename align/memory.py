"""How much memory a training takes, from the model's shape, and how much there is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from align.checkpoint import weights_dtype
from align.precision import compute_dtype
from align.settings import DpoSettings, SftSettings
from align.stage import Context

_LABELS_AT_ONCE = 384  # `align.losses` makes logits for so many labels at a time
_SHARE = 0.85
"""Part of the free memory that a training may count on: allocators leave holes."""


@dataclass(frozen=True)
class Shape:
    """What of a model decides its memory."""

    parameters: int
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int


def shape_of(folder: Path) -> Shape:
    """Reads a checkpoint's shape from its config and the size of its weights."""
    from transformers import AutoConfig  # its names are the same for every family

    config = AutoConfig.from_pretrained(folder).get_text_config()
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    width = 4 if weights_dtype(folder) == "float32" else 2
    hidden = int(config.hidden_size)
    return Shape(
        size // width,
        int(config.num_hidden_layers),
        hidden,
        int(getattr(config, "intermediate_size", None) or 4 * hidden),
        int(config.vocab_size),
    )


def most_tokens(settings: SftSettings | DpoSettings) -> int:
    """Returns the tokens of a forward pass whose rows are all as long as the settings let them."""
    if isinstance(settings, DpoSettings):
        return 2 * settings.batch_pairs * settings.max_length
    tokens = min(settings.batch_rows * settings.max_length, settings.pass_tokens)
    return max(tokens, settings.max_length)


def training_bytes(
    shape: Shape, settings: SftSettings | DpoSettings, checkpointing: bool, tokens: int
) -> int:
    """Estimates the largest memory of a training stage with passes of so many tokens, in bytes.

    Weights; for trained ones gradients and AdamW's two moments in float32; what each layer keeps of
    each token for the way back (with checkpointing only its input, and one layer in full); logits.
    """
    width = 2 if compute_dtype(settings.dtype) == "bfloat16" else 4
    if settings.lora is None:
        held = 16 + (2 if width == 2 else 0)  # autocast keeps its own bf16 copy
    else:
        held = 1 if settings.lora.quantise else width
    weights = held * shape.parameters
    logits = 2 * width * _LABELS_AT_ONCE * shape.vocabulary
    # Norms keep float32; the rest inputs of products, rotated heads, the MLP's three (or four).
    kept = shape.hidden * (12 * width + 16) + 4 * width * shape.intermediate
    layers = 1 if checkpointing else shape.layers
    activations = tokens * (layers * kept + shape.layers * shape.hidden * width)
    return weights + activations + logits


def needs_checkpointing(
    shape: Shape, settings: SftSettings | DpoSettings, free: int, tokens: int
) -> bool:
    """Says whether layers must be computed twice, for their activations do not fit."""
    return training_bytes(shape, settings, False, tokens) > _SHARE * free


def free_bytes() -> int:
    """Returns the memory that a training can still take on the device that trains."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    facts = Path("/proc/meminfo")
    if not facts.exists():
        return 1 << 62  # nothing is known: nothing is given up for it
    lines = dict(line.split(":") for line in facts.read_text().splitlines())
    free = 1024 * int(lines["MemAvailable"].split()[0])
    for folder, limit, used in (
        (Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        if (folder / limit).exists() and (text := (folder / limit).read_text().strip()).isdigit():
            taken = int((folder / used).read_text()) - _reclaimable(folder / "memory.stat")
            free = min(free, int(text) - taken)
    return free


def _reclaimable(facts: Path) -> int:
    """Returns the bytes of files that the kernel keeps in memory as long as nobody needs it."""
    if not facts.exists():
        return 0
    lines = dict(line.split(" ", 1) for line in facts.read_text().splitlines())
    return int(lines.get("total_inactive_file") or lines.get("inactive_file") or 0)


def checkpoint_activations(
    settings: SftSettings | DpoSettings, parent: Path, context: Context, tokens: int
) -> bool:
    """Decides whether layers are computed twice: only where memory needs it.

    Args:
        settings: The stage's settings.
        parent: The checkpoint that is trained.
        context: The run.
        tokens: Tokens of the largest forward pass.
    """
    shape, free = shape_of(parent), free_bytes()
    needed = needs_checkpointing(shape, settings, free, tokens)
    size = training_bytes(shape, settings, needed, tokens)
    context.log("memory", needed_bytes=size, free_bytes=free, checkpointing=needed)
    return needed
