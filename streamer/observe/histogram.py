"""Counts of durations by upper bound, cheap enough for every event."""

from __future__ import annotations

from bisect import bisect_left


class Histogram:
    """Counts of durations in seconds by upper bound; the last bucket has none.

    One thread may observe while another reads: a reader sees each count as it is at some moment during its reading.
    """

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self.sum_s = 0.0

    def observe(self, value_s: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self._bounds_s, value_s)] += 1
        self.sum_s += value_s

    def buckets(self) -> list[tuple[str, int]]:
        """Each upper bound as Prometheus writes it, with how many durations were within it."""
        total, buckets = 0, []
        for bound, count in zip((*map(str, self._bounds_s), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, total))
        return buckets

    def plus(self, other: Histogram) -> Histogram:
        """Both together; `other` has the same bounds."""
        both = Histogram(self._bounds_s)
        both._counts = [one + another for one, another in zip(self._counts, other._counts, strict=True)]
        both.sum_s = self.sum_s + other.sum_s
        return both
