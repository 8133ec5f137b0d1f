"""How smoothly tokens change over a window."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from models import export as exports
from models.frozen import FrozenEncoder
from models.learning.batch import Part
from models.learning.errors import LearningError
from models.learning.items import ItemMaker
from models.learning.recipe import Recipe, VideoRecipe
from models.motion import Smoothness

WIDTH = 1280


def _encoder() -> FrozenEncoder:
    """One that remembers what is usual, and whose weights tell windows apart."""
    torch.manual_seed(0)
    encoder = FrozenEncoder("video", 16, smoothness=True)
    for _ in range(3):
        encoder(_part(torch.randn(6, 9, WIDTH)))
    return encoder.eval()


def _part(x: Tensor, mask: Tensor | None = None) -> Part:
    there = torch.ones(x.shape[:2], dtype=torch.bool) if mask is None else mask
    return Part(x, there, torch.arange(x.shape[1]).expand(x.shape[:2]) / 8)


def _moving(path: Tensor) -> Tensor:
    """Tokens `[1, N, W]` of which everything goes along `path` `[N]`, alike in all; half of it up, half down, so that
    no norm takes it out."""
    torch.manual_seed(1)
    still, way = torch.randn(WIDTH), torch.ones(WIDTH)
    way[::2] = -1
    return (still + path[:, None] * way)[None]


def test_what_goes_on_as_it_began_is_smooth_and_what_turns_is_not() -> None:
    """A straight line has no turn, there and back is a turn of twice each step, and nothing that moves is nothing."""
    over, steps = Smoothness(WIDTH, 4), torch.arange(9.0)
    mask = torch.ones(1, 9, dtype=torch.bool)
    straight, known = over.roughness(_moving(0.1 * steps), mask)
    fro, _ = over.roughness(_moving(0.5 * (steps % 2)), mask)
    still, _ = over.roughness(_moving(0 * steps), mask)
    assert known.all()
    assert straight.median() < -0.8
    assert 0.8 * math.log(2) < float(fro.median()) <= math.log(2)
    assert still.abs().max() < 1e-5


def test_how_much_moves_is_not_told() -> None:
    """The same there and back, three times as far, is about as rough; a tremble as small as noise is told as none."""
    over, mask = Smoothness(WIDTH, 4), torch.ones(1, 9, dtype=torch.bool)
    path = torch.arange(9.0) % 2
    near, far, noise = (over.roughness(_moving(size * path), mask)[0].median() for size in (0.5, 1.5, 0.005))
    torch.testing.assert_close(near, far, atol=0.1, rtol=0)
    assert float(noise) < 0.1


def test_each_item_has_the_token_of_its_window() -> None:
    """What is told is of all of it; other windows beside it have no say."""
    encoder, x = _encoder(), torch.randn(3, 7, WIDTH)
    tokens = encoder(_part(x)).x
    assert tokens.shape == (3, 7, 16)
    assert torch.equal(tokens, tokens[:, :1].expand_as(tokens))
    assert not torch.allclose(tokens[0], tokens[1])
    torch.testing.assert_close(tokens[:1], encoder(_part(x[:1])).x)


def test_items_that_are_missing_have_no_say() -> None:
    """Padding changes nothing, whatever stands there; nor do neighbours of a gap follow on each other."""
    encoder, x = _encoder(), torch.randn(1, 6, WIDTH)
    nothing = torch.full((1, 3, WIDTH), torch.nan)
    mask = torch.tensor([[True] * 6 + [False] * 3])
    alone = encoder(_part(x)).x[:, 0]
    torch.testing.assert_close(encoder(_part(torch.cat([x, nothing], dim=1), mask)).x[:, 0], alone)
    gap = torch.tensor([[True, True, True, False, True, True, True]])
    over = encoder.over
    assert isinstance(over, Smoothness)
    halves = torch.cat([x[:, :3], nothing[:, :1], x[:, 3:]], dim=1)
    rough, known = over.roughness(halves, gap)
    one, other = (torch.exp(over.roughness(x[:, part], gap[:, :3])[0]) for part in (slice(3), slice(3, 6)))
    assert known.all() and rough.isfinite().all()
    assert bool((torch.exp(rough) >= torch.minimum(one, other) - 1e-4).all())
    assert bool((torch.exp(rough) <= torch.maximum(one, other) + 1e-4).all())


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_to_tell_are_the_usual(count: int) -> None:
    """Fewer than three on end say what a usual window says, in training too."""
    encoder = _encoder()
    assert isinstance(encoder.over, Smoothness)
    bias = encoder.over.linear.bias
    few = _part(torch.randn(2, count, WIDTH))
    torch.testing.assert_close(encoder(few).x, bias.expand(2, count, 16))
    torch.testing.assert_close(encoder.train()(few).x, bias.expand(2, count, 16))


def test_two_and_two_are_too_few() -> None:
    """Pairs that don't meet have no turn."""
    encoder = _encoder()
    assert isinstance(encoder.over, Smoothness)
    pairs = torch.tensor([[True, True, False, True, True]])
    said = encoder(_part(torch.randn(1, 5, WIDTH), pairs)).x
    torch.testing.assert_close(said, encoder.over.linear.bias.expand(1, 5, 16))


def test_it_is_standardised_by_what_was_trained_on() -> None:
    """Of each number, against its mean and deviation over the windows of the training, which are remembered; what is
    far from all of them counts as three deviations."""
    torch.manual_seed(0)
    over = Smoothness(WIDTH, 4)
    x, mask = torch.randn(8, 9, WIDTH), torch.ones(8, 9, dtype=torch.bool)
    rough, known = over.roughness(x, mask)
    for _ in range(200):
        trained = over.standardised(rough, known)
    torch.testing.assert_close(trained.mean(dim=0), torch.zeros(WIDTH), atol=0.05, rtol=0)
    torch.testing.assert_close(over.eval().standardised(rough, known), trained, atol=0.3, rtol=0.1)
    assert float(over.standardised(rough + 100, known).max()) == 3.0


def test_a_graph_of_it_says_the_same(tmp_path: Path) -> None:
    """Windows of any length, with holes, through ONNX Runtime as through torch."""
    over = _encoder().over
    batch, items = torch.export.Dim("batch"), torch.export.Dim("items")
    axes = {0: batch, 1: items}
    example = (torch.randn(2, 5, WIDTH), torch.ones(2, 5, dtype=torch.bool), torch.zeros(2, 5))
    path = tmp_path / "over.onnx"
    with exports._quiet(), torch.no_grad():
        program = torch.onnx.export(
            over, example, dynamic_shapes=(axes, axes, axes), opset_version=exports.OPSET, dynamo=True, verbose=False
        )
    assert program is not None
    program.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    for clips, count in ((1, 1), (1, 16), (3, 24), (4, 2)):
        mask = torch.rand(clips, count) > 0.2
        x = torch.randn(clips, count, WIDTH).masked_fill(~mask[..., None], torch.nan)
        feeds = {"x": x.numpy(), "mask": mask.numpy(), "when": np.zeros((clips, count), np.float32)}
        (said,) = session.run(None, {name: feeds[name] for name in names})
        with torch.no_grad():
            np.testing.assert_allclose(said, over(x, mask, torch.zeros(clips, count)).numpy(), atol=1e-4)


def test_a_recipe_has_it_of_frozen_tokens_in_place_of_change() -> None:
    """Elsewhere it is refused, in a line that names both."""
    with pytest.raises(ValueError, match="change or smoothness"):
        FrozenEncoder("video", 16, change=True, smoothness=True)
    for video in (VideoRecipe(change=True, smoothness=True), VideoRecipe("resnet18", smoothness=True)):
        with pytest.raises(LearningError, match="smoothness is of frozen tokens, in place of change"):
            _make(video)


def _make(video: VideoRecipe) -> ItemMaker:
    from models.learning.augment import Noises
    from models.learning.cache import Sources

    return ItemMaker(Recipe("r", video=video), Sources(Path("cache")), Noises())
