"""People as numbers: who is told, how they are placed, and what is told where nobody is or nobody looked."""

from __future__ import annotations

import numpy as np
import pytest

from models import people
from models.people import MOST, PERSON, STALE_S, WIDTH, Found

WIDE = 16 / 9


def crowd(count: int, seed: int = 0) -> Found:
    """So many people in random places, the strongest first."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0.1, 0.5, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0.1, 0.4, (count, 2))], axis=1)
    points = rng.uniform(0.1, 0.9, (count, 17, 3))
    scores = np.sort(rng.uniform(0.2, 0.9, count))[::-1]
    return Found(WIDE, scores.astype(np.float32), boxes.astype(np.float32), points.astype(np.float32))


def told(who: Found, age_s: float = 0.0) -> np.ndarray:
    return people.numbers(who.aspect, who.scores, who.boxes, who.points, age_s)


def test_a_person_is_told_by_box_and_points() -> None:
    """The box's middle and size come first, sizes in heights of the picture; points are told from the box's middle."""
    box = np.array([[0.2, 0.4, 0.4, 0.8]], np.float32)
    points = np.full((1, 17, 3), 0.5, np.float32)
    points[0, 0] = 0.4, 0.4, 0.9
    row = told(Found(WIDE, np.array([0.7], np.float32), box, points))[2:].reshape(MOST, PERSON)[0]
    np.testing.assert_allclose(row[:5], [0.7, 0.3, 0.6, 0.2 * WIDE, 0.4], atol=1e-6)
    np.testing.assert_allclose(row[5:8], [0.5, -0.5, 0.9], atol=1e-6)


def test_the_strongest_are_told() -> None:
    """Of six people, in whatever order they are told, the four strongest are kept, strongest first."""
    who = crowd(6)
    turned = Found(who.aspect, who.scores[::-1].copy(), who.boxes[::-1].copy(), who.points[::-1].copy())
    np.testing.assert_array_equal(told(who), told(turned))
    np.testing.assert_allclose(told(who)[2:].reshape(MOST, PERSON)[:, 0], who.scores[:MOST])


def test_nobody_there_is_not_nobody_looked() -> None:
    """Where nobody is found the rest is zeros, but that somebody looked is told; where it was too long ago, nothing."""
    assert told(crowd(0)).tolist() == [1.0, *[0.0] * (WIDTH - 1)]
    assert told(crowd(2), STALE_S)[:2].tolist() == [1.0, 1.0]
    assert not told(crowd(2), STALE_S + 0.1).any()
    assert not told(crowd(2), -0.1).any()


@pytest.mark.parametrize("broken", ["face", "box", "points"])
def test_who_has_no_body_is_left_out(broken: str) -> None:
    """A face without points, and places that are no numbers, are as if they had not been found."""
    who = crowd(2)
    if broken == "face":
        who.points[0] = 0.0
    elif broken == "box":
        who.boxes[0, 1] = np.nan
    else:
        who.points[0, 3, 0] = np.inf
    rest = Found(who.aspect, who.scores[1:], who.boxes[1:], who.points[1:])
    np.testing.assert_array_equal(told(who), told(rest))


def test_a_box_of_nothing_stays_within_bounds() -> None:
    """A box without extent gives finite numbers."""
    who = crowd(1)
    who.boxes[0] = 0.5
    assert np.isfinite(told(who)).all() and np.abs(told(who)).max() <= 3.0


def test_the_newest_sighting_counts() -> None:
    """A picture is told by who was seen last before it, and how long ago; before the first look nothing is known."""
    seen = [(1.0, crowd(1, seed=1)), (3.0, crowd(2, seed=2))]
    np.testing.assert_array_equal(people.newest(seen, 2.0), told(seen[0][1], 1.0))
    np.testing.assert_array_equal(people.newest(seen, 3.0), told(seen[1][1], 0.0))
    assert not people.newest(seen, 0.5).any() and not people.newest([], 0.5).any()


def test_places_are_of_the_picture_not_of_the_square() -> None:
    """A picture that takes half of the square's height has its people where they stand in it; a body that is found
    twice is told once, and who is unlikely isn't."""
    rows = np.zeros((6, 56), np.float32)
    rows[:3, 51:55] = 0.1, 0.2, 0.4, 0.5
    rows[2, 51:55] = 0.0, 0.6, 0.4, 0.9
    rows[:3, 55] = 0.5, 0.4, 0.05
    found = people.found(rows, 1.0, 0.5)
    assert found.aspect == 2.0
    np.testing.assert_allclose(found.boxes, [[0.2, 0.2, 0.5, 0.8]], atol=1e-6)
    np.testing.assert_allclose(found.scores, [0.5])
