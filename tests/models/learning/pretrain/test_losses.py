"""The three losses, against what a hand computes, and what is hidden from whom."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from models.learning.batch import Part
from models.learning.errors import LearningError
from models.learning.network import Outline
from models.learning.pretrain.contrastive import info_nce
from models.learning.pretrain.gan import Adversarial, energy_distance, pooled, slope
from models.learning.pretrain.masked import Masked, hide
from models.learning.recipe import TextRecipe, VideoRecipe
from tests.models.learning import tiny


def part(*there: list[int], width: int = 3) -> Part:
    """Random items where a row has a 1."""
    mask = torch.tensor(there, dtype=torch.bool)
    return Part(torch.randn(*mask.shape, width), mask, torch.zeros(mask.shape))


def test_info_nce_of_two_pairs() -> None:
    """With embeddings at right angles and s = 2, each costs log(1 + exp(-2)), whatever its length."""
    one, other = torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    found = info_nce(one, other, torch.tensor(math.log(2.0)))
    assert float(found) == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-5)
    wrong = info_nce(one, other.flip(0), torch.tensor(math.log(2.0)))
    assert float(wrong) == pytest.approx(2 + math.log(1 + math.exp(-2)), rel=1e-5)


def test_the_temperature_has_an_end() -> None:
    """The inverse temperature is held at 100, and one pair alone costs nothing."""
    one, other = torch.tensor([[1.0, 0.0], [0.8, 0.6]]), torch.eye(2)
    assert float(info_nce(one, other, torch.tensor(9.0))) == pytest.approx(
        float(info_nce(one, other, torch.tensor(math.log(100.0))))
    )
    assert float(info_nce(one[:1], other[:1], torch.tensor(1.0))) == 0.0


def test_something_is_hidden_and_something_seen() -> None:
    """Of each clip of two items or more some are hidden and some are not; never one that isn't there."""
    torch.manual_seed(0)
    parts = {"video": part([1, 1, 1], [1, 0, 0], [0, 0, 0]), "audio": part([1, 1], [1, 0], [1, 0])}
    whole = 0
    for _ in range(50):
        hidden = hide(parts)
        count = torch.stack([hidden[name].sum(dim=1) for name in parts]).sum(dim=0).tolist()
        assert 1 <= count[0] <= 4 and count[1:] == [1, 0]
        assert all(not (hidden[name] & ~parts[name].mask).any() for name in parts)
        whole += bool((hidden["video"][0] == parts["video"].mask[0]).all())
    assert whole > 0  # a modality is to be completed from the other now and then


def test_what_is_hidden_is_not_read() -> None:
    """With the same chance, other contents of hidden items change what they are held against, and no answer."""
    method = Masked(tiny.recipe(), Outline(3, longest_s=1.0)).eval()
    batch = tiny.data().train.batch([0, 1], None)
    torch.manual_seed(3)
    hidden = hide(batch.parts)
    changed = {
        name: one.of(torch.where(hidden[name].unsqueeze(-1), torch.full_like(one.x, 7.0), one.x))
        for name, one in batch.parts.items()
    }
    before, after = method._told(batch.parts, hidden), method._told(changed, hidden)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_distance_is_of_normalised_items() -> None:
    """An item (1, -1, 1, -1) times five is held against (1, -1, 1, -1): of an answer of zeros, each is off by half."""
    method = Masked(tiny.recipe(), Outline(3, longest_s=1.0))
    item = 5 * torch.tensor([1.0, -1.0]).repeat(1, 512)
    assert float(method._distance("audio", torch.zeros(1, 1024), item)) == pytest.approx(0.5, abs=1e-4)


def test_slope_of_a_plane() -> None:
    """Of D(x) = 3 x_1 + 4 x_2, the squared gradient is 25 for every clip."""
    x = torch.randn(5, 1, 2, requires_grad=True)
    said = (x[:, 0] * torch.tensor([3.0, 4.0])).sum(dim=1)
    known = Part(x, torch.ones(5, 1, dtype=torch.bool), torch.zeros(5, 1))
    assert float(slope(said, {"audio": known})) == pytest.approx(25.0)


def test_energy_distance_by_hand() -> None:
    """Of {0, 2} and {5, 7} it is 2 * 5 - 2 - 2 = 6."""
    assert float(energy_distance(torch.tensor([[0.0], [2.0]]), torch.tensor([[5.0], [7.0]]))) == pytest.approx(6.0)


def test_pooled_counts_what_is_there() -> None:
    """The mean leaves out what is not there, and a modality that a clip lacks stays absent."""
    one = Part(
        torch.tensor([[[2.0, 0.0], [4.0, 2.0], [math.nan, 9.0]], [[math.nan, 1.0]] * 3]),
        torch.tensor([[True, True, False], [False] * 3]),
        torch.tensor([[0.0, 1.0, 9.0], [5.0, 5.0, 5.0]]),
    )
    made = pooled({"audio": one})["audio"]
    assert made.x[0, 0].tolist() == pytest.approx([1.0, -1.0], abs=1e-4)  # of (3, 1)
    assert made.mask.tolist() == [[True], [False]] and made.when.tolist() == [[0.5], [0.0]]
    assert torch.isfinite(made.x).all()


@pytest.mark.parametrize(
    "change",
    [
        {"text": TextRecipe()},
        {"video": VideoRecipe("lips")},
        {"video": VideoRecipe(change=True)},
        {"video": VideoRecipe(smoothness=True)},
    ],
)
def test_gan_needs_frozen_encoders(change: dict[str, object]) -> None:
    """Other encoders are refused, with what to take instead."""
    recipe = dataclasses.replace(tiny.recipe(), **change)  # type: ignore[arg-type]
    with pytest.raises(LearningError, match=r"frozen encoders.*--method masked"):
        Adversarial(recipe, Outline(3, 5))
