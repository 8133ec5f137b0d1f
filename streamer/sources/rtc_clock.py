"""RTP time stamps of the tracks of one peer brought to one axis by its sender reports (RFC 3550 section 6.4.1). Pure.

Before a track's first report its time counts from its own first packet; from then on it stands where the sender's wall
clock says, on an axis that begins with the first track that was reported. The timeline is told by the wall time that
comes with each stamp from then on.
"""

from __future__ import annotations

from dataclasses import dataclass

_MS = 1_000_000
_S = 1_000_000_000
_HALF = 1 << 31
_WHOLE = 1 << 32
# From the first second of 1900, where NTP begins, to 1970's.
_NTP_EPOCH_S = 2_208_988_800
# A report moves a track by no more than this: the clocks drift by less, and what is more is noise.
_STEP_NS = 5 * _MS
# A clock that is off by more was set, if a second report says so too.
_SET_NS = 1 * _S


@dataclass(slots=True)
class Axis:
    """The axis that the tracks of one peer share: `base_ns` is the wall time of its zero, None before any report."""

    base_ns: int | None = None


class TrackClock:
    """One track's RTP time.

    Args:
        rate: ticks a second. axis: shared with the peer's other track.
    """

    def __init__(self, rate: int, axis: Axis) -> None:
        self._rate = rate
        self._axis = axis
        self._newest: int | None = None
        self._first_ns = 0
        self._wall_ns: int | None = None  # the wall time of tick 0
        self._was_set = False

    def place(self, timestamp: int) -> tuple[int, int | None]:
        """Nanoseconds on the axis, and the sender's wall time (since 1970), None before its first report."""
        ticks_ns = self._ticks_ns(timestamp, moves=True)
        if self._wall_ns is None or self._axis.base_ns is None:
            return ticks_ns - self._first_ns, None
        wall_ns = ticks_ns + self._wall_ns
        return wall_ns - self._axis.base_ns, wall_ns

    def report(self, ntp: int, timestamp: int) -> None:
        """A sender report: `timestamp` was at `ntp` (32.32 bits since 1900; 0 where the sender has no such clock)."""
        if not ntp or self._newest is None:
            return
        told_ns = ntp_ns(ntp) - self._ticks_ns(timestamp, moves=False)
        if self._wall_ns is None:
            self._wall_ns = told_ns
            if self._axis.base_ns is None:
                self._axis.base_ns = told_ns + self._first_ns
            return
        off_ns = told_ns - self._wall_ns
        if abs(off_ns) <= _SET_NS:
            self._was_set = False
            self._wall_ns += max(-_STEP_NS, min(_STEP_NS, off_ns))
        elif self._was_set:
            self._was_set = False
            self._wall_ns = told_ns
        else:
            self._was_set = True

    def _ticks_ns(self, timestamp: int, *, moves: bool) -> int:
        """`timestamp` in nanoseconds, without its wrapping at 32 bits."""
        near = timestamp if self._newest is None else self._newest
        ticks = near + (timestamp - near + _HALF) % _WHOLE - _HALF
        ticks_ns = ticks * _S // self._rate
        if moves:
            if self._newest is None:
                self._first_ns = ticks_ns
            self._newest = ticks
        return ticks_ns


def ntp_ns(ntp: int) -> int:
    """A 64-bit NTP time stamp (RFC 5905 section 6) in nanoseconds since 1970."""
    return ((ntp >> 32) - _NTP_EPOCH_S) * _S + ((ntp & 0xFFFFFFFF) * _S >> 32)
