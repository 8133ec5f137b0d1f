"""From scores to what is said: the labels of a segment, and events with a beginning and an end. Pure.

A segment's labels are the calibrated scores of that window, as they are. An event is a label's interval over
segments: it opens when the smoothed score has been above `open_at` for `min_open_ns`, and closes when it has been below
`close_at` for `min_close_ns` (two thresholds, so that a score that trembles around one opens nothing twice).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.clock import rfc3339
from streamer.media import Scores, Window
from streamer.messages import MAX_LABELS, MIN_SCORE, Event, EventState, Label, Share


@dataclass(frozen=True, slots=True)
class EventPolicy:
    """Thresholds on the smoothed score and times in nanoseconds of media time; `half_life_ns` is the smoothing's."""

    open_at: float = 0.5
    close_at: float = 0.3
    min_open_ns: int = 500_000_000
    min_close_ns: int = 1_500_000_000
    half_life_ns: int = 500_000_000
    update_step: float = 0.1


def labels_of(names: list[str], scores: Scores) -> list[Label]:
    """At most 20 labels by falling score, none under 0.05.

    `names` are the checkpoint's, `[L]` as `scores.scores`; shares are rounded so that they still sum to 1.
    """
    likely = np.flatnonzero(scores.scores >= MIN_SCORE)
    order = likely[np.argsort(-scores.scores[likely], kind="stable")][:MAX_LABELS]
    return [
        Label(name=names[i], score=round(float(scores.scores[i]), 4), share=_share(scores.shares[i])) for i in order
    ]


def likeliest(labels: list[Label]) -> list[Label]:
    """The labels of a segment out of those of several rooms: at most 20, by falling score."""
    return sorted(labels, key=lambda label: -label.score)[:MAX_LABELS]


def _share(row: NDArray[np.float32]) -> Share:
    video, audio = round(float(row[0]), 4), round(float(row[1]), 4)
    return Share(video=video, audio=audio, text=round(max(0.0, 1.0 - video - audio), 4))


@dataclass(slots=True)
class _Interval:
    """A label's state machine: waiting to open, open, waiting to close."""

    above_since_ns: int | None = None
    below_since_ns: int | None = None
    opened_ns: int | None = None
    id: str = ""
    peak: float = 0.0
    told: float = 0.0


class EventDetector:
    """Events of one stream. An epoch's end closes whatever is open, because nothing is known of the time between."""

    def __init__(self, stream: str, names: list[str], policy: EventPolicy) -> None:
        self._stream = stream
        self._names = names
        self._policy = policy
        self._smoothed = np.zeros(len(names), np.float32)
        self._last_end_ns: int | None = None
        self._wall_offset_ns = 0
        self._intervals: dict[int, _Interval] = {}

    def update(self, window: Window, scores: NDArray[np.float32]) -> list[Event]:
        """The events that the scores of `window` (float32 `[L]`) open, update or close."""
        self._smooth(window.end_ns, scores)
        self._wall_offset_ns = window.wall_offset_ns
        interesting = set(np.flatnonzero(self._smoothed >= self._policy.open_at).tolist()) | set(self._intervals)
        return [event for index in sorted(interesting) for event in self._step(index, window)]

    def nothing_there(self, window: Window) -> list[Event]:
        """`window` held no media at all: what was open closes after its time, as if every score were 0."""
        return self.update(window, np.zeros(len(self._names), np.float32))

    def _smooth(self, end_ns: int, scores: NDArray[np.float32]) -> None:
        if self._last_end_ns is None:
            self._smoothed[:] = scores
        else:
            elapsed = max(0, end_ns - self._last_end_ns)
            keep = math.exp(-math.log(2) * elapsed / self._policy.half_life_ns)
            self._smoothed *= keep
            self._smoothed += (1.0 - keep) * scores
        self._last_end_ns = end_ns

    def _step(self, index: int, window: Window) -> Iterator[Event]:
        policy = self._policy
        score = float(self._smoothed[index])
        interval = self._intervals.setdefault(index, _Interval())
        interval.above_since_ns = (interval.above_since_ns or window.end_ns) if score >= policy.open_at else None
        interval.below_since_ns = (interval.below_since_ns or window.end_ns) if score < policy.close_at else None
        if interval.opened_ns is None:
            if interval.above_since_ns is None:
                del self._intervals[index]
            elif window.end_ns - interval.above_since_ns >= policy.min_open_ns:
                yield self._open(index, interval, score, window)
        elif interval.below_since_ns is not None and window.end_ns - interval.below_since_ns >= policy.min_close_ns:
            yield self._close(index, interval.below_since_ns)
        elif score >= interval.told + policy.update_step:
            interval.peak = interval.told = score
            yield self._event(index, interval, "update", None)
        else:
            interval.peak = max(interval.peak, score)

    def _open(self, index: int, interval: _Interval, score: float, window: Window) -> Event:
        interval.opened_ns = interval.above_since_ns or window.end_ns
        interval.id = f"{window.epoch}-{window.seq}-{index}"
        interval.peak = interval.told = score
        return self._event(index, interval, "open", None)

    def _close(self, index: int, end_ns: int) -> Event:
        return self._event(index, self._intervals.pop(index), "close", end_ns)

    def _event(self, index: int, interval: _Interval, state: EventState, end_ns: int | None) -> Event:
        assert interval.opened_ns is not None
        return Event(
            stream=self._stream,
            id=interval.id,
            label=self._names[index],
            state=state,
            start=rfc3339(interval.opened_ns + self._wall_offset_ns),
            end=None if end_ns is None else rfc3339(end_ns + self._wall_offset_ns),
            score=round(interval.peak, 4),
        )

    def finish(self) -> list[Event]:
        """Close what is open at the end of the last window seen: the epoch has ended."""
        end_ns = self._last_end_ns or 0
        open_now = [index for index, interval in sorted(self._intervals.items()) if interval.opened_ns is not None]
        closed = [self._close(index, end_ns) for index in open_now]
        self._intervals.clear()
        self._smoothed[:] = 0.0
        self._last_end_ns = None
        return closed
