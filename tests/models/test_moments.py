"""The mass of a moment: exact parts of the pooled probability, held to leaving tokens out and to autograd."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models import tags
from models.fusion.noisy_or import ModalityHead, TagFusion
from models.moments import Moments, masses


@pytest.fixture(scope="module")
def fusion() -> TagFusion:
    """In double precision, with classifiers that are often sure."""
    torch.manual_seed(3)
    video, audio = nn.Linear(1280, 1000), nn.Linear(1024, 521)
    with torch.no_grad():
        video.weight.mul_(12)
        audio.weight.mul_(12)
        audio.bias.sub_(4)
    return tags.assemble(video, audio, tags.calibration()).double()


def tokens_of(width: int, count: int, seed: int) -> Tensor:
    return torch.rand(1, count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def place_of(name: str) -> int:
    return [label.name for label in tags.labels()].index(name)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(2, 6), modality=st.sampled_from(["video", "audio"]))
def test_the_moment_of_greatest_mass_is_missed_most(fusion: TagFusion, seed: int, count: int, modality: str) -> None:
    """Without the token of greatest mass a label's log-odds fall by more than without any other one, for every label
    that the modality can raise."""
    head: ModalityHead = getattr(fusion, modality)
    tokens = tokens_of(head.classifier.in_features, count, seed)
    mask = torch.ones(1, count, dtype=torch.float64)
    with torch.no_grad():
        mass = masses(head, tokens, mask)[1][0]
        without = torch.stack([head(tokens, mask * (torch.arange(count) != left)) for left in range(count)])[:, 0]
    raised = head.raises > 0
    order = mass.sort(dim=0, descending=True)
    least = without.gather(0, order.indices[:1])[0]
    torch.testing.assert_close(least[raised], without.min(dim=0).values[raised], atol=1e-9, rtol=0)
    # The same down the whole order: the more mass, the more is missed.
    missed = without.gather(0, order.indices)
    assert (missed.diff(dim=0)[:, raised] >= -1e-9).all()


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_masses_are_what_autograd_gives(fusion: TagFusion, modality: str) -> None:
    """Weighting each token's term by a number that is 1, the gradient of the pooled sum's logarithm by that number is
    the token's mass: its exact part."""
    head: ModalityHead = getattr(fusion, modality)
    tokens, label = tokens_of(head.classifier.in_features, 4, 5), place_of("Dog")
    mask = torch.tensor([[1.0, 1.0, 0.0, 1.0]], dtype=torch.float64)
    each, mass = masses(head, tokens, mask)
    weights = torch.ones(4, dtype=torch.float64, requires_grad=True)
    (weights * mask[0] * each[0, :, label].detach().pow(head.order)).sum().log().backward()  # type: ignore[no-untyped-call]
    assert weights.grad is not None
    torch.testing.assert_close(mass[0, :, label].detach(), weights.grad, atol=1e-12, rtol=1e-9)


def test_masses_of_a_modality_add_up_to_one(fusion: TagFusion) -> None:
    """They sum to 1 where the modality can raise the label, and are all 0 where it can't, and where it is absent."""
    video, audio = tokens_of(1280, 4, 1), tokens_of(1024, 3, 2)
    here, gone = torch.ones(1, 4, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)
    with torch.no_grad():
        *_, video_mass, audio_each, audio_mass = Moments(fusion)(video, here, audio, gone)
    torch.testing.assert_close(video_mass.sum(dim=1)[0], fusion.video.raises)
    assert video_mass[0, :, place_of("Glass")].sum() == 0
    assert audio_mass.abs().sum() == 0 and audio_each.abs().sum() == 0


def test_a_masked_token_has_neither_mass_nor_score(fusion: TagFusion) -> None:
    """What lies under a zero of the mask, not-a-number included, has no part and changes nobody else's."""
    audio = tokens_of(1024, 3, 4)
    padded = torch.cat([audio, torch.full((1, 1, 1024), torch.nan, dtype=torch.float64)], dim=1)
    with torch.no_grad():
        each, mass = masses(fusion.audio, audio, torch.ones(1, 3, dtype=torch.float64))
        more = masses(fusion.audio, padded, torch.tensor([[1.0, 1.0, 1.0, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(more[0][:, :3], each)
    torch.testing.assert_close(more[1][:, :3], mass)
    assert (more[0][:, 3] == 0).all() and (more[1][:, 3] == 0).all()


def test_faint_labels_keep_their_sum_in_single_precision(fusion: TagFusion) -> None:
    """In the precision that is served, the masses of labels at the least probability there is still sum to 1."""
    twin = TagFusion.from_state({name: tensor.float() for name, tensor in fusion.state_dict().items()})
    with torch.no_grad():
        twin.audio.classifier.bias.fill_(-60)
        mass = masses(twin.audio, tokens_of(1024, 5, 6).float() * 0, torch.ones(1, 5))[1]
    torch.testing.assert_close(mass.sum(dim=1)[0], twin.audio.raises)


def test_scores_are_the_fusions_own(fusion: TagFusion) -> None:
    """What says why also says the same scores and shares."""
    arguments = (
        tokens_of(1280, 4, 8),
        torch.ones(1, 4, dtype=torch.float64),
        tokens_of(1024, 3, 9),
        torch.ones(1, 3, dtype=torch.float64),
    )
    with torch.no_grad():
        scores, shares, *_ = Moments(fusion)(*arguments)
        expected = fusion(*arguments)
    torch.testing.assert_close((scores, shares), expected)
