"""Adapters: PEFT's, with the linear layer's two small products fused into the frozen large one."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import Linear
from torch.nn import functional

from align.settings import LoraSettings


def lora_config(settings: LoraSettings, *, fused: bool = True) -> LoraConfig:
    """Returns PEFT's form of the adapter: all linear layers but the output head.

    Args:
        settings: The adapter.
        fused: Compute plain LoRA by `FusedLinear`; the saved adapter is the same.
    """
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear",
        bias="none",
        task_type="CAUSAL_LM",
    )
    if fused:
        config._register_custom_module({torch.nn.Linear: FusedLinear})
    return config


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
