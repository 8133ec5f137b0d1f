"""The fusion as a torch op, `kernels::fusion`, for autograd and torch.compile: Triton on a GPU, plain torch elsewhere.

    weights = absorb(learned, torch.bfloat16)      once; or each step, if they are trained: it is differentiable
    fused = fuse(tokens, weights, k=8)

Logits have gradients for the ring and all weights. Shares, the strongest labels and the mass say what a result rests
on, and have none.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kernels.fusion import absorbed
from kernels.fusion.absorbed import Absorbed, Pooled, absorb, inner_dtype
from kernels.fusion.tensors import MODALITIES, Fused, Tokens

__all__ = ["absorb", "fuse"]

_INPUTS = len(Tokens._fields) + len(Absorbed._fields)


def fuse(tokens: Tokens, weights: Absorbed, k: int) -> Fused:
    """Logits of every window, what the k strongest labels rest on (k = 0: not asked), and the tokens' attention mass.

    Tokens are bfloat16, float16 or float32 of width D, the matrices of `weights` of the same dtype; what comes out is
    float32. Indices are int32 and trusted: they are on the device, and checking them would stall it. A tensor that does
    not fit raises ValueError with its name.
    """
    _check(tokens, weights, k)
    logits, top, shares, mass, _, _ = _fusion(*tokens, *weights, k)
    return Fused(logits, top, shares, mass)


def _check(tokens: Tokens, weights: Absorbed, k: int) -> None:
    """ValueError for what the kernels would misread."""
    ring, table, probes, value = tokens.ring, weights.table, weights.probes, weights.value
    if not ring.dtype.is_floating_point:
        raise ValueError(f"fusion: ring must be of floats, not {ring.dtype}")
    if ring.ndim != 2 or probes.ndim != 3 or value.ndim != 3 or table.ndim != 3:
        raise ValueError("fusion: ring is [rows, D]; table, probes and value have three axes")
    (latents, heads, width), length = probes.shape, value.shape[1]
    wide, labels = len(weights.up), len(weights.head)
    expected: dict[str, tuple[int, ...]] = {
        "ring": (len(ring), width),
        "slot": (tokens.slot.numel(),),
        "when": (tokens.slot.numel(),),
        "offset": (tokens.offset.numel(),),
        "table": (MODALITIES, table.shape[1], width),
        "probes": (latents, heads, width),
        "value": (heads, length, width),
        "value_bias": (heads, length),
        "out": (width, latents * heads * length),
        "prior": (width,),
        "up": (wide, width),
        "up_bias": (wide,),
        "head": (labels, wide + width),
        "base": (labels,),
    }
    inner = inner_dtype(ring.dtype)
    for name, tensor in {**tokens._asdict(), **weights._asdict()}.items():
        if name in ("slot", "when", "offset"):
            dtype = torch.int32
        else:
            dtype = inner if name in ("value_bias", "prior", "up_bias", "base") else ring.dtype
        if tuple(tensor.shape) != expected[name]:
            raise ValueError(f"fusion: {name} is {tuple(tensor.shape)}, not {expected[name]}")
        if tensor.dtype != dtype or tensor.device != ring.device or not tensor.is_contiguous():
            raise ValueError(
                f"fusion: {name} must be contiguous, {dtype}, on {ring.device}: {tensor.dtype}, {tensor.device}"
            )
    if tokens.offset.numel() % MODALITIES != 1:
        raise ValueError(f"fusion: offset has 3 B + 1 entries, not {tokens.offset.numel()}")
    if not 0 <= k <= labels:
        raise ValueError(f"fusion: the {k} strongest of {labels} labels")


def _in_triton(device: torch.device) -> bool:
    """Whether the kernels run there: on a GPU, and everywhere when they are interpreted."""
    if device.type == "cuda":
        return True
    # Only who has imported triton can have asked for its interpreter, and a CPU build of torch comes without triton.
    launch = sys.modules.get("kernels.fusion.launch")
    return launch is not None and bool(launch.INTERPRETED)


def _longest(tokens: Tokens) -> int:
    """The most tokens of a segment. Read from the tensor, which stalls nobody on a CPU."""
    return int(tokens.offset.diff().max()) if len(tokens.offset) > 1 else 0


# Torch derives the schema of an op from its parameters, one tensor each: hence their number.
@torch.library.custom_op("kernels::fusion", mutates_args=())
def _fusion(
    ring: Tensor,
    slot: Tensor,
    when: Tensor,
    offset: Tensor,
    table: Tensor,
    probes: Tensor,
    value: Tensor,
    value_bias: Tensor,
    out: Tensor,
    prior: Tensor,
    up: Tensor,
    up_bias: Tensor,
    head: Tensor,
    base: Tensor,
    k: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Logits, strongest labels, their shares, mass; then what the backward pass needs: pooled values and their lse."""
    tokens = Tokens(ring, slot, when, offset)
    weights = Absorbed(table, probes, value, value_bias, out, prior, up, up_bias, head, base)
    if _in_triton(ring.device):
        from kernels.fusion import launch

        fused, pooled = launch.forward(tokens, weights, k)
    else:
        longest = _longest(tokens)
        pooled = absorbed.pool(tokens, weights, longest)
        fused = absorbed.finish(tokens, weights, pooled, k, longest)
    return *fused, pooled.value, pooled.lse


@_fusion.register_fake
def _(*inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    tokens, weights, k = Tokens(*inputs[:4]), Absorbed(*inputs[4:_INPUTS]), inputs[_INPUTS]
    inner = inner_dtype(tokens.ring.dtype)
    segments, (latents, heads, _) = len(tokens.offset) - 1, weights.probes.shape
    windows, length = segments // MODALITIES, weights.value.shape[1]
    plain = not _in_triton(tokens.ring.device)

    def empty(*shape: int, dtype: torch.dtype = inner) -> Tensor:
        return tokens.ring.new_empty(shape, dtype=dtype)

    return (
        empty(windows, len(weights.head)),
        empty(windows, k, dtype=torch.int64),
        empty(windows, k, MODALITIES),
        empty(len(tokens.slot)),
        empty(segments, latents, heads, length, dtype=inner if plain else tokens.ring.dtype),
        empty(segments, latents, heads),
    )


@torch.library.custom_op("kernels::fusion_backward", mutates_args=())
def _fusion_backward(grad: Tensor, inputs: Sequence[Tensor], value: Tensor, lse: Tensor, of_ring: bool) -> list[Tensor]:
    """Gradients of the ring (empty unless asked for) and of the ten weights, in `inner_dtype`."""
    tokens, weights = Tokens(*inputs[:4]), Absorbed(*inputs[4:])
    pooled = Pooled(value, lse, lse)  # the scores are computed anew
    tail = absorbed.tail_backward(grad, pooled, weights)
    if _in_triton(grad.device):
        from kernels.fusion import launch

        pool = launch.pool_backward(tokens, weights, pooled, tail)
    else:
        pool = absorbed.pool_backward(tokens, weights, pooled, tail, _longest(tokens))
    ring, table = absorbed.scatter_tokens(tokens, pool.token, weights.table, of_ring)
    return [ring, table, pool.probes, pool.value, pool.value_bias, *tail[2:]]


@_fusion_backward.register_fake
def _(grad: Tensor, inputs: Sequence[Tensor], value: Tensor, lse: Tensor, of_ring: bool) -> list[Tensor]:
    ring, weights = inputs[0], inputs[4:]
    return [grad.new_empty(ring.shape if of_ring else (0,)), *(grad.new_empty(weight.shape) for weight in weights)]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:_INPUTS], *output[4:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    *inputs, value, lse = ctx.saved_tensors
    if grad is None:
        return (None,) * (_INPUTS + 1)
    of_ring = ctx.needs_input_grad[0]
    ring, *grads = _fusion_backward(grad.contiguous(), inputs, value, lse, of_ring)
    weights = [one.to(weight.dtype) for one, weight in zip(grads, inputs[4:], strict=True)]
    return ring.to(inputs[0].dtype) if of_ring else None, None, None, None, *weights, None


_fusion.register_autograd(_backward, setup_context=_save)
