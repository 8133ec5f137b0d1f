"""The 8-bit frame encoder: its arithmetic, and how little of the float encoder's judgement it loses."""

from __future__ import annotations

import collections
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from models import export as exports
from models import frame, quantise
from models.frame import FrameEncoder
from models.weights import Weights
from tests.models.test_frame import centre_square, imagenet_numbers


@pytest.fixture(scope="module")
def encoder(pretrained: Weights) -> FrameEncoder:
    """The encoder as published, in float32."""
    return frame.load(pretrained.frame)


@pytest.fixture(scope="module")
def session(encoder: FrameEncoder, tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    """The 8-bit encoder, ready to run on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path_factory.mktemp("int8") / "optimised.onnx")
    graph = quantise.frame_graph(encoder, 224).SerializeToString()
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


needs_byte_products = pytest.mark.skipif(
    not exports.has_byte_dot_products(), reason="this processor has no VNNI, so float32 serves; run on one that has it"
)


@needs_byte_products
def test_loses_under_a_point_of_top_1(
    session: onnxruntime.InferenceSession, encoder: FrameEncoder, shared_data: Path
) -> None:
    """Photographs and their mirror images are named as well as in float32: at most one in a hundred fewer."""
    paths = sorted((shared_data / "images").glob("*.jpg"))
    numbers = imagenet_numbers()
    truth = torch.tensor([numbers[path.stem.lower()] for path in paths]).repeat(2)
    upright = np.stack([centre_square(path) for path in paths])
    pixels = np.concatenate([upright, upright[:, :, ::-1]])
    tokens = torch.from_numpy(session.run(["token"], {"pixels": pixels})[0])
    folded = encoder.folded()
    with torch.no_grad():
        # In small batches: one of all 152 would leave the processor's caches at every layer.
        expected = torch.cat([folded(chunk) for chunk in torch.from_numpy(pixels).split(4)])
        right = [(encoder.classifier(token).argmax(dim=1) == truth).float().mean() for token in (tokens, expected)]
    assert right[0] >= right[1] - 0.01
    assert torch.cosine_similarity(tokens, expected).mean() > 0.98


@needs_byte_products
@pytest.mark.parametrize("batch", [1, 3])
def test_tokens_are_near_torchs(batch: int, session: onnxruntime.InferenceSession, encoder: FrameEncoder) -> None:
    """On smooth random pictures, in any batch, tokens point where torch's do."""
    coarse = torch.rand(batch, 3, 7, 7, generator=torch.Generator().manual_seed(batch))
    smooth = torch.nn.functional.interpolate(coarse, size=224, mode="bicubic", align_corners=False).clamp(0, 1)
    pixels = (smooth * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    with torch.no_grad():
        expected = encoder(pixels)
    token = torch.from_numpy(session.run(["token"], {"pixels": pixels.numpy()})[0])
    assert token.shape == expected.shape
    assert torch.cosine_similarity(token, expected).min() > 0.95


def test_every_layer_runs_in_bytes(session: onnxruntime.InferenceSession) -> None:
    """All 49 convolutions and 9 sums run in 8 bits, with one change of layout and nothing between them."""
    optimised = onnx.load(session.get_session_options().optimized_model_filepath)
    kinds = collections.Counter(node.op_type for node in optimised.graph.node)
    assert kinds == {"Transpose": 1, "QLinearConv": 49, "QLinearAdd": 9, "DequantizeLinear": 1, "ReduceMean": 1}


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("processor: 0\nflags\t\t: fpu avx2 avx512_vnni amx\n", True),
        ("flags\t\t: fpu avx2 avx_vnni\n", True),
        ("flags\t\t: fpu avx2 avx512f\nbugs\t: avx_vnni\n", False),
        ("Features\t: fp asimd\n", False),
    ],
)
def test_processor_is_asked(text: str, has: bool, tmp_path: Path) -> None:
    """8 bits are used only where the processor lists the instructions they need."""
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    assert exports.has_byte_dot_products(path) is has
    assert exports.has_byte_dot_products(tmp_path / "missing") is False
