"""What a network says of a set of clips."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from models.learning.calibration import Calibration
from models.learning.network import Network
from models.learning.predict import only, predict, to_device
from tests.models.learning import tiny


def network(task: str = "classes") -> Network:
    torch.manual_seed(0)
    return Network(tiny.of_task(tiny.recipe(), task), tiny.data(task).outline)


def test_batches_do_not_change_what_is_said() -> None:
    """All clips come in their order, with their targets and names, however they are cut into batches, in evaluation
    mode; the network stays in the mode that it was in."""
    made, data = network().train(), tiny.Tokens("classes", 11, 1)
    whole, parts = predict(made, data, size=32), predict(made, data, size=3)
    assert made.training
    torch.testing.assert_close(whole.raw, parts.raw)
    assert torch.equal(whole.target, data.targets()) and list(whole.clips) == [clip.name for clip in data.clips]
    assert not whole.raw.requires_grad and whole.raw.dtype == torch.float32


def test_modalities_are_taken_away() -> None:
    """With one modality it says what it would had the other never been there; with none what it says of nothing."""
    made, data = network(), tiny.Tokens("classes", 5, 1)
    batch = data.batch(range(5), None)
    made.eval()
    alone = predict(made, data, change=partial(only, modalities=["audio"]))
    with torch.no_grad():
        torch.testing.assert_close(alone.raw, made({"audio": batch.parts["audio"]}))
    nothing = predict(made, data, change=partial(only, modalities=[])).raw
    assert nothing.shape == (5, 3) and torch.equal(nothing, nothing[:1].expand(5, 3))


def test_sequences_are_spelled_out() -> None:
    """For sequences symbols come instead of logits; padding is no symbol."""
    data = tiny.Tokens("sequence", 4, 1)
    found = predict(network("sequence"), data)
    assert found.true == [[0], [1, 1], [2, 1], [0]]
    assert len(found.said) == 4 and all(0 <= symbol < 3 for row in found.said for symbol in row)
    figures = found.figures("sequence", Calibration("sequence"))
    assert set(figures) == {"word_error", "sentences_right"}
    right = replace(found, said=found.true)
    assert right.figures("sequence", Calibration("sequence")) == {"word_error": 0.0, "sentences_right": 1.0}


@pytest.mark.parametrize("task", ["classes", "sequence"])
def test_no_clips_no_figures(task: str) -> None:
    """A set without clips has nothing said of it."""
    found = predict(network(task), tiny.Tokens(task, 0, 1))
    assert found.clips == () and found.figures(task, Calibration(task)) == {}


def test_all_of_a_batch_goes_to_a_device() -> None:
    """Every tensor of a batch is there, on the device that has no contents as well as on any."""
    moved = to_device(tiny.Tokens("classes", 3, 1).batch(range(3), None), "meta")
    assert moved.target.device.type == "meta"
    assert all(one.device.type == "meta" for part in moved.parts.values() for one in (part.x, part.mask, part.when))
