"""Words to tokens."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.learning.batch import Part
from models.learning.recipe import TextRecipe
from models.text import TextEncoder

CELLS = pytest.mark.parametrize("cell", ["lstm", "gru"])
Cell = Literal["lstm", "gru"]


def encoder(cell: Cell, layers: int = 2) -> TextEncoder:
    """Of nine words, in evaluation mode."""
    torch.manual_seed(0)
    return TextEncoder(TextRecipe(cell, layers), 9, 8).eval()


def words(mask: list[list[bool]]) -> Part:
    """Words one behind the other at a mask's places, and nonsense elsewhere."""
    there = torch.tensor(mask)
    ids = (there.cumsum(dim=1) + 2).where(there, torch.tensor(-99))
    return Part(ids, there, torch.zeros(there.shape))


@CELLS
def test_it_reads_as_a_packed_network_does(cell: Cell) -> None:
    """Tokens are those of torch's own bidirectional network over packed words of different lengths."""
    text = encoder(cell)
    lengths = [4, 2, 1]
    part = words([[number < length for number in range(4)] for length in lengths])
    theirs = (nn.LSTM if cell == "lstm" else nn.GRU)(8, 4, 2, batch_first=True, bidirectional=True)
    recurrent = text.over.recurrent
    state = {}
    for layer in range(2):
        for suffix, networks in (("", recurrent.forwards), ("_reverse", recurrent.backwards)):
            for name, value in networks[layer].state_dict().items():
                state[name.replace("l0", f"l{layer}{suffix}")] = value
    theirs.load_state_dict(state)
    x = text.encode(part).x
    packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True)
    expected = pad_packed_sequence(theirs(packed)[0], batch_first=True)[0]
    torch.testing.assert_close(text(part).x, expected)


@CELLS
def test_words_that_are_masked_were_never_said(cell: Cell) -> None:
    """Holes and padding, wherever they stand, leave the other words' tokens as they are without them."""
    text = encoder(cell)
    dense = text(words([[True, True, True]])).x
    holes = words([[False, True, False, True, True, False, False]])
    torch.testing.assert_close(text(holes).x[holes.mask], dense[0])


@CELLS
def test_poisoned_padding_stays_outside(cell: Cell) -> None:
    """Encoded words that aren't numbers under a False of the mask reach no token and no gradient."""
    text = encoder(cell)
    part = words([[True, False, True], [False, False, False]])
    encoded = text.encode(part)
    poisoned = encoded.of(encoded.x.masked_fill(~part.mask[..., None], torch.nan))
    assert torch.equal(text.tokens(poisoned).x, text.tokens(encoded).x)
    text.tokens(poisoned).x.sum().backward()
    assert all(torch.isfinite(each.grad).all() for each in text.over.parameters() if each.grad is not None)


def test_both_directions_are_heard() -> None:
    """A word's token depends on the word before it and on the one after it."""
    text = encoder("lstm")
    part = words([[True, True, True]])
    middle = text(part).x[0, 1]
    for place in (0, 2):
        other = part.x.clone()
        other[0, place] = 9
        assert not torch.allclose(text(part.of(other)).x[0, 1], middle)


def test_an_unknown_word_is_a_word() -> None:
    """0, numbers past the vocabulary and below 0 are the same unknown word, which is learned; the last is known."""
    text = encoder("gru")
    mask, when = torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 2)

    def token(number: int) -> torch.Tensor:
        return text(Part(torch.tensor([[1, number]]), mask, when)).x

    assert torch.equal(token(0), token(10))
    assert torch.equal(token(0), token(-1))
    assert not torch.equal(token(0), token(9))
    token(0).sum().backward()
    assert text.each.table.weight.grad[0].any()


@CELLS
def test_no_words_give_no_tokens(cell: Cell) -> None:
    """Clips without a word, and batches without any, are read as such."""
    text = encoder(cell)
    nothing = Part(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, 0, dtype=torch.bool), torch.zeros(2, 0))
    assert text(nothing).x.shape == (2, 0, 8)
    silent = text(words([[False, False], [True, True]])).x
    assert torch.isfinite(silent).all()


@CELLS
def test_it_is_the_same_in_a_graph(cell: Cell, tmp_path: Path) -> None:
    """Exported, ONNX Runtime says the same of batches and numbers of words that it wasn't exported with, none
    included."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
    text = encoder(cell, layers=2)
    inputs = (torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool), torch.zeros(2, 5))
    axes = {0: torch.export.Dim("clips"), 1: torch.export.Dim("words", min=0)}
    path = tmp_path / "text.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            text.over, inputs, path, dynamo=True, dynamic_shapes=(axes,) * 3, opset_version=20, verbose=False
        )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for clips, count in ((1, 1), (3, 11), (4, 2), (2, 0)):
        x, mask = torch.randn(clips, count, 8), torch.rand(clips, count) < 0.6
        x = x.masked_fill(~mask[..., None], torch.nan)
        (said,) = session.run(None, {"x": x.numpy(), "mask": mask.numpy(), "when": mask.float().numpy()})
        expected = text.over(x, mask, torch.zeros(clips, count)).detach().numpy()
        np.testing.assert_allclose(said, expected, rtol=0, atol=1e-6)


def test_a_width_of_two_halves_is_needed() -> None:
    """The error says which width it was."""
    with pytest.raises(ValueError, match=r"even.*15"):
        TextEncoder(TextRecipe(), 9, 15)
