"""Log-probabilities of the reference: computed once, kept on disk, shared by every run that can.

They are kept token by token in the user's cache folder, so that another beta, loss, weighting or
learning rate, another seed or choice of pairs finds them there. A folder belongs to one set of
weights, config, type, tokenizer and template; a row to one pair's token ids.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from filelock import FileLock
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from align.artifacts import (
    Identity,
    TableWriter,
    canonical_json,
    read_shards,
    sha256_text,
)
from align.chat import template_sha
from align.checkpoint import weights_sha
from align.dpo.batches import Reference, pack_pairs
from align.dpo.pairs import TokenPair
from align.losses import label_scores
from align.stage import Context

_SCHEMA = pa.schema(
    [
        ("pair", pa.string()),
        ("chosen", pa.list_(pa.float32())),
        ("rejected", pa.list_(pa.float32())),
    ]
)
_PASS_TOKENS = 2048
"""Tokens of one forward pass, before shared beginnings are taken out."""

_MOST_BYTES = 4 << 30
"""Size of the cache, beyond which the folders that were used longest ago go."""


def cache_folder() -> Path:
    """Returns where references are kept: `$XDG_CACHE_HOME/code-align/references`."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "code-align" / "references"


def reference_identity(
    parent: Path, tokenizer: PreTrainedTokenizerBase, dtype: str, *, quantised: bool
) -> Identity:
    """Returns what a folder of references belongs to.

    Args:
        parent: The reference's checkpoint.
        tokenizer: As it encoded the pairs.
        dtype: Type in which the reference computes.
        quantised: Whether its weights are held in 4 bits.
    """
    vocabulary = canonical_json(tokenizer.get_vocab())
    inputs = {
        "weights": weights_sha(parent),
        "tokenizer": sha256_text(vocabulary),
        "template": template_sha(tokenizer),
        "model": _config_sha(parent),
    }
    config = sha256_text(canonical_json({"dtype": dtype, "quantised": quantised}))
    return Identity("references", config, inputs)


def _config_sha(folder: Path) -> str:
    """Returns the hash of what a checkpoint's config says, whichever version saved it."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return sha256_text(canonical_json({**config, "transformers_version": None}))


def reference_log_probs(
    model: PreTrainedModel,
    pairs: Sequence[TokenPair],
    owner: Identity,
    context: Context,
    *,
    share: bool,
    autocast: bool = False,
) -> dict[str, Reference]:
    """Returns the log-probabilities that the model gives each pair's answers, by the pair's key.

    What the cache has is read; the rest is computed, and kept as it comes, so that a killed run
    loses nothing. A second run that needs the same folder waits for the first.

    Args:
        model: The reference, after `align.losses.add_loss_head`, without an adapter.
        pairs: The pairs.
        owner: As `reference_identity` returns it for this model.
        context: The run.
        share: Compute common beginnings once; see `align.packing.pack`.
        autocast: Compute in bfloat16 from float32 weights, as the training does.

    Raises:
        ArtifactError: The cache holds what is not of this reference, or the disk refuses a row.
    """
    cache = cache_folder()
    folder = cache / sha256_text(canonical_json(owner.as_dict()))[:32]
    cache.mkdir(parents=True, exist_ok=True)
    wanted = {pair.key: pair for pair in pairs}
    with FileLock(cache / f"{folder.name}.lock"):
        with TableWriter(folder, _SCHEMA, "pair", owner) as writer:
            missing = [pair for key, pair in wanted.items() if key not in writer.done]
            context.log("references", cached=len(wanted) - len(missing), computed=len(missing))
            if missing:
                _compute(model, missing, writer, context, share=share, autocast=autocast)
        found = {
            row["pair"]: (row["chosen"], row["rejected"])
            for row in read_shards(folder)
            if row["pair"] in wanted
        }
        os.utime(folder)
    _prune(cache, folder)
    return found


def _compute(
    model: PreTrainedModel,
    pairs: Sequence[TokenPair],
    writer: TableWriter,
    context: Context,
    *,
    share: bool,
    autocast: bool,
) -> None:
    if torch.accelerator.is_available() and not getattr(model, "is_quantized", False):
        model.to(torch.accelerator.current_accelerator())  # type: ignore[arg-type]
    device = model.device
    training = model.training
    model.eval()
    with context.progress("reference log-probabilities", len(pairs)) as bar, torch.no_grad():
        for group in _passes(pairs):
            batch = pack_pairs([asdict(pair) for pair in group], share=share)
            batch = {
                name: value.to(device) if isinstance(value, torch.Tensor) else value
                for name, value in batch.items()
            }
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                log_probs = label_scores(model, batch).log_probs.cpu()
            lengths = [len(pair.chosen_ids) for pair in group]
            lengths += [len(pair.rejected_ids) for pair in group]
            rows = [part.tolist() for part in log_probs.split(lengths)]
            for number, pair in enumerate(group):
                writer.add(
                    {
                        "pair": pair.key,
                        "chosen": rows[number],
                        "rejected": rows[len(group) + number],
                    }
                )
            bar.advance(len(group))
    model.train(training)


def _passes(pairs: Sequence[TokenPair]) -> Iterator[list[TokenPair]]:
    """Yields the pairs in few passes, those with the same beginnings next to one another."""
    group: list[TokenPair] = []
    tokens = 0
    for pair in sorted(pairs, key=lambda pair: (pair.prompt_ids, pair.chosen_ids)):
        size = 2 * len(pair.prompt_ids) + len(pair.chosen_ids) + len(pair.rejected_ids)
        if group and tokens + size > _PASS_TOKENS:
            yield group
            group, tokens = [], 0
        group.append(pair)
        tokens += size
    if group:
        yield group


def _prune(cache: Path, used: Path) -> None:
    """Deletes folders of earlier references, the least recently used first, beyond the bound."""
    seen = {path: _age_and_size(path) for path in cache.iterdir() if path.is_dir()}
    folders = sorted((path for path in seen if path != used), key=lambda path: seen[path][0])
    sizes = {path: size for path, (_, size) in seen.items()}
    total = sum(sizes.values())
    for path in folders:
        if total <= _MOST_BYTES:
            return
        lock: Any = FileLock(cache / f"{path.name}.lock", timeout=0)
        try:
            with lock:
                shutil.rmtree(path, ignore_errors=True)
        except TimeoutError:  # another run is at work in it
            continue
        total -= sizes[path]


def _age_and_size(folder: Path) -> tuple[float, int]:
    """Returns when a folder was changed, and its bytes; another run may be deleting it."""
    try:
        return folder.stat().st_mtime, sum(file.stat().st_size for file in folder.iterdir())
    except FileNotFoundError:
        return 0.0, 0
