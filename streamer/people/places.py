"""Where somebody stands and what they cross: zones and lines, held against the way of their feet.

Everything is measured in heights of the picture, so that near is as near across as down. Feet tremble by a few
hundredths of a body from sighting to sighting: who is in a zone has left it when they are clearly outside, and who is
over a line has crossed it when they are clearly beyond.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np

from streamer.people.track import Seen
from streamer.peopleconfig import LineConfig, ZoneConfig

# Parts of a body's size that feet must be away from a border for it to count, and the least in heights of the picture.
_CLEARLY = 0.06
_LEAST_CLEARLY = 0.01
_ANKLES = (15, 16)
_SURE = 0.3

At = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Passing:
    """Somebody came into, or left, the zone or line `place`, at a media time."""

    way: Literal["Enter", "Leave"]
    place: str
    at_ns: int


def feet_of(seen: Seen) -> At:
    """Where somebody stands, in fractions of the picture: between their ankles where both are sure, else the bottom
    middle of their box."""
    ankles = seen.points[list(_ANKLES)]
    if bool((ankles[:, 2] >= _SURE).all()):
        x, y = np.clip(ankles[:, :2].mean(axis=0), 0.0, 1.0)
        return float(x), float(y)
    left, _, right, bottom = (float(side) for side in seen.box)
    return (left + right) / 2, bottom


@dataclass(slots=True)
class _Crossing:
    """How often a line was crossed to its right, less to its left, since they were last clear of it; and when."""

    net: int = 0
    at_ns: int = 0


@dataclass(slots=True)
class Whereabouts:
    """One person's way through the places of a stream.

    inside: since when they are in which zones.
    """

    zones: Mapping[str, ZoneConfig]
    lines: Mapping[str, LineConfig]
    inside: dict[str, int] = field(default_factory=dict)
    _feet: At | None = None
    _crossings: dict[str, _Crossing] = field(default_factory=dict)

    def step(self, seen: Seen) -> list[Passing]:
        """What they passed on the way to where they are seen; of zones also those in which they are seen first."""
        x, y = feet_of(seen)
        feet = x * seen.aspect, y
        clearly = max(_LEAST_CLEARLY, _CLEARLY * seen.size)
        passed = [*self._zones(seen, feet, clearly), *self._lines(seen, feet, clearly)]
        self._feet = feet
        return passed

    def over(self, at_ns: int) -> list[Passing]:
        """They are gone from the picture since `at_ns`, and so from the zones."""
        passed = [Passing("Leave", name, at_ns) for name in self.inside]
        self.inside.clear()
        return passed + [told for name in self.lines if (told := self._crossed(name)) is not None]

    def dwells(self, now_ns: int) -> list[tuple[str, int]]:
        """The zones that they have been in for as long as those say, and since when that was so."""
        ends = [(name, since_ns + self.zones[name].dwell_ns) for name, since_ns in self.inside.items()]
        return [(name, at_ns) for name, at_ns in ends if at_ns <= now_ns]

    def _zones(self, seen: Seen, feet: At, clearly: float) -> list[Passing]:
        passed = []
        for name, zone in self.zones.items():
            corners = _scaled(zone.area, seen.aspect)
            if name not in self.inside:
                if contains(corners, feet):
                    self.inside[name] = seen.media_ns
                    passed.append(Passing("Enter", name, seen.media_ns))
            elif not contains(corners, feet) and _distance(feet, [*corners, corners[0]]) > clearly:
                del self.inside[name]
                passed.append(Passing("Leave", name, seen.media_ns))
        return passed

    def _lines(self, seen: Seen, feet: At, clearly: float) -> list[Passing]:
        passed = []
        for name, line in self.lines.items():
            along = _scaled(line.along, seen.aspect)
            net = 0 if self._feet is None else _crossings(self._feet, feet, along)
            if net:
                crossing = self._crossings.setdefault(name, _Crossing())
                crossing.net += net
                crossing.at_ns = seen.media_ns
            if name in self._crossings and _distance(feet, along) > clearly:
                told = self._crossed(name)
                passed += [told] if told is not None else []
        return passed

    def _crossed(self, name: str) -> Passing | None:
        """What is to be told of a line that they are clear of now."""
        crossing = self._crossings.pop(name, _Crossing())
        return Passing("Enter" if crossing.net > 0 else "Leave", name, crossing.at_ns) if crossing.net else None


def contains(corners: Sequence[At], at: At) -> bool:
    """Whether a polygon has the point in it, by the sides that a ray to the right crosses; its border may be either."""
    inside = False
    for (ax, ay), (bx, by) in pairwise([*corners, corners[0]]):
        if (ay > at[1]) != (by > at[1]) and at[0] < (bx - ax) * (at[1] - ay) / (by - ay) + ax:
            inside = not inside
    return inside


def _scaled(points: Sequence[Sequence[float]], aspect: float) -> list[At]:
    return [(x * aspect, y) for x, y in points]


def _distance(at: At, along: Sequence[At]) -> float:
    """To the nearest part of a line of several points."""
    return min(_to_side(at, a, b) for a, b in pairwise(along))


def _to_side(at: At, a: At, b: At) -> float:
    across, down = b[0] - a[0], b[1] - a[1]
    length = across * across + down * down
    part = ((at[0] - a[0]) * across + (at[1] - a[1]) * down) / length if length else 0.0
    part = min(1.0, max(0.0, part))
    return math.dist(at, (a[0] + part * across, a[1] + part * down))


def _crossings(start: At, end: At, along: Sequence[At]) -> int:
    """How often a step goes from left to right over a line, less how often the other way. A point on the line is to its
    right, so that a way of several steps, or a line of several sides, is counted once where they meet."""
    net = 0
    for a, b in pairwise(along):
        was, now = _is_right(a, b, start), _is_right(a, b, end)
        if was != now and _is_right(start, end, a) != _is_right(start, end, b):
            net += 1 if now else -1
    return net


def _is_right(a: At, b: At, at: At) -> bool:
    """Whether `at` is to the right of the way from `a` to `b`; y grows downwards."""
    return (b[0] - a[0]) * (at[1] - a[1]) - (b[1] - a[1]) * (at[0] - a[0]) >= 0
