"""Adapters: PEFT's, with the linear layer's two small products fused into the frozen large one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from peft import LoraConfig
from peft.tuners.lora import Linear
from torch.nn import functional
from transformers import PreTrainedModel

from align.chat import template_tokens, token_id
from align.errors import TrainingError
from align.settings import LoraSettings
from align.stage import Context

_COMPARED = 256
_ROWS_AT_ONCE = 16384
_DOUBLE = 0.995
_DEVIATIONS = 5.5
"""Standard deviations of a cosine of random directions that 150,000 draws do not reach."""


def lora_config(
    settings: LoraSettings, *, tokens: Mapping[str, list[int]] | None = None, fused: bool = True
) -> LoraConfig:
    """Returns PEFT's form of the adapter: all linear layers but the output head.

    Args:
        settings: The adapter.
        tokens: Rows that are trained beside it, by the name of their layer; see `untrained_rows`.
        fused: Compute plain LoRA by `FusedLinear`; the saved adapter is the same.
    """
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_dora=settings.dora,
        target_modules="all-linear",
        trainable_token_indices=dict(tokens) if tokens else None,
        bias="none",
        task_type="CAUSAL_LM",
    )
    if fused and not settings.quantise:
        config._register_custom_module({torch.nn.Linear: FusedLinear})
    return config


def rows_to_train(
    model: PreTrainedModel, tokenizer: Any, settings: LoraSettings, context: Context
) -> dict[str, list[int]]:
    """Returns the rows of chat tokens that an adapter alone could not teach, by layer.

    Base models of the Qwen2.5 family never trained `<|im_start|>` and `<|im_end|>`. With their rows
    frozen, a model that learns by LoRA can't tell a turn's end from any unused token.

    Raises:
        TrainingError: There are such rows, and the settings say not to train them.
    """
    found, names = _untrained(model, tokenizer)
    if not found:
        return {}
    if settings.train_tokens == "never":
        raise TrainingError(
            f"the start checkpoint never trained {names}, which its chat template writes: under "
            "LoRA their rows stay as they are, and the model would not learn to end its answers. "
            "Leave lora.train_tokens at `auto`, train all weights (lora: null), or start from an "
            "Instruct checkpoint"
        )
    context.warn(
        f"the start checkpoint never trained {names}: their rows are trained beside the adapter, "
        "which vLLM serves only merged"
    )
    return found


def warn_of_untrained(
    model: PreTrainedModel, tokenizer: Any, context: Context, settings: LoraSettings
) -> None:
    """Says where preferences are trained on a model that seems never to have learnt its template.

    It is no more than a warning, as rows that a short fine-tuning trained look untrained still.

    Raises:
        TrainingError: It seems so, and the settings say to refuse.
    """
    found, names = _untrained(model, tokenizer)
    if found and settings.train_tokens == "never":
        raise TrainingError(
            f"the start checkpoint seems never to have trained {names}, which its chat template "
            "writes: fine-tune it first, or leave lora.train_tokens at `auto`"
        )
    if found:
        context.warn(
            f"the start checkpoint seems never to have trained {names}, which its chat template "
            "writes, and preferences under LoRA do not teach them: if its answers do not end, "
            "fine-tune it first (`align sft` trains these rows beside the adapter)"
        )


def _untrained(model: PreTrainedModel, tokenizer: Any) -> tuple[dict[str, list[int]], str]:
    """Returns the untrained rows of chat tokens by layer, and the tokens' names."""
    tokens = template_tokens(tokenizer)
    ids = [token_id(tokenizer, token) for token in tokens]
    layers = {"embed_tokens": model.get_input_embeddings()}
    if not model.config.get_text_config().tie_word_embeddings:
        layers["lm_head"] = model.get_output_embeddings()
    found: dict[str, list[int]] = {}
    for layer in layers.values():
        name = next(name for name, each in model.named_modules() if each is layer)
        rows = untrained_rows(cast(torch.Tensor, layer.weight), ids)
        if rows:
            found[name.rsplit(".", 1)[-1]] = rows
    wanting = {row for rows in found.values() for row in rows}
    names = (token for token, row in zip(tokens, ids, strict=True) if row in wanting)
    return found, ", ".join(names)


def untrained_rows(weight: torch.Tensor, ids: Sequence[int]) -> list[int]:
    """Tells which rows of an embedding or an output head have never been trained.

    Tokens that no text holds are all driven to one place by the softmax, so an untrained row has a
    double; a row that was drawn anew is near no other, while every trained one has neighbours. A
    model of random rows throughout has nothing to compare with: none is named.

    Args:
        weight: Shape (vocabulary, size).
        ids: The rows in question.

    Returns:
        Those of `ids` that are untrained.
    """
    sample = torch.linspace(0, len(weight) - 1, _COMPARED).long().unique()
    asked = torch.cat([torch.tensor(list(ids)), sample]).to(weight.device)
    rows = functional.normalize(weight[asked].float())
    nearest = rows.new_full((len(asked),), -1.0)
    for start in range(0, len(weight), _ROWS_AT_ONCE):
        others = functional.normalize(weight[start : start + _ROWS_AT_ONCE].float())
        cosines = rows @ others.t()
        places = asked - start
        inside = (places >= 0) & (places < len(others))
        cosines[inside, places[inside]] = -1.0  # a row is no neighbour of its own
        nearest = torch.maximum(nearest, cosines.amax(1))
    chance = _DEVIATIONS / weight.shape[1] ** 0.5  # random directions come no nearer
    comparable = bool(nearest[len(ids) :].median() > chance)
    return [
        row
        for row, near in zip(ids, nearest.tolist(), strict=False)
        if near > _DOUBLE or (comparable and near < chance)
    ]


class _Fused(torch.autograd.Function):
    """y = x W' + bias + s x A' B', with gradients for x, A and B only.

    Everything is computed in the type of x; the float32 A and B are rounded on the way in, and
    their gradients leave in float32. PEFT's own path would compute in float32 wherever the adapter
    is float32, and keep two results of the layer's width more.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        """Shapes: x (..., in), weight (out, in), bias (out,), a (r, in), b (out, r)."""
        flat = x.reshape(-1, x.shape[-1])
        down, up = a.to(x.dtype), (b * scaling).to(x.dtype)
        low = flat @ down.t()
        y = functional.linear(flat, weight, bias).addmm_(low, up.t())
        ctx.save_for_backward(flat, weight, down, up, low)
        ctx.scaling = scaling
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        """Returns the gradients of x, A and B."""
        (grad,) = grads
        x, weight, down, up, low = ctx.saved_tensors
        flat = grad.reshape(-1, grad.shape[-1])
        grad_low = flat @ up
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (flat @ weight).addmm_(grad_low, down).view(*grad.shape[:-1], -1)
        grad_a = (grad_low.t() @ x).float()
        grad_b = (flat.t() @ low).float() * ctx.scaling
        return grad_x, None, None, grad_a, grad_b, None


class FusedLinear(Linear):
    """PEFT's LoRA layer; plain LoRA in training is computed by one function."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Adds the adapter's product to the frozen layer's."""
        base = self.get_base_layer()
        if (
            args
            or kwargs
            or self.disable_adapters
            or self.merged
            or self.active_adapters != ["default"]
            or "default" in self.lora_variant
            or base.weight.requires_grad
            or not isinstance(self.lora_dropout["default"], torch.nn.Identity)
        ):
            return super().forward(x, *args, **kwargs)
        return _Fused.apply(  # type: ignore[no-any-return,no-untyped-call]
            x,
            base.weight,
            base.bias,
            self.lora_A["default"].weight,
            self.lora_B["default"].weight,
            self.scaling["default"],
        )
