"""Fusion by attention is the function of kernels/fusion: its dense form, the kernels' op and their definition agree."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from kernels.fusion import naive
from models.fusion.attention import AttentionFusion
from models.fusion.base import FusionSize, shapley
from models.learning.batch import MODALITIES, Part
from tests.models.fusion.cases import SIZE, SUBSETS, fusion, parts, without


def made() -> AttentionFusion:
    """In evaluation mode, every parameter random."""
    found = fusion(AttentionFusion)
    assert isinstance(found, AttentionFusion)
    return found


@pytest.mark.parametrize("kept", SUBSETS, ids=lambda kept: "+".join(sorted(kept)) or "nothing")
def test_dense_op_and_definition_agree(kept: set[str]) -> None:
    """Logits, Shapley values of the strongest and mass are the same to 1e-5 from the dense form, from the kernels' op
    and from the definition that they are held to."""
    attention, given = made(), without(parts(), kept)
    defined = naive.fuse(attention.tokens(given), attention.weights(), 3)
    fused = attention.fused(given, 3)
    for said in (fused.logits, attention(given)):
        torch.testing.assert_close(said, defined.logits, rtol=1e-5, atol=1e-5)
    values = shapley(attention, given).gather(1, defined.top.unsqueeze(-1).expand(-1, -1, 3))
    for said in (fused.shares, values):
        torch.testing.assert_close(said, defined.shares, rtol=1e-5, atol=2e-5)
    mass = torch.cat([each[given[name].mask] for name, each in attention.mass(given).items()])
    owner = torch.cat([given[name].mask.nonzero()[:, 0] * 3 + MODALITIES.index(name) for name in given])
    mass = mass[torch.argsort(owner, stable=True)]
    for said in (fused.mass, defined.mass):
        torch.testing.assert_close(said[: len(mass)], mass, rtol=1e-5, atol=1e-6)
        assert not said[len(mass) :].any()


def test_gradients_of_dense_form_and_op_agree() -> None:
    """Every parameter and every token gets the same gradient either way, to 1e-5 of the largest of its kind."""
    attention, given = made(), without(parts(), {"video", "text"})
    grads = []
    for way in (attention, lambda some: attention.fused(some, 0).logits):
        leaves = {name: each.of(each.x.clone().requires_grad_()) for name, each in given.items()}
        attention.zero_grad()
        (way(leaves).sin() * torch.arange(1, SIZE.outputs + 1)).sum().backward()
        own = {name: attention.get_parameter(name).grad for name in attention.weights().__slots__}
        grads.append({**own, **{name: leaf.x.grad for name, leaf in leaves.items()}})
    for name, expected in grads[0].items():
        got = grads[1][name]
        assert got is not None and expected is not None, name
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5 * max(1.0, float(expected.abs().max())), msg=name)


def test_ragged_tokens_are_those_under_the_mask() -> None:
    """The op gets each clip's tokens by modality, in order, and nothing that stands under a False of the mask."""
    attention, given = made(), without(parts(), {"video", "audio"})
    tokens = attention.tokens(given)
    expected = [given[name].x[clip][given[name].mask[clip]] for clip in range(3) for name in MODALITIES]
    assert len(tokens.offset) == 10
    for segment, (begin, end) in enumerate(pairwise(tokens.offset.tolist())):
        assert torch.equal(tokens.ring[tokens.slot[begin:end]], expected[segment])


def test_time_beyond_the_longest_clip_is_its_end() -> None:
    """Moments before the start and after the longest clip are told as the first and the last there are."""
    attention = made()
    x, mask = torch.randn(1, 2, SIZE.width), torch.ones(1, 2, dtype=torch.bool)
    ends = attention({"video": Part(x, mask, torch.tensor([[0.0, SIZE.longest_s]]))})
    beyond = attention({"video": Part(x, mask, torch.tensor([[-5.0, 100.0]]))})
    assert torch.equal(beyond, ends)


def test_held_constants_are_let_go_in_training() -> None:
    """Holding changes nothing that is said; parameters that training changes are never held."""
    attention, given = made(), parts()
    expected = attention(given)
    assert torch.equal(attention.hold()(given), expected)
    attention.train()
    with torch.no_grad():
        attention.get_parameter("head_bias").add_(1.0)
    torch.testing.assert_close(attention.eval()(given), expected + 1.0)


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    """The error says which width and how many heads."""
    with pytest.raises(ValueError, match=r"width 30 .* 4 heads"):
        AttentionFusion(MODALITIES, FusionSize(30, 2, heads=4))
