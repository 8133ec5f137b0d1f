"""Parts of the picture that people enter and leave: the shapes of the configuration, and what may stand in them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations, pairwise
from typing import Annotated

from msgspec import Meta, Struct

from streamer.configvalue import parse_duration_ns

PLACE_PATTERN = r"[a-z0-9][a-z0-9_-]{0,31}"
_MOST_PLACES = 32
_MOST_POINTS = 64
_LEAST_LENGTH = 0.01

LABELS = ("Person", "Standing", "Sitting", "Lying", "Fall")
"""Labels that people give a segment, whatever the configuration; zones and lines give names with an @ in them."""

Place = tuple[str | int, ...]
Point = Annotated[list[float], Meta(min_length=2, max_length=2)]
"""x and y: fractions of the picture's width and height from its top left corner, in [0, 1]."""


class ZoneConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of the picture that people stand in with their feet.

    area: the corners of a polygon that doesn't cross itself. dwell: who stays as long as this dwells there; a duration
    as text, which callers of the API write as the file does.
    """

    area: Annotated[list[Point], Meta(min_length=3, max_length=_MOST_POINTS)]
    dwell: str = "10s"

    @property
    def dwell_ns(self) -> int:
        """Nanoseconds of `dwell`; ValueError where it is no duration."""
        return parse_duration_ns(self.dwell)


class LineConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A line that people cross with their feet: who comes from its left to its right, seen along it from its first
    point to its last, enters, and the other way round leaves.

    along: its points in order.
    """

    along: Annotated[list[Point], Meta(min_length=2, max_length=_MOST_POINTS)]


def label_names(zones: Iterable[str], lines: Iterable[str]) -> list[str]:
    """The labels that people give where these zones and lines are configured, by their names."""
    of_zones = [f"{what}@{name}" for name in zones for what in ("Person", "Enter", "Leave", "Dwell")]
    of_lines = [f"{what}@{name}" for name in lines for what in ("Enter", "Leave")]
    return [*LABELS, *of_zones, *of_lines]


def check_places(zones: Mapping[str, ZoneConfig], lines: Mapping[str, LineConfig]) -> Iterator[tuple[Place, str]]:
    """What is wrong with them: the path from the stream's entry on, and the text; one fault for each thing that is
    wrong. The lengths of lists are checked here because the file's reader does not."""
    for key, places in (("zones", zones), ("lines", lines)):
        for name in places:
            if not re.fullmatch(PLACE_PATTERN, name):
                yield (key, name), f"{name[:64]!r} can't name a place: use 1 to 32 of a-z, 0-9, _ and -"
            if key == "lines" and name in zones:
                yield (key, name), f"a zone is named {name[:64]!r} too: give each place its own name"
    if len(zones) + len(lines) > _MOST_PLACES:
        yield ("zones" if zones else "lines",), f"a stream has at most {_MOST_PLACES} zones and lines"
    for name, zone in zones.items():
        yield from _check_area(("zones", name, "area"), zone.area)
        try:
            parse_duration_ns(zone.dwell)
        except ValueError as error:
            yield ("zones", name, "dwell"), str(error)
    for name, line in lines.items():
        yield from _check_line(("lines", name, "along"), line.along)


def is_of_people(label: str) -> bool:
    """Whether a label of this name is told of people."""
    return label in LABELS or "@" in label


def _check_area(path: Place, corners: list[list[float]]) -> Iterator[tuple[Place, str]]:
    faults = list(_check_points(path, corners, 3, "an area has 3 to 64 corners: write [[0, 0.5], [1, 0.5], [1, 1]]"))
    yield from faults
    if faults:
        return
    if _crosses_itself(corners):
        yield path, "its sides cross: give the corners in their order around it"
    elif abs(_signed_area(corners)) < _LEAST_LENGTH**2:
        yield path, "nobody fits in there: its corners lie on one line"


def _check_line(path: Place, points: list[list[float]]) -> Iterator[tuple[Place, str]]:
    faults = list(_check_points(path, points, 2, "a line has 2 to 64 points: write [[0, 0.5], [1, 0.5]]"))
    yield from faults
    if not faults and all(math.dist(a, b) < _LEAST_LENGTH for a, b in pairwise(points)):
        yield path, "its points are one and the same: a line has two ends"


def _check_points(path: Place, points: list[list[float]], least: int, wanted: str) -> Iterator[tuple[Place, str]]:
    if not least <= len(points) <= _MOST_POINTS:
        yield path, wanted
        return
    for index, point in enumerate(points):
        if len(point) != 2:
            yield (*path, index), "a point is x and y: write [0.5, 0.9]"
        elif not all(0.0 <= part <= 1.0 for part in point):
            yield (*path, index), "a point is x and y in fractions of the picture's width and height, from 0 to 1"


def _signed_area(corners: list[list[float]]) -> float:
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise([*corners, corners[0]])) / 2


def _crosses_itself(corners: list[list[float]]) -> bool:
    sides = list(pairwise([*corners, corners[0]]))
    apart = [(a, b) for (i, a), (j, b) in combinations(enumerate(sides), 2) if 1 < j - i < len(sides) - 1]
    return any(_cross(*a, *b) for a, b in apart)


def _cross(a: list[float], b: list[float], c: list[float], d: list[float]) -> bool:
    def side(p: list[float], q: list[float], r: list[float]) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
