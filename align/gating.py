"""Gated MLPs whose product is one function: it keeps its two factors for the way back, not three.

In an MLP of the Llama kind, `down(silu(gate(x)) * up(x))`, autograd keeps the gate, its activation
and `up`, each as wide as the MLP: the widest tensors of a layer. The activation is made from the
gate, so the way back makes it again, to the same bits, for one pass over memory.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel


class _Gated(torch.autograd.Function):
    """silu(gate) * up."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """Shapes: equal."""
        ctx.save_for_backward(gate, up)
        return functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the gradients of the gate and of `up`."""
        (grad,) = grads
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(grad * up, gate), functional.silu(gate).mul_(grad)


def gate_in_one(model: PreTrainedModel) -> None:
    """Lets each MLP of the Llama kind compute its product in one function, to the same numbers.

    An MLP is of that kind where it has its parts and, asked for a few vectors, gives what the parts
    give; any other is left as it is.
    """
    for module in model.modules():
        if _is_gated(module):
            module.forward = MethodType(_forward, module)


def _forward(mlp: Any, x: torch.Tensor) -> torch.Tensor:
    product = _Gated.apply(mlp.gate_proj(x), mlp.up_proj(x))  # type: ignore[no-untyped-call]
    result: torch.Tensor = mlp.down_proj(product)
    return result


def _is_gated(module: Any) -> bool:
    children = dict(module.named_children())
    if children.keys() != {"gate_proj", "up_proj", "down_proj", "act_fn"}:
        return False
    gate = children["gate_proj"]
    if not isinstance(gate, torch.nn.Linear) or any("limit" in name for name in vars(module)):
        return False  # one that cuts off large values shows it by its attribute
    dtype = gate.weight.dtype if gate.weight.is_floating_point() else torch.bfloat16
    x = torch.linspace(-2, 2, 3 * gate.in_features, device=gate.weight.device, dtype=dtype)
    x = x.view(1, 3, -1)
    with torch.no_grad():
        return torch.equal(module(x), _forward(module, x))
