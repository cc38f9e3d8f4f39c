"""The supervised stage on a tiny model: it learns, mixes as told, and survives being killed."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.chat import IGNORED, Encoded
from align.errors import ArtifactError, InputError, RecipeError
from align.sft.rows import TokenRow, mix_rows
from align.training import label_log_probs, pack
from tests.tiny import build_tiny_model
from tests.training_context import train, train_until_killed

FAST = {"learning_rate": 3e-3, "epochs": 4.0, "batch_rows": 4, "save_steps": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def chat_row(number: int, answer: str | None = None) -> dict[str, Any]:
    messages = [
        {"role": "user", "content": f"return {number}"},
        {"role": "assistant", "content": answer or f"def f():\n    return {number}\n"},
    ]
    return {"row_id": f"r{number:03}", "messages": messages}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", [chat_row(number) for number in range(16)])


@pytest.mark.parametrize(
    "changes",
    [{}, {"dtype": "float32"}, {"lora": None, "learning_rate": 1e-3}],
    ids=["bfloat16", "float32", "all weights"],
)
def test_loss_falls_and_the_folder_is_a_model(
    model: Path, rows: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    summary, context = train("sft", FAST | changes, {"model": model, "data": rows}, tmp_path / "o")
    losses = [step["loss"] for step in summary.details["curve"]]
    assert losses[-1] < losses[0] - 0.7
    assert [step["loss"] for step in context.steps()] == losses
    assert context.servers.stopped == 1
    assert summary.counts["steps"] == len(losses) == 16
    folder = tmp_path / "o" / "model"
    manifest = json.loads((folder / "checkpoint.json").read_text())
    assert manifest["weights_sha"] == summary.content_sha
    assert manifest["lineage"][0]["origin"]["name"] == model.name
    assert (tmp_path / "o" / "adapter").exists() == (changes.get("lora", 1) is not None)
    assert not (tmp_path / "o" / "checkpoints").exists()
    wanted = getattr(torch, changes.get("dtype", "bfloat16"))
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {wanted}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    trained = AutoModelForCausalLM.from_pretrained(folder)
    assert len(trained.generation_config.eos_token_id) == 2


def test_the_order_of_the_table_changes_nothing(model: Path, rows: Path, tmp_path: Path) -> None:
    lines = rows.read_text().splitlines(keepends=True)
    random.Random(5).shuffle(lines)
    shuffled = tmp_path / "shuffled.jsonl"
    shuffled.write_text("".join(lines))
    settings = FAST | {"epochs": 0.5}
    one, _ = train("sft", settings, {"model": model, "data": rows}, tmp_path / "one")
    two, _ = train("sft", settings, {"model": model, "data": shuffled}, tmp_path / "two")
    assert one.content_sha == two.content_sha


def test_a_killed_training_ends_with_the_same_weights(
    model: Path, rows: Path, tmp_path: Path
) -> None:
    settings = FAST | {"epochs": 2.0, "lora": {"dropout": 0.1}}  # dropout: random state must return
    inputs = {"model": model, "data": rows}
    whole, _ = train("sft", settings, inputs, tmp_path / "whole")
    folder = tmp_path / "killed"
    points = ("step:3", "saving", "merging")
    left = train_until_killed(points, "sft", settings, inputs, folder)
    assert left == [["checkpoint-2"], ["checkpoint-2"], ["checkpoint-8"]]
    assert not (folder / "model").exists()
    resumed, context = train("sft", settings, inputs, folder)
    assert context.steps() == [], "every step was done before"
    assert resumed.content_sha == whole.content_sha
    assert resumed.details["curve"] == whole.details["curve"]
    again, _ = train("sft", settings, inputs, folder)
    assert again == resumed


def test_work_of_other_settings_is_not_continued(model: Path, rows: Path, tmp_path: Path) -> None:
    inputs = {"model": model, "data": rows}
    folder = tmp_path / "o"
    train("sft", FAST | {"epochs": 0.25}, inputs, folder)
    manifest = folder / "model" / "checkpoint.json"
    manifest.write_text(manifest.read_text().replace('"config_sha": "config"', '"config_sha": "x"'))
    with pytest.raises(ArtifactError, match="other settings"):
        train("sft", FAST | {"epochs": 0.25}, inputs, folder)


def test_long_rows_are_dropped_and_counted(model: Path, tmp_path: Path) -> None:
    table = write_rows(
        tmp_path / "rows.jsonl", [chat_row(1), chat_row(2), chat_row(3, "x = 1\n" * 200)]
    )
    settings = FAST | {"max_length": 100, "epochs": 1.0}
    summary, context = train("sft", settings, {"model": model, "data": table}, tmp_path / "o")
    assert (summary.counts["rows"], summary.counts["overlong"]) == (2, 1)
    assert "1 rows are longer than 100 tokens" in context.warnings[0]
    with pytest.raises(InputError, match="no row is left"):
        train("sft", settings | {"max_length": 5}, {"model": model, "d": table}, tmp_path / "p")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": [{"role": "user", "content": "x"}]}, "not the assistant's"),
        ({"kind": "story"}, "kind 'story'"),
        ({"kind": "fim", "fim": {"prefix": "a", "middle": "", "suffix": "b"}}, "middle is empty"),
        ({"kind": "fim", "fim": {"prefix": "a", "middle": "b", "wrapper": "x"}}, "wrapper 'x'"),
        (chat_row(1) | {"weight": 0.0}, "weight 0.0"),
    ],
)
def test_a_bad_row_is_named(model: Path, tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    table = write_rows(tmp_path / "rows.jsonl", [chat_row(1), row])
    with pytest.raises(InputError, match=rf"rows\.jsonl:2: .*{reason}"):
        train("sft", FAST, {"model": model, "data": table}, tmp_path / "o")


def test_fim_and_chat_rows_are_trained_together(model: Path, rows: Path, tmp_path: Path) -> None:
    fim = [
        {
            "row_id": f"f{n}",
            "kind": "fim",
            "fim": {"prefix": f"x{n} =", "middle": " 1", "suffix": ""},
        }
        for n in range(3)
    ]
    table = write_rows(tmp_path / "fim.jsonl", fim)
    settings = FAST | {"mix": {"fine": 0.75, "fim": 0.25}, "max_rows": 16, "epochs": 1.0}
    inputs = {"model": model, "fine": rows, "fim": table}
    summary, _ = train("sft", settings, inputs, tmp_path / "o")
    sources = summary.details["sources"]
    assert [sources[name]["used"] for name in ("fine", "fim")] == [12, 4]
    assert [sources[name]["usable"] for name in ("fine", "fim")] == [16, 3]
    assert sum(source["tokens"] for source in sources.values()) == summary.counts["tokens"]


def token_rows(prefix: str, count: int) -> list[TokenRow]:
    encoded = Encoded([1, 2], [IGNORED, 2])
    return [TokenRow(f"{prefix}{number}", encoded, 1.0) for number in range(count)]


def test_a_short_source_is_repeated_evenly() -> None:
    sources = {"big": token_rows("b", 50), "small": token_rows("s", 4)}
    rows, counts = mix_rows(sources, {"big": 0.5, "small": 0.5}, 21, seed=3)
    assert sum(counts.values()) == len(rows) == 21
    assert abs(counts["big"] - counts["small"]) == 1
    uses = Counter(row.row_id for row in rows)
    assert {uses[row.row_id] for row in sources["small"]} <= {2, 3}
    assert max(uses[row.row_id] for row in sources["big"]) == 1
    assert rows == mix_rows(sources, {"big": 0.5, "small": 0.5}, 21, seed=3)[0]
    assert rows != mix_rows(sources, {"big": 0.5, "small": 0.5}, 21, seed=4)[0]


def test_without_shares_every_row_is_taken_once() -> None:
    sources = {"a": token_rows("a", 5), "b": token_rows("b", 3)}
    rows, counts = mix_rows(sources, {}, None, seed=1)
    assert (sorted(row.row_id for row in rows), counts) == (
        sorted(row.row_id for source in sources.values() for row in source),
        {"a": 5, "b": 3},
    )
    rows, counts = mix_rows(sources, {}, 4, seed=1)
    assert len(rows) == len({row.row_id for row in rows}) == sum(counts.values()) == 4


def test_shares_that_do_not_fit_are_refused() -> None:
    sources = {"a": token_rows("a", 5), "b": []}
    with pytest.raises(RecipeError, match="one share for each input"):
        mix_rows(sources, {"a": 1.0}, None, seed=1)
    with pytest.raises(InputError, match=r"mix\.b"):
        mix_rows(sources, {"a": 0.5, "b": 0.5}, None, seed=1)


def test_packed_rows_do_not_see_each_other(model: Path) -> None:
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    chooser = random.Random(0)
    rows = []
    for length in (7, 31, 2, 18):
        ids = [chooser.randrange(600) for _ in range(length)]
        rows.append((ids, [IGNORED, *ids[1:-1], IGNORED] if length > 2 else [IGNORED, ids[1]]))
    with torch.no_grad():
        packed, places = label_log_probs(network, pack(rows))
        alone = []
        for ids, labels in rows:
            logits = network(input_ids=torch.tensor([ids])).logits[0, :-1]
            chosen = functional.log_softmax(logits, dim=-1)[range(len(ids) - 1), ids[1:]]
            alone += [p for p, label in zip(chosen, labels[1:], strict=True) if label != IGNORED]
    assert len(places) == len(alone)
    torch.testing.assert_close(packed, torch.stack(alone), atol=1e-5, rtol=1e-5)


def test_accumulation_and_weights_change_the_loss_as_they_should(
    model: Path, rows: Path, tmp_path: Path
) -> None:
    inputs = {"model": model, "data": rows}
    exact = FAST | {"dtype": "float32", "epochs": 1.0}
    whole, _ = train("sft", exact | {"batch_rows": 4}, inputs, tmp_path / "a")
    parts, _ = train("sft", exact | {"batch_rows": 1, "accumulate": 4}, inputs, tmp_path / "b")
    for left, right in zip(whole.details["curve"], parts.details["curve"], strict=True):
        assert left["loss"] == pytest.approx(right["loss"], rel=1e-4)
    heavy = write_rows(
        tmp_path / "heavy.jsonl", [chat_row(number) | {"weight": 2.0} for number in range(16)]
    )
    double, _ = train("sft", exact, {"model": model, "data": heavy}, tmp_path / "c")
    first, second = (each.details["curve"][0]["loss"] for each in (whole, double))
    assert second == pytest.approx(2 * first, rel=1e-4)
