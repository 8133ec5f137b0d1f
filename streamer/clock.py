"""The host's two clocks, behind one small interface so that tests can turn the hands themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Monotonic time for every latency, wall time only for what people read. Both in integer nanoseconds."""

    def now_ns(self) -> int:
        """Nanoseconds on the host's monotonic clock; its zero is arbitrary."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds since 1970-01-01T00:00:00Z; may jump."""
        ...


class HostClock:
    """The clocks of this machine (`CLOCK_MONOTONIC`, `CLOCK_REALTIME`)."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        return time.time_ns()


class ManualClock:
    """A clock that stands still until it is told to move (tests, simulations)."""

    def __init__(self, now_ns: int = 0, wall_ns: int = 1_700_000_000 * NS_PER_S) -> None:
        self._now_ns = now_ns
        self._wall_offset_ns = wall_ns - now_ns

    def now_ns(self) -> int:
        return self._now_ns

    def wall_ns(self) -> int:
        return self._now_ns + self._wall_offset_ns

    def advance(self, delta_ns: int) -> None:
        """Move both clocks forward by `delta_ns`.

        Raises:
            ValueError: `delta_ns` is negative; a monotonic clock never goes back.
        """
        if delta_ns < 0:
            raise ValueError(f"a monotonic clock cannot go back by {-delta_ns} ns")
        self._now_ns += delta_ns


def rfc3339(wall_ns: int) -> str:
    """`wall_ns` since the Unix epoch as RFC 3339 in UTC with milliseconds, e.g. `2026-11-23T04:07:08.500Z`.

    Rounds down to the millisecond. Times outside the years 1 to 9999 are clamped to them: a camera with a broken
    clock must not be able to stop a message.
    """
    milliseconds = wall_ns // NS_PER_MS
    milliseconds = min(max(milliseconds, -62_135_596_800_000), 253_402_300_799_999)
    moment = _UNIX_EPOCH + timedelta(milliseconds=milliseconds)
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def parse_rfc3339(text: str) -> int:
    """Nanoseconds since the Unix epoch of an RFC 3339 time; a time without offset is read as UTC.

    Raises:
        ValueError: `text` is not a time.
    """
    moment = datetime.fromisoformat(text.strip())
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    delta = moment - _UNIX_EPOCH
    return (delta.days * 86_400 + delta.seconds) * NS_PER_S + delta.microseconds * 1000


def epoch_ids(clock: Clock) -> Iterator[str]:
    """Names for epochs: the wall clock's milliseconds as 12 hexadecimal digits, each later than the one before
    whatever the clock does."""
    last = -1
    while True:
        last = max(last + 1, clock.wall_ns() // NS_PER_MS)
        yield f"{last:012x}"
