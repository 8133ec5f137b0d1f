"""The heat map: held to autograd, to the served graphs, and to what blanking the picture does to real photographs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models import checkpoint as checkpoints
from models import export as exports
from models import tags
from models.cam import HeatMap
from models.checkpoint import Checkpoint
from models.data import read_frames
from models.export import Exported
from models.fusion.noisy_or import ModalityHead
from models.weights import Weights

SIZE, CELLS = 224, 7
GREY = 127


def head_of(seed: int, scale: float = 12.0) -> ModalityHead:
    """A picture head in double precision with a made-up classifier."""
    torch.manual_seed(seed)
    video = nn.Linear(1280, 1000)
    with torch.no_grad():
        video.weight.mul_(scale)
    return tags.assemble(video, nn.Linear(1024, 521), tags.calibration()).video.double()


def place_of(name: str) -> int:
    return [label.name for label in tags.labels()].index(name)


def features_of(seed: int, rows: int = 5, columns: int = 6) -> Tensor:
    return torch.randn(1, 1280, rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("name", "seed"), [("Dog", 0), ("Car", 1), ("Umbrella", 2)])
def test_the_closed_form_is_grad_cam(name: str, seed: int) -> None:
    """The map is Grad-CAM by its definition: channels weighted by the mean gradient of the label's log-odds, ReLU,
    brought to a highest place of 1."""
    head, label = head_of(seed), place_of(name)
    features = features_of(seed).requires_grad_()
    probability = head.label_probabilities(features.mean(dim=(2, 3)))[0, label]
    (probability.log() - torch.log1p(-probability)).backward()  # type: ignore[no-untyped-call]
    assert features.grad is not None
    weights = features.grad.mean(dim=(2, 3), keepdim=True)
    expected = torch.relu((weights * features.detach()).sum(dim=1))
    with torch.no_grad():
        heat = HeatMap(head)(features.detach(), torch.tensor([label]))
    assert expected.max() > 0
    torch.testing.assert_close(heat, expected / expected.max(), atol=1e-9, rtol=1e-7)
    assert heat.max() == 1 and heat.min() >= 0


def test_the_gradient_is_the_same_everywhere() -> None:
    """So the map is exact to first order: position by position it adds up to how the log-odds rise with the token."""
    head, label = head_of(4), place_of("Cat")
    features = features_of(4).requires_grad_()
    probability = head.label_probabilities(features.mean(dim=(2, 3)))[0, label]
    (probability.log() - torch.log1p(-probability)).backward()  # type: ignore[no-untyped-call]
    assert features.grad is not None
    gradient = features.grad[0].flatten(1)
    torch.testing.assert_close(gradient, gradient[:, :1].expand_as(gradient))
    with torch.no_grad():
        direction = HeatMap(head).direction(features.detach().mean(dim=(2, 3)), torch.tensor([label]))
    torch.testing.assert_close(direction[0], gradient.sum(dim=1), atol=1e-9, rtol=1e-7)


def test_a_label_without_a_picture_class_has_no_map() -> None:
    """A label that is heard only has a map of zeros, not of numbers that mean nothing."""
    with torch.no_grad():
        assert HeatMap(head_of(5))(features_of(5), torch.tensor([place_of("Glass")])).abs().sum() == 0


def test_a_head_of_independent_classes_is_refused() -> None:
    """The closed form is of classes that exclude each other; another head is refused instead of explained wrongly."""
    audio = tags.assemble(nn.Linear(1280, 1000), nn.Linear(1024, 521), tags.calibration()).audio
    with pytest.raises(ValueError, match="exclude each other"):
        HeatMap(audio)


# -- what is served ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(pretrained: Weights) -> Checkpoint:
    return checkpoints.load("tags", pretrained)


@pytest.fixture(scope="module")
def exported(checkpoint: Checkpoint, pretrained: Weights) -> Exported:
    return exports.export(checkpoint, pretrained)


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def test_the_features_mean_is_the_token_that_is_served(exported: Exported) -> None:
    """The mean over positions of the features is the served encoder's token within 1e-3, and its token to the bit."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    pixels[0] = GREY
    served = session(exported.quickest_frame()).run(["token"], {"pixels": pixels})[0]
    features, token = session(exported.features).run(["features", "token"], {"pixels": pixels})
    assert features.shape == (3, 1280, CELLS, CELLS)
    np.testing.assert_array_equal(token, served)
    np.testing.assert_allclose(features.mean(axis=(2, 3)), served, atol=1e-3)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_heat_graph_agrees_with_torch(batch: int, exported: Exported, checkpoint: Checkpoint) -> None:
    """Maps of any number of pictures, each of its own label, are torch's within 1e-4."""
    rng = np.random.default_rng(batch)
    features = (3 * rng.random((batch, 1280, CELLS, CELLS))).astype(np.float32)
    label = np.array([place_of(name) for name in ("Dog", "Glass", "Car")[:batch]], np.int64)
    with torch.no_grad():
        expected = HeatMap(checkpoint.fusion().video)(torch.from_numpy(features), torch.from_numpy(label))
    (heat,) = session(exported.heat).run(None, {"features": features, "label": label})
    np.testing.assert_allclose(heat, expected.numpy(), atol=1e-4)


@pytest.mark.parametrize(("frames", "patches"), [(1, 1), (4, 3), (9, 5)])
def test_the_moments_graph_agrees_with_torch(
    frames: int, patches: int, exported: Exported, checkpoint: Checkpoint
) -> None:
    """Scores, shares, probabilities and masses of windows of any size are torch's within 1e-3."""
    from models.moments import Moments

    rng = np.random.default_rng(frames)
    feeds = {
        "video": rng.random((2, frames, 1280), dtype=np.float32),
        "video_mask": np.ones((2, frames), np.float32),
        "audio": rng.random((2, patches, 1024), dtype=np.float32),
        "audio_mask": np.ones((2, patches), np.float32),
    }
    feeds["audio_mask"][1] = 0.0
    with torch.no_grad():
        expected = Moments(checkpoint.fusion())(*(torch.from_numpy(array) for array in feeds.values()))
    outputs = ["scores", "video_each", "video_mass", "audio_each", "audio_mass"]
    found = session(exported.moments).run(outputs, feeds)
    for name, array, tensor in zip(outputs, found, (expected[0], *expected[2:]), strict=True):
        np.testing.assert_allclose(array, tensor.numpy(), atol=1e-3, err_msg=name)


# -- real photographs --------------------------------------------------------------------------------------------------


def labelled_images(folder: Path) -> list[tuple[Path, int]]:
    """Photographs, each with the place of the label that its file name's class counts for."""
    label_of = {
        name.strip().replace(" ", "_").lower(): source.label
        for source in tags.source_classes()
        if source.collection == "imagenet"
        for name in source.name.split(",")
    }
    return [(path, place_of(label_of[path.stem.lower()])) for path in sorted(folder.glob("*.jpg"))]


def blanked(pixels: NDArray[np.uint8], cells: NDArray[np.intp]) -> NDArray[np.uint8]:
    """`pixels` with those of 7 x 7 cells in grey."""
    mask = np.zeros(CELLS * CELLS, np.uint8)
    mask[cells] = 1
    step = SIZE // CELLS
    spread = np.kron(mask.reshape(CELLS, CELLS), np.ones((step, step), np.uint8))
    return np.where(spread[..., None] > 0, np.uint8(GREY), pixels)


def deletions(
    images: list[tuple[Path, int]], exported: Exported, score: Callable[[NDArray[np.float32], int], float]
) -> list[tuple[str, float, float, float]]:
    """For each photograph whose label is published: name, probability as it is, without the hottest quarter of it, and
    without the coldest."""
    encoder, mapper = session(exported.features), session(exported.heat)
    found = []
    for path, label in images:
        pixels = read_frames(path, 1)[0]
        features, token = encoder.run(["features", "token"], {"pixels": pixels[None]})
        before = score(token[0], label)
        if before < 0.05:
            continue
        heat = mapper.run(None, {"features": features, "label": np.array([label])})[0][0]
        order = np.argsort(heat.ravel(), kind="stable")
        quarter = CELLS * CELLS // 4
        both = np.stack([blanked(pixels, order[-quarter:]), blanked(pixels, order[:quarter])])
        tokens = encoder.run(["token"], {"pixels": both})[0]
        found.append((path.stem, before, score(tokens[0], label), score(tokens[1], label)))
    return found


@pytest.fixture(scope="module")
def score(exported: Exported) -> Callable[[NDArray[np.float32], int], float]:
    """The published probability of a label in a window of one picture."""
    fusion = session(exported.fusion)

    def of(token: NDArray[np.float32], label: int) -> float:
        silence = {"audio": np.zeros((1, 1, 1024), np.float32), "audio_mask": np.zeros((1, 1), np.float32)}
        feeds = {"video": token[None, None], "video_mask": np.ones((1, 1), np.float32), **silence}
        return float(fusion.run(["scores"], feeds)[0][0, label])

    return of


def assert_rests_on_the_hottest(found: list[tuple[str, float, float, float]]) -> None:
    better = [name for name, _, hot, cold in found if hot < cold]
    falls = {place: float(np.mean([row[1] - row[place] for row in found])) for place in (2, 3)}
    print(f"{len(better)} of {len(found)}; mean fall {falls[2]:.3f} without the hottest, {falls[3]:.3f} the coldest")
    assert len(better) >= 0.8 * len(found), sorted({row[0] for row in found} - set(better))
    assert falls[2] > falls[3] + 0.2


def test_the_hottest_part_is_what_the_label_rests_on(
    shared_data: Path, exported: Exported, score: Callable[[NDArray[np.float32], int], float]
) -> None:
    """Blanking the hottest quarter of a photograph lowers its label's probability more than blanking the coldest one,
    for four in five of 20 photographs, and by far on average."""
    found = deletions(labelled_images(shared_data / "images")[:24], exported, score)[:20]
    assert len(found) == 20
    assert_rests_on_the_hottest(found)


@pytest.mark.prove
def test_the_hottest_part_of_every_photograph(
    shared_data: Path, exported: Exported, score: Callable[[NDArray[np.float32], int], float]
) -> None:
    """The same holds over all 76 photographs, those whose label is published."""
    found = deletions(labelled_images(shared_data / "images"), exported, score)
    assert len(found) > 60
    assert_rests_on_the_hottest(found)
