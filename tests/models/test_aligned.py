"""What is said at each moment, asked of each modality by itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from models.aligned import Aligned
from models.learning.batch import Part
from models.learning.network import Network, Outline
from models.learning.recipe import AudioRecipe, Recipe, SequenceRecipe, VideoRecipe

NAN = torch.nan
TIMES = torch.tensor([[[0.03, 0.15], [0.19, 0.31]], [[NAN, NAN], [NAN, NAN]]])
TARGET = torch.tensor([[1, 2], [0, -1]])


def features(clips: int, steps: int, width: int = 16) -> Part:
    x = torch.randn(clips, steps, width, generator=torch.Generator().manual_seed(0))
    return Part(x, torch.ones(clips, steps, dtype=torch.bool), torch.arange(steps).expand(clips, -1) / 25)


def test_each_moment_is_asked_for_its_third_of_a_symbol() -> None:
    """The third of the symbol that is said then, silence outside; clips without times ask nothing."""
    torch.manual_seed(0)
    aligned = Aligned({"video": 16}, 3)
    part = features(2, 12)
    lost = aligned.loss({"video": part}, TARGET, TIMES)
    silent, right = 9, [9, 3, 4, 5, 9, 6, 7, 8, 9, 9, 9, 9]
    log_p = torch.log_softmax(aligned.heads["video"](part.x[0]), dim=-1)
    assert log_p.shape[1] == silent + 1
    smooth = 0.9 * log_p[range(12), right] + 0.1 * log_p.mean(dim=1)
    torch.testing.assert_close(lost, torch.stack([-smooth.mean(), torch.tensor(0.0)]), rtol=1e-4, atol=1e-5)


def test_what_is_not_there_takes_no_part() -> None:
    """Padding changes neither the loss nor its gradients, whatever stands in it."""
    torch.manual_seed(0)
    aligned = Aligned({"video": 16}, 3)
    part = features(2, 12)
    more = Part(F.pad(part.x, (0, 0, 0, 3), value=NAN), F.pad(part.mask, (0, 3)), F.pad(part.when, (0, 3), value=NAN))
    found = []
    for each in (part, more):
        aligned.zero_grad()
        lost = aligned.loss({"video": each}, TARGET, TIMES).sum()
        lost.backward()
        found.append((lost.detach(), aligned.heads["video"].weight.grad.clone()))  # type: ignore[union-attr]
    torch.testing.assert_close(found[0], found[1])


def test_modalities_are_asked_one_by_one() -> None:
    """What both lose is the sum of what each loses; one without a head, or none at all, adds nothing."""
    torch.manual_seed(0)
    aligned = Aligned({"video": 16, "audio": 16}, 3)
    video, audio = features(2, 12), features(2, 7)
    one, other = (aligned.loss(parts, TARGET, TIMES) for parts in ({"video": video}, {"audio": audio}))
    both = aligned.loss({"video": video, "audio": audio, "text": audio}, TARGET, TIMES)
    torch.testing.assert_close(both, one + other)
    torch.testing.assert_close(aligned.loss({}, TARGET, TIMES), torch.zeros(2))


def test_local_features_reach_a_few_items_far() -> None:
    """What lips and speech are asked by knows nothing of what is further away than its convolutions reach."""
    recipe = Recipe("r", "sequence", video=VideoRecipe("lips", 25), audio=AudioRecipe("speech"))
    network = Network(recipe, Outline(5)).eval()
    for name in ("video", "audio"):
        encoder = network.encoder(name)
        x = torch.randn(1, 40, encoder.item_width)
        far = x.clone()
        far[0, 30:] = 0
        mask, when = torch.ones(1, 40, dtype=torch.bool), torch.arange(40)[None] / 25
        seen = encoder.local(Part(x, mask, when))
        assert seen is not None and seen.x.shape == (1, 40, encoder.local_width)
        if name == "video":  # sound takes its own mean off over the whole clip
            other = encoder.local(Part(far, mask, when))
            assert other is not None
            torch.testing.assert_close(seen.x[0, :26], other.x[0, :26])
            assert not torch.equal(seen.x[0, 26:30], other.x[0, 26:30])


def test_only_sequences_with_times_are_asked() -> None:
    """The heads are there where the recipe counts them."""
    assert Network(Recipe("r", "sequence", video=VideoRecipe("lips", 25)), Outline(5)).aligned is None
    asked = Recipe("r", "sequence", video=VideoRecipe("lips", 25), sequence=SequenceRecipe(align=1.0))
    assert Network(asked, Outline(5)).aligned is not None
