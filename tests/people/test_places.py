"""Zones and lines held against the way of somebody's feet: in and out once, however they tremble."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from streamer.people.places import Passing, Whereabouts, contains, feet_of
from streamer.peopleconfig import LineConfig, ZoneConfig
from tests.people.bodies import ASPECT, STEP_NS, Body, seen

SETTINGS = settings(deadline=None, derandomize=True)
YARD = ZoneConfig(area=[[0.4, 0.5], [0.8, 0.5], [0.8, 1.0], [0.4, 1.0]], dwell="2s")
DOOR = LineConfig(along=[[0.5, 0.3], [0.5, 1.0]])
"""From the top down: its right is the picture's left."""


def way(places: Whereabouts, *bodies: Body) -> list[Passing]:
    """What somebody passes who is seen so every half second."""
    passed = []
    for index, body in enumerate(bodies):
        passed += places.step(seen(body, index * STEP_NS))
    return passed


def test_feet_are_between_sure_ankles_else_under_the_box() -> None:
    """Ankles that are not sure are not used: the bottom middle of the box stands for them."""
    body = Body(0.5, y=0.8)
    assert feet_of(seen(body)) == pytest.approx((0.5, 0.8 - 0.04 * 0.4), abs=1e-5)
    left, _, right, bottom = body.box()
    assert feet_of(seen(Body(0.5, y=0.8, sure=0.1))) == pytest.approx(((left + right) / 2, bottom))


def test_in_and_out_of_a_zone() -> None:
    """Coming in and going out are told once each, at the sightings where it showed."""
    places = Whereabouts({"yard": YARD}, {})
    passed = way(places, *(Body(x) for x in (0.2, 0.5, 0.6, 0.7, 0.9)))
    assert passed == [Passing("Enter", "yard", STEP_NS), Passing("Leave", "yard", 4 * STEP_NS)]
    assert places.inside == {}


def test_trembling_on_the_border_of_a_zone_is_one_entering() -> None:
    """Feet that tremble about a border by a hundredth of the picture come in once and do not leave."""
    trembling = [Body(0.4 + 0.01 * (-1) ** step) for step in range(20)]
    places = Whereabouts({"yard": YARD}, {})
    assert [passing.way for passing in way(places, *trembling)] == ["Enter"]


def test_dwelling_counts_from_coming_in() -> None:
    """Somebody dwells when they were in for as long as the zone says, and not before."""
    places = Whereabouts({"yard": YARD}, {})
    way(places, Body(0.2), Body(0.5))
    assert places.dwells(STEP_NS + 1_999_999_999) == []
    assert places.dwells(STEP_NS + 2_000_000_000) == [("yard", STEP_NS + 2_000_000_000)]


def test_a_line_is_entered_from_its_left_and_left_from_its_right() -> None:
    """Along a line that goes down, its left is the picture's right."""
    places = Whereabouts({}, {"door": DOOR})
    assert [(passing.way, passing.place) for passing in way(places, Body(0.7), Body(0.3))] == [("Enter", "door")]
    places = Whereabouts({}, {"door": DOOR})
    assert [(passing.way, passing.place) for passing in way(places, Body(0.3), Body(0.7))] == [("Leave", "door")]
    back = LineConfig(along=DOOR.along[::-1])
    assert [passing.way for passing in way(Whereabouts({}, {"door": back}), Body(0.3), Body(0.7))] == ["Enter"]


def test_trembling_on_a_line_is_no_crossing() -> None:
    """Who stands on a line and goes back where they came from has not crossed it; who goes on has, once."""
    trembling = [Body(0.5 + 0.005 * (-1) ** step) for step in range(9)]
    assert way(Whereabouts({}, {"door": DOOR}), Body(0.6), *trembling, Body(0.6)) == []
    passed = way(Whereabouts({}, {"door": DOOR}), Body(0.6), *trembling, Body(0.4))
    assert [passing.way for passing in passed] == ["Enter"]


def test_around_the_end_of_a_line_is_no_crossing() -> None:
    """Who walks around its end crosses nothing, though they come from one side to the other."""
    short = LineConfig(along=[[0.5, 0.3], [0.5, 0.7]])
    around = [Body(0.6, y=0.6), Body(0.6, y=0.9), Body(0.4, y=0.9), Body(0.4, y=0.6)]
    assert way(Whereabouts({}, {"gate": short}), *around) == []


def test_who_is_gone_has_left_the_zones() -> None:
    """The end of a track leaves the zones it was in and settles the line that it was on."""
    places = Whereabouts({"yard": YARD}, {"door": DOOR})
    way(places, Body(0.55), Body(0.497))
    assert places.over(7) == [Passing("Leave", "yard", 7), Passing("Enter", "door", STEP_NS)]
    assert places.over(8) == []


_spots = st.tuples(st.floats(0.02, 0.98), st.floats(0.02, 0.98))


@settings(SETTINGS, max_examples=100)
@given(st.lists(st.tuples(st.floats(0.05, 1), st.floats(0, 2 * math.pi)), min_size=3, max_size=9), _spots)
def test_contains_agrees_with_the_winding_of_the_corners(
    star: list[tuple[float, float]], at: tuple[float, float]
) -> None:
    """A point is in a polygon when its corners go around it."""
    star.sort(key=lambda corner: corner[1])
    corners = [(0.5 + 0.5 * r * math.cos(a), 0.5 + 0.5 * r * math.sin(a)) for r, a in star]
    turns = 0.0
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        u, v = (ax - at[0], ay - at[1]), (bx - at[0], by - at[1])
        # On a side itself either answer will do.
        assume(math.hypot(*u) > 1e-6 and abs(u[0] * v[1] - u[1] * v[0]) > 1e-9)
        turns += math.atan2(u[0] * v[1] - u[1] * v[0], u[0] * v[0] + u[1] * v[1])
    assume(abs(abs(turns) / (2 * math.pi) - round(abs(turns) / (2 * math.pi))) < 1e-6)
    assert contains(corners, at) == (round(turns / (2 * math.pi)) % 2 == 1)


@settings(SETTINGS, max_examples=150)
@given(st.lists(_spots, min_size=1, max_size=20))
def test_zones_agree_with_where_the_feet_are(spots: list[tuple[float, float]]) -> None:
    """Whose feet are in the polygon is in the zone; who is in the zone has their feet in it, or near it and was in it
    before; entering and leaving take turns."""
    places = Whereabouts({"yard": YARD}, {})
    corners = [(x, y) for x, y in YARD.area]
    passed: list[Passing] = []
    for index, (x, y) in enumerate(spots):
        was_inside = "yard" in places.inside
        one = seen(Body(x, y=y), index * STEP_NS)
        passed += places.step(one)
        feet = feet_of(one)
        if contains(corners, feet):
            assert "yard" in places.inside
        elif "yard" in places.inside:
            outside_x = max(0.4 - feet[0], feet[0] - 0.8, 0.0) * ASPECT
            outside_y = max(0.5 - feet[1], feet[1] - 1.0, 0.0)
            assert was_inside and math.hypot(outside_x, outside_y) <= 0.07 * one.size
    ways = [passing.way for passing in passed]
    assert ways == (["Enter", "Leave"] * len(ways))[: len(ways)]


@settings(SETTINGS, max_examples=150)
@given(st.lists(_spots, min_size=1, max_size=20))
def test_a_line_across_the_picture_counts_the_sides(spots: list[tuple[float, float]]) -> None:
    """Of a line from edge to edge, enterings less leavings tell from which side to which somebody came."""
    line = LineConfig(along=[[0.0, 0.3], [0.45, 0.6], [1.0, 0.5]])
    places = Whereabouts({}, {"line": line})
    passed = way(places, *(Body(x, y=y) for x, y in spots)) + places.over(0)

    def right(spot: tuple[float, float]) -> bool:
        x, y = feet_of(seen(Body(spot[0], y=spot[1])))
        return bool(y >= np.interp(x, [0.0, 0.45, 1.0], [0.3, 0.6, 0.5]))

    net = sum(1 if passing.way == "Enter" else -1 for passing in passed)
    assert net == int(right(spots[-1])) - int(right(spots[0]))
