"""The preference stage on a tiny model: it starts at ln 2, prefers, and survives being killed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.chat import encode_chat, encode_prompt
from align.dpo.batches import collate, pack_pairs
from align.dpo.order import PromptOrder
from align.dpo.pairs import read_pairs
from align.errors import ArtifactError, InputError, TrainingError
from align.losses import add_loss_head, label_scores
from tests.tiny import build_tiny_model
from tests.training_context import train, train_until_killed

FAST = {"learning_rate": 2e-3, "epochs": 3.0, "batch_pairs": 2, "accumulate": 2, "save_steps": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keeps references in a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "code-align" / "references"


def pair(number: int, chosen: str | None = None, rejected: str = "no idea") -> dict[str, Any]:
    return {
        "pair_id": f"p{number:03}",
        "prompt": [{"role": "user", "content": f"return {number}"}],
        "chosen": [{"role": "assistant", "content": chosen or f"return {number}"}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


def write_pairs(path: Path, pairs: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in pairs), encoding="utf-8")
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs.jsonl", [pair(number) for number in range(12)])


@pytest.mark.parametrize(
    "changes",
    [{}, {"dtype": "float32", "nll_weight": 0.0}, {"lora": None, "learning_rate": 3e-4}],
    ids=["anchored", "sigmoid alone", "all weights"],
)
def test_it_starts_at_ln_2_and_the_margin_grows(
    model: Path, pairs: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    settings = FAST | changes
    summary, context = train("dpo", settings, {"model": model, "pairs": pairs}, tmp_path / "o")
    start, end = summary.details["start"], summary.details["end"]
    assert start["preference_loss"] == pytest.approx(math.log(2), abs=1e-3)
    assert end["preference_loss"] < 0.6
    assert end["margin"] > start["margin"] + 0.2
    assert end["accuracy"] == 1.0
    if settings.get("nll_weight") == 0.0:
        assert start["loss"] == pytest.approx(start["preference_loss"])
    else:
        assert start["loss"] > start["preference_loss"]
    assert len(context.steps()) == summary.counts["steps"] == 9
    assert (tmp_path / "o" / "model" / "checkpoint.json").exists()


def test_another_checkpoint_may_be_the_reference(model: Path, pairs: Path, tmp_path: Path) -> None:
    settings = FAST | {"dtype": "float32", "nll_weight": 0.0, "lora": None, "learning_rate": 3e-4}
    inputs = {"model": model, "pairs": pairs}
    train("dpo", settings, inputs, tmp_path / "one")
    second = {"model": tmp_path / "one" / "model", "pairs": pairs}
    own, _ = train("dpo", settings, second, tmp_path / "own")
    first, _ = train("dpo", settings, {**second, "reference": model}, tmp_path / "first")
    assert own.details["start"]["margin"] == pytest.approx(0, abs=1e-3)
    assert first.details["start"]["margin"] > 0.2, "what the first round moved counts"


def test_the_merged_model_prefers_what_was_chosen(model: Path, pairs: Path, tmp_path: Path) -> None:
    train("dpo", FAST, {"model": model, "pairs": pairs}, tmp_path / "o")
    tokenizer = AutoTokenizer.from_pretrained(model)
    batch = pack_pairs([vars(row) for row in read_pairs(pairs, tokenizer, 500).rows], share=False)
    margins = []
    for folder in (model, tmp_path / "o" / "model"):
        network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        add_loss_head(network)
        with torch.no_grad():
            log_probs = label_scores(network, batch).log_probs
        sums = torch.zeros(24).index_add(0, batch["rows"], log_probs)
        margins.append(sums[:12] - sums[12:])
    assert bool((margins[1] > margins[0]).all())


def test_training_ids_are_those_of_chat_and_of_inference(model: Path, pairs: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    row = read_pairs(pairs, tokenizer, 500).rows[3]
    prompt = pair(3)["prompt"]
    assert row.prompt_ids == encode_prompt(tokenizer, prompt)
    for side, ids in (("chosen", row.chosen_ids), ("rejected", row.rejected_ids)):
        whole = encode_chat(tokenizer, [*prompt, *pair(3)[side]])
        assert whole.input_ids[: len(row.prompt_ids) + len(ids)] == row.prompt_ids + ids
        assert tokenizer.decode(ids).endswith("<|im_end|>")


def pairs_of_prompts(path: Path, prompts: int, each: int) -> Path:
    rows = [
        pair(prompt, f"return {prompt} + {number}") | {"pair_id": f"p{number}-{prompt}"}
        for number in range(each)
        for prompt in range(prompts)
    ]
    return write_pairs(path, rows)


@pytest.mark.parametrize("group_prompts", [False, True])
def test_a_killed_training_ends_with_the_same_weights(
    model: Path, tmp_path: Path, group_prompts: bool
) -> None:
    inputs = {"model": model, "pairs": pairs_of_prompts(tmp_path / "pairs.jsonl", 4, 3)}
    settings = FAST | {"group_prompts": group_prompts}
    whole, _ = train("dpo", settings, inputs, tmp_path / "whole")
    train_until_killed(["step:5"], "dpo", settings, inputs, tmp_path / "killed")
    resumed, context = train("dpo", settings, inputs, tmp_path / "killed")
    assert [step["step"] for step in context.steps()] == [5, 6, 7, 8, 9]
    assert resumed.content_sha == whole.content_sha
    assert resumed.details == whole.details


@pytest.mark.parametrize("group_prompts", [False, True])
def test_pairs_of_a_prompt_stand_together_where_asked_for(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group_prompts: bool
) -> None:
    from align.dpo import stage

    seen: list[list[tuple[int, ...]]] = []

    def recording(rows: Any, *, share: bool) -> dict[str, Any]:
        seen.append([tuple(row["prompt_ids"]) for row in rows])
        return collate(rows, share=share)

    monkeypatch.setattr(stage, "collate", recording)
    inputs = {"model": model, "pairs": pairs_of_prompts(tmp_path / "pairs.jsonl", 6, 4)}
    settings = FAST | {"batch_pairs": 4, "epochs": 2.0, "group_prompts": group_prompts}
    train("dpo", settings, inputs, tmp_path / "o")
    assert [len(batch) for batch in seen] == [4] * 12
    assert all(len(set(batch)) == 1 for batch in seen) == group_prompts
    first, second = ([batch[0] for batch in part] for part in (seen[:6], seen[6:]))
    assert first != second, "every epoch has an order of its own"


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(0, 3), st.integers(0, 3))
def test_prompts_are_drawn_in_a_random_order_each_pair_once(
    prompts: list[int], seed: int, epoch: int
) -> None:
    order, again = PromptOrder(prompts, seed), PromptOrder(prompts, seed)
    order.set_epoch(epoch)
    again.set_epoch(epoch)
    drawn = list(order)
    assert sorted(drawn) == list(range(len(prompts)))
    assert drawn == list(again)
    assert len(order) == len(prompts)
    assert len([key for key, _ in groupby(prompts[n] for n in drawn)]) == len(set(prompts))


def test_pairs_that_can_t_teach_are_left_out_and_counted(model: Path, tmp_path: Path) -> None:
    table = write_pairs(
        tmp_path / "pairs.jsonl",
        [pair(1), pair(2, "same", "same"), pair(3, "x = 1\n" * 300), pair(4)],
    )
    settings = FAST | {"max_length": 200, "epochs": 1.0}
    summary, context = train("dpo", settings, {"model": model, "pairs": table}, tmp_path / "o")
    assert summary.counts == {
        "pairs": 2,
        "held_out": 0,
        "overlong": 1,
        "identical": 1,
        "steps": 1,
    }
    assert "1 pairs are longer" in context.warnings[0]
    with pytest.raises(InputError, match="no pair is left"):
        train("dpo", settings | {"max_length": 3}, {"model": model, "pairs": table}, tmp_path / "p")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompt": "text"}, "prompt"),
        ({"prompt": [{"role": "assistant", "content": "x"}]}, "wait for an answer"),
        ({"prompt": ["x"]}, "message 0 must be an object"),
        ({"chosen": []}, "chosen"),
        ({"chosen": ["x"]}, "list of one assistant message"),
        ({"chosen": [{"role": "assistant", "content": " "}]}, "learn to say nothing"),
        ({"rejected": [{"role": "assistant", "content": "\ud800"}]}, "content of `rejected`"),
        ({"rejected": [{"role": "user", "content": "x"}]}, "rejected"),
    ],
)
def test_a_row_that_is_no_pair_is_named(
    model: Path, tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    table = write_pairs(tmp_path / "pairs.jsonl", [pair(1), pair(2) | change])
    with pytest.raises(InputError, match=rf"pairs\.jsonl:2: .*{reason}"):
        train("dpo", FAST, {"model": model, "pairs": table}, tmp_path / "o")


def test_a_reference_that_is_not_the_policy_stops_the_training(
    model: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from align import lora
    from align.dpo import stage

    config = lora.lora_config

    def not_fresh(settings: Any) -> Any:
        made = config(settings)
        made.init_lora_weights = False  # B is not zero: the adapter changes the model at once
        return made

    monkeypatch.setattr(stage, "lora_config", not_fresh)
    with pytest.raises(TrainingError, match="ln 2"):
        train("dpo", FAST, {"model": model, "pairs": pairs}, tmp_path / "o")


def test_points_of_more_processes_are_not_gone_on_from(
    model: Path, pairs: Path, tmp_path: Path
) -> None:
    inputs = {"model": model, "pairs": pairs}
    train_until_killed(["step:5"], "dpo", FAST, inputs, tmp_path / "o")
    owner = tmp_path / "o" / "checkpoints" / "identity.json"
    owner.write_text(json.dumps(json.loads(owner.read_text()) | {"processes": 2}))
    with pytest.raises(ArtifactError, match="made by 2 processes, and 1 are at work"):
        train("dpo", FAST, inputs, tmp_path / "o")


def test_a_model_that_never_learnt_its_template_is_warned_of(
    model: Path, pairs: Path, tmp_path: Path
) -> None:
    base: Any = AutoModelForCausalLM.from_pretrained(model)
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    rows = base.get_input_embeddings().weight
    ends = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    with torch.no_grad():
        rows[ends[0]] = rows[ends[1]]
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    for folder, warned in ((tmp_path / "base", True), (model, False)):
        inputs = {"model": folder, "pairs": pairs}
        _, context = train("dpo", FAST | {"epochs": 1.0}, inputs, tmp_path / f"{warned}")
        found = [each for each in context.warnings if "trained <|im_start|>, <|im_end|>" in each]
        assert len(found) == warned


def test_dropout_of_an_adapter_is_trained_with(model: Path, pairs: Path, tmp_path: Path) -> None:
    found = []
    for share in (0.0, 0.5):
        settings = FAST | {"lora": {"dropout": share}, "dtype": "float32"}
        summary, _ = train("dpo", settings, {"model": model, "pairs": pairs}, tmp_path / f"{share}")
        found.append(summary.details["curve"])
    assert [curve[0]["loss"] for curve in found] == pytest.approx([found[0][0]["loss"]] * 2)
    assert found[0][-1]["loss"] != found[1][-1]["loss"]


def test_two_processes_train_as_one(model: Path, pairs: Path, tmp_path: Path) -> None:
    """Each takes every second batch: two of one batch are one process with two."""
    settings = {**FAST, "dtype": "float32", "epochs": 2.0, "save_steps": 4}
    curves = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={processes}", "--module", "align.cli", "dpo"]
        command += ["--model", str(model), "--pairs", str(pairs), "--out", str(out), "--seed", "1"]
        for name, value in {**settings, "accumulate": 2 // processes}.items():
            command += ["--set", f"{name}={value}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        manifest = json.loads((out / "manifest.json").read_text())
        curves.append([point["loss"] for point in manifest["details"]["curve"]])
        assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["adapter", "model"]
    assert len(curves[0]) == 6
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)


def test_one_process_of_two_that_fails_ends_both(model: Path, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs.jsonl", [{"prompt": "no pair"}])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["--module", "align.cli", "dpo", "--model", str(model), "--pairs", str(pairs)]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode != 0
    assert "a pair needs `prompt`" in done.stderr
