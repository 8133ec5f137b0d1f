"""Learned checkpoints as graphs: what ONNX Runtime says of a window is what torch says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from models import checkpoint as checkpoints
from models import export as exports
from models.checkpoint import CheckpointError
from models.fusion.base import shapley, shares
from models.learning.batch import Part
from models.learning.calibration import Calibration
from models.learning.keep import Loaded
from models.learning.recipe import FusionKind, Recipe, TextRecipe
from models.served import Odds
from models.weights import Weights
from tests.learned import FROZEN, LIPS, TALKING, learned_checkpoint, with_fusion

TOLERANCE = 1e-4
CALIBRATION = Calibration("classes", (0.7,), (0.1, -0.2, 0.3))
SIZES = ((1, 1, 1, 1), (3, 9, 4, 2), (4, 2, 5, 7))


@pytest.fixture(scope="module", autouse=True)
def own_cache(pretrained: Weights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Graphs of these checkpoints go with the tests (the weights were fetched before), and those of the frozen
    encoders, which have tests of their own, are not made."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STREAMER_CACHE", str(folder))
        patch.setattr(exports, "_frozen_frame", lambda *_: (folder / "f", folder / "f8", folder / "ff"))
        patch.setattr(exports, "_frozen_audio", lambda *_: folder / "a")
        yield


def _session(path: Path | None) -> onnxruntime.InferenceSession:
    assert path is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _parts(loaded: Loaded, batch: int, frames: int, patches: int, words: int = 0) -> dict[str, Part]:
    """Windows of encoded items, the first with all of them, the last with sound alone, one with holes in between."""
    rng = torch.Generator().manual_seed(frames)
    made = {}
    for name, count in (("video", frames), ("audio", patches), ("text", words)):
        if name in loaded.recipe.modalities:
            x = 2 * torch.rand(batch, count, loaded.network.encoder(name).item_width, generator=rng)
            if name == "text":
                x = torch.randint(0, loaded.outline.vocabulary + 1, (batch, count), generator=rng)
            mask = torch.rand(batch, count, generator=rng) > 0.3
            mask[0] = True
            if name != "audio":
                mask[-1] = batch == 1
            made[name] = Part(x, mask, (3 * torch.rand(batch, count, generator=rng)).sort(dim=1).values)
    return made


def _feeds(parts: Mapping[str, Part]) -> dict[str, np.ndarray]:
    feeds: dict[str, np.ndarray] = {}
    for name, part in parts.items():
        if name == "text":
            x = torch.where(part.mask, part.x, -7)
        else:
            x = torch.where(part.mask[..., None], part.x, torch.full_like(part.x, torch.nan))
        feeds |= {name: x.numpy(), f"{name}_mask": part.mask.float().numpy(), f"{name}_when": part.when.numpy()}
    return feeds


def _tokens(loaded: Loaded, parts: Mapping[str, Part]) -> dict[str, Part]:
    given = {
        name: part.of(loaded.network.encoder(name).each(part.x)) if name == "text" else part
        for name, part in parts.items()
    }
    return {name: loaded.network.encoder(name).tokens(part) for name, part in given.items()}


@pytest.mark.parametrize("kind", ["concat", "hierarchical", "attention"])
def test_the_graph_says_what_torch_says(kind: FusionKind, pretrained: Weights, tmp_path: Path) -> None:
    """Scores are the calibrated softmax of the network, shares the Shapley values of its log-odds, for any sizes, with
    items missing and modalities missing; what stands in a place without an item, not-a-number included, is not read."""
    path = learned_checkpoint(tmp_path / "c.safetensors", with_fusion(TALKING, kind), calibration=CALIBRATION)
    checkpoint = checkpoints.load(path, pretrained)
    loaded = checkpoint.learned()
    session = _session(exports.export(checkpoint, pretrained).fusion)
    for sizes in SIZES:
        _agrees(session, loaded, sizes)


def _agrees(session: onnxruntime.InferenceSession, loaded: Loaded, sizes: tuple[int, int, int, int]) -> None:
    wanted = [entry.name for entry in session.get_inputs()]
    parts = _parts(loaded, *sizes)
    feeds = _feeds(parts)
    scores, share, odds = session.run(["scores", "shares", "odds"], {name: feeds[name] for name in wanted})
    with torch.no_grad():
        tokens = _tokens(loaded, parts)
        expected = CALIBRATION.apply(loaded.network.fusion(tokens))
        values = shapley(Odds(loaded.network.fusion, CALIBRATION), tokens)
        present = torch.stack([tokens[name].present() for name in ("video", "audio", "text")], dim=1)
    np.testing.assert_allclose(scores, expected.numpy(), atol=TOLERANCE)
    np.testing.assert_allclose(1 / (1 + np.exp(-odds)), scores, atol=1e-6)
    np.testing.assert_allclose(share, shares(values, present).numpy(), atol=1e-3)
    np.testing.assert_allclose(share.sum(axis=2), 1.0, atol=1e-5)
    assert np.ptp(scores, axis=1).min() > 1e-3, "weights that say the same of everything prove nothing"
    if sizes[0] > 1:
        assert np.allclose(share[-1, :, 1], 1.0), "no picture and no word, so it rests on the sound"


@pytest.mark.parametrize("recipe", [replace(LIPS, audio=None), LIPS])
def test_carried_encoders_are_served_from_media_to_scores(recipe: Recipe, pretrained: Weights, tmp_path: Path) -> None:
    """Lips at 25 a second, alone and with speech: each live item through its graph, and these through the
    fusion's, say what the network says of the stored items. A modality that isn't read has no graph and no input."""
    checkpoint = checkpoints.load(learned_checkpoint(tmp_path / "c.safetensors", recipe), pretrained)
    exported = exports.export(checkpoint, pretrained)
    loaded, geometry = checkpoint.learned(), checkpoint.geometry
    assert geometry.window_ns == 3_000_000_000 and checkpoint.modalities == recipe.modalities
    generator = np.random.default_rng(3)
    feeds: dict[str, np.ndarray] = {}
    parts, count = {}, 7
    live = {
        "video": generator.integers(0, 256, (count, geometry.frame_size, geometry.frame_size, 3), dtype=np.uint8),
        "audio": generator.normal(0, 0.1, (count, geometry.patch_samples)).astype(np.float32),
    }
    graphs = {"video": (exported.frame, "pixels"), "audio": (exported.audio, "waveform")}
    for name, (graph, entry) in graphs.items():
        if name not in recipe.modalities:
            assert graph is None
            continue
        encoder = loaded.network.encoder(name)
        items = torch.from_numpy(live[name])
        mask = torch.ones(1, count, dtype=torch.bool)
        part = Part(encoder.prepare(items)[None], mask, torch.arange(count)[None] / 25)
        (token,) = _session(graph).run(["token"], {entry: live[name]})
        with torch.no_grad():
            np.testing.assert_allclose(token, encoder.encode(part).x[0].numpy(), atol=1e-3)
        parts[name] = part
        feeds |= {name: token[None], f"{name}_mask": mask.float().numpy(), f"{name}_when": part.when.numpy()}
    session = _session(exported.fusion)
    wanted = {entry.name for entry in session.get_inputs()}
    assert {name.partition("_")[0] for name in wanted} == set(recipe.modalities)
    scores, share = session.run(["scores", "shares"], {name: feeds[name] for name in wanted})
    with torch.no_grad():
        expected = loaded.calibration.apply(loaded.network(parts))
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-3)
    absent = [place for place, name in enumerate(("video", "audio", "text")) if name not in recipe.modalities]
    assert np.all(share[..., absent] == 0) and np.allclose(share.sum(axis=2), 1.0)


def test_labels_that_do_not_exclude_each_other_have_their_own_sigmoid(pretrained: Weights, tmp_path: Path) -> None:
    """For the task `labels` a score is the calibrated sigmoid of its own logit; an LSTM over words is exported too."""
    calibration = Calibration("labels", (0.5, 1.0, 2.0), (0.0, -1.0, 1.0))
    recipe = replace(FROZEN, task="labels", text=TextRecipe(layers=1))
    path = learned_checkpoint(tmp_path / "c.safetensors", recipe, calibration=calibration)
    checkpoint = checkpoints.load(path, pretrained)
    loaded = checkpoint.learned()
    parts = _parts(loaded, 2, 3, 2, 4)
    session = _session(exports.export(checkpoint, pretrained).fusion)
    feeds = _feeds(parts)
    (scores,) = session.run(["scores"], {entry.name: feeds[entry.name] for entry in session.get_inputs()})
    with torch.no_grad():
        expected = calibration.apply(loaded.network.fusion(_tokens(loaded, parts)))
    np.testing.assert_allclose(scores, expected.numpy(), atol=TOLERANCE)


@pytest.mark.parametrize(
    ("recipe", "kind", "remedy"),
    [
        (replace(FROZEN, task="numbers"), "learned", "tells numbers.*streamer eval"),
        (FROZEN, "pretrained", "pretrained encoders.*streamer train"),
    ],
)
def test_what_tells_no_labels_is_refused(
    recipe: Recipe, kind: str, remedy: str, pretrained: Weights, tmp_path: Path
) -> None:
    """A regression and pretrained encoders are no model of a stream; the one line says what they are for."""
    path = learned_checkpoint(tmp_path / "c.safetensors", recipe, kind=kind)
    with pytest.raises(CheckpointError, match=remedy):
        exports.export(checkpoints.load(path, pretrained), pretrained)
