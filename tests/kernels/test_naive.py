"""The definition keeps its promises; everything else is held to it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kernels.fusion import absorbed, naive
from kernels.fusion.tensors import SUBSETS, Tokens
from tests.kernels.cases import Shape, error, tokens, weights

SHAPE = Shape(width=24, length=5, inner=20, labels=9)
COUNTS = [(3, 2, 4), (1, 0, 2), (0, 0, 0), (0, 5, 0), (2, 1, 0)]


def only(given: Tokens, subset: int) -> Tokens:
    """The tokens of a subset of the modalities, as if there had been no others."""
    keep, offset = [], [0]
    for segment in range(len(given.offset) - 1):
        if subset >> segment % 3 & 1:
            keep += range(int(given.offset[segment]), int(given.offset[segment + 1]))
        offset.append(len(keep))
    index = torch.tensor(keep, dtype=torch.int64)
    return Tokens(given.ring, given.slot[index], given.when[index], torch.tensor(offset).int())


def logits_of(subset: int, given: Tokens) -> Tensor:
    return naive.fuse(only(given, subset), weights(SHAPE), 0).logits


def test_it_is_short() -> None:
    """The definition is under 80 lines."""
    assert len(Path(naive.__file__).read_text(encoding="utf-8").splitlines()) < 80


def test_shares_are_shapley_values() -> None:
    """A share is the mean over all six orders of what the modality adds to the logit of windows truly without it."""
    given = tokens(SHAPE, COUNTS)
    worth = [logits_of(subset, given) for subset in range(SUBSETS)]
    expected = torch.zeros(len(COUNTS), SHAPE.labels, 3, dtype=torch.float64)
    for order in itertools.permutations(range(3)):
        before = 0
        for m in order:
            expected[..., m] += (worth[before | 1 << m] - worth[before]) / 6
            before |= 1 << m
    got = naive.fuse(given, weights(SHAPE), 4)
    picked = expected.gather(1, got.top.unsqueeze(-1).expand(-1, -1, 3))
    torch.testing.assert_close(got.shares, picked, rtol=0, atol=1e-12)


@pytest.mark.parametrize("subset", range(SUBSETS))
def test_a_subset_is_the_merge_of_its_parts(subset: int) -> None:
    """The tail on merged statistics gives, for every subset, the logits of windows that have only those modalities."""
    given, folded = tokens(SHAPE, COUNTS), absorbed.absorb(weights(SHAPE))
    pooled = absorbed.pool(given, folded, longest=5)
    absent = [m for m in range(3) if not subset >> m & 1]
    pooled.lse.unflatten(0, (-1, 3))[:, absent] = -torch.inf
    assert error(absorbed.tail(pooled, folded, shares=False)[0], logits_of(subset, given)) < 1e-12


def test_nothing_is_the_prior() -> None:
    """Windows without tokens have the logits of the learned prior alone, and no shares."""
    w = weights(SHAPE)
    got = naive.fuse(tokens(SHAPE, [(0, 0, 0)] * 2, spare=0), w, 3)
    normal = torch.nn.functional.layer_norm(w.prior, w.prior.shape, w.up_gain, w.up_shift, 1e-5)
    inside = torch.nn.functional.gelu(w.up @ normal + w.up_bias)
    expected = w.head @ (w.prior + w.down @ inside + w.down_bias) + w.head_bias
    torch.testing.assert_close(got.logits, expected.expand(2, -1))
    assert not got.shares.any()


def test_mass_sums_to_one() -> None:
    """The attention mass of a window's tokens sums to 1, to 0 without tokens; tokens of nobody have none."""
    given = tokens(SHAPE, COUNTS)
    mass = naive.fuse(given, weights(SHAPE), 1).mass
    bounds = given.offset[::3].tolist()
    sums = [float(mass[a:b].sum()) for a, b in itertools.pairwise(bounds)]
    assert sums == pytest.approx([1, 1, 0, 1, 1])
    assert not mass[bounds[-1] :].any()


def test_the_order_of_tokens_does_not_matter() -> None:
    """A segment is a set: its tokens in another order give the same logits."""
    given = tokens(SHAPE, [(5, 0, 0)], spare=0)
    turned = given._replace(slot=given.slot.flip(0), when=given.when.flip(0))
    w = weights(SHAPE)
    assert error(naive.fuse(turned, w, 0).logits, naive.fuse(given, w, 0).logits) < 1e-12


@pytest.mark.parametrize("sharp", [1.0, 30.0])
def test_absorption_changes_nothing(sharp: float) -> None:
    """What is multiplied out, projected after pooling and run on Shapley values is the same function."""
    given, w = tokens(SHAPE, COUNTS), weights(SHAPE, sharp=sharp)
    got, expected = absorbed.fuse(given, absorbed.absorb(w), 4, longest=5), naive.fuse(given, w, 4)
    for name in ("logits", "shares", "mass"):
        assert error(getattr(got, name), getattr(expected, name)) < 1e-12, name
    assert torch.equal(got.top, expected.top)
