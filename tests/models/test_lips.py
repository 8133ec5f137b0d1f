"""The trained encoder of lips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.crop import Crop
from models.learning.batch import Part
from models.learning.recipe import VideoRecipe
from models.lips import ITEM_WIDTH, LipEncoder
from models.recurrent import MaskedRecurrent

RECIPE = VideoRecipe("lips", rate=25, size=64, crop=(0.25, 0.5, 0.75, 1.0), pixels=32)


@pytest.fixture
def encoder() -> LipEncoder:
    torch.manual_seed(0)
    return LipEncoder(RECIPE, width=24).eval()


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    """Random whole pictures as live ones come, uint8 [count, 64, 64, 3]."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8))


def part(x: torch.Tensor, mask: torch.Tensor) -> Part:
    """Items at 25 a second."""
    return Part(x, mask, torch.arange(mask.shape[1]).expand_as(mask) / 25)


def test_the_crop_is_the_part_of_the_picture_that_the_recipe_names() -> None:
    """A crop as wide as the pixels asked for is that part's luma, untouched."""
    whole = pictures(2)
    crop = Crop(RECIPE, grey=True)(whole)
    luma = whole[:, 32:64, 16:48].double() @ torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    assert crop.dtype == torch.uint8
    assert crop.shape == (2, 32, 32)
    assert (crop.double() - luma).abs().max() <= 0.51


def test_scaling_averages_areas() -> None:
    """A crop of half the side holds the means of squares of four pixels; colour keeps its three planes."""
    half = VideoRecipe("resnet18", size=64, crop=(0.0, 0.0, 1.0, 1.0), pixels=32)
    whole = pictures(1)
    crop = Crop(half, grey=False)(whole)
    means = whole.double().view(1, 32, 2, 32, 2, 3).mean(dim=(2, 4))
    assert crop.shape == (1, 32, 32, 3)
    assert (crop.double() - means).abs().max() <= 0.51


def test_a_crop_without_pixels_is_refused() -> None:
    """The message names the crop."""
    with pytest.raises(ValueError, match=r"crop .* holds no pixel"):
        Crop(VideoRecipe("lips", size=64, crop=(0.5, 0.5, 0.5, 1.0)), grey=True)


def test_live_pictures_give_the_tokens_of_the_cached_path(encoder: LipEncoder) -> None:
    """Preparing and encoding pictures one by one, as they come, and then `over`, is the same as a batch of clips."""
    stored = encoder.prepare(pictures(6))
    cached = encoder(part(stored[None], torch.ones(1, 6, dtype=torch.bool)))
    live = torch.cat([encoder.each(encoder.prepare(picture[None])) for picture in pictures(6)])
    assert live.shape == (6, ITEM_WIDTH)
    tokens = encoder.over(live[None], torch.ones(1, 6, dtype=torch.bool), cached.when)
    assert cached.x.shape == (1, 6, 24)
    torch.testing.assert_close(tokens, cached.x, rtol=1e-4, atol=1e-5)


def test_light_and_contrast_do_not_count(encoder: LipEncoder) -> None:
    """A darker, flatter picture is encoded nearly as the bright one."""
    crop = encoder.prepare(pictures(3)) // 2 * 2
    bright, dark = encoder.each(crop), encoder.each(crop // 2)
    assert (bright - dark).abs().max() < 0.05 * bright.abs().max()


def test_padding_changes_nothing_whatever_it_holds(encoder: LipEncoder) -> None:
    """A clip padded with not-a-number beside a longer one gives the tokens that it gives alone, and learns the same."""
    encoded = torch.randn(1, 5, ITEM_WIDTH)
    alone = encoder.over(encoded, torch.ones(1, 5, dtype=torch.bool), torch.zeros(1, 5))
    padded = torch.full((2, 9, ITEM_WIDTH), torch.nan)
    padded[0, :5] = encoded[0]
    padded[1] = torch.randn(9, ITEM_WIDTH)
    mask = torch.zeros(2, 9, dtype=torch.bool)
    mask[0, :5], mask[1] = True, True
    tokens = encoder.over(padded, mask, torch.zeros(2, 9))
    torch.testing.assert_close(tokens[0, :5], alone[0], rtol=1e-4, atol=1e-5)
    tokens[mask].sum().backward()
    assert all(torch.isfinite(each.grad).all() for each in encoder.over.parameters() if each.grad is not None)


def test_the_recurrence_skips_what_is_masked_wherever_it_stands() -> None:
    """Items with holes between, before and after them give what they give side by side, as PyTorch's own
    bidirectional network does."""
    torch.manual_seed(0)
    ours = MaskedRecurrent(3, 4).eval()
    theirs = torch.nn.GRU(3, 4, batch_first=True, bidirectional=True)
    backwards = {f"{name}_reverse": value for name, value in ours.backwards[0].state_dict().items()}
    theirs.load_state_dict({**ours.forwards[0].state_dict(), **backwards})
    x = torch.randn(1, 4, 3)
    holes = torch.full((1, 9, 3), torch.nan)
    places = [1, 2, 5, 7]
    holes[:, places] = x
    mask = torch.zeros(1, 9, dtype=torch.bool)
    mask[:, places] = True
    out = ours(holes, mask)
    torch.testing.assert_close(out[:, places], theirs(x)[0])
    assert not out[~mask].any()


def test_a_clip_without_pictures_has_tokens_of_numbers(encoder: LipEncoder) -> None:
    """Where the modality is missing altogether, nothing that is not a number comes out."""
    tokens = encoder.over(
        torch.full((1, 3, ITEM_WIDTH), torch.nan), torch.zeros(1, 3, dtype=torch.bool), torch.zeros(1, 3)
    )
    assert torch.isfinite(tokens).all()


def test_over_exports_for_any_length(encoder: LipEncoder, tmp_path: Path) -> None:
    """What is run in time gives the same tokens in ONNX Runtime, at other batches and lengths than it was exported."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
    inputs = (torch.randn(2, 6, ITEM_WIDTH), torch.ones(2, 6, dtype=torch.bool), torch.zeros(2, 6))
    sizes = {0: torch.export.Dim("clips", max=64), 1: torch.export.Dim("items", min=2, max=512)}
    path = tmp_path / "over.onnx"
    torch.onnx.export(encoder.over, inputs, path, dynamo=True, dynamic_shapes=(sizes, sizes, sizes), verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x, mask = torch.randn(3, 11, ITEM_WIDTH), torch.rand(3, 11) > 0.3
    fed = {"x": x.numpy(), "mask": mask.numpy(), "when": np.zeros((3, 11), np.float32)}
    (said,) = session.run(None, fed)
    expected = encoder.over(x, mask, torch.zeros(3, 11)).detach().numpy()
    there = mask.numpy()
    np.testing.assert_allclose(said[there], expected[there], rtol=1e-3, atol=1e-4)
