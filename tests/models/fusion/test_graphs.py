"""Every fusion as a graph: the runtime that serves on a CPU says what torch says."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.fusion.attention import AttentionFusion
from models.fusion.base import Fusion, FusionSize, explained
from models.learning.batch import Part
from tests.models.fusion.cases import KINDS, fusion, part

NAMES = ("video", "audio")


class _Explained(nn.Module):
    """Tensors for parts: logits, and their Shapley values."""

    def __init__(self, made: Fusion) -> None:
        super().__init__()
        self.made = made

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        given = {name: Part(*tensors[3 * place : 3 * place + 3]) for place, name in enumerate(NAMES)}
        values, logits = explained(self.made, given)
        return logits, values


class _Memory(nn.Module):
    """Tensors for parts: the memory's steps and their mask."""

    def __init__(self, made: Fusion) -> None:
        super().__init__()
        self.made = made

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        memory = self.made.memory({name: Part(*tensors[3 * place : 3 * place + 3]) for place, name in enumerate(NAMES)})
        return memory.x, memory.mask


def exported(module: nn.Module, path: Path) -> Callable[..., list[NDArray[np.float32]]]:
    """A module of tokens of 8 numbers as ONNX Runtime runs it."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
    inputs: list[Tensor] = []
    axes = []
    for place, name in enumerate(NAMES):
        one = part(torch.ones(2, 3 + place, dtype=torch.bool), width=8)
        inputs += [one.x, one.mask, one.when]
        axes += [{0: torch.export.Dim("clips"), 1: torch.export.Dim(name, min=0)}] * 3
    names = [f"{name}_{what}" for name in NAMES for what in ("x", "mask", "when")]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            tuple(inputs),
            path,
            input_names=names,
            dynamic_shapes=(tuple(axes),),
            opset_version=20,
            dynamo=True,
            verbose=False,
        )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda *tensors: session.run(None, {name: each.numpy() for name, each in zip(names, tensors, strict=True)})


def cases() -> Iterator[list[Tensor]]:
    """Tokens of one clip and of more, with holes, of one modality and of none; other sizes than were exported."""
    generator = torch.Generator().manual_seed(1)
    for clips, counts in ((1, (9, 4)), (3, (1, 2)), (2, (5, 0)), (2, (0, 0))):
        tensors: list[Tensor] = []
        for place, count in enumerate(counts):
            one = part(torch.rand(clips, count, generator=generator) < 0.6, seed=place, width=8)
            tensors += [one.x, one.mask, one.when]
        yield tensors


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_says_the_same(kind: type[Fusion], tmp_path: Path) -> None:
    """Logits and Shapley values from ONNX Runtime are torch's to 1e-5, for batches and numbers of tokens that the graph
    wasn't exported with, no token at all included."""
    made = fusion(kind, NAMES, FusionSize(8, 3, heads=2, layers=1, longest_s=2.0, memory=False))
    if isinstance(made, AttentionFusion):
        made.hold()
    module = _Explained(made)
    run = exported(module, tmp_path / "fusion.onnx")
    for tensors in cases():
        with torch.no_grad():
            expected = module(*tensors)
        for got, one in zip(run(*tensors), expected, strict=True):
            np.testing.assert_allclose(got, one.numpy(), rtol=1e-5, atol=1e-5)


def test_a_memory_in_a_graph_is_as_long_as_the_longest_clip(tmp_path: Path) -> None:
    """Exported, a memory has the steps of the longest clip there may be, and under its mask what torch says."""
    module = _Memory(fusion(AttentionFusion, NAMES, FusionSize(8, 3, heads=2, layers=1, longest_s=2.0)))
    run = exported(module, tmp_path / "memory.onnx")
    for tensors in cases():
        with torch.no_grad():
            x, mask = module(*tensors)
        got, there = run(*tensors)
        assert there.shape[1] == 51
        assert there.sum() == mask.sum().item()
        np.testing.assert_allclose(got[there], x[mask].numpy(), rtol=1e-5, atol=1e-5)
