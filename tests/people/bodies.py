"""People for unit tests: bodies with points, put into sightings, and a stream's watch that is shown them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from streamer.media import Picture, Scores, Sighting, Window
from streamer.messages import Event
from streamer.people.track import Seen
from streamer.people.watch import FallJudge, Findings, PeopleSettings, PeopleWatch
from tests.builders import MS, scores, window

ASPECT = 16 / 9
STEP_NS = 500 * MS

# x and y of the 17 points of COCO: across and up from the feet, in heights of somebody standing.
_HEAD = [(0.0, 0.93), (-0.02, 0.95), (0.02, 0.95), (-0.04, 0.94), (0.04, 0.94)]
_ARMS = [(-0.13, 0.82), (0.13, 0.82), (-0.16, 0.65), (0.16, 0.65), (-0.17, 0.5), (0.17, 0.5)]
_LEGS = [(-0.08, 0.52), (0.08, 0.52), (-0.08, 0.28), (0.08, 0.28), (-0.08, 0.04), (0.08, 0.04)]
STANDING = np.array(_HEAD + _ARMS + _LEGS)
# The thighs point at the camera, and everything above them is as much lower.
SITTING = np.array(
    [(x, y - 0.2) for x, y in _HEAD + _ARMS + _LEGS[:2]] + [(-0.1, 0.27), (0.1, 0.27), (-0.1, 0.03), (0.1, 0.03)]
)
LYING = np.array([(y - 0.5, x + 0.15) for x, y in STANDING])
BENDING = np.array([(0.52 - y + 0.5, 0.55 + x / 2) for x, y in _HEAD + _ARMS] + [(x, y) for x, y in _LEGS])


@dataclass(frozen=True)
class Body:
    """Somebody whose feet are at x, y (fractions of the picture), `height` of the picture high when they stand."""

    x: float
    y: float = 0.9
    height: float = 0.4
    score: float = 0.6
    shape: NDArray[np.float64] = field(default_factory=lambda: STANDING)
    sure: float = 0.8

    def points(self) -> NDArray[np.float32]:
        """float32 `[17, 3]`."""
        across = self.x + self.shape[:, 0] * self.height / ASPECT
        down = self.y - self.shape[:, 1] * self.height
        return np.stack([across, down, np.full(17, self.sure)], axis=1).astype(np.float32)

    def box(self) -> NDArray[np.float32]:
        """float32 `[4]`, around the points with a margin."""
        points, margin = self.points(), 0.05 * self.height
        left, top = points[:, :2].min(axis=0) - margin
        right, bottom = points[:, :2].max(axis=0) + margin
        return np.array([left, top, right, bottom], np.float32)


def seen(body: Body, media_ns: int = 0) -> Seen:
    """One sighting of one person."""
    return Seen(media_ns, ASPECT, body.score, body.box(), body.points())


def sighting(index: int, media_ns: int, bodies: Sequence[Body]) -> Sighting:
    """These people, in this order."""
    return Sighting(
        index,
        media_ns,
        ASPECT,
        np.array([body.score for body in bodies], np.float32),
        np.array([body.box() for body in bodies], np.float32).reshape(-1, 4),
        np.array([body.points() for body in bodies], np.float32).reshape(-1, 17, 3),
    )


class Stream:
    """A watch, and a picture each half second; windows are four pictures long and overlap, as real ones are."""

    def __init__(self, settings: PeopleSettings | None = None, falls: Callable[[], FallJudge] | None = None) -> None:
        self.watch = PeopleWatch("door", settings or PeopleSettings(), falls)
        self.events: list[Event] = []
        self.findings: list[Findings] = []
        self.seq = 0
        self._epochs = 1
        self._recent: list[Sighting] = []

    def shows(self, bodies: Iterable[Body]) -> Findings:
        """A picture with these people, which are looked for."""
        now_ns = self.seq * STEP_NS
        self._recent.append(sighting(self.seq, now_ns, list(bodies)))
        return self._feed(self._window())

    def show(self, pictures: Iterable[Iterable[Body]]) -> list[Findings]:
        """One picture after the other."""
        return [self.shows(bodies) for bodies in pictures]

    def still(self, count: int = 1) -> Findings:
        """Pictures that are as the one before, so that nobody looks."""
        return [self._feed(self._window()) for _ in range(count)][-1]

    def blind(self, count: int = 1) -> Findings:
        """Pictures at which there was no time to look."""
        return [self._feed(replace(self._window(), degraded=("people",))) for _ in range(count)][-1]

    def stalled(self, count: int = 1) -> list[Findings]:
        """Windows without media."""
        found = []
        for _ in range(count):
            found.append(self.watch.nothing_there(replace(self._window(), pictures=())))
            self.events += found[-1].events
            self.seq += 1
        return found

    def finish(self) -> None:
        """The epoch ends, and another begins with the next picture."""
        self.events += self.watch.finish()
        self._epochs += 1
        self._recent.clear()

    def _window(self) -> Window:
        now_ns = self.seq * STEP_NS
        pictures = (Picture(self.seq, now_ns, np.zeros((2, 2, 3), np.uint8)),)
        return replace(window(seq=self.seq, end_ns=now_ns + 1, epoch=f"e{self._epochs}"), pictures=pictures)

    def _feed(self, shown: Window) -> Findings:
        self._recent = [one for one in self._recent if one.index > self.seq - 4]
        answered: Scores = replace(scores(0.5), sightings=tuple(self._recent))
        found = self.watch.update(shown, answered)
        self.seq += 1
        self.findings.append(found)
        self.events += found.events
        return found

    def told(self, state: str, label: str = "Person") -> list[Event]:
        """The events of one label in one state."""
        return [event for event in self.events if event.label == label and event.state == state]


def names(found: Findings) -> set[str]:
    """Of a window's labels that are likelier than not."""
    return {label.name for label in found.labels if label.score >= 0.5}
