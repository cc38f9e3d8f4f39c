"""The supervised stage on a tiny model: it learns, mixes as told, and survives being killed."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.alone import do_stage
from align.errors import ArtifactError, InputError, RecipeError, TrainingError
from align.lora import untrained_rows
from align.settings import SftSettings
from align.sft.rows import read_source
from align.skips import Skips
from align.training import keep_adapter_exact, load_model, load_tokenizer, save_checkpoint
from tests.conftest import RecordingContext
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
    [{"dtype": "bfloat16"}, {"dtype": "float32"}, {"lora": None, "learning_rate": 1e-3}],
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
    saved = {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()}
    assert saved == {torch.float32}, "the start model's type, whatever was computed in"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    trained = AutoModelForCausalLM.from_pretrained(folder)
    ends = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert trained.generation_config.eos_token_id == ends
    assert trained.config.eos_token_id == ends[0]
    before = AutoModelForCausalLM.from_pretrained(model).get_input_embeddings().weight.shape
    assert trained.get_input_embeddings().weight.shape == before, "rows beyond the tokenizer stay"
    assert before[0] > len(tokenizer)


@pytest.mark.parametrize("lora", [{}, None], ids=["adapter", "all weights"])
def test_a_training_that_diverges_ends_without_a_model(
    model: Path, rows: Path, tmp_path: Path, lora: dict[str, Any] | None
) -> None:
    settings = FAST | {"learning_rate": 1e30, "lora": lora, "dtype": "float32"}
    with pytest.raises(TrainingError, match="diverged"):
        train("sft", settings, {"model": model, "data": rows}, tmp_path / "o")
    assert not (tmp_path / "o" / "model").exists()


def test_stops_that_a_model_brings_stay(model: Path, rows: Path, tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    shutil.copytree(model, parent)
    config = json.loads((parent / "generation_config.json").read_text())
    (parent / "generation_config.json").write_text(json.dumps(config | {"eos_token_id": [7, 0]}))
    train("sft", FAST | {"epochs": 0.25}, {"model": parent, "data": rows}, tmp_path / "o")
    saved = json.loads((tmp_path / "o" / "model" / "generation_config.json").read_text())
    assert sorted(saved["eos_token_id"])[:2] == [0, 7]
    assert len(saved["eos_token_id"]) >= 3


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


def test_a_training_that_ended_within_an_epoch_is_over(
    model: Path, rows: Path, tmp_path: Path
) -> None:
    settings = FAST | {"epochs": 0.5}
    inputs = {"model": model, "data": rows}
    whole, _ = train("sft", settings, inputs, tmp_path / "whole")
    train_until_killed(["merging"], "sft", settings, inputs, tmp_path / "killed")
    resumed, context = train("sft", settings, inputs, tmp_path / "killed")
    assert context.steps() == []
    assert resumed.counts == whole.counts
    assert resumed.details["curve"] == whole.details["curve"]
    assert resumed.content_sha == whole.content_sha


@pytest.mark.parametrize("kind", ["all weights of a mix", "rows of tokens"])
def test_other_trainings_end_the_same_after_a_kill_too(
    model: Path, base: Path, rows: Path, tmp_path: Path, kind: str
) -> None:
    settings = FAST | {"epochs": 2.0, "dtype": "float32"}
    inputs = {"model": base, "data": rows}
    if kind == "all weights of a mix":
        settings |= {"lora": None, "mix": {"data": 0.6, "more": 0.4}, "learning_rate": 1e-3}
        more = [chat_row(number, "pass\n" * 9) for number in range(40, 45)]
        inputs = {"model": model, "data": rows, "more": write_rows(tmp_path / "more.jsonl", more)}
    whole, _ = train("sft", settings, inputs, tmp_path / "whole")
    folder = tmp_path / "killed"
    (left,) = train_until_killed(["step:5"], "sft", settings, inputs, folder)
    assert left == ["checkpoint-4"]
    resumed, context = train("sft", settings, inputs, folder)
    assert 0 < len(context.steps()) < whole.counts["steps"]
    assert resumed.content_sha == whole.content_sha
    assert resumed.details["curve"] == whole.details["curve"]


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
    assert "data: 1 rows are longer than 100 tokens: 1 were left out, 0" in context.warnings[0]
    assert summary.details["sources"]["data"]["lengths"]["longest"] > 200
    places = [(skip["kind"], skip["place"]) for skip in summary.details["skips"]]
    assert places == [("overlong", f"{table}:3")]
    with pytest.raises(InputError, match="no row is left"):
        train("sft", settings | {"max_length": 5}, {"model": model, "d": table}, tmp_path / "p")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": [{"role": "user", "content": "x"}]}, "not the assistant's"),
        ({"kind": "story"}, "kind 'story'"),
        ({"kind": "fim", "fim": {"prefix": "a", "middle": "", "suffix": "b"}}, "middle is empty"),
        ({"kind": "fim", "fim": {"prefix": "a", "middle": "b", "wrapper": "x"}}, "wrapper 'x'"),
        ({"fim": {"prefix": "a", "middle": "\ud800", "suffix": "b"}}, "half a character"),
        ({"fim": {"prefix": "a", "middle": "b", "suffix": "", "context": 1}}, "context of a fim"),
        ({"messages": ["hi"]}, "message 0 must be an object"),
        (chat_row(1, "half \ud800"), "half a character at 5"),
        (chat_row(1) | {"row_id": "\ud800"}, "row_id is no Unicode text"),
        (chat_row(1) | {"weight": 0.0}, "weight 0.0"),
        (chat_row(1) | {"weight": "high"}, "weight 'high'"),
        (chat_row(1) | {"weight": [1]}, "weight [1]"),
        (chat_row(1) | {"weight": float("inf")}, "not finite"),
        (chat_row(1) | {"weight": 10**400}, "too large"),
    ],
)
def test_a_bad_row_is_named_and_stops_no_other(
    model: Path, tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    table = write_rows(tmp_path / "rows.jsonl", [chat_row(1), row, chat_row(2)])
    skips = Skips(RecordingContext())
    source = read_source(table, AutoTokenizer.from_pretrained(model), SftSettings(), skips)
    assert (len(source.rows), source.bad) == (2, 1)
    (skip,) = skips.listed
    assert skip["place"] == f"{table}:2"
    assert reason in skip["reason"]


def test_bad_rows_are_counted_in_the_manifest_and_named_on_the_screen(
    model: Path, tmp_path: Path
) -> None:
    table = write_rows(tmp_path / "rows.jsonl", [chat_row(1), chat_row(2) | {"row_id": 7}])
    table.write_text(table.read_text() + "{broken\n")
    summary, context = train("sft", FAST, {"model": model, "data": table}, tmp_path / "o")
    assert (summary.counts["rows"], summary.counts["bad"]) == (2, 1)
    (skip,) = summary.details["skips"]
    assert skip["place"] == f"{table}:3" and "is no JSON" in skip["reason"]
    assert f"{table}:3: {skip['reason']}" in context.warnings


def test_long_rows_can_be_refused_or_truncated(model: Path, tmp_path: Path) -> None:
    table = write_rows(
        tmp_path / "rows.jsonl", [chat_row(1), chat_row(2, "x = 1\n" * 200), chat_row(3)]
    )
    long_prompt = chat_row(4)
    long_prompt["messages"][0]["content"] = "why? " * 200
    with pytest.raises(InputError, match=r"rows\.jsonl:2: the row holds \d+ tokens"):
        settings = FAST | {"max_length": 100, "overlong": "error"}
        train("sft", settings, {"model": model, "data": table}, tmp_path / "o")
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    table.write_text(table.read_text() + json.dumps(long_prompt) + "\n")
    skips = Skips(RecordingContext())
    settings = SftSettings(max_length=100, overlong="truncate")
    source = read_source(table, tokenizer, settings, skips)
    assert (len(source.rows), source.overlong, source.truncated) == (3, 2, 1)
    assert [skip["place"] for skip in skips.listed] == [f"{table}:4"], "no answer is left of it"
    as_script = settings.model_copy(update={"train_on": "qwen_script"})
    script = read_source(table, tokenizer, as_script, skips)
    assert [row.row_id for row in script.rows] == ["r001", "r002", "r003"], "it trains more tokens"
    cut = next(row for row in source.rows if row.row_id == "r002").encoded
    assert len(cut.input_ids) == len(cut.labels) == 100
    assert end not in cut.labels
    assert all(end in row.encoded.labels for row in source.rows if row.row_id != "r002")


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


def test_accumulation_and_weights_change_the_loss_as_they_should(
    model: Path, rows: Path, tmp_path: Path
) -> None:
    inputs = {"model": model, "data": rows}
    exact = FAST | {"dtype": "float32", "epochs": 1.0}
    whole, _ = train("sft", exact | {"batch_rows": 8}, inputs, tmp_path / "a")
    parts, _ = train("sft", exact | {"batch_rows": 1, "accumulate": 8}, inputs, tmp_path / "b")
    split, _ = train(
        "sft", exact | {"batch_rows": 8, "pass_tokens": 60}, inputs, tmp_path / "split"
    )
    for other in (parts, split):
        for left, right in zip(whole.details["curve"], other.details["curve"], strict=True):
            assert left["loss"] == pytest.approx(right["loss"], rel=1e-5)
    heavy = write_rows(
        tmp_path / "heavy.jsonl", [chat_row(number) | {"weight": 2.0} for number in range(16)]
    )
    double, _ = train(
        "sft", exact | {"batch_rows": 8}, {"model": model, "data": heavy}, tmp_path / "c"
    )
    first, second = (each.details["curve"][0]["loss"] for each in (whole, double))
    assert second == pytest.approx(2 * first, rel=1e-4)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained checkpoint whose chat tokens are then drawn anew, as in a base model."""
    folder = tmp_path_factory.mktemp("base")
    answers = [(f"return {n}", f"def f():\n    return {n}\n") for n in range(4)]
    build_tiny_model(folder, train_on=answers, steps=60)
    model = AutoModelForCausalLM.from_pretrained(folder)
    rows = model.get_input_embeddings().weight.data
    common = torch.nn.functional.normalize(torch.randn(128), dim=0)
    rows += 0.5 * common  # trained rows lie in a cone; those of so short a training do not yet
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for name in ("<|im_start|>", "<|im_end|>"):
        row = torch.randn(128) * rows.std()
        rows[tokenizer.convert_tokens_to_ids(name)] = row - (row @ common) * common
    model.save_pretrained(folder)
    return folder


def test_preferences_are_refused_too_where_the_settings_say_so(base: Path, tmp_path: Path) -> None:
    from tests.test_dpo import pair, write_pairs

    pairs = write_pairs(tmp_path / "pairs.jsonl", [pair(number) for number in range(4)])
    settings = {"dtype": "float32", "lora": {"train_tokens": "never"}}
    with pytest.raises(TrainingError, match="seems never to have trained"):
        train("dpo", settings, {"model": base, "pairs": pairs}, tmp_path / "o")


def test_settings_of_sampling_without_sampling_cost_no_training(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "start")
    model, tokenizer = load_model(folder, "float32"), load_tokenizer(folder)
    assert model.generation_config is not None
    model.generation_config.temperature = 0.6
    save_checkpoint(model, tokenizer, tmp_path / "saved")
    assert load_model(tmp_path / "saved", "float32").generation_config.do_sample


def test_what_is_trained_is_exact_where_the_rest_is_not() -> None:
    layers = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)).bfloat16()
    layers[0].requires_grad_(requires_grad=False)
    keep_adapter_exact(layers)
    assert [each.weight.dtype for each in layers] == [torch.bfloat16, torch.float32]


def test_chat_tokens_that_were_never_trained_are_trained_or_refused(
    base: Path, rows: Path, tmp_path: Path
) -> None:
    inputs = {"model": base, "data": rows}
    settings = FAST | {"dtype": "float32", "epochs": 2.0}
    with pytest.raises(TrainingError, match=r"never trained <\|im_start\|>, <\|im_end\|>"):
        train("sft", settings | {"lora": {"train_tokens": "never"}}, inputs, tmp_path / "no")
    summary, context = train("sft", settings, inputs, tmp_path / "o")
    assert "never trained <|im_start|>, <|im_end|>" in context.warnings[-1]
    losses = [step["loss"] for step in summary.details["curve"]]
    assert losses[-1] < losses[0]
    before, after = (
        load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
        for folder in (base, tmp_path / "o" / "model")
    )
    changed = (before != after).any(dim=1).nonzero().squeeze(1).tolist()
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    assert changed == sorted(tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"]))


def test_trained_chat_tokens_and_random_models_are_left_alone(model: Path) -> None:
    rows = AutoModelForCausalLM.from_pretrained(model).get_input_embeddings().weight
    assert untrained_rows(rows, [1, 2]) == []


@pytest.mark.parametrize("lora", [{}, {"dora": True}, {"dropout": 0.05}], ids=str)
def test_plain_peft_loads_the_adapter(
    model: Path, rows: Path, tmp_path: Path, lora: dict[str, Any]
) -> None:
    settings = FAST | {"dtype": "float32", "epochs": 1.0, "lora": lora}
    summary, _ = train("sft", settings, {"model": model, "data": rows}, tmp_path / "o")
    losses = [step["loss"] for step in summary.details["curve"]]
    assert losses[-1] < losses[0]
    ids = torch.tensor([[5, 6, 7, 8]])
    adapted = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "o" / "adapter")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "o" / "model")
    plain = AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        expected = merged(ids).logits
        torch.testing.assert_close(adapted(ids).logits, expected, atol=1e-4, rtol=1e-4)
        assert (plain(ids).logits - expected).abs().max() > 1e-3


def test_quantising_without_a_gpu_is_refused(model: Path, rows: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    inputs = {"model": model, "data": rows}
    with pytest.raises(TrainingError, match="needs a CUDA GPU"):
        train("sft", FAST | {"lora": {"quantise": True}}, inputs, tmp_path / "o")


def test_a_tracker_that_is_not_installed_is_named(
    model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("align.metrics.find_spec", lambda name: None)
    inputs = {"model": model, "data": rows}
    with pytest.raises(TrainingError, match="pip install trackio"):
        train("sft", FAST | {"report_to": ["trackio"]}, inputs, tmp_path / "o")


def test_every_step_s_metrics_reach_tensorboard(model: Path, rows: Path, tmp_path: Path) -> None:
    settings = FAST | {"report_to": ["tensorboard"], "epochs": 1.0}
    summary, _ = train("sft", settings, {"model": model, "data": rows}, tmp_path / "o")
    events = EventAccumulator(str(tmp_path / "o" / "tensorboard"))
    events.Reload()
    seen = {event.step: event.value for event in events.Scalars("train/loss")}
    assert seen == {
        step["step"]: pytest.approx(step["loss"], rel=1e-6) for step in summary.details["curve"]
    }


def test_layers_are_computed_twice_only_where_memory_needs_it(
    model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = {"model": model, "data": rows}
    exact = FAST | {"dtype": "float32", "epochs": 0.5}
    curves = []
    for name, free in (("plenty", 1 << 40), ("little", 1 << 10)):
        monkeypatch.setattr("align.memory.free_bytes", lambda free=free: free)
        summary, context = train("sft", exact, inputs, tmp_path / name)
        (event,) = [fields for event, fields in context.events if event == "memory"]
        assert event["checkpointing"] == (name == "little")
        curves.append([step["loss"] for step in summary.details["curve"]])
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)


def test_several_processes_are_refused(
    model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match="sft stage runs in one process, and 2 were started"):
        do_stage("sft", SftSettings(), {"model": model, "data": rows}, tmp_path / "o")
