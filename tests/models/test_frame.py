"""EfficientNet-Lite0 against its published behaviour."""

from __future__ import annotations

import csv
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import Interpolation

import models
from models import frame
from models.frame import FrameEncoder
from models.weights import Weights


@pytest.fixture(scope="module")
def encoder(pretrained: Weights) -> FrameEncoder:
    """The encoder as it serves."""
    return frame.load(pretrained.frame).folded()


def imagenet_numbers() -> dict[str, int]:
    """ImageNet's class numbers by name, every synonym, with underscores for spaces."""
    table = Path(models.__path__[0]) / "tags.csv"
    lines = (line for line in table.read_text().splitlines() if not line.startswith("#"))
    numbers: dict[str, int] = {}
    for row in csv.DictReader(lines):
        if row["collection"] == "imagenet":
            numbers |= {name.strip().replace(" ", "_").lower(): int(row["index"]) for name in row["class"].split(",")}
    return numbers


def centre_square(path: Path) -> np.ndarray:
    """The picture as the network was evaluated: short side to 256, the middle 224 x 224."""
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0))
    scale = 256 / min(picture.width, picture.height)
    width, height = round(picture.width * scale), round(picture.height * scale)
    pixels = picture.reformat(width, height, "rgb24", interpolation=Interpolation.BICUBIC).to_ndarray()
    top, left = (height - 224) // 2, (width - 224) // 2
    return pixels[top : top + 224, left : left + 224]


def test_names_imagenet_photographs_as_published(encoder: FrameEncoder, shared_data: Path) -> None:
    """On photographs of ImageNet, top 1 and top 5 are within sampling error of the collection's 0.89 and 0.98."""
    paths = sorted((shared_data / "images").glob("*.jpg"))
    classes = imagenet_numbers()
    truth = torch.tensor([classes[path.stem.lower()] for path in paths])
    with torch.no_grad():
        logits = encoder.classifier(encoder(torch.from_numpy(np.stack([centre_square(path) for path in paths]))))
    right = logits.topk(5).indices == truth[:, None]
    # Two standard errors of a proportion over 76 pictures.
    assert right[:, 0].float().mean() > 0.89 - 2 * (0.89 * 0.11 / len(paths)) ** 0.5
    assert right.any(dim=1).float().mean() > 0.98 - 2 * (0.98 * 0.02 / len(paths)) ** 0.5


def test_folded_encoder_gives_the_same_tokens(pretrained: Weights, encoder: FrameEncoder) -> None:
    """Multiplying the batch norms into the convolutions changes tokens by rounding only."""
    pixels = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(encoder(pixels), frame.load(pretrained.frame)(pixels), atol=1e-4, rtol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in encoder.modules())


def test_token_shape_and_independence(encoder: FrameEncoder) -> None:
    """A picture's token is float32 [1280], and doesn't depend on its neighbours in the batch."""
    pixels = torch.randint(0, 256, (3, 224, 224, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        together, alone = encoder(pixels), encoder(pixels[1:2])
    assert together.shape == (3, 1280)
    assert together.dtype == torch.float32
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=1e-4)


def test_padding_is_tensorflows() -> None:
    """With stride 2 the first output looks at the first pixels unpadded, and padding is at the end alone."""
    layer = frame.ConvNorm(1, 1, 3, stride=2, active=False)
    layer.norm = torch.nn.Identity()
    torch.nn.init.ones_(layer.conv.weight)
    with torch.no_grad():
        sums = layer(torch.ones(1, 1, 6, 6))[0, 0]
    assert sums.tolist() == [[9.0, 9.0, 6.0], [9.0, 9.0, 6.0], [6.0, 6.0, 4.0]]


def test_another_file_is_refused_by_name(tmp_path: Path) -> None:
    """A file of other tensors gives an error that names it."""
    path = tmp_path / "other.pth"
    torch.save({"_conv_stem.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"other\.pth: not the published weights of EfficientNet-Lite0"):
        frame.load(path)
