"""One track's time stamps made to count evenly: unwrapped, rising, missing ones filled in. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

_S = 1_000_000_000
# Counters of 33 bits (MPEG-2 systems) and 32 bits (RTP) start over after 26.5 h and 13.3 h at 90 kHz.
_WRAPS = (33, 32)
_WRAP_TOLERANCE_NS = 10 * _S
_BACK_NS = 1 * _S
# So many stamps in a row that lie behind what was counted mean that their axis has moved.
_BEHIND = 10
# By how much a pts may lead its dts: the most pictures that H.264 may reorder, at a slow rate.
_LEAD_CAP_NS = 2 * _S


@dataclass(slots=True)
class Stamp:
    """One packet as the timeline sees it.

    track: its name. pts, dts: in ticks of `num / den` seconds, None where missing. reported_wall_ns: the camera's wall
    time of it, where a sender report told. delayed: it was delivered only when the track's next packet arrived, as a
    parser does that looks for the end of a picture. fresh: the reader had to wait for it, so it came just now.
    payload: whatever the caller wants back.
    """

    track: str
    pts: int | None
    dts: int | None
    num: int
    den: int
    arrived_ns: int
    reported_wall_ns: int | None = None
    delayed: bool = False
    fresh: bool = True
    payload: Any = None

    def to_ns(self, ticks: int) -> int:
        """`ticks` of this stamp's time base in nanoseconds."""
        return ticks * self.num * _S // self.den

    @property
    def order_ns(self) -> int | None:
        """The stamp that rises from packet to packet: dts, or pts where that is all there is."""
        ticks = self.dts if self.dts is not None else self.pts
        return None if ticks is None else self.to_ns(ticks)


class LeastDelay:
    """The minimum of the samples of the last `window_ns`; each update in amortised constant time."""

    def __init__(self, window_ns: int) -> None:
        self._window_ns = window_ns
        self._samples: deque[tuple[int, int]] = deque()  # (when, value), values rising
        self._newest_ns = 0

    def add(self, when_ns: int, value_ns: int) -> None:
        """Take in a sample; those older than the window fall out."""
        samples = self._samples
        while samples and samples[-1][1] >= value_ns:
            samples.pop()
        samples.append((when_ns, value_ns))
        self._newest_ns = when_ns
        while samples[0][0] < when_ns - self._window_ns:
            samples.popleft()

    def shift(self, delta_ns: int) -> None:
        """The axis of the samples moved: add `delta_ns` to each."""
        self._samples = deque((when_ns, value_ns + delta_ns) for when_ns, value_ns in self._samples)

    def least_ns(self, now_ns: int) -> int | None:
        """The minimum; None without samples, or when the newest is older than the window: it says nothing of now."""
        if not self._samples or now_ns - self._newest_ns > self._window_ns:
            return None
        return self._samples[0][1]


class Axis:
    """Where a track's packets stand, in nanoseconds of its own clock.

    `last_ns` is the newest place; `interval_ns` the smoothed distance between packets, at first as told.
    """

    def __init__(self, interval_ns: int = 0) -> None:
        self.last_ns: int | None = None
        self.interval_ns = interval_ns
        self._wrap_ns = 0
        self._behind = 0

    @property
    def expected_ns(self) -> int:
        """Where the next packet should stand."""
        return (self.last_ns or 0) + max(1, self.interval_ns)

    def restart(self) -> None:
        """Forget the newest place: the next packet may stand anywhere."""
        self.last_ns = None
        self._behind = 0

    def move(self, delta_ns: int) -> None:
        """The track's own clock was set: what it counted so far moves by `delta_ns`."""
        if self.last_ns is not None:
            self.last_ns += delta_ns

    def read(self, stamp: Stamp, elapsed_ns: int) -> int | None:
        """The stamp's place as written, unwrapped; None where it is missing. `elapsed_ns`: since the packet before."""
        order_ns = stamp.order_ns
        if order_ns is None:
            return None
        place_ns = order_ns + self._wrap_ns
        if self.last_ns is not None and place_ns < self.last_ns - _BACK_NS:
            for bits in _WRAPS:
                wrap_ns = stamp.to_ns(1 << bits)
                if abs(place_ns + wrap_ns - (self.last_ns + elapsed_ns)) < _WRAP_TOLERANCE_NS:
                    self._wrap_ns += wrap_ns
                    return place_ns + wrap_ns
        return place_ns

    def advance(self, place_ns: int | None, *, may_join: bool = False) -> int:
        """Move on to a packet that says it stands at `place_ns`; where it is taken to stand.

        may_join: packets with the same stamp are parts of one picture (its headers, its slices) and stay together.

        A missing place is the expected one. So is one that repeats or steps back a little, as long as the next ones
        catch up: cameras stamp packets in pairs, and audio by the clock of the thread that sent it.
        """
        if self.last_ns is None:
            self.last_ns = 0 if place_ns is None else place_ns
            return self.last_ns
        if place_ns is None:
            place_ns = self.expected_ns
        elif may_join and place_ns == self.last_ns:
            return place_ns
        elif place_ns <= self.last_ns:
            self._behind += 1
            if self._behind > _BEHIND:
                self._behind = 0
                self.last_ns = place_ns
                return place_ns
            place_ns = self.last_ns + max(1, min(self.interval_ns, _BACK_NS) // (1 + self._behind // 2))
        else:
            self._behind = 0
        self._measure(place_ns - self.last_ns)
        self.last_ns = place_ns
        return place_ns

    def _measure(self, interval_ns: int) -> None:
        if not self.interval_ns:
            self.interval_ns = min(interval_ns, _S)
        elif interval_ns < 4 * _S:
            self.interval_ns += (interval_ns - self.interval_ns) // 8


def lead_ns(stamp: Stamp) -> int:
    """How long after its place in the stream the packet is shown: pts - dts, 0 where either is missing."""
    if stamp.pts is None or stamp.dts is None:
        return 0
    return max(0, min(stamp.to_ns(stamp.pts) - stamp.to_ns(stamp.dts), _LEAD_CAP_NS))
