"""What of a window is computed at each step of the ladder, people among it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamer.detector import blank_look
from streamer.media import Window, Work
from streamer.scheduling.easing import Encoded
from tests.builders import window


def looking(*pictures: int, looks: tuple[int, ...] = ()) -> Window:
    """A window of these pictures with sound, in some of which people are to be looked for."""
    cut = window(pictures=pictures, patches=(0,))
    look = blank_look()
    found = tuple(replace(one, look=look if one.index in looks else None) for one in cut.pictures)
    return replace(cut, pictures=found)


def test_each_picture_is_looked_at_once() -> None:
    """Windows overlap: what one of them was looked for is no work for the next."""
    encoded = Encoded()
    first = encoded.offer(looking(0, 1, 2, 3, looks=(0, 1, 3)), 0)
    assert first.work == Work(1, 4, 1, 3) and not first.degraded
    encoded.add(first.window)
    assert encoded.offer(looking(1, 2, 3, 4, looks=(1, 3, 4)), 0).work == Work(1, 1, 0, 1)


@pytest.mark.parametrize(
    ("level", "looks", "left_out"),
    [(0, [0, 1, 3], ()), (1, [0], ("frames",)), (2, [], ("frames", "people")), (3, [], ("video",))],
)
def test_less_is_looked_at_step_by_step(level: int, looks: list[int], left_out: tuple[str, ...]) -> None:
    """With every second picture half the looks go, and from the second step on all of them; the segment says so."""
    offer = Encoded().offer(looking(0, 1, 2, 3, looks=(0, 1, 3)), level)
    assert [picture.index for picture in offer.window.pictures if picture.look is not None] == looks
    assert offer.degraded == left_out and offer.work.looks == len(looks)


def test_where_nothing_changed_nothing_is_left_out() -> None:
    """A window without a picture to look at is not called degraded for it."""
    assert Encoded().offer(looking(0, 2), 2).degraded == ()
