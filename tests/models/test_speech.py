"""The trained encoder of speech."""

from __future__ import annotations

import numpy as np
import torch

from models.features import LogMel
from models.learning.batch import Part
from models.speech import ITEM_WIDTH, PATCH_HOP_SAMPLES, PATCH_SAMPLES, SpeechEncoder


def patches(samples: torch.Tensor) -> torch.Tensor:
    """Pieces of 880 samples every 640."""
    return samples.unfold(0, PATCH_SAMPLES, PATCH_HOP_SAMPLES).contiguous()


def sound(seconds: float, seed: int = 0) -> torch.Tensor:
    """Noise that swells."""
    rng = np.random.default_rng(seed)
    count = int(seconds * 16000)
    return torch.from_numpy((rng.normal(size=count) * np.linspace(0.01, 0.3, count)).astype(np.float32))


def test_frames_of_neighbouring_patches_go_on_every_ten_milliseconds() -> None:
    """Patches every 40 ms hold the same frames as the whole recording at once."""
    encoder = SpeechEncoder(8)
    pieces = patches(sound(0.975))
    frames = encoder.each(pieces).view(-1, 64)
    whole = LogMel()(sound(0.975)[None, :15600])[0]
    expected = encoder.each(pieces).new_tensor(whole.numpy())
    side_by_side = frames * 2.5 - 3.0
    torch.testing.assert_close(side_by_side, expected[: len(frames)], rtol=1e-3, atol=1e-3)


def test_live_patches_give_the_tokens_of_the_cached_path() -> None:
    """Patches encoded one by one and then taken together are what a batch of clips gives."""
    torch.manual_seed(0)
    encoder = SpeechEncoder(12).eval()
    items = patches(sound(0.5))
    mask = torch.ones(1, len(items), dtype=torch.bool)
    when = torch.zeros(1, len(items))
    cached = encoder(Part(items[None], mask, when))
    live = torch.cat([encoder.each(encoder.prepare(item[None])) for item in items])
    assert live.shape == (len(items), ITEM_WIDTH)
    assert cached.x.shape == (1, len(items), 12)
    torch.testing.assert_close(encoder.over(live[None], mask, when), cached.x, rtol=1e-4, atol=1e-5)


def test_padding_changes_nothing_whatever_it_holds() -> None:
    """Not-a-number after a clip, and before it, leaves its tokens and its gradients as they were."""
    torch.manual_seed(0)
    encoder = SpeechEncoder(12).eval()
    encoded = torch.randn(1, 6, ITEM_WIDTH)
    alone = encoder.over(encoded, torch.ones(1, 6, dtype=torch.bool), torch.zeros(1, 6))
    padded = torch.full((1, 9, ITEM_WIDTH), torch.nan)
    padded[:, :6] = encoded
    mask = torch.zeros(1, 9, dtype=torch.bool)
    mask[:, :6] = True
    tokens = encoder.over(padded, mask, torch.zeros(1, 9))
    torch.testing.assert_close(tokens[:, :6], alone, rtol=1e-4, atol=1e-5)
    tokens[mask].sum().backward()
    assert all(torch.isfinite(each.grad).all() for each in encoder.over.parameters() if each.grad is not None)


def test_loudness_does_not_count() -> None:
    """The same sound at half the level gives nearly the same tokens: the bands' mean is taken off."""
    torch.manual_seed(0)
    encoder = SpeechEncoder(12).eval()
    items = patches(sound(0.5) * 3)
    mask = torch.ones(1, len(items), dtype=torch.bool)
    loud = encoder(Part(items[None], mask, torch.zeros(mask.shape))).x
    soft = encoder(Part(items[None] / 2, mask, torch.zeros(mask.shape))).x
    assert (loud - soft).abs().max() < 0.05 * loud.abs().max()


def test_stripes_are_blanked_in_training_alone() -> None:
    """With masks asked for, two passes in training differ though nothing else is random; in use they are the same."""
    torch.manual_seed(0)
    encoder = SpeechEncoder(12, bands=20, frames=10)
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    items = patches(sound(0.5))[None]
    part = Part(items, torch.ones(items.shape[:2], dtype=torch.bool), torch.zeros(items.shape[:2]))
    assert not torch.equal(encoder.train()(part).x, encoder(part).x)
    assert torch.equal(encoder.eval()(part).x, encoder(part).x)
