"""The fusion's kernels, sized and launched.

Launches are described before they are run, so that the same descriptions are compiled ahead of time, poisoned in tests
and timed.
"""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from kernels.fusion import fused
from kernels.fusion.absorbed import Absorbed, Pooled, PoolGradients, TailGradients, inner_dtype, pooled_mean_gradient
from kernels.fusion.tensors import MODALITIES, SUBSETS, Fused, Tokens

# TRITON_INTERPRET=1 was set when the kernels were first imported: they run on the CPU, in numpy.
INTERPRETED = isinstance(fused._pool, InterpretedFunction)


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel and all it is launched with: tensors and integers by name, compile-time constants, warps, stages."""

    kernel: Any
    grid: tuple[int, ...]
    args: dict[str, Tensor | int]
    constants: dict[str, Any]
    warps: int
    stages: int = 3

    def run(self) -> None:
        """Launch it on the current stream."""
        if min(self.grid) > 0:
            self.kernel[self.grid](**self.args, **self.constants, num_warps=self.warps, num_stages=self.stages)


@dataclass(frozen=True, slots=True)
class Tiles:
    """Tile sizes. `several` segments, `t_block` tokens and `d_block` columns in `_pool`; `rows` of the three
    matrix products, `*_n` their columns, `k_block` what they sum over at a time, `warps` theirs."""

    several: int
    t_block: int
    d_block: int
    rows: int
    project_n: int
    lift_n: int
    score_n: int
    k_block: int
    warps: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Launches in order, and what they write."""

    launches: Sequence[Launch]
    result: Fused
    pooled: Pooled


def tiles(windows: int, dtype: torch.dtype, width: int) -> Tiles:
    """Sizes by counting: few windows spread the weights over many small blocks, many windows re-read them seldom."""
    if dtype not in (torch.bfloat16, torch.float16):  # no tensor cores: for checking, not for speed
        return Tiles(4, 16, 32, 16, 16, 16, 16, 32, warps=4)
    d_block = 128 if width <= 128 else 64  # in two pieces of 64, 128 columns make sm_90 and sm_100 spill
    if windows <= 8:
        return Tiles(4, 32, d_block, 16, 16, 16, 16, 64, warps=4)
    if windows <= 64:
        return Tiles(4, 32, d_block, 32, 32, 32, 16, 64, warps=4)
    return Tiles(8, 32, d_block, 64, 64, 128, 32, 64, warps=8)  # with 4 warps, sm_80 and sm_100 spill


def forward(tokens: Tokens, a: Absorbed, k: int, chosen: Tiles | None = None) -> tuple[Fused, Pooled]:
    """The fusion. Tensors are contiguous and on one device; `ring` and the matrices of `a` are of one dtype."""
    plan = describe(tokens, a, k, chosen)
    with torch.cuda.device_of(tokens.ring):  # type: ignore[no-untyped-call]
        for launch in plan.launches:
            launch.run()
    return plan.result, plan.pooled


def describe(tokens: Tokens, a: Absorbed, k: int, chosen: Tiles | None = None) -> Plan:
    """What `forward` launches, on memory not yet written. Works with meta tensors."""
    kind, inner = tokens.ring.dtype, inner_dtype(tokens.ring.dtype)
    segments, count = len(tokens.offset) - 1, len(tokens.slot)
    windows = segments // MODALITIES
    (latents, heads, width), length = a.probes.shape, a.value.shape[1]
    (labels, deep), wide = a.head.shape, len(a.up)
    groups = latents * heads
    size = tiles(windows, kind, width) if chosen is None else chosen
    subsets, parts = (SUBSETS, MODALITIES + 1) if k > 0 else (1, 1)

    def empty(*shape: int, dtype: torch.dtype = inner) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=tokens.ring.device)

    pooled = Pooled(
        empty(segments, latents, heads, length, dtype=kind),
        empty(segments, latents, heads),
        empty(count, latents, heads),
    )
    hidden, lifted = empty(windows, subsets, width), empty(windows, parts, deep, dtype=kind)
    shapley = empty(windows, MODALITIES if k > 0 else 0, labels)
    result = Fused(
        empty(windows, labels), empty(windows, k, dtype=torch.int64), empty(windows, k, MODALITIES), empty(count)
    )
    common: dict[str, Any] = {
        "inner": tl.float64 if inner == torch.float64 else tl.float32,
        "interpreted": INTERPRETED and kind != torch.float64,
    }
    w_block, by_part = max(1, size.rows // subsets), max(1, size.rows // parts)
    e_block, l_block = _block(length), triton.next_power_of_2(latents)
    several = max(size.several, 16 // l_block)
    launches = [
        Launch(
            fused._pool,
            (triton.cdiv(segments, several), heads),
            tokens._asdict() | {
                "table": a.table, "probes": a.probes, "value": a.value, "value_bias": a.value_bias,
                "pooled": pooled.value, "lse": pooled.lse, "score": pooled.score, "segments": segments,
            },
            common | {
                "bins": a.table.shape[1], "width": width, "d_block": min(size.d_block, _block(width)),
                "latents": latents, "l_block": l_block, "heads": heads, "length": length, "e_block": e_block,
                "several": several, "t_block": size.t_block,
            },
            8,  # with 4, sm_89 and sm_100 spill
        ),
        Launch(
            fused._project,
            (triton.cdiv(windows, w_block), triton.cdiv(width, size.project_n)),
            {
                "pooled": pooled.value, "lse": pooled.lse, "out": a.out, "prior": a.prior, "hidden": hidden,
                "windows": windows,
            },
            common | {
                "width": width, "groups": groups, "length": length, "e_block": e_block, "subsets": subsets,
                "w_block": w_block, "n_block": size.project_n,
            },
            size.warps,
        ),
        Launch(
            fused._lift,
            (triton.cdiv(windows, w_block), triton.cdiv(wide, size.lift_n) + triton.cdiv(width, size.lift_n)),
            {
                "hidden": hidden, "offset": tokens.offset, "up": a.up, "up_bias": a.up_bias, "lifted": lifted,
                "windows": windows,
            },
            common | {
                "width": width, "wide": wide, "subsets": subsets, "w_block": w_block, "n_block": size.lift_n,
                "k_block": size.k_block,
            },
            size.warps,
        ),
        Launch(
            fused._score,
            (triton.cdiv(windows, by_part), triton.cdiv(labels, size.score_n)),
            {
                "lifted": lifted, "head": a.head, "base": a.base, "logits": result.logits, "shapley": shapley,
                "windows": windows,
            },
            common | {
                "deep": deep, "labels": labels, "parts": parts, "w_block": by_part, "n_block": size.score_n,
                "k_block": size.k_block,
            },
            size.warps,
        ),
        Launch(
            fused._finish,
            (windows,),
            {
                "offset": tokens.offset, "lse": pooled.lse, "score": pooled.score, "logits": result.logits,
                "shapley": shapley, "top": result.top, "shares": result.shares, "mass": result.mass,
                "windows": windows, "count": count,
            },
            {
                "groups": groups, "g_block": triton.next_power_of_2(groups), "t_block": 16, "labels": labels,
                "c_block": triton.next_power_of_2(labels), "strongest": k, "s_block": triton.next_power_of_2(max(k, 1)),
                "inner": common["inner"],
            },
            1 if labels <= 1024 else 4,
        ),
    ]  # fmt: skip
    return Plan(launches, result, pooled)


def _block(size: int) -> int:
    """A tile's extent: a power of two, and no less than a matrix instruction takes."""
    return max(16, int(triton.next_power_of_2(size)))


def describe_pool_backward(
    tokens: Tokens, a: Absorbed, pooled: Pooled, d_mean: Tensor, shift: Tensor
) -> tuple[Launch, Tensor, Tensor, Tensor]:
    """The launch, and what it writes: gradients of tokens `[parts, N, D]`, of probes `[3B, L, H, D]`; mean tokens."""
    kind, inner = tokens.ring.dtype, inner_dtype(tokens.ring.dtype)
    segments, (latents, heads, width) = len(tokens.offset) - 1, a.probes.shape
    d_probes, mean = torch.empty_like(d_mean, dtype=inner), torch.empty_like(d_mean, dtype=inner)
    blocks = triton.cdiv(latents * heads, 16)
    d_token = torch.zeros(blocks, len(tokens.slot), width, dtype=inner, device=tokens.ring.device)
    d_block = min(64, _block(width))
    launch = Launch(
        fused._pool_backward,
        (segments, blocks, triton.cdiv(width, d_block)),
        tokens._asdict() | {
            "table": a.table, "probes": a.probes, "lse": pooled.lse, "d_mean": d_mean, "shift": shift,
            "d_token": d_token, "d_probes": d_probes, "mean_token": mean, "segments": segments,
            "count": len(tokens.slot),
        },
        {
            "bins": a.table.shape[1], "width": width, "d_block": d_block, "groups": latents * heads,
            "g_block": 16, "t_block": 16, "inner": tl.float64 if inner == torch.float64 else tl.float32,
            "interpreted": INTERPRETED and kind != torch.float64,
        },
        8,
    )  # fmt: skip
    return launch, d_token, d_probes, mean


def pool_backward(tokens: Tokens, a: Absorbed, pooled: Pooled, grads: TailGradients) -> PoolGradients:
    """Gradients of attention within each segment: the ragged part here, the dense rest as matrix products."""
    d_mean, shift = pooled_mean_gradient(pooled, a, grads)
    launch, d_token, d_probes, mean = describe_pool_backward(tokens, a, pooled, d_mean.contiguous(), shift.contiguous())
    with torch.cuda.device_of(tokens.ring):  # type: ignore[no-untyped-call]
        launch.run()
    return PoolGradients(
        token=d_token.sum(0),
        probes=d_probes.sum(0),
        value=torch.einsum("slhe,slhd->hed", grads.value, mean),
        value_bias=grads.value.sum((0, 1)),
    )
