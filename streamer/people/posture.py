"""How somebody stands: from the angle of their torso, and how far their knees are below their hips.

Angles are of the picture, so what points at the camera is not seen: somebody who lies with their feet towards it has no
posture rather than a wrong one, wherever the points do not say.
"""

from __future__ import annotations

import math
from collections import Counter, deque

import numpy as np
from numpy.typing import NDArray

from streamer.messages import Posture
from streamer.people.track import Seen

_SHOULDERS = (5, 6)
_HIPS = (11, 12)
_KNEES = (13, 14)
_ANKLES = (15, 16)
_SURE = 0.25
# Degrees of the torso from upright: up to the first it is upright, from the second on it lies; between is neither.
_UPRIGHT = 45.0
_LIES = 55.0
# How far the knees are below the hips, in torsos: a thigh that hangs has most of a torso, one that is sat on little.
_SITS = 0.45
_STANDS = 0.6
# The same of the ankles, where no knee is seen.
_ANKLES_SIT = 1.05
_ANKLES_STAND = 1.25
# A box this much wider than high lies, where no leg is seen.
_WIDE = 1.2
_LEAST_TORSO = 0.02
# Sightings that have a say.
_RECENT = 3


class Stance:
    """How one person stands, over their latest sightings."""

    def __init__(self) -> None:
        self._latest: deque[tuple[Posture, float] | None] = deque(maxlen=_RECENT)

    def update(self, seen: Seen) -> None:
        """They were seen again."""
        self._latest.append(posture_of(seen))

    @property
    def now(self) -> tuple[Posture, float] | None:
        """What most of the latest sightings that say something say, the later where they are at odds, and how
        strongly, in [0, 1]."""
        said = [vote for vote in reversed(self._latest) if vote is not None]
        if not said:
            return None
        posture, count = Counter(name for name, _ in said).most_common(1)[0]
        return posture, sum(strength for name, strength in said if name == posture) / count


def posture_of(seen: Seen) -> tuple[Posture, float] | None:
    """The posture in one sighting and how strongly the points say so, in [0.5, 1]; None where they don't."""
    body = seen.points.astype(np.float64) * np.array([seen.aspect, 1.0, 1.0])
    shoulders, hips = _between(body, _SHOULDERS), _between(body, _HIPS)
    if shoulders is None or hips is None:
        return None
    across, down = hips[0] - shoulders[0], hips[1] - shoulders[1]
    torso = math.hypot(across, down)
    if torso < _LEAST_TORSO:
        return None
    lean = math.degrees(math.atan2(abs(across), down))
    drop, sits, stands = _legs(body, float(hips[1]), torso)
    if lean >= _LIES:
        return _lying(seen, lean, drop, stands)
    if lean > _UPRIGHT or drop is None:
        return None
    if drop >= stands:
        return "standing", _strength(drop - stands, 0.3)
    return ("sitting", _strength(sits - drop, 0.3)) if drop <= sits else None


def _lying(seen: Seen, lean: float, drop: float | None, stands: float) -> tuple[Posture, float] | None:
    """Of a torso that is level: its owner lies, unless the legs still stand, as when bending down."""
    if drop is not None:
        return ("lying", _strength(lean - _LIES, 25.0)) if drop < stands else ("standing", 0.5)
    left, top, right, bottom = (float(side) for side in seen.box)
    return ("lying", 0.5) if (right - left) * seen.aspect > _WIDE * (bottom - top) else None


def _legs(body: NDArray[np.float64], hips_y: float, torso: float) -> tuple[float | None, float, float]:
    """How far the knees are below the hips in torsos, and up to where that is sitting and from where standing; of the
    ankles where no knee is sure; None where neither is."""
    knees, ankles = _between(body, _KNEES), _between(body, _ANKLES)
    if knees is not None:
        return (float(knees[1]) - hips_y) / torso, _SITS, _STANDS
    if ankles is not None:
        return (float(ankles[1]) - hips_y) / torso, _ANKLES_SIT, _ANKLES_STAND
    return None, _SITS, _STANDS


def _between(body: NDArray[np.float64], pair: tuple[int, int]) -> NDArray[np.float64] | None:
    """The middle of those of a pair of points that are sure."""
    both = body[list(pair)]
    sure = both[both[:, 2] >= _SURE, :2]
    middle: NDArray[np.float64] = sure.mean(axis=0) if len(sure) else np.empty(0)
    return middle if len(sure) else None


def _strength(beyond: float, full: float) -> float:
    """0.5 at a threshold, 1 at `full` beyond it and further."""
    return 0.5 + 0.5 * min(1.0, max(0.0, beyond / full))
