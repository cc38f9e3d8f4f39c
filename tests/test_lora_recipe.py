"""Job 3: a LoRA on one's own rows, from a recipe of a few lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from peft import AutoPeftModelForCausalLM, PeftConfig
from typer.testing import CliRunner

from align.cli import app
from align.recipe import find_recipe, load_recipe
from tests.tiny import build_tiny_model


def test_the_recipe_trains_ones_own_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = build_tiny_model(tmp_path / "tiny")
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"number {n}"},
                {"role": "assistant", "content": f"x = {n}"},
            ]
        }
        for n in range(4)
    ]
    text = "".join(json.dumps(row) + "\n" for row in [*rows, {"messages": "none"}])
    (tmp_path / "mine.jsonl").write_text(text, encoding="utf-8")
    overrides = ["--set", f"model={model}", "--set", "data.rows=[mine.jsonl]"]
    result = CliRunner().invoke(app, ["run", "lora/own-rows", *overrides])
    assert result.exit_code == 0, result.output
    stage = tmp_path / "runs" / "own-rows" / "sft.coarse"
    manifest = json.loads((stage / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["counts"]["rows"] == 4
    AutoPeftModelForCausalLM.from_pretrained(stage / "adapter")
    config = PeftConfig.from_pretrained(stage / "adapter")
    assert config.base_model_name_or_path == str(model)
    assert not config.trainable_token_indices, "vLLM serves no adapter with rows of tokens"


def test_the_stage_that_the_user_writes_is_three_lines() -> None:
    path = find_recipe("lora/own-rows")
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line[:1] not in "#"]
    assert [line.split(":")[0] for line in lines] == ["name", "model", "data", "sft"]
    assert load_recipe(path).sft.coarse is not None
