"""Quantiles of publish times, and the store's clock read from this machine's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.publishing.publish_times import PublishTimes, Reserve, StoreClock

S = 1_000_000_000
MS = 1_000_000


def test_quantiles_follow_what_was_measured_of_late() -> None:
    """The median and q99 are those of the last 512 durations."""
    times = PublishTimes()
    assert times.quantile(0.99) == 0
    for duration in [1000] * 600 + list(range(1, 513)):
        times.add(duration)
    assert 250 <= times.quantile(0.5) <= 260
    assert 505 <= times.quantile(0.99) <= 512
    assert times.quantile(1.0) == 512


@given(
    st.integers(min_value=-(10**15), max_value=10**15),
    st.lists(st.tuples(st.integers(0, 10**9), st.floats(0, 1), st.integers(0, S)), min_size=1, max_size=50),
)
def test_the_stores_clock_is_known_to_half_the_narrowest_round_trip(
    offset_us: int, trips: list[tuple[int, float, int]]
) -> None:
    """However the store's time falls into each round trip, the estimate is off by less than half of the best one (and a
    microsecond, and drift)."""
    clock, now_ns = StoreClock(), 0
    for length_ns, where, pause_ns in trips:
        store_us = (now_ns + int(length_ns * where)) // 1000 + offset_us
        clock.observe(now_ns, now_ns + length_ns, store_us)
        now_ns += length_ns + pause_ns
    estimate_us = clock.store_us(now_ns)
    assert estimate_us is not None
    best_us = min(length for length, _, _ in trips) / 1000
    drift_us = now_ns * 100e-6 / 1000
    assert abs(estimate_us - (now_ns // 1000 + offset_us)) <= best_us / 2 + drift_us + 3


def test_a_clock_that_jumps_is_followed_at_once() -> None:
    """An answer that contradicts the estimate replaces it."""
    clock = StoreClock()
    clock.observe(0, 1_000_000, 500)
    clock.observe(2_000_000, 3_000_000, 2_500 + 7_000_000)
    assert clock.store_us(10_000_000) == 10_000 + 7_000_000


def test_nothing_is_known_before_the_first_answer() -> None:
    """No deadline is given to a store whose clock was never seen."""
    assert StoreClock().store_us(5) is None


def test_the_reserve_rises_at_once_and_falls_after_ten_seconds() -> None:
    """One slow publish raises it to half as much again; ten seconds of quick ones bring it back to its least."""
    reserve = Reserve()
    assert reserve.at(0) == 5 * MS
    reserve.add(2 * MS, 1 * S)
    assert reserve.at(1 * S) == 5 * MS
    reserve.add(40 * MS, 2 * S)
    assert reserve.at(2 * S) == 60 * MS
    for second in range(3, 13):
        reserve.add(2 * MS, second * S)
        assert reserve.at(second * S) == 60 * MS
    assert reserve.at(13 * S) == 5 * MS


@given(st.lists(st.tuples(st.integers(0, 10 * S), st.integers(0, 2 * S)), max_size=100))
def test_the_reserve_covers_what_was_seen_within_its_bounds(publishes: list[tuple[int, int]]) -> None:
    """Never under 5 ms, never over 300 ms, and between them never under anything of the last ten seconds."""
    reserve, now_ns, seen = Reserve(), 0, list[tuple[int, int]]()
    for duration_ns, pause_ns in publishes:
        now_ns += pause_ns
        reserve.add(duration_ns, now_ns)
        seen.append((now_ns, duration_ns))
        slowest_ns = max(took_ns for at_ns, took_ns in seen if at_ns > now_ns - 10 * S)
        assert min(max(slowest_ns, 5 * MS), 300 * MS) <= reserve.at(now_ns) <= 300 * MS
