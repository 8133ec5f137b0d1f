"""ResNet-18 as an encoder."""

from __future__ import annotations

import pytest
import torch

from models.learning.batch import Part
from models.learning.recipe import VideoRecipe
from models.resnet import ITEM_WIDTH, ResNetEncoder


@pytest.mark.parametrize("pixels", [32, 128])
def test_live_pictures_give_the_tokens_of_the_cached_path(pixels: int) -> None:
    """One token a picture, of the fusion's width, whether pictures come one by one or as a clip."""
    torch.manual_seed(0)
    recipe = VideoRecipe("resnet18", size=160, crop=(0.0, 0.0, 0.8, 0.8), pixels=pixels)
    encoder = ResNetEncoder(recipe, width=10).eval()
    pictures = torch.randint(0, 256, (3, 160, 160, 3), dtype=torch.uint8)
    mask, when = torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, 3)
    with torch.no_grad():
        cached = encoder(Part(encoder.prepare(pictures)[None], mask, when))
        live = torch.cat([encoder.each(encoder.prepare(picture[None])) for picture in pictures])
        assert live.shape == (3, ITEM_WIDTH)
        assert cached.x.shape == (1, 3, 10)
        torch.testing.assert_close(encoder.over(live[None], mask, when), cached.x, rtol=1e-3, atol=1e-4)


def test_it_has_the_parameters_of_the_paper() -> None:
    """Eighteen layers with weights less the classifier: 11.18 million parameters at 224 pixels."""
    encoder = ResNetEncoder(VideoRecipe("resnet18", size=224, pixels=224), width=10)
    assert sum(each.numel() for each in encoder.each.parameters()) == 11_176_512


def test_padding_changes_nothing_whatever_it_holds() -> None:
    """Only pictures under the mask are encoded, and not-a-number under False doesn't come out."""
    torch.manual_seed(0)
    encoder = ResNetEncoder(VideoRecipe("resnet18", size=32, pixels=32), width=10).eval()
    encoded = torch.full((1, 4, ITEM_WIDTH), torch.nan)
    encoded[:, 1] = 0.5
    mask = torch.tensor([[False, True, False, False]])
    tokens = encoder.over(encoded, mask, torch.zeros(1, 4))
    assert torch.isfinite(tokens).all()
    torch.testing.assert_close(tokens[:, 1], encoder.over(encoded[:, 1:2], mask[:, 1:2], torch.zeros(1, 1))[:, 0])
