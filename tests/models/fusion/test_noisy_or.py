"""Decision-level fusion with made-up classifiers: masks, shares, pooling. Real media are in test_evaluate."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from models import tags
from models.fusion.noisy_or import TagFusion

BATCH, FRAMES, PATCHES = 3, 4, 3


@dataclass(frozen=True)
class Tokens:
    """Arguments of the module."""

    video: Tensor
    video_mask: Tensor
    audio: Tensor
    audio_mask: Tensor

    def into(self, fusion: TagFusion) -> tuple[Tensor, Tensor]:
        """Scores and shares."""
        with torch.no_grad():
            scores, shares = fusion(self.video, self.video_mask, self.audio, self.audio_mask)
        return scores, shares

    def only(self, video: bool, audio: bool) -> Tokens:
        """The same with a modality's mask zeroed."""
        return Tokens(self.video, self.video_mask * video, self.audio, self.audio_mask * audio)


@pytest.fixture(scope="module")
def fusion() -> TagFusion:
    """In double precision, so that only mathematics can make a difference; classifiers that are often sure."""
    torch.manual_seed(0)
    video, audio = nn.Linear(1280, 1000), nn.Linear(1024, 521)
    with torch.no_grad():
        video.weight.mul_(12)
        audio.weight.mul_(12)
        audio.bias.sub_(4)
    return tags.assemble(video, audio, tags.calibration()).double()


@pytest.fixture
def tokens() -> Tokens:
    """Three windows; the second has a frame less, the third a patch less."""
    generator = torch.Generator().manual_seed(1)
    video = torch.rand(BATCH, FRAMES, 1280, generator=generator, dtype=torch.float64)
    audio = torch.rand(BATCH, PATCHES, 1024, generator=generator, dtype=torch.float64)
    video_mask, audio_mask = torch.ones(BATCH, FRAMES), torch.ones(BATCH, PATCHES)
    video_mask[1, -1] = audio_mask[2, -1] = 0
    return Tokens(video, video_mask, audio, audio_mask)


def _logit(scores: Tensor) -> Tensor:
    return scores.log() - torch.log1p(-scores)


def test_shapes_and_ranges(fusion: TagFusion, tokens: Tokens) -> None:
    """Scores are probabilities, one a label; the three shares of each are not negative and sum to 1; text has none."""
    scores, shares = tokens.into(fusion)
    count = len(tags.labels())
    assert scores.shape == (BATCH, count) and shares.shape == (BATCH, count, 3)
    assert ((scores > 0) & (scores < 1)).all()
    assert (shares >= 0).all() and (shares[..., 2] == 0).all()
    torch.testing.assert_close(shares.sum(dim=-1), torch.ones(BATCH, count, dtype=torch.float64))


@pytest.mark.parametrize("present", ["video", "audio"])
def test_a_masked_modality_is_one_that_was_never_there(fusion: TagFusion, tokens: Tokens, present: str) -> None:
    """With one modality masked the scores are those of the other head called by itself, joined with the prior."""
    scores, shares = tokens.only(video=present == "video", audio=present == "audio").into(fusion)
    head = getattr(fusion, present)
    prior = tags.calibration().prior
    with torch.no_grad():
        odds = head(getattr(tokens, present), getattr(tokens, f"{present}_mask").double())
    alone = torch.where(head.raises > 0, odds.sigmoid(), torch.zeros_like(odds))
    torch.testing.assert_close(scores, 1 - (1 - prior) * (1 - alone), atol=1e-9, rtol=1e-6)
    expected = torch.zeros(3, dtype=torch.float64)
    expected[("video", "audio").index(present)] = 1
    torch.testing.assert_close(shares, expected.expand_as(shares))


def test_masked_tokens_weigh_nothing(fusion: TagFusion, tokens: Tokens) -> None:
    """Padding of any length and content, not-a-number included, changes neither scores nor shares."""
    scores, shares = tokens.into(fusion)
    video = torch.full((BATCH, FRAMES + 4, 1280), math.nan, dtype=torch.float64)
    audio = torch.full((BATCH, PATCHES + 1, 1024), math.inf, dtype=torch.float64)
    video_mask, audio_mask = torch.zeros(BATCH, FRAMES + 4), torch.zeros(BATCH, PATCHES + 1)
    video[:, :FRAMES], video_mask[:, :FRAMES] = tokens.video, tokens.video_mask
    audio[:, :PATCHES], audio_mask[:, :PATCHES] = tokens.audio, tokens.audio_mask
    video[1, FRAMES - 1] = math.nan
    padded = Tokens(video, video_mask, audio, audio_mask).into(fusion)
    torch.testing.assert_close(padded, (scores, shares))


def test_masks_may_be_bool(fusion: TagFusion, tokens: Tokens) -> None:
    """Bool masks mean the same as masks of 0 and 1."""
    as_bool = Tokens(tokens.video, tokens.video_mask.bool(), tokens.audio, tokens.audio_mask.bool())
    torch.testing.assert_close(as_bool.into(fusion), tokens.into(fusion))


def test_nothing_present_is_the_prior(fusion: TagFusion, tokens: Tokens) -> None:
    """With both modalities absent every score is the prior and every share a third."""
    scores, shares = tokens.only(video=False, audio=False).into(fusion)
    prior = tags.calibration().prior
    torch.testing.assert_close(scores, torch.full_like(scores, prior), atol=1e-8, rtol=1e-6)
    torch.testing.assert_close(shares, torch.full_like(shares, 1 / 3))


def test_modalities_join_as_seen_or_heard(fusion: TagFusion, tokens: Tokens) -> None:
    """The chance that a label is absent is the product of each modality's, over the prior counted twice."""
    both = tokens.into(fusion)[0]
    video = tokens.only(video=True, audio=False).into(fusion)[0]
    audio = tokens.only(video=False, audio=True).into(fusion)[0]
    torch.testing.assert_close(
        1 - both, (1 - video) * (1 - audio) / (1 - tags.calibration().prior), rtol=1e-6, atol=1e-9
    )


def test_shares_are_shapley_values_over_all_subsets(fusion: TagFusion, tokens: Tokens) -> None:
    """Shares of raised labels are the normalised Shapley values of the logit, found by running every subset."""
    scores, shares = tokens.into(fusion)
    value = {
        (video, audio): _logit(tokens.only(video, audio).into(fusion)[0])
        for video in (False, True)
        for audio in (False, True)
    }
    none, seen, heard, both = value[False, False], value[True, False], value[False, True], value[True, True]
    phi = torch.stack([(seen - none + both - heard) / 2, (heard - none + both - seen) / 2], dim=-1)
    raised = scores > 0.01
    assert raised.sum() > 20
    expected = phi / phi.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(shares[..., :2][raised], expected[raised], atol=1e-6, rtol=1e-6)
    mixed = shares[..., 0][raised]
    assert ((mixed > 0.1) & (mixed < 0.9)).any()


def test_labels_without_evidence_share_evenly(fusion: TagFusion, tokens: Tokens) -> None:
    """A label that no present modality can raise stays at the prior, its shares uniform over what is present."""
    scores, shares = tokens.only(video=True, audio=False).into(fusion)
    glass = [label.name for label in tags.labels()].index("Glass")
    prior = torch.full((BATCH,), tags.calibration().prior, dtype=torch.float64)
    torch.testing.assert_close(scores[:, glass], prior, atol=1e-8, rtol=0)
    torch.testing.assert_close(shares[:, glass], torch.tensor([1.0, 0.0, 0.0]).double().expand(BATCH, 3))


def test_classes_of_a_label_merge() -> None:
    """A label's pictures add up over its classes, and its sounds join: two breeds at a half are Dog for certain."""
    video, audio = nn.Linear(1280, 1000), nn.Linear(1024, 521)
    with torch.no_grad():
        for layer in (video, audio):
            layer.weight.zero_()
            layer.bias.fill_(-20)
        video.bias[[151, 268]] = 20.0  # Chihuahua, Mexican hairless
        audio.bias[[70, 72]] = 0.0  # Bark, Howl: a half each
    fusion = tags.assemble(video, audio, tags.calibration())
    dog = [label.name for label in tags.labels()].index("Dog")
    with torch.no_grad():
        seen = fusion.video.label_probabilities(torch.zeros(1, 1, 1280))[0, 0]
        heard = fusion.audio.label_probabilities(torch.zeros(1, 1, 1024))[0, 0]
    assert float(seen[dog]) == pytest.approx(1.0, abs=1e-5)
    assert float(heard[dog]) == pytest.approx(0.75, abs=1e-5)
    assert float(seen.sum()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(("order", "expected"), [(1.0, 0.25), (2.0, 0.5)])
def test_one_token_of_four(order: float, expected: float) -> None:
    """A label that is sure in one token of four pools to the power mean of that order: a quarter, a half."""
    audio = nn.Linear(1024, 521)
    with torch.no_grad():
        audio.weight.zero_()
        audio.bias.fill_(-20)
        audio.weight[0, 0] = 40.0  # class 0 is Speech: its logit is 20 where the token begins with 1
    constants = tags.calibration()
    platt = replace(constants.audio, order=order)
    head = tags.assemble(nn.Linear(1280, 1000), audio, replace(constants, audio=platt)).audio
    sound = torch.zeros(1, 4, 1024)
    sound[0, 2, 0] = 1.0
    with torch.no_grad():
        pooled = head.pooled(sound, torch.ones(1, 4)).sigmoid()
    speech = [label.name for label in tags.labels()].index("Speech")
    assert float(pooled[0, speech]) == pytest.approx(expected, abs=1e-4)


def test_indifferent_picture_is_nothing() -> None:
    """A picture that favours no class is no dog, though 118 of 1,000 classes are."""
    video = nn.Linear(1280, 1000)
    nn.init.zeros_(video.weight)
    nn.init.zeros_(video.bias)
    fusion = tags.assemble(video, nn.Linear(1024, 521), tags.calibration())
    with torch.no_grad():
        odds = fusion.video(torch.zeros(1, 1, 1280), torch.ones(1, 1))
    assert float(odds.sigmoid().max()) < 0.05


def test_state_dict_is_the_whole_module(fusion: TagFusion, tokens: Tokens) -> None:
    """A module made from a state dict alone answers as the one it came from."""
    twin = TagFusion.from_state(fusion.state_dict()).double().eval()
    # Loaded into single precision on the way, hence the tolerance, and hence only labels that matter.
    (scores, shares), (expected, expected_shares) = tokens.into(twin), tokens.into(fusion)
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-3)
    raised = expected > 0.05
    torch.testing.assert_close(shares[raised], expected_shares[raised], atol=1e-3, rtol=1e-3)


def test_state_dict_that_does_not_fit_is_refused(fusion: TagFusion) -> None:
    """A state dict with a tensor missing raises instead of leaving zeros."""
    state = fusion.state_dict()
    del state["prior_evidence"]
    with pytest.raises(RuntimeError, match="prior_evidence"):
        TagFusion.from_state(state)
