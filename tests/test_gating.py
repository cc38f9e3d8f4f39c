"""Gated MLPs in one function: the same bits, less kept, and no other MLP touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM

from align.gating import gate_in_one
from tests.tiny import build_tiny_model

IDS = torch.arange(40).view(1, 40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager")


def kept_numbers(compute: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, int]:
    """Returns a result, and how many numbers autograd keeps for its way back."""
    sizes: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        return compute(), sum(sizes)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_bits_with_one_tensor_of_the_mlps_width_less(
    folder: Path, dtype: torch.dtype, autocast: bool
) -> None:
    found = []
    for changes in (False, True):
        model = load(folder, dtype)
        if changes:
            gate_in_one(model)

        def loss(model: Any = model) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                result: torch.Tensor = model(input_ids=IDS, labels=IDS).loss
            return result

        value, kept = kept_numbers(loss)
        value.backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        found.append((value, gradients, kept))
    (plain, plain_gradients, much), (one, gradients, less) = found
    assert torch.equal(plain, one)
    assert len(plain_gradients) > 14
    assert plain_gradients.keys() == gradients.keys()
    for name, expected in plain_gradients.items():
        assert torch.equal(gradients[name], expected), name
    config = model.config
    assert much - less == config.num_hidden_layers * IDS.numel() * config.intermediate_size


def test_the_way_back_is_the_derivative() -> None:
    model = torch.nn.Module()
    for name, shape in (("gate_proj", (3, 5)), ("up_proj", (3, 5)), ("down_proj", (5, 3))):
        model.add_module(name, torch.nn.Linear(*shape).double())
    model.add_module("act_fn", torch.nn.SiLU())
    torch.manual_seed(0)
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)

    def plain(x: torch.Tensor) -> torch.Tensor:
        part: Any = model
        result: torch.Tensor = part.down_proj(part.act_fn(part.gate_proj(x)) * part.up_proj(x))
        return result

    model.forward = plain
    gate_in_one(torch.nn.Sequential(model))  # type: ignore[arg-type]
    assert model.forward is not plain
    assert torch.autograd.gradcheck(model, (x,))


def test_an_mlp_of_another_kind_stays_as_it_is(folder: Path) -> None:
    gelu = Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=64,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
        )
    )
    before = gelu.model.layers[0].mlp.forward
    gate_in_one(gelu)
    assert gelu.model.layers[0].mlp.forward == before

    scaled = load(folder)
    mlp = scaled.model.layers[0].mlp
    plain = mlp.forward
    mlp.forward = lambda x: 2 * plain(x)
    own = mlp.forward
    gate_in_one(scaled)
    assert mlp.forward is own, "its parts are those of a gated MLP, its result is not"
    assert scaled.model.layers[1].mlp.forward.__func__.__module__ == "align.gating"
