"""Gives a model that was never pre-trained on infilling the FIM tokens, and trains their rows."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from align.artifacts import read_shards, write_json
from align.chat import IGNORED, Encoded, Tokenizer, forget_tokens, template_sha
from align.checkpoint import weights_dtype, weights_sha
from align.errors import InputError, TrainingError
from align.fim.formats import QWEN, encode_fim_row, fim_tokens
from align.lineage import MANIFEST, lineage, origin
from align.settings import FimSettings
from align.stage import Context, Output, Summary
from align.training import fsync_tree, load_model, load_tokenizer, save_checkpoint

_NAMES = (QWEN.prefix, QWEN.middle, QWEN.suffix, "<|fim_pad|>", QWEN.repo, QWEN.file, *QWEN.end)
_MOST_ROWS = 512
_BATCH = 4
_LEARNING_RATE = 1e-2  # of a few rows that start from their mean; the rest of the model is frozen


def run(
    settings: FimSettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Writes `model`: the checkpoint with FIM tokens whose embeddings were trained on `rows`.

    Only the new tokens' rows are trained, for one pass; what the model knew stays as it was. The
    adapter of a later stage learns infilling itself.

    Raises:
        InputError: The model has FIM tokens already, or there is no row to train on.
        CheckpointError: The model can't be loaded.
        TrainingError: The tokenizer is not of a kind that can be trained.
    """
    del settings
    parent = inputs["model"]
    tokenizer = load_tokenizer(parent)
    _refuse_known(cast(Tokenizer, tokenizer))
    names = [name for name in _NAMES if name and name not in tokenizer.get_vocab()]
    for name in names:  # as Qwen2.5 has them: text ends are special, FIM tokens are not
        tokenizer.add_tokens([name], special_tokens=name in QWEN.end)
    forget_tokens()
    model: Any = load_model(parent, "float32")
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64)
    ids = [cast(int, tokenizer.convert_tokens_to_ids(name)) for name in names]
    known = cast(Tokenizer, tokenizer)
    shards = islice(read_shards(inputs["rows"]), _MOST_ROWS)
    rows = [encode_fim_row(known, row["fim"]) for row in shards]
    if not rows:
        raise InputError("there is no FIM row to train the new tokens on: raise fim.rows")
    context.servers.stop()
    losses = train_rows(model, rows, ids, context)

    folder = out.path / "model"
    partial = out.path / ".model.partial"
    shutil.rmtree(partial, ignore_errors=True)
    save_checkpoint(model.to(getattr(torch, weights_dtype(parent))), tokenizer, partial)
    sha = weights_sha(partial)
    counts = {"rows": len(rows), "tokens_added": len(ids)}
    manifest: dict[str, Any] = {
        "weights_sha": sha,
        "origin": origin(parent),
        "parent_weights_sha": weights_sha(parent),
        "adapter": None,
        "template_sha": template_sha(known),
        "settings": {"tokens": names},
        "identity": out.identity.as_dict(),
        "counts": counts,
    }
    manifest["lineage"] = [*lineage(parent), manifest.copy()]
    write_json(partial / MANIFEST, manifest)
    fsync_tree(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    curve = [{"step": float(n), "loss": loss} for n, loss in enumerate(losses, 1)]
    return Summary(sha, counts, {"curve": curve})


def train_rows(model: Any, rows: list[Encoded], ids: list[int], context: Context) -> list[float]:
    """Trains the input embeddings of a few tokens in place and returns the loss of each step.

    The rows start from the mean of all, with a little noise that tells them apart.

    Args:
        model: A causal language model; nothing else of it changes.
        rows: What to train on.
        ids: The tokens.
        context: Gives the seed and shows progress.
    """
    embedding = model.get_input_embeddings()
    model.requires_grad_(False)
    torch.manual_seed(context.seed)
    mean, spread = embedding.weight.mean(0), embedding.weight.std()
    trained = torch.nn.Parameter(mean + 0.1 * spread * torch.randn(len(ids), len(mean)))
    wanted = torch.tensor(ids)

    def replace(module: Any, given: Any, output: torch.Tensor) -> torch.Tensor:
        del module
        same = given[0].unsqueeze(-1) == wanted
        ours = same.to(trained.dtype) @ trained
        return torch.where(same.any(-1, keepdim=True), ours, output)

    hook = embedding.register_forward_hook(replace)
    optimizer = torch.optim.AdamW([trained], lr=_LEARNING_RATE, weight_decay=0.0)
    order = random.Random(context.seed).sample(rows, len(rows))
    losses = []
    with context.progress("training FIM tokens", len(rows)) as bar:
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            tokens, labels, mask = (
                pad_sequence([torch.tensor(part) for part in parts], True, fill)
                for parts, fill in (
                    ([row.input_ids for row in batch], 0),
                    ([row.labels for row in batch], IGNORED),
                    ([[1] * len(row.input_ids) for row in batch], 0),
                )
            )
            logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
            loss = functional.cross_entropy(
                logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED
            )
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
            bar.advance(len(batch))
    hook.remove()
    with torch.no_grad():
        embedding.weight[wanted] = trained.detach()
    return losses


def _refuse_known(tokenizer: Tokenizer) -> None:
    try:
        family = fim_tokens(tokenizer).family
    except TrainingError:
        return
    raise InputError(
        f"fim.add_tokens is set, but the model has the FIM tokens of {family}: leave it out"
    )
