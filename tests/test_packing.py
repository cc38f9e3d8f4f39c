"""Packing: the same numbers as row by row, on every attention, with nothing computed twice."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import get_peft_model
from torch.nn import functional
from transformers import AutoModelForCausalLM

from align.attention import PACKED, keep_rows_apart
from align.chat import IGNORED
from align.errors import TrainingError
from align.lora import lora_config
from align.losses import add_loss_head, label_scores, weighted_nll
from align.packing import best_fit, pack
from align.settings import LoraSettings
from tests.tiny import build_tiny_model

Row = tuple[list[int], list[int]]

SYSTEM = [7, 8, 9, 10, 11, 12, 13, 14, 15, 16]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


def make_rows(seed: int = 0) -> list[Row]:
    """Rows that share a beginning, part of one, or nothing; answers and prompts of any length."""
    chooser = random.Random(seed)
    rows = []
    for prompt, answer in ((2, 5), (30, 1), (12, 20), (1, 1), (40, 9)):
        middle = [chooser.randrange(600) for _ in range(prompt)]
        last = [chooser.randrange(600) for _ in range(answer)]
        rows.append(row([*SYSTEM, *middle], last))
    rows.append(row([*rows[2][0][:22]], [1, 2, 3]))  # the same prompt, another answer
    rows.append(row([*rows[2][0][:22]], [1]))
    rows.append(row([500, 501], [502, 503]))
    ids, labels = row([*SYSTEM, 20, 21], [22, 23])
    rows.append(([*ids, 30, 31, 32], [*labels, IGNORED, 31, IGNORED]))  # two turns
    return rows


def row(prompt: list[int], answer: list[int]) -> Row:
    return [*prompt, *answer, 599], [*([IGNORED] * len(prompt)), *answer, IGNORED]


def load(folder: Path, attention: str, dtype: torch.dtype = torch.float32) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation=attention)


def alone(model: Any, rows: list[Row]) -> torch.Tensor:
    """Log-probabilities of all labels, one row at a time by the model's plain forward."""
    found = []
    for ids, labels in rows:
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1].float()
        chosen = functional.log_softmax(logits, dim=-1)[range(len(ids) - 1), ids[1:]]
        found += [p for p, label in zip(chosen, labels[1:], strict=True) if label != IGNORED]
    return torch.stack(found)


@pytest.mark.parametrize("attention", [PACKED, "sdpa", "eager"])
def test_rows_do_not_see_each_other_on_any_attention(folder: Path, attention: str) -> None:
    rows = make_rows()
    with torch.no_grad():
        expected = alone(load(folder, "eager"), rows)
        batch = pack(rows, share=attention == PACKED)
        model = load(folder, attention)
        add_loss_head(model)
        packed = label_scores(model, batch).log_probs
    torch.testing.assert_close(packed, expected, atol=1e-5, rtol=1e-5)


def test_a_model_with_other_layers_than_attention_is_refused(folder: Path) -> None:
    model = load(folder, "eager")
    model.config.layer_types = ["linear_attention", "full_attention"]
    with pytest.raises(TrainingError, match=r"other layers than attention \(linear_attention\)"):
        keep_rows_apart(model)
    model.config.layer_types = ["full_attention", "full_attention"]
    keep_rows_apart(model)
    model._is_stateful = True
    with pytest.raises(TrainingError, match="recurrent"):
        keep_rows_apart(model)


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize(
    ("backend", "few_scores"), [(PACKED, 1 << 16), (PACKED, 0), ("sdpa", 0), ("eager", 0)]
)
def test_gradients_are_those_of_the_unpacked_rows(
    folder: Path, lora: bool, backend: str, few_scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("align.attention._FEW_SCORES", few_scores)
    monkeypatch.setattr("align.losses._LABELS", 7)
    rows = make_rows(1)
    weights = torch.linspace(0.5, 2.0, sum(label != IGNORED for r in rows for label in r[1]))
    gradients = []
    for packs in (False, True):
        torch.manual_seed(0)
        model = load(folder, backend if packs else "eager")
        trained = model
        if lora:
            trained = get_peft_model(model, lora_config(LoraSettings(), fused=packs))
            for name, parameter in trained.named_parameters():
                if "lora_B" in name:  # zero at first, when A has no gradient
                    torch.nn.init.normal_(parameter, std=0.1)
        if packs:
            add_loss_head(model)
            loss = weighted_nll(trained, pack(rows, share=backend == PACKED), weights)
        else:
            loss = -(alone(trained, rows) * weights).sum()
        (loss / len(weights)).backward()
        gradients.append(
            {n: p.grad for n, p in trained.named_parameters() if p.grad is not None}
            | {"loss": loss.detach() / len(weights)}
        )
    plain, packed = gradients
    assert plain.keys() == packed.keys()
    assert len(plain) > 14
    for name, expected in plain.items():
        torch.testing.assert_close(packed[name], expected, atol=1e-5, rtol=1e-5, msg=name)


def test_shared_beginnings_and_what_nothing_follows_are_not_computed() -> None:
    rows = [row([*SYSTEM, *prompt], [5, 6]) for prompt in ([1, 1], [2], [3, 3, 3])]
    batch = pack(rows)
    assert batch["input_ids"].shape[1] == len(SYSTEM) + (2 + 1 + 3) + 3 * 1
    assert batch["layout"].lengths[0] == len(SYSTEM)
    assert batch["position_ids"].max() == len(SYSTEM) + 3
    flat = pack(rows, share=False)
    assert "layout" not in flat
    assert flat["input_ids"].shape[1] == sum(len(ids) for ids, _ in rows) - 2 * len(rows)


def test_a_trained_beginning_is_shared_and_every_row_keeps_its_labels() -> None:
    ids = [1, *SYSTEM, 3]
    labels = [IGNORED, *SYSTEM, 3]
    batch = pack([(ids, labels), (ids, labels)])
    assert batch["input_ids"].tolist() == [[1, *SYSTEM]]
    assert batch["targets"].tolist() == [*SYSTEM, 3] * 2
    assert batch["sources"].tolist() == [*range(len(SYSTEM) + 1)] * 2


@pytest.mark.parametrize("trained", [False, True], ids=["frozen head", "trained head"])
@pytest.mark.parametrize("changed", [False, True], ids=["plain logits", "scaled logits"])
def test_scores_and_what_is_derived_from_them_are_those_of_plain_logits(
    folder: Path, trained: bool, changed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("align.losses._LABELS", 7)
    rows = make_rows(2)
    # Not linear in the log-probabilities: each one's gradient depends on all of them.
    found = []
    for packs in (False, True):
        model = load(folder, PACKED if packs else "eager")
        if changed:
            model.config.logits_scaling = 1.0 + 1e-9  # takes the path of models that scale logits
        model.get_output_embeddings().weight.requires_grad_(trained)
        if packs:
            add_loss_head(model)
            log_probs = label_scores(model, pack(rows)).log_probs
        else:
            log_probs = alone(model, rows)
        (log_probs.sum() ** 2 / 1e4).backward()
        found.append(
            {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
            | {"log_probs": log_probs.detach()}
        )
    plain, packed = found
    assert plain.keys() == packed.keys()
    assert ("model.embed_tokens.weight" in plain) == trained
    for name, expected in plain.items():
        torch.testing.assert_close(packed[name], expected, atol=1e-5, rtol=1e-4, msg=name)


def test_entropies_are_those_of_the_distributions(folder: Path) -> None:
    model = load(folder, PACKED)
    add_loss_head(model)
    rows = make_rows(3)
    with torch.no_grad():
        entropies = label_scores(model, pack(rows)).entropies
        logits = [model(input_ids=torch.tensor([ids])).logits[0] for ids, _ in rows]
    expected = [
        torch.distributions.Categorical(logits=each[place - 1]).entropy()
        for each, (_, labels) in zip(logits, rows, strict=True)
        for place, label in enumerate(labels)
        if label != IGNORED
    ]
    torch.testing.assert_close(entropies, torch.stack(expected), atol=1e-5, rtol=1e-5)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_label_is_predicted_from_its_own_row_s_past(data: st.DataObject) -> None:
    token = st.integers(0, 1)  # few tokens: many rows begin alike
    rows: list[Row] = []
    for _ in range(data.draw(st.integers(1, 6))):
        ids = data.draw(st.lists(token, min_size=2, max_size=40))
        trained = data.draw(st.sets(st.integers(1, len(ids) - 1), min_size=1))
        rows.append((ids, [t if n in trained else IGNORED for n, t in enumerate(ids)]))
    batch = pack(rows)
    layout, ids = batch["layout"], batch["input_ids"][0].tolist()
    starts = [sum(layout.lengths[:n]) for n in range(len(layout.lengths))]
    wanted = [
        (number, place)
        for number, (_, labels) in enumerate(rows)
        for place, label in enumerate(labels)
        if label != IGNORED
    ]
    assert batch["rows"].tolist() == [number for number, _ in wanted]
    assert batch["targets"].tolist() == [rows[number][0][place] for number, place in wanted]
    for (number, place), source in zip(wanted, batch["sources"].tolist(), strict=True):
        segment = max(n for n, start in enumerate(starts) if start <= source)
        seen = [
            ids[at]
            for part in layout.paths[segment]
            for at in range(starts[part], starts[part] + layout.lengths[part])
            if at <= source
        ]
        assert seen == rows[number][0][:place]
        assert batch["position_ids"][0, source] == place - 1


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 30), max_size=40))
def test_best_fit_loses_no_row_and_overfills_no_pass(lengths: list[int]) -> None:
    passes = best_fit(lengths, 20)
    assert sorted(n for rows in passes for n in rows) == list(range(len(lengths)))
    for rows in passes:
        assert sum(lengths[n] for n in rows) <= 20 or len(rows) == 1
    light = [n for n in range(len(passes)) if 2 * sum(lengths[m] for m in passes[n]) <= 20]
    assert len(light) <= 1, "two half-empty passes would fit into one"


def test_a_row_without_a_label_can_not_be_packed() -> None:
    with pytest.raises(ValueError, match="needs a label"):
        pack([([1, 2], [IGNORED, IGNORED])])
    with pytest.raises(ValueError, match="first token"):
        pack([([1, 2], [1, 2])])
