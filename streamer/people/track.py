"""Following people from sighting to sighting: who of those seen now is who of those seen before.

Sightings are half a second apart, or much further where the picture stood still, and there are at most six people in
one. At that rate somebody who walks past shares no part of their box with where they were, so the overlap that
trackers of video go by says nothing: people are matched by how far their middle is from where they were heading, in
sizes of their own body, and by how much that size has changed; the assignment is the best one of all. Libraries for
this (norfair, supervision's ByteTrack, motpy) expect 10 to 30 pictures a second at even steps and bring filterpy, scipy
or OpenCV; what is good in them is kept: weak detections may carry somebody on whom strong ones began (Zhang et al.,
ByteTrack, ECCV 2022), and who is seen but once, and not clearly, was nobody.

Scores were measured on real clips: pictures without people hold detections up to 0.23 (cars, a dog), people who have
fallen mostly score 0.2 to 0.45, people who sit or are cut off 0.3 to 0.6, and who stands in full 0.4 and more.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamer.media import Sighting

# Detector scores. A score of `_EVEN` is a person as often as not, and every `_WIDTH` more multiplies the odds by e.
_EVEN = 0.245
_WIDTH = 0.048
# What may begin to be followed, what may carry on, and what is somebody at first sight.
_BEGINS = 0.235
_GOES_ON = 0.12
_CLEAR = 0.4
# How many of the latest scores of somebody are weighed, and how many of the best of them count.
_RECENT = 6
_BEST = 2
# Who was clear once is believed at scores less by this: they sit, lie or are half hidden now, and are the same person.
_KNOWN = 0.1
# What somebody must be likely to be to be told of at all.
_LIKELY = 0.5
# Not seen for this long after the first sighting without them, which came after the last with them: gone.
_GONE_NS = 1_500_000_000
_MOST = 32
# How far from where they were expected somebody can be, in sizes of their body (somebody running does two heights a
# second), what a wider gap between sightings adds to it a second, and what the sizes may differ by.
_REACH = 1.0
_REACH_A_SECOND = 0.5
_MOST_REACH = 1.75
_MOST_RATIO = math.log(2.5)
_NEAR = 0.5
_ALIKE = 0.7
# A course holds for so long; whoever was looked at after a longer time had not moved until just before.
_COURSE_S = 1.0
_STEP_S = 1.5
_COURSE_PART = 0.8
# Points closer than this part of a body's size on the average are one body found twice; of points this sure.
_SAME_BODY = 0.08
_SURE = 0.3
_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Seen:
    """One person in one sighting; `aspect`, `score`, `box` and `points` as in a `Sighting`."""

    media_ns: int
    aspect: float
    score: float
    box: NDArray[np.float32]
    points: NDArray[np.float32]

    @property
    def middle(self) -> tuple[float, float]:
        """Of the box, in heights of the picture."""
        left, top, right, bottom = (float(side) for side in self.box)
        return (left + right) / 2 * self.aspect, (top + bottom) / 2

    @property
    def size(self) -> float:
        """The longer side of the box in heights of the picture: the same for somebody who stands and who lies."""
        left, top, right, bottom = (float(side) for side in self.box)
        return max((right - left) * self.aspect, bottom - top, 1e-3)


@dataclass(slots=True, eq=False)
class Track:
    """Somebody who is followed.

    number: 0 until it is certain that there is somebody. first_ns, last_ns: media time of the first and the last moment
    they were there. missed_ns: when they were looked for and not seen first, since they were seen last. was_clear: one
    sighting of them left no doubt. scores: the detector's, of their latest sightings. course: heights of the picture a
    second that they move across and down. unread: their sightings since `read` was called.
    """

    seen: Seen
    first_ns: int
    last_ns: int
    number: int = 0
    missed_ns: int | None = None
    was_clear: bool = False
    scores: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    course: tuple[float, float] | None = None
    unread: list[Seen] = field(default_factory=list)

    @property
    def presence(self) -> float:
        """The probability, in (0, 1), that this is a person."""
        best = sorted(self.scores)[-_BEST:]
        return presence_of(sum(best) / len(best) + (_KNOWN if self.was_clear else 0.0))

    def read(self) -> list[Seen]:
        """The sightings of them that were not read yet."""
        unread, self.unread = self.unread, []
        return unread

    def take(self, seen: Seen) -> None:
        """They were seen again."""
        step_s = (seen.media_ns - self.seen.media_ns) / _S
        if 0 < step_s <= _STEP_S:
            (x, y), (was_x, was_y) = seen.middle, self.seen.middle
            now = (x - was_x) / step_s, (y - was_y) / step_s
            before = self.course or now
            self.course = (now[0] + before[0]) / 2, (now[1] + before[1]) / 2
        else:
            self.course = None
        self.seen, self.missed_ns = seen, None
        self.last_ns = max(self.last_ns, seen.media_ns)
        self.scores.append(seen.score)
        self.was_clear = self.was_clear or seen.score >= _CLEAR
        self.unread.append(seen)

    def likeness(self, seen: Seen) -> float:
        """How well `seen` goes with them, in [0, 1]; 0: it is somebody else."""
        gap_s = max(0.0, (seen.media_ns - self.seen.media_ns) / _S)
        size = max(seen.size, self.seen.size)
        reach = min(_MOST_REACH, _REACH + _REACH_A_SECOND * max(0.0, gap_s - 0.5))
        far = math.dist(seen.middle, self._expected(gap_s)) / size
        ratio = abs(math.log(seen.size / self.seen.size))
        if far > reach or ratio > _MOST_RATIO:
            return 0.0
        return math.exp(-((far / _NEAR) ** 2) - (ratio / _ALIKE) ** 2)

    def _expected(self, gap_s: float) -> tuple[float, float]:
        x, y = self.seen.middle
        # Without a miss between, a long gap is a picture that stood still, and they with it.
        if self.course is None or (self.missed_ns is None and gap_s > _STEP_S):
            return x, y
        ahead = _COURSE_PART * min(gap_s, _COURSE_S)
        return x + self.course[0] * ahead, y + self.course[1] * ahead


class Tracker:
    """Everybody in one stream's picture, for one epoch; sightings come in order."""

    def __init__(self) -> None:
        self._tracks: list[Track] = []
        self._numbers = 0

    @property
    def people(self) -> list[Track]:
        """Those who are certainly there, or were until a moment ago, by number."""
        return sorted((track for track in self._tracks if track.number), key=lambda track: track.number)

    def see(self, sighting: Sighting) -> list[Track]:
        """Take what was seen; gives those of `people` who are not there any more."""
        now_ns, people = sighting.media_ns, _people_in(sighting)
        strong = [seen for seen in people if seen.score >= _BEGINS]
        weak = [seen for seen in people if seen.score < _BEGINS]
        left, new = _carry_on(self._tracks, strong)
        missed, _ = _carry_on(left, weak)
        for track in missed:
            track.missed_ns = now_ns if track.missed_ns is None else track.missed_ns
        # Who was seen once, and not clearly, and not again in the next sighting, was nobody.
        self._tracks = [track for track in self._tracks if track.number or track.missed_ns is None]
        for seen in new:
            if not _is_there_already(seen, [track.seen for track in self._tracks if track.missed_ns is None]):
                track = Track(seen, now_ns, now_ns)
                track.take(seen)
                self._tracks.append(track)
        self._number()
        return self._ended(now_ns)

    def pass_to(self, now_ns: int) -> list[Track]:
        """Nothing has changed in the picture until `now_ns`: who was seen is there still, and who was not is not.
        Gives those of `people` who are not there any more."""
        for track in self._tracks:
            if track.missed_ns is None:
                track.last_ns = max(track.last_ns, now_ns)
        return self._ended(now_ns)

    def end(self) -> list[Track]:
        """Nothing is known of anybody any more: gives all `people`. Their numbers stay taken."""
        ended, self._tracks = self.people, []
        return ended

    def _number(self) -> None:
        for track in self._tracks:
            if not track.number and (track.was_clear or (len(track.scores) > 1 and track.presence >= _LIKELY)):
                self._numbers += 1
                track.number = self._numbers

    def _ended(self, now_ns: int) -> list[Track]:
        over = [track for track in self._tracks if track.missed_ns is not None and now_ns - track.missed_ns >= _GONE_NS]
        # Sightings that come without time passing must not gather people.
        missed = [track for track in self._tracks if track.missed_ns is not None and track not in over]
        over += sorted(missed, key=lambda track: track.last_ns)[: max(0, len(self._tracks) - len(over) - _MOST)]
        self._tracks = [track for track in self._tracks if track not in over]
        return sorted((track for track in over if track.number), key=lambda track: track.number)


def presence_of(score: float) -> float:
    """The probability, in (0, 1), that what lasts at this detector score is a person."""
    return 1 / (1 + math.exp((_EVEN - score) / _WIDTH))


def _carry_on(tracks: Sequence[Track], people: Sequence[Seen]) -> tuple[list[Track], list[Seen]]:
    """Give each track who suits it; what is left of both."""
    matched = _best_pairs([[track.likeness(seen) for seen in people] for track in tracks], len(people))
    left = []
    for track, index in zip(tracks, matched, strict=True):
        if index is None:
            left.append(track)
        else:
            track.take(people[index])
    return left, [seen for index, seen in enumerate(people) if index not in matched]


def _people_in(sighting: Sighting) -> list[Seen]:
    """Those who may be somebody, in an order that does not depend on the one they are told in."""
    rows = zip(sighting.scores, sighting.boxes, sighting.points, strict=True)
    people = [
        Seen(sighting.media_ns, sighting.aspect, float(score), box, points)
        for score, box, points in rows
        if score >= _GOES_ON and np.isfinite(box).all() and np.isfinite(points).all()
    ]
    people.sort(key=lambda seen: (-seen.score, seen.box.tolist(), seen.points.ravel().tolist()))
    return people


def _is_there_already(seen: Seen, others: Sequence[Seen]) -> bool:
    """Whether one of `others` has the same body: a detector may find one twice."""
    for other in others:
        sure = (seen.points[:, 2] >= _SURE) & (other.points[:, 2] >= _SURE)
        if sure.any():
            apart = (seen.points[sure, :2] - other.points[sure, :2]) * np.array([seen.aspect, 1.0])
            if float(np.hypot(apart[:, 0], apart[:, 1]).mean()) < _SAME_BODY * min(seen.size, other.size):
                return True
    return False


def _best_pairs(likeness: Sequence[Sequence[float]], columns: int) -> list[int | None]:
    """For each row the column it is paired with, so that the pairs' sum is the highest; nobody pairs at 0.

    Exact, by the best sums for each set of columns that is taken: 64 sets at most for the six that a sighting holds.
    """
    best: dict[int, tuple[float, list[int | None]]] = {0: (0.0, [])}
    for row in likeness:
        after: dict[int, tuple[float, list[int | None]]] = {}
        for taken, (total, pairs) in best.items():
            choices = [(taken, total, None)] + [
                (taken | 1 << column, total + row[column], column)
                for column in range(columns)
                if row[column] > 0 and not taken >> column & 1
            ]
            for now_taken, now_total, column_chosen in choices:
                if now_taken not in after or now_total > after[now_taken][0]:
                    after[now_taken] = now_total, [*pairs, column_chosen]
        best = after
    return max(best.values(), key=lambda found: found[0])[1]
