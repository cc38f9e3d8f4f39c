"""The export stage: model folder, cards, and the check that the folder is the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.artifacts import read_parquet, table_hash, write_atomic, write_json
from align.chat import stop_token_ids
from align.checkpoint import weights_sha
from align.errors import InputError, TrainingError
from align.export.cards import model_card
from align.export.check import check_export
from align.fim.formats import encode_fim_prompt
from align.lineage import MANIFEST, lineage, origin
from align.pair_dataset import write_dataset
from align.settings import ExportSettings
from align.stage import Context, Output, Summary
from align.training import fsync_tree, load_model, load_tokenizer, save_checkpoint


def run(
    settings: ExportSettings, inputs: Mapping[str, Path], out: Output, context: Context
) -> Summary:
    """Writes `model/` (and `pairs/` where pairs are given) and checks the model by reloading it.

    Raises:
        InputError: There is no model, or the pairs can't be read.
        ArtifactError: What was written does not compute what the model computes.
        CheckpointError: The model can't be loaded.
    """
    source = inputs.get("model")
    if source is None:
        raise InputError("export needs a `model`")
    context.servers.stop()
    folder = out.path / "model"
    partial = out.path / ".model.partial"
    shutil.rmtree(partial, ignore_errors=True)
    _write_model(source, partial)
    checked = check_export(source, partial)
    fsync_tree(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    counts = {"stages": len(lineage(source)), "checked_tokens": checked["tokens"]}
    details: dict[str, Any] = {"check": checked, "files": sorted(p.name for p in folder.iterdir())}
    if "pairs" in inputs:
        counts["pairs"] = write_dataset(inputs["pairs"], out.path / "pairs")
        rows = read_parquet(out.path / "pairs" / "train.parquet")
        details["pairs_sha"] = table_hash(rows)
    return Summary(weights_sha(folder), counts, details)


def _write_model(source: Path, folder: Path) -> None:
    tokenizer: Any = load_tokenizer(source)
    model = load_model(source, "auto")
    save_checkpoint(model, tokenizer, folder, stop_token_ids(tokenizer))
    # Older readers look for the template in the tokenizer's config, newer ones in its own file.
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**config, "chat_template": tokenizer.chat_template})
    for file in source.glob("LICENSE*"):
        shutil.copyfile(file, folder / file.name)
    stages = lineage(source)
    if stages:
        shutil.copyfile(source / MANIFEST, folder / MANIFEST)
    card = model_card(stages, origin(source), weights_sha(folder), _infilling(tokenizer))
    write_atomic(folder / "README.md", card.encode())


def _infilling(tokenizer: Any) -> str | None:
    """Returns how a gap is put as text; None where the tokenizer has no tokens for it."""
    try:
        return str(tokenizer.decode(encode_fim_prompt(tokenizer, "{before}", "{after}")))
    except TrainingError:
        return None
