"""The projection of the live encoders' tokens."""

from __future__ import annotations

import pytest
import torch

from models.config import Geometry
from models.frozen import FrozenEncoder
from models.learning.batch import Part


@pytest.mark.parametrize(("modality", "width"), [("video", Geometry().video_width), ("audio", Geometry().audio_width)])
def test_items_are_tokens_of_the_live_encoders(modality: str, width: int) -> None:
    """What is stored is what live encoders give: it is prepared and encoded by leaving it alone, and then projected."""
    encoder = FrozenEncoder(modality, 16)
    items = torch.rand(5, width)
    assert torch.equal(encoder.each(encoder.prepare(items)), items)
    part = Part(items.unsqueeze(0), torch.ones(1, 5, dtype=torch.bool), torch.arange(5.0).unsqueeze(0))
    assert encoder.item_width == width
    assert encoder(part).x.shape == (1, 5, encoder.width) == (1, 5, 16)
    assert torch.equal(encoder(part).when, part.when)


def test_scale_does_not_matter() -> None:
    """Tokens of a network that gives large numbers are told as those of one that gives small ones."""
    encoder = FrozenEncoder("audio", 16)
    part = Part(torch.rand(2, 3, 1024), torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 3))
    torch.testing.assert_close(encoder(part.of(100 * part.x)).x, encoder(part).x, rtol=1e-3, atol=1e-3)


def test_padding_has_no_say() -> None:
    """What isn't a number under a False of the mask changes no token and no gradient."""
    encoder = FrozenEncoder("video", 16)
    x, mask = torch.rand(2, 3, 1280), torch.tensor([[True, True, False], [False, False, False]])
    grads = []
    for filling in (0.0, torch.nan):
        encoder.zero_grad()
        tokens = encoder.tokens(Part(x.masked_fill(~mask[..., None], filling), mask, torch.zeros(2, 3)))
        tokens.x[mask].square().sum().backward()
        grads.append([parameter.grad for parameter in encoder.parameters()])
    for one, other in zip(*grads, strict=True):
        assert one is not None and other is not None
        assert torch.equal(one, other)


def test_no_items_give_no_tokens() -> None:
    """Zero items are zero tokens."""
    encoder = FrozenEncoder("video", 16)
    nothing = Part(torch.zeros(2, 0, 1280), torch.zeros(2, 0, dtype=torch.bool), torch.zeros(2, 0))
    assert encoder(nothing).x.shape == (2, 0, 16)


def test_only_pictures_and_sound_are_frozen() -> None:
    """The error names what was asked for and what there is."""
    with pytest.raises(ValueError, match=r"'text'.*video and one for audio"):
        FrozenEncoder("text", 16)


def test_change_tells_nothing_of_what_stays() -> None:
    """With `change`, pictures of which nothing moves are all alike, whatever is seen; one that differs is told, with
    the next, for it changes back."""
    encoder = FrozenEncoder("video", 16, change=True).eval()
    still = torch.rand(2, 1, 1280).expand(2, 5, 1280)
    part = Part(still, torch.ones(2, 5, dtype=torch.bool), torch.zeros(2, 5))
    none = encoder(part).x
    torch.testing.assert_close(none, none[:1, :1].expand_as(none))
    moved = still.clone()
    moved[0, 2] += torch.rand(1280)
    told = (encoder(part.of(moved)).x - none).abs().amax(dim=2) > 1e-3
    assert told.tolist() == [[False, False, True, True, False], [False] * 5]


def test_change_is_between_neighbours_that_are_there() -> None:
    """A picture after one that is missing tells no change, and what isn't a number under the mask's False has no
    say."""
    encoder = FrozenEncoder("video", 16, change=True).eval()
    mask = torch.tensor([[True, True, False, True, True]])
    x = torch.rand(1, 5, 1280).masked_fill(~mask[..., None], torch.nan)
    tokens = encoder.tokens(Part(x, mask, torch.zeros(1, 5))).x
    assert tokens.isfinite().all()
    torch.testing.assert_close(tokens[0, 0], tokens[0, 3])
    assert not torch.allclose(tokens[0, 1], tokens[0, 3]) and not torch.allclose(tokens[0, 4], tokens[0, 3])
    nothing = Part(torch.zeros(2, 0, 1280), torch.zeros(2, 0, dtype=torch.bool), torch.zeros(2, 0))
    assert encoder(nothing).x.shape == (2, 0, 16)


def test_change_is_standardised_by_what_was_trained_on() -> None:
    """Each feature's change is told against its mean in training, which is remembered; masked items aren't counted."""
    encoder = FrozenEncoder("video", 16, change=True)
    torch.manual_seed(0)
    mask = torch.ones(4, 6, dtype=torch.bool)
    mask[0, 3:] = False
    part = Part(torch.rand(4, 6, 1280).masked_fill(~mask[..., None], torch.nan), mask, torch.zeros(4, 6))
    for _ in range(60):
        trained = encoder.tokens(part).x
    assert trained[mask].isfinite().all()
    torch.testing.assert_close(encoder.eval().tokens(part).x[mask], trained[mask], rtol=0.1, atol=0.1)
    alone = Part(part.x[1:2, :2], mask[1:2, :2], part.when[1:2, :2])
    assert encoder.train().tokens(alone).x.isfinite().all(), "one change has no deviation"
