"""Which windows are computed next, and which can't be any more. Pure: time is an argument, nothing is awaited.

Earliest deadline first over all streams. Whether a window can still make it is decided *before* computing, from batch
times measured as they happen: a batch starts only when now + batch time + publish time is before the earliest deadline
in it. Waiting up to the deadline is allowed; to shed a window that could have been answered is a fault as well.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field

from streamer.media import Window

_QUANTILE = 0.99
_REMEMBERED = 128


@dataclass(frozen=True, slots=True)
class SchedulePolicy:
    """`max_windows`: the most windows in one batch. `first_batch_ns`: what a batch is taken to cost before one was
    measured."""

    max_windows: int = 8
    first_batch_ns: int = 150_000_000


@dataclass(slots=True)
class BatchTimes:
    """Durations of recent batches by size, in powers of two; asked for a high quantile, because a mean is late half
    the time."""

    first_ns: int
    _recent: dict[int, deque[int]] = field(default_factory=dict)

    def record(self, units: int, duration_ns: int) -> None:
        """A batch of `units` encodings took `duration_ns`."""
        self._recent.setdefault(_bucket(units), deque(maxlen=_REMEMBERED)).append(duration_ns)

    def expect(self, units: int) -> int:
        """Nanoseconds that a batch of `units` encodings stays under in 99 of 100 cases, as far as seen.

        A size never seen is taken from the nearest size, scaled up but never down: small batches have a floor.
        """
        bucket = _bucket(units)
        if bucket in self._recent:
            return _quantile(self._recent[bucket])
        if not self._recent:
            return self.first_ns
        nearest = min(self._recent, key=lambda seen: abs(seen - bucket))
        return int(_quantile(self._recent[nearest]) * max(1.0, 2.0 ** (bucket - nearest)))


def _bucket(units: int) -> int:
    return max(0, math.ceil(math.log2(max(1, units))))


def _quantile(values: deque[int]) -> int:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(_QUANTILE * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows to compute together, earliest deadline first; `units` is how many pictures and patches are new in
    them."""

    windows: tuple[Window, ...]
    units: int


class Scheduler:
    """Windows that wait for compute. Bounded: a window never stays past its deadline, and a stream has few at a
    time."""

    def __init__(self, policy: SchedulePolicy) -> None:
        self._policy = policy
        self._times = BatchTimes(policy.first_batch_ns)
        self._heap: list[tuple[int, int, Window]] = []
        self._order = 0
        self._encoded: dict[str, tuple[int, int]] = {}
        self._publish_ns = 0

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def times(self) -> BatchTimes:
        """The batch times measured so far."""
        return self._times

    def expect_publish(self, publish_ns: int) -> None:
        """Set the time to keep free for publishing: a high quantile of what it took of late."""
        self._publish_ns = publish_ns

    def submit(self, window: Window) -> None:
        """Queue a closed window."""
        heapq.heappush(self._heap, (window.deadline_ns, self._order, window))
        self._order += 1

    def next_batch(self, now_ns: int) -> tuple[Batch | None, list[Window]]:
        """The batch to start at `now_ns`, and the windows that can't make it any more, which the caller sheds."""
        missed: list[Window] = []
        while self._heap and not self._makes_it([self._heap[0][2]], now_ns):
            missed.append(heapq.heappop(self._heap)[2])
        chosen: list[Window] = []
        while self._heap and len(chosen) < self._policy.max_windows:
            candidate = self._heap[0][2]
            if not self._makes_it([*chosen, candidate], now_ns):
                break
            chosen.append(heapq.heappop(self._heap)[2])
        return (self._started(chosen) if chosen else None), missed

    def _makes_it(self, windows: list[Window], now_ns: int) -> bool:
        # Earliest first: the first window's deadline is the batch's.
        cost_ns = self._times.expect(self._units(windows)) + self._publish_ns
        return now_ns + cost_ns <= windows[0].deadline_ns

    def _units(self, windows: list[Window]) -> int:
        newest: dict[str, tuple[int, int]] = {}
        units = 0
        for window in windows:
            picture, patch = newest.get(window.stream) or self._encoded.get(window.stream, (-1, -1))
            units += sum(p.index > picture for p in window.pictures) + sum(p.index > patch for p in window.patches)
            newest[window.stream] = _newest(window, picture, patch)
        return units

    def _started(self, windows: list[Window]) -> Batch:
        units = self._units(windows)
        for window in windows:
            self._encoded[window.stream] = _newest(window, *self._encoded.get(window.stream, (-1, -1)))
        return Batch(tuple(windows), units)

    def completed(self, batch: Batch, duration_ns: int) -> None:
        """Learn from a batch that ran for `duration_ns`."""
        self._times.record(batch.units, duration_ns)

    def forget(self, stream: str) -> list[Window]:
        """Remove a stream with all it has waiting; returns what waited, for the caller to answer."""
        waiting = [window for _, _, window in self._heap if window.stream == stream]
        self._heap = [entry for entry in self._heap if entry[2].stream != stream]
        heapq.heapify(self._heap)
        self._encoded.pop(stream, None)
        return waiting

    def forget_waiting(self) -> list[Window]:
        """Empty the queue; returns what waited."""
        waiting = [window for _, _, window in sorted(self._heap, key=lambda entry: entry[:2])]
        self._heap.clear()
        return waiting


def _newest(window: Window, picture: int, patch: int) -> tuple[int, int]:
    return (
        max([picture, *(p.index for p in window.pictures)]),
        max([patch, *(p.index for p in window.patches)]),
    )
