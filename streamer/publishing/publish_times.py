"""What publishing takes, and where the store's clock stands against ours. Pure: times come in as arguments."""

from __future__ import annotations

from collections import deque

from streamer.clock import NS_PER_MS, NS_PER_S

_WINDOW = 512
_REFRESH_EVERY = 32
# The reserve: the slowest of this long, in steps of this length, and half as much again, because the next slow one may
# be slower than all that were seen.
_REMEMBERED_S = 10
_STEP_NS = NS_PER_S
_MARGIN = 1.5
_LEAST_NS, _MOST_NS = 5 * NS_PER_MS, 300 * NS_PER_MS
# How fast two clocks of a machine or two may part before the difference is measured anew, in parts of elapsed time.
_DRIFT = 100e-6


class PublishTimes:
    """Quantiles over the last publish times in nanoseconds; 0 before the first."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque(maxlen=_WINDOW)
        self._sorted: list[int] = []
        self._since_sorted = 0

    def add(self, duration_ns: int) -> None:
        """One more publish took `duration_ns`."""
        self._recent.append(duration_ns)
        self._since_sorted += 1

    def quantile(self, quantile: float) -> int:
        """The duration that `quantile` (0 to 1) of the recent ones did not exceed; at most 31 additions behind."""
        if self._since_sorted >= _REFRESH_EVERY or len(self._sorted) < _REFRESH_EVERY:
            self._sorted = sorted(self._recent)
            self._since_sorted = 0
        if not self._sorted:
            return 0
        return self._sorted[min(int(quantile * len(self._sorted)), len(self._sorted) - 1)]


class Reserve:
    """What must be kept free before a deadline for publishing, in nanoseconds.

    The slowest publish of the last 10 s and half as much again, 5 ms at least and 300 ms at most: one slow round trip
    raises it at once, and ten quiet seconds bring it down. The slowest and not a quantile, because the promise has no
    quantile either.
    """

    def __init__(self) -> None:
        self._peaks: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED_S + 1)

    def add(self, duration_ns: int, now_ns: int) -> None:
        """A publish that ended at `now_ns` took `duration_ns`. Times must not go back."""
        step = now_ns // _STEP_NS
        if self._peaks and self._peaks[-1][0] == step:
            self._peaks[-1] = (step, max(self._peaks[-1][1], duration_ns))
        else:
            self._peaks.append((step, duration_ns))

    def at(self, now_ns: int) -> int:
        """The reserve as of `now_ns`."""
        oldest = now_ns // _STEP_NS - _REMEMBERED_S
        slowest_ns = max((peak_ns for step, peak_ns in self._peaks if step >= oldest), default=0)
        return min(max(int(_MARGIN * slowest_ns), _LEAST_NS), _MOST_NS)


class StoreClock:
    """The store's clock (microseconds since 1970) seen from the host's monotonic one.

    Each answer says what the store's clock was between sending and acknowledgement, so the offset lies in an interval
    as wide as the round trip. The narrowest is kept and widened by drift; one that contradicts it means that a clock
    jumped.
    """

    def __init__(self) -> None:
        self._offset_ns: float | None = None
        self._half_width_ns = 0.0
        self._at_ns = 0

    def observe(self, sent_ns: int, acked_ns: int, store_us: int) -> None:
        """The store's clock stood at `store_us` at some moment between `sent_ns` and `acked_ns`."""
        store_ns = store_us * 1000
        # The store's microsecond is cut off, not rounded: up to one more had passed.
        low, high = store_ns - acked_ns, store_ns + 1000 - sent_ns
        middle, half_width = (low + high) / 2, (high - low) / 2
        allowed = self._half_width_ns + (acked_ns - self._at_ns) * _DRIFT
        if self._offset_ns is not None:
            apart = abs(middle - self._offset_ns) > half_width + allowed
            if not apart and half_width >= allowed:
                return
        self._offset_ns, self._half_width_ns, self._at_ns = middle, half_width, acked_ns

    def store_us(self, monotonic_ns: int | None) -> int | None:
        """The reading of the store's clock at `monotonic_ns`; None where nothing is known."""
        if monotonic_ns is None or self._offset_ns is None:
            return None
        return int(monotonic_ns + self._offset_ns) // 1000
