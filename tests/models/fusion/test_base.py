"""What is promised of every fusion, held to each of the three."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.fusion.attention import AttentionFusion
from models.fusion.base import Fusion, FusionSize, shapley, shares
from models.learning.batch import MODALITIES, Part
from tests.models.fusion.cases import KINDS, SIZE, SUBSETS, fusion, part, parts, without

pytestmark = pytest.mark.parametrize("kind", KINDS)


def near(got: Tensor, expected: Tensor) -> None:
    """Equal but for rounding, by what is largest."""
    torch.testing.assert_close(got, expected, rtol=0, atol=3e-6 * max(1.0, float(expected.detach().abs().amax())))


@pytest.mark.parametrize("kept", SUBSETS, ids=lambda kept: "+".join(sorted(kept)) or "nothing")
def test_a_modality_is_absent_in_one_way(kind: type[Fusion], kept: set[str]) -> None:
    """A mask of False, no part at all, and no token say the same, but for the rounding of sums in another order."""
    made, given = fusion(kind), parts()
    masked = made(without(given, kept))
    nobody = part(torch.zeros(3, 0, dtype=torch.bool))
    empty = made({name: given[name] if name in kept else nobody for name in MODALITIES})
    missing = made({name: given[name] for name in MODALITIES if name in kept})
    near(empty, masked)
    near(missing.expand_as(masked), masked)


def test_what_is_absent_changes_no_bit(kind: type[Fusion]) -> None:
    """Whatever stands where a modality is masked out, in whole clips or in single places, logits are bit for bit the
    same."""
    made, given = fusion(kind), without(parts(), {"video", "text"})
    expected = made(given)
    noisy = {
        name: Part(
            torch.where(each.mask[..., None], each.x, torch.full_like(each.x, 1e30)),
            each.mask,
            torch.where(each.mask, each.when, torch.full_like(each.when, -7.0)),
        )
        for name, each in given.items()
    }
    assert torch.equal(made(noisy), expected)
    assert torch.isfinite(expected).all()


def test_a_fusion_of_two_ignores_the_third(kind: type[Fusion]) -> None:
    """Tokens of a modality that it wasn't made for are no concern of a fusion."""
    made, given = fusion(kind, ("video", "audio")), parts()
    del given["text"]
    expected = made(given)
    assert torch.equal(made(parts()), expected)
    assert torch.equal(shapley(made, parts())[..., 2], torch.zeros(3, SIZE.outputs))


def test_padding_may_stand_anywhere(kind: type[Fusion]) -> None:
    """More padding, and tokens in another order with their moments, change nothing but rounding."""
    made, given = fusion(kind), parts()
    generator = torch.Generator().manual_seed(3)
    moved = {}
    for name, each in given.items():
        wider = part(torch.zeros(3, 2, dtype=torch.bool))
        joined = Part(
            torch.cat([each.x, wider.x], 1),
            torch.cat([each.mask, wider.mask], 1),
            torch.cat([each.when, wider.when], 1),
        )
        order = torch.randperm(joined.mask.shape[1], generator=generator)
        moved[name] = Part(joined.x[:, order], joined.mask[:, order], joined.when[:, order])
    near(made(moved), made(given))


def test_a_clip_is_told_alike_alone_and_in_a_batch(kind: type[Fusion]) -> None:
    """Clips don't see one another."""
    made, given = fusion(kind), parts()
    together = made(given)
    for clip in range(3):
        one = {name: Part(each.x[[clip]], each.mask[[clip]], each.when[[clip]]) for name, each in given.items()}
        near(made(one), together[[clip]])


def test_tokens_and_their_moments_matter(kind: type[Fusion]) -> None:
    """A token more, another content and another moment each change what is said."""
    made, given = fusion(kind), parts()
    expected = made(given)
    each = given["audio"]
    for other in (
        each.of(each.x.roll(1, dims=2)),
        Part(each.x, each.mask, each.when + 0.5),
        Part(each.x, each.mask & (each.when < 1.0), each.when),
    ):
        assert (made({**given, "audio": other}) - expected).abs().amax() > 1e-3


@pytest.mark.parametrize("kept", SUBSETS, ids=lambda kept: "+".join(sorted(kept)) or "nothing")
def test_shapley_values_sum_to_what_is_said(kind: type[Fusion], kept: set[str]) -> None:
    """Values sum to logit - prior's logit, those of what is absent are 0, and shares of them sum to 1."""
    made, given = fusion(kind), without(parts(), kept)
    values = shapley(made, given)
    near(values.sum(dim=-1), made(given) - made({}))
    for number, name in enumerate(MODALITIES):
        assert bool(values[..., number].any()) == (name in kept)
    present = torch.stack([given[name].present() for name in MODALITIES], dim=1)
    torch.testing.assert_close(shares(values, present).sum(dim=-1), torch.ones(3, SIZE.outputs))


def test_the_strongest_are_explained_like_all(kind: type[Fusion]) -> None:
    """The k strongest are the k highest logits, with the Shapley values that the definition gives them."""
    made, given = fusion(kind), parts()
    logits, top, values = made.strongest(given, 2)
    near(logits, made(given))
    assert torch.equal(top, made(given).topk(2).indices)
    expected = shapley(made, given).gather(1, top.unsqueeze(-1).expand(-1, -1, 3))
    near(values, expected)


def test_coalitions_and_contributions_are_passes_of_their_own(kind: type[Fusion]) -> None:
    """What is computed for many sets at once is what a pass over each says."""
    made, given = fusion(kind), parts()
    said = made.coalitions(given, SUBSETS)
    assert said.shape == (len(SUBSETS), 3, SIZE.outputs)
    for kept, logits in zip(SUBSETS, said, strict=True):
        near(logits, made(without(given, kept)))
    alone = made.contribution(given)
    for name in MODALITIES:
        near(alone[name], made(without(given, {name})))


def test_mass_is_where_the_tokens_are(kind: type[Fusion]) -> None:
    """Attention mass is positive where there is a token and 0 elsewhere; it sums to 1, a modality or over all."""
    made, given = fusion(kind), without(parts(), {"video", "audio"})
    mass = made.mass(given)  # type: ignore[operator]
    total = torch.stack([mass[name].sum(dim=1) for name in ("video", "audio")])
    total = total.sum(dim=0) if kind is AttentionFusion else total
    torch.testing.assert_close(total, torch.ones_like(total))
    for name, each in given.items():
        assert torch.equal(mass[name] > 0, each.mask)


def test_gradients_reach_all_and_are_numbers(kind: type[Fusion]) -> None:
    """Every parameter and every token learns, from logits and from the memory, past poisoned padding and absent
    modalities."""
    made, given = fusion(kind).train(), parts()
    given["text"] = given["text"].only(torch.tensor([True, False, False]))
    given["video"] = given["video"].only(torch.tensor([True, True, False]))
    leaves = {name: each.x.requires_grad_() for name, each in given.items()}
    (made(given).square().sum() + made.memory(given).x.square().sum()).backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        assert torch.isfinite(leaf.grad).all()
        assert torch.equal(leaf.grad.any(dim=2), given[name].mask)


def test_half_precision_says_nearly_the_same(kind: type[Fusion]) -> None:
    """Under bfloat16 autocast logits are float32 and near, Shapley values sum still, and gradients are numbers."""
    made, given = fusion(kind), parts()
    expected = made(given)
    with torch.autocast("cpu", torch.bfloat16):
        said = made(given)
        memory = made.memory(given)
    assert said.dtype == torch.float32
    assert (said - expected).norm() < 0.05 * expected.norm()
    assert (memory.x - made.memory(given).x).norm() < 0.05 * memory.x.norm()
    (said.sum() + memory.x.float().sum()).backward()
    assert all(torch.isfinite(each.grad).all() for each in made.parameters() if each.grad is not None)


@pytest.mark.parametrize("kept", SUBSETS, ids=lambda kept: "+".join(sorted(kept)) or "nothing")
def test_memory_of_every_subset(kind: type[Fusion], kept: set[str]) -> None:
    """The memory has a step each 40 ms up to the last item of a clip, at least one, and is the same for a modality that
    is masked out and one that never was."""
    made, given = fusion(kind), without(parts(), kept)
    memory = made.memory(given)
    for clip, steps in enumerate(memory.mask.sum(dim=1).tolist()):
        moments = [0.0, *(when for each in given.values() for when in each.when[clip][each.mask[clip]].tolist())]
        assert steps == int(max(moments) / 0.04) + 1
    assert torch.isfinite(memory.x[memory.mask]).all()
    again = made.memory({name: given[name] for name in kept})
    near(again.x.expand_as(memory.x), memory.x)


def test_memory_is_in_time(kind: type[Fusion]) -> None:
    """What is said in the first half of a clip can be told from the first half of the memory."""
    torch.manual_seed(0)
    made = kind(MODALITIES, SIZE).eval()  # type: ignore[call-arg]
    mask = torch.ones(1, 50, dtype=torch.bool)
    when = torch.arange(50).unsqueeze(0) * 0.04
    before = Part(torch.zeros(1, 50, SIZE.width), mask, when)
    after = before.of(torch.where(when.unsqueeze(-1) < 1.0, torch.randn(1, 50, SIZE.width), before.x))
    changed = (made.memory({"video": after}).x - made.memory({"video": before}).x).norm(dim=2)[0]
    assert changed[:25].mean() > 2 * changed[30:].mean()


def test_without_a_memory(kind: type[Fusion]) -> None:
    """A fusion for one answer a clip has no parameters that would never learn, and says why it has no memory."""
    size = FusionSize(16, 5, heads=2, memory=False)
    made = kind(MODALITIES, size)  # type: ignore[call-arg]
    made(parts()).sum().backward()
    assert all(each.grad is not None for each in made.parameters())
    with pytest.raises(ValueError, match="not for sequences"):
        made.memory(parts())


def test_what_needs_both_is_learned(kind: type[Fusion]) -> None:
    """Neither modality alone says which of two classes it is, only whether they agree does: that is learned."""
    torch.manual_seed(0)
    made = kind(("video", "audio"), FusionSize(16, 2, heads=2, layers=1, dropout=0.0, memory=False))  # type: ignore[call-arg]
    signs = torch.randint(2, (256, 2))
    target = signs[:, 0] ^ signs[:, 1]
    given = {}
    for column, (name, count) in enumerate((("video", 5), ("audio", 3))):
        mask = torch.ones(256, count, dtype=torch.bool)
        x = torch.randn(256, count, 16)
        x[..., 0] += (2 * signs[:, column, None] - 1) * 3
        given[name] = Part(x, mask, torch.arange(count).expand(256, -1) * 0.5)
    train = {name: Part(each.x[:192], each.mask[:192], each.when[:192]) for name, each in given.items()}
    held = {name: Part(each.x[192:], each.mask[192:], each.when[192:]) for name, each in given.items()}
    optimiser = torch.optim.Adam(made.parameters(), lr=3e-3)
    for _ in range(80):
        optimiser.zero_grad()
        F.cross_entropy(made(train), target[:192]).backward()
        optimiser.step()
    made.eval()
    right = (made(held).argmax(dim=1) == target[192:]).float().mean()
    alone = [(said.argmax(dim=1) == target[192:]).float().mean() for said in made.contribution(held).values()]
    assert right > 0.9
    assert max(alone) < 0.75
