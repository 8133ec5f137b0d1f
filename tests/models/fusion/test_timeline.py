"""Modalities side by side in time."""

from __future__ import annotations

import torch

from models.fusion.timeline import Join, Near, moments, resample
from models.learning.batch import Part

CPU = torch.device("cpu")


def test_pictures_and_tokens_of_speech_land_on_steps_of_their_own() -> None:
    """At 25 a second every item is on its own step, whether it is told by its start, as pictures are, or by its middle,
    as sound is; float32 keeps that for a minute."""
    count = 1500
    number = torch.arange(count).float().unsqueeze(0)
    mask = torch.ones(1, count, dtype=torch.bool)
    x = number.unsqueeze(-1)
    for late in (0.0, 0.02):
        part = Part(x, mask, number * 0.04 + late)
        when, there = moments({"video": part}, 4.0, CPU)
        assert there.shape == (1, count)
        onto, near = resample(part, when)
        assert torch.equal(onto, x)
        assert near.all()


def test_the_grid_ends_with_each_clip() -> None:
    """A clip's steps end with its last item of any modality; one without items has one step."""
    video = Part(torch.zeros(3, 2, 1), torch.tensor([[True, True], [True, False], [False, False]]),
                 torch.tensor([[0.0, 0.4], [0.04, 9.0], [9.0, 9.0]]))  # fmt: skip
    audio = Part(torch.zeros(3, 1, 1), torch.tensor([[True], [True], [False]]), torch.tensor([[0.1], [0.2], [0.3]]))
    _, mask = moments({"video": video, "audio": audio}, 4.0, CPU)
    assert mask.sum(dim=1).tolist() == [11, 6, 1]
    assert mask.shape[1] == 11


def test_what_is_out_of_reach_is_absent() -> None:
    """Steps more than half a second from a modality's nearest item have the learned vector of its absence."""
    join = Join(("video", "audio"), 4)
    torch.nn.init.normal_(join.absent["video"])
    when = torch.arange(50).unsqueeze(0) * 0.04
    mask = torch.ones(1, 1, dtype=torch.bool)
    part = Part(torch.randn(1, 1, 4), mask, torch.zeros(1, 1))
    joined, none = join({"video": part}, when), join({}, when)
    same = (joined == none).all(dim=2)[0]
    assert same.tolist() == [step * 0.04 > 0.5 for step in range(50)]


def test_near_tokens_count_more() -> None:
    """At the start a token moves the steps near it more than those far from it, in every layer of the memory."""
    torch.manual_seed(0)
    near = Near(8, 2, 0.0)
    when = torch.arange(50).unsqueeze(0) * 0.04
    mask = torch.ones(1, 50, dtype=torch.bool)
    x = torch.zeros(1, 50, 8)
    changed = x.clone()
    changed[:, 10] = torch.randn(8)
    steps = torch.randn(1, 50, 8)
    moved = near(steps, when, {"audio": Part(changed, mask, when)}) - near(steps, when, {"audio": Part(x, mask, when)})
    size = moved.norm(dim=2)[0]
    assert int(size.argmax()) == 10
    assert size[10] > 10 * size[45]
