"""Random fusions to compare on: sizes, weights and ragged tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.fusion.tensors import Tokens, Weights


@dataclass(frozen=True)
class Shape:
    """Sizes of a fusion: width, time bins, latents, heads, length of a head, inner width of the FFN, labels."""

    width: int = 64
    bins: int = 5
    latents: int = 2
    heads: int = 2
    length: int = 16
    inner: int = 96
    labels: int = 24


def weights(shape: Shape, seed: int = 0, dtype: torch.dtype = torch.float64, sharp: float = 1.0) -> Weights:
    """Weights of the usual sizes; `sharp` multiplies the queries, so that attention becomes a choice."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int, deviation: float) -> Tensor:
        return (torch.randn(*size, generator=generator, dtype=torch.float64) * deviation).to(dtype)

    width, inner, heads = shape.width, shape.inner, (shape.heads, shape.length)
    attended = shape.latents * shape.heads * shape.length
    return Weights(
        modality=normal(3, width, deviation=0.3),
        time=normal(shape.bins, width, deviation=0.3),
        gain=1 + normal(width, deviation=0.2),
        shift=normal(width, deviation=0.2),
        query=normal(shape.latents, *heads, deviation=sharp),
        key=normal(*heads, width, deviation=width**-0.5),
        value=normal(*heads, width, deviation=width**-0.5),
        value_bias=normal(*heads, deviation=0.2),
        out=normal(width, attended, deviation=attended**-0.5),
        prior=normal(width, deviation=0.7),
        up_gain=1 + normal(width, deviation=0.2),
        up_shift=normal(width, deviation=0.2),
        up=normal(inner, width, deviation=width**-0.5),
        up_bias=normal(inner, deviation=0.2),
        down=normal(width, inner, deviation=inner**-0.5),
        down_bias=normal(width, deviation=0.2),
        head=normal(shape.labels, width, deviation=width**-0.5),
        head_bias=normal(shape.labels, deviation=0.2),
    )


def tokens(
    shape: Shape,
    counts: Sequence[tuple[int, int, int]],
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    spare: int = 3,
) -> Tokens:
    """Tokens of one window for each (video, audio, text) of `counts`, shared among windows as rings share them.

    After them come `spare` tokens of nobody with indices out of range; rows of the ring that nobody uses are NaN.
    """
    generator = torch.Generator().manual_seed(seed)
    flat = torch.tensor([0, *(count for window in counts for count in window)])
    offset = flat.cumsum(0).int()
    used = int(offset[-1])
    rows = max(8, used)  # fewer than there are places, so that some tokens are in several windows
    ring = torch.randn(rows + 2, shape.width, generator=generator, dtype=torch.float64)
    ring[rows:] = torch.nan
    slot = torch.randint(rows, (used + spare,), generator=generator).int()
    when = torch.randint(shape.bins, (used + spare,), generator=generator).int()
    slot[used:], when[used:] = 1_000_000, 1_000_000
    return Tokens(ring.to(dtype), slot, when, offset)


def doubled(values: Weights) -> Weights:
    """The same weights in float64."""
    return replace(values, **{name: getattr(values, name).double() for name in values.__slots__})


def error(got: Tensor, expected: Tensor) -> float:
    """Relative error in the Euclidean norm; NaN stays NaN, and so fails any comparison."""
    difference = (got.double() - expected.double()).norm()
    return float(difference / expected.double().norm().clamp(min=1e-300)) if expected.numel() else 0.0


def moved(values: Tokens, device: torch.device) -> Tokens:
    """The same tokens on a device."""
    return Tokens(*(part.to(device) for part in values))


def written(plan: object) -> list[Tensor]:
    """All memory that a plan's launches write."""
    names = {"pooled", "lse", "score", "hidden", "lifted", "logits", "shapley", "top", "shares", "mass"}
    found = {id(t): t for launch in plan.launches for name, t in launch.args.items() if name in names}  # type: ignore[attr-defined]
    return list(found.values())


def poison(tensors: Sequence[Tensor]) -> None:
    """NaN, or a number that is no index: what is read before it is written, or never written, shows."""
    for tensor in tensors:
        tensor.fill_(torch.nan if tensor.is_floating_point() else -(2**40))
