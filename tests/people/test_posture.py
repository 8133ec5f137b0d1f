"""Standing, sitting and lying from points alone, and silence where they don't say."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from streamer.people.posture import Stance, posture_of
from streamer.people.track import Seen
from tests.people.bodies import BENDING, LYING, SITTING, STANDING, Body, seen


def without(one: Seen, *points: int) -> Seen:
    """The same, with these points not sure."""
    left = one.points.copy()
    left[list(points), 2] = 0.05
    return replace(one, points=left)


@pytest.mark.parametrize(
    ("shape", "posture"),
    [(STANDING, "standing"), (SITTING, "sitting"), (LYING, "lying"), (LYING * [-1, 1], "lying"), (BENDING, "standing")],
    ids=["standing", "sitting", "lying", "lying the other way", "bending down"],
)
@pytest.mark.parametrize("height", [0.15, 0.6])
def test_postures_of_whole_bodies(shape: np.ndarray, posture: str, height: float) -> None:
    """A whole body has its posture, near and far; bending down is not lying."""
    said = posture_of(seen(Body(0.5, height=height, shape=shape)))
    assert said is not None and said[0] == posture and 0.5 <= said[1] <= 1.0


def test_the_picture_is_not_square() -> None:
    """The same fractions of a wide and of a tall picture are different bodies."""
    turned = np.array([[math.cos(0.87), math.sin(0.87)], [-math.sin(0.87), math.cos(0.87)]])
    one = seen(Body(0.5, shape=STANDING @ turned))
    assert posture_of(one) is None
    flat, steep = posture_of(replace(one, aspect=4.0)), posture_of(replace(one, aspect=9 / 16))
    assert flat is not None and flat[0] == "lying"
    assert steep is not None and steep[0] == "standing"


def test_no_points_no_posture() -> None:
    """Points that are not sure say nothing, and neither does a torso alone."""
    assert posture_of(seen(Body(0.5, sure=0.1))) is None
    assert posture_of(without(seen(Body(0.5)), 13, 14, 15, 16)) is None
    assert posture_of(without(seen(Body(0.5)), 11, 12)) is None
    assert posture_of(without(seen(Body(0.5)), 5, 6)) is None


def test_half_a_body_is_enough() -> None:
    """One side's points, or ankles without knees, give the posture that all of them give."""
    for shape, posture in ((STANDING, "standing"), (SITTING, "sitting"), (LYING, "lying")):
        one = seen(Body(0.5, shape=shape))
        for missing in ((5, 11, 13, 15), (6, 12, 14, 16), (13, 14)):
            said = posture_of(without(one, *missing))
            assert said is not None and said[0] == posture, (posture, missing)


def test_one_odd_sighting_changes_nothing() -> None:
    """The posture is what two of the last three sightings say; those that say nothing have no vote."""
    stance = Stance()
    assert stance.now is None
    told = []
    for shape in (STANDING, STANDING, LYING, STANDING, LYING, LYING):
        stance.update(seen(Body(0.5, shape=shape)))
        assert stance.now is not None
        told.append(stance.now[0])
    assert told == ["standing", "standing", "standing", "standing", "lying", "lying"]
    stance.update(seen(Body(0.5, sure=0.1)))
    assert stance.now is not None and stance.now[0] == "lying"
