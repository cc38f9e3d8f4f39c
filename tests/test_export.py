"""The exported folder is the model, says where it comes from, and damage to it is seen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from align.artifacts import Identity
from align.chat import stop_token_ids
from align.errors import ArtifactError
from align.export import check_export, push, run
from align.rows import PAIR
from align.settings import ExportSettings
from align.stage import Output, Summary
from tests.test_dpo import pair, write_pairs
from tests.test_sft import chat_row, write_rows
from tests.tiny import build_tiny_model
from tests.training_context import QuietContext, train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    model = build_tiny_model(folder / "start-model")
    (model / "README.md").write_text("---\nlicense: apache-2.0\n---\nA model.\n")
    (model / "LICENSE").write_text("Terms.\n")
    rows = write_rows(folder / "rows.jsonl", [chat_row(number) for number in range(8)])
    train("sft", {"epochs": 1.0}, {"model": model, "data": rows}, folder / "sft")
    return folder / "sft" / "model"


def export(source: Path, folder: Path, **inputs: Path) -> Summary:
    folder.mkdir()
    out = Output(folder, Identity("export", "config"))
    return run(ExportSettings(), {"model": source, **inputs}, out, QuietContext())


def test_the_folder_is_complete_and_computes_the_same(trained: Path, tmp_path: Path) -> None:
    summary = export(trained, tmp_path / "o")
    folder = tmp_path / "o" / "model"
    assert summary.details["check"] == check_export(trained, folder)
    assert summary.details["check"]["tokens"] > 0
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    stops = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    assert stops == stop_token_ids(tokenizer)
    template = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    assert template == (folder / "chat_template.jinja").read_text() == tokenizer.chat_template
    assert (folder / "LICENSE").read_text() == "Terms.\n"
    assert not (tmp_path / "o" / ".model.partial").exists()


def test_the_card_tells_the_origin_and_claims_no_score(trained: Path, tmp_path: Path) -> None:
    export(trained, tmp_path / "o")
    card = (tmp_path / "o" / "model" / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "`start-model`" in card
    assert "| sft | 8 | 2 | 0.0001 |" in card
    assert str(tmp_path.parent) not in card


def test_a_model_that_was_given_infilling_tokens_is_exported_with_them(
    trained: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(trained, source)
    manifest = json.loads((source / "checkpoint.json").read_text())
    counts, settings = {"rows": 5, "tokens_added": 4}, {"tokens": ["<|fim_prefix|>"]}
    given = manifest["lineage"][0] | {"counts": counts, "settings": settings}
    given["identity"] = given["identity"] | {"instance": "fim.tokens"}
    _edit_json(source / "checkpoint.json", lineage=[given, *manifest["lineage"]])
    export(source, tmp_path / "o")
    card = (tmp_path / "o" / "model" / "README.md").read_text()
    assert "| fim.tokens | 5 |  |  |" in card
    assert "`<|fim_prefix|>{before}<|fim_suffix|>{after}<|fim_middle|>`" in card
    assert "checkpoint.json" in card


def test_a_model_of_no_stage_can_be_exported_too(tmp_path: Path) -> None:
    model = build_tiny_model(tmp_path / "plain")
    (model / "README.md").write_text("---\nlicense:\n- apache-2.0\ntags: [a]\n---\nA model.\n")
    summary = export(model, tmp_path / "o")
    card = (tmp_path / "o" / "model" / "README.md").read_text()
    assert summary.counts["stages"] == 0
    assert "No stage has trained these weights" in card
    assert "did not name it" in card, "a list of licences is not one"
    assert "license:" not in card and "checkpoint.json" not in card


def _edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("damage", ["weights", "template", "config template", "stops", "tokenizer"])
def test_damage_is_detected(trained: Path, tmp_path: Path, damage: str) -> None:
    export(trained, tmp_path / "o")
    folder = tmp_path / "o" / "model"
    if damage == "weights":
        path = folder / "model.safetensors"
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        name = next(name for name in tensors if name.endswith("layers.1.mlp.down_proj.weight"))
        tensors[name] = tensors[name] + torch.full_like(tensors[name], 0.01)
        save_file(tensors, path, metadata=metadata)
    elif damage == "template":
        path = folder / "chat_template.jinja"
        path.write_text(path.read_text().replace("<|im_end|>\\n", "<|im_end|>"))
    elif damage == "config template":
        _edit_json(folder / "tokenizer_config.json", chat_template="other")
    elif damage == "stops":
        _edit_json(folder / "generation_config.json", eos_token_id=[1])
    else:
        other = build_tiny_model(tmp_path / "other", texts=["zz yy xx ww vv uu " * 50])
        shutil.copyfile(other / "tokenizer.json", folder / "tokenizer.json")
    with pytest.raises(ArtifactError, match=str(folder)):
        check_export(trained, folder)


def test_pairs_come_out_as_a_dataset(trained: Path, tmp_path: Path) -> None:
    rows = [pair(number) | {"task_id": "t1", "rule": "exec_strict"} for number in range(3)]
    table = write_pairs(tmp_path / "pairs.jsonl", rows)
    summary = export(trained, tmp_path / "o", pairs=table)
    written = pq.read_table(tmp_path / "o" / "pairs" / "train.parquet")
    assert written.schema.names == PAIR.names
    assert written.column("chosen").to_pylist() == [row["chosen"] for row in rows]
    assert summary.counts["pairs"] == 3
    assert "| exec_strict | 3 |" in (tmp_path / "o" / "pairs" / "README.md").read_text()


def test_only_an_exported_folder_is_pushed(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtifactError, match="export first"):
        push(trained, "someone/something")
