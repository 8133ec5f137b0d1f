"""The exported graphs under ONNX Runtime, held to the torch modules they came from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from models import audio, frame
from models import checkpoint as checkpoints
from models import export as exports
from models.checkpoint import Checkpoint
from models.export import Exported
from models.weights import Weights

TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def tags(pretrained: Weights) -> Checkpoint:
    """The default checkpoint."""
    return checkpoints.load("tags", pretrained)


@pytest.fixture(scope="module")
def exported(tags: Checkpoint, pretrained: Weights) -> Exported:
    """Its graphs."""
    return exports.export(tags, pretrained)


def _run(path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_frame_graph_agrees_with_torch(batch: int, exported: Exported, pretrained: Weights) -> None:
    """Tokens of any number of pictures, flat and noisy, are torch's within 1e-3."""
    rng = np.random.default_rng(batch)
    pixels = rng.integers(0, 256, (batch, 224, 224, 3), dtype=np.uint8)
    pixels[0] = rng.integers(0, 256, 3, dtype=np.uint8)
    with torch.no_grad():
        expected = frame.load(pretrained.frame)(torch.from_numpy(pixels)).numpy()
    (token,) = _run(exported.frame, {"pixels": pixels})
    assert token.dtype == np.float32
    np.testing.assert_allclose(token, expected, atol=TOLERANCE)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_audio_graph_agrees_with_torch(batch: int, exported: Exported, pretrained: Weights) -> None:
    """Tokens of any number of patches, from silence to full scale, are torch's within 1e-3."""
    rng = np.random.default_rng(batch)
    loudness = np.linspace(0.0, 1.0, batch)[:, None]
    waveform = np.clip(rng.standard_normal((batch, 15600)) * loudness, -1, 1).astype(np.float32)
    with torch.no_grad():
        expected = audio.load(pretrained.audio)(torch.from_numpy(waveform)).numpy()
    (token,) = _run(exported.audio, {"waveform": waveform})
    assert token.dtype == np.float32
    np.testing.assert_allclose(token, expected, atol=TOLERANCE)


@pytest.mark.parametrize(("batch", "frames", "patches"), [(1, 1, 1), (1, 5, 3), (3, 8, 1), (8, 4, 5)])
def test_fusion_graph_agrees_with_torch(
    batch: int, frames: int, patches: int, exported: Exported, tags: Checkpoint
) -> None:
    """Scores and shares are torch's within 1e-3 for any sizes and masks, a modality that is absent included.

    Shares of labels that no segment shows (score under 0.05) are quotients of two nearly nothings, which rounding
    decides: of them only the sum is held.
    """
    rng = np.random.default_rng(batch)
    feeds = {
        "video": 3 * rng.random((batch, frames, 1280), dtype=np.float32),
        "video_mask": (rng.random((batch, frames)) > 0.3).astype(np.float32),
        "audio": rng.random((batch, patches, 1024), dtype=np.float32),
        "audio_mask": (rng.random((batch, patches)) > 0.3).astype(np.float32),
    }
    feeds["video_mask"][0, 0] = feeds["audio_mask"][-1, 0] = 1.0
    if batch > 1:
        feeds["video_mask"][0] = feeds["audio_mask"][-1] = 0.0
    with torch.no_grad():
        expected = tags.fusion()(*(torch.from_numpy(array) for array in feeds.values()))
    scores, shares = _run(exported.fusion, feeds)
    assert scores.shape == (batch, len(tags.labels))
    np.testing.assert_allclose(scores, expected[0].numpy(), atol=TOLERANCE)
    shown = scores >= 0.05
    assert shown.any()
    np.testing.assert_allclose(shares[shown], expected[1].numpy()[shown], atol=TOLERANCE)
    np.testing.assert_allclose(shares.sum(axis=2), 1.0, atol=1e-5)


def test_uneven_padding_is_merged(exported: Exported, tmp_path: Path) -> None:
    """The runtime merges all padding into the convolutions of the picture's graph, which its speed rests on."""
    import onnx

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(exported.frame, options, providers=["CPUExecutionProvider"])
    kinds = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
    assert "Conv" in kinds
    assert not kinds & {"Pad", "Clip", "Relu", "BatchNormalization"}


def test_second_export_only_looks(exported: Exported, tags: Checkpoint) -> None:
    """A second export, in another process, gives the same paths without importing torch."""
    code = """
import sys
from models import checkpoint, export, weights
fetched = weights.fetch()
print(export.export(checkpoint.load("tags", fetched), fetched).fusion)
print("torch" in sys.modules)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.split() == [str(exported.fusion), "False"]
