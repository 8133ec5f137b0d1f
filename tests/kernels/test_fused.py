"""The kernels against the definition in float64: in Triton's interpreter, or on a GPU where there is one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from kernels.fusion import naive
from kernels.fusion.absorbed import Absorbed, absorb
from kernels.fusion.tensors import SUBSETS, Fused, Tokens, Weights
from tests.kernels.cases import Shape, doubled, error, moved, poison, tokens, weights, written

LIMIT = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
RAGGED = [(3, 2, 1), (0, 0, 0), (5, 0, 2), (1, 0, 0), (0, 4, 0), (0, 0, 37), (9, 5, 10)]


def run(given: Tokens, folded: Absorbed, k: int) -> Fused:
    """The kernels, on memory that was poisoned before."""
    from kernels.fusion import launch

    plan = launch.describe(given, folded, k)
    poison(written(plan))
    for one in plan.launches:
        one.run()
    return Fused(*(part.cpu() for part in plan.result))


def reference(given: Tokens, w: Weights, labels: int) -> Fused:
    """The definition in float64 on the same rounded numbers, with shares of every label."""
    return naive.fuse(given._replace(ring=given.ring.double()), doubled(w), labels)


def compare(got: Fused, expected: Fused, limit: float) -> None:
    """Logits, mass and shares within `limit`; the strongest labels are the strongest of the logits that were given."""
    assert error(got.logits, expected.logits) < limit
    assert error(got.mass, expected.mass) < limit
    k = got.top.shape[1]
    chosen = got.logits.gather(1, got.top)
    assert torch.equal(chosen, got.logits.topk(k).values)
    place = expected.top.argsort(1).gather(1, got.top)
    shares = expected.shares.gather(1, place.unsqueeze(-1).expand(-1, -1, 3))
    assert error(got.shares, shares) < limit


def check(
    shape: Shape, counts: Sequence[tuple[int, int, int]], dtype: torch.dtype, k: int, device: torch.device
) -> None:
    w = weights(shape, dtype=dtype)
    given = tokens(shape, counts, dtype=dtype)
    folded = Absorbed(*(part.to(device) for part in absorb(w)))
    compare(run(moved(given, device), folded, k), reference(given, w, shape.labels), LIMIT[dtype])


@pytest.mark.parametrize("k", [0, 5])
@pytest.mark.parametrize("dtype", list(LIMIT), ids=str)
def test_every_dtype(dtype: torch.dtype, k: int, device: torch.device) -> None:
    """Ragged windows, empty ones among them, are right in every dtype, with shares and without."""
    if dtype == torch.float64 and device.type == "cuda":
        pytest.skip(
            "float64 is for checking gradients in the interpreter: TRITON_INTERPRET=1 on a machine without a GPU"
        )
    check(Shape(), RAGGED, dtype, k, device)


ODD = {
    "one window, one token": (Shape(width=128, latents=1, heads=1, length=32, labels=3), [(1, 0, 0)]),
    "no power of two": (Shape(width=72, bins=3, latents=3, heads=3, length=24, inner=100, labels=37), RAGGED[:3]),
    "narrow heads": (Shape(width=40, latents=5, heads=5, length=7, inner=33, labels=17), RAGGED[2:5]),
    "one label": (Shape(labels=1, heads=1), [(0, 2, 0)]),
    "more latents than a tile": (Shape(latents=17, heads=1), [(2, 3, 1), (1, 1, 0)]),
    "wide": (Shape(width=512, latents=2, heads=2, length=128, inner=32, labels=20), [(4, 2, 1)]),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_shapes(case: str, device: torch.device) -> None:
    """Sizes that fill no tile, or more than one, are right."""
    shape, counts = ODD[case]
    check(shape, counts, torch.float32, 1, device)


@pytest.mark.parametrize("windows", [9, 65])
def test_bigger_batches(windows: int, device: torch.device) -> None:
    """Every choice of tiles is right: those for dozens of windows and those for hundreds."""
    shape = Shape(width=32, latents=1, heads=1, inner=32, labels=20)
    check(shape, (RAGGED * 10)[:windows], torch.bfloat16, 2, device)


@pytest.mark.parametrize("subset", range(SUBSETS))
def test_every_subset(subset: int, device: torch.device) -> None:
    """Whichever modalities are there, those that are not have share 0 exactly, and the rest is right."""
    count = tuple(3 if subset >> m & 1 else 0 for m in range(3))
    shape = Shape(width=32, heads=1, inner=32, labels=8)
    w, given = weights(shape, dtype=torch.float32), tokens(shape, [count], dtype=torch.float32)  # type: ignore[list-item]
    got = run(moved(given, device), Absorbed(*(part.to(device) for part in absorb(w))), 8)
    compare(got, reference(given, w, 8), LIMIT[torch.float32])
    for m in range(3):
        assert bool(got.shares[..., m].any()) == bool(subset >> m & 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("sharp", [0.0, 3e3])
def test_extreme_attention(dtype: torch.dtype, sharp: float, device: torch.device) -> None:
    """Attention logits in the thousands, of either sign, and all alike, give finite results; alike, right ones."""
    shape = Shape(width=32, heads=1, inner=32, labels=8)
    w, given = weights(shape, dtype=dtype, sharp=sharp), tokens(shape, RAGGED[:6], dtype=dtype)
    got = run(moved(given, device), Absorbed(*(part.to(device) for part in absorb(w))), 8)
    assert all(part.isfinite().all() for part in got)
    if dtype == torch.float32:  # with one's rounding multiplied by thousands, the winner is another in bfloat16
        # Rounding of the scores themselves, which are in the thousands, is what is left of the seven digits.
        compare(got, reference(given, w, 8), 1e-5 if sharp == 0 else 5e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_shares_sum_to_the_label(dtype: torch.dtype, device: torch.device) -> None:
    """The shares of a label sum to its logit less that of a window without tokens, within 0.001."""
    shape = Shape(labels=20)
    given = moved(tokens(shape, RAGGED, dtype=dtype), device)
    got = run(given, Absorbed(*(part.to(device) for part in absorb(weights(shape, dtype=dtype)))), 20)
    own = (got.logits - got.logits[1]).gather(1, got.top)
    assert (got.shares.sum(-1) - own).abs().max() < 1e-3


def test_equal_labels_fall_by_index(device: torch.device) -> None:
    """Of labels with the same logit the first comes first, and none comes twice, even if all are NaN."""
    shape = Shape(labels=6)
    w, given = weights(shape, dtype=torch.float32), moved(tokens(shape, [(1, 1, 1)], dtype=torch.float32), device)
    folded = absorb(w)
    for base in (0.0, float("nan")):
        alike = folded._replace(head=torch.zeros_like(folded.head), base=torch.full_like(folded.base, base))
        assert run(given, Absorbed(*(part.to(device) for part in alike)), 6).top.tolist() == [[0, 1, 2, 3, 4, 5]]


def test_the_same_twice(gpu: torch.device) -> None:
    """A hundred runs on the same input give the same bits: nothing races."""
    shape = Shape(width=256, bins=16, latents=4, heads=4, length=64, inner=1024, labels=256)
    folded = Absorbed(*(part.to(gpu) for part in absorb(weights(shape, dtype=torch.bfloat16))))
    given = moved(tokens(shape, RAGGED * 20, dtype=torch.bfloat16), gpu)
    first = run(given, folded, 8)
    for _ in range(100):
        for name, one, other in zip(Fused._fields, run(given, folded, 8), first, strict=True):
            assert torch.equal(one, other), name
