"""What of a round trip was the store's doing, and what our own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.trips import Trouble

MS = 1_000_000


def test_a_trip_of_usual_length_is_no_trouble() -> None:
    """Up to 20 ms count for nothing, and of a longer one what is beyond them."""
    trouble = Trouble()
    trouble.trip(0, 20 * MS, [])
    assert trouble.within(0, 100 * MS) == 0
    trouble.trip(100 * MS, 150 * MS, [])
    assert trouble.within(0, 200 * MS) == 30 * MS
    assert trouble.within(130 * MS, 140 * MS) == 10 * MS
    assert trouble.within(150 * MS, 200 * MS) == 0


def test_our_stalls_are_taken_out_of_a_trip() -> None:
    """Of a trip of 100 ms with stalls at 30 to 50 and 60 to 70, 50 ms lie beyond the first 20 and outside of them; of
    one that failed all that is outside counts."""
    trouble = Trouble()
    stalls = [(30 * MS, 50 * MS), (60 * MS, 70 * MS)]
    trouble.trip(0, 100 * MS, stalls)
    assert trouble.within(0, 100 * MS) == 50 * MS
    trouble = Trouble()
    trouble.trip(0, 100 * MS, stalls, failed=True)
    assert trouble.within(0, 100 * MS) == 70 * MS


def test_an_outage_counts_once() -> None:
    """From `away` to `back` everything counts, and trips that fail within it add nothing."""
    trouble = Trouble()
    trouble.trip(0, 50 * MS, [], failed=True)
    trouble.away(50 * MS)
    trouble.trip(60 * MS, 90 * MS, [], failed=True)
    trouble.away(90 * MS)
    assert trouble.within(0, 200 * MS) == 200 * MS
    trouble.back(200 * MS)
    assert trouble.within(0, 1000 * MS) == 200 * MS
    assert trouble.within(100 * MS, 120 * MS) == 20 * MS


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200), st.booleans()), max_size=50))
def test_trouble_is_never_longer_than_the_time_asked_for(trips: list[tuple[int, int, bool]]) -> None:
    """However trips follow one another, no millisecond counts twice."""
    trouble, now = Trouble(), 0
    for pause, length, failed in trips:
        now += pause
        trouble.trip(now * MS, (now + length) * MS, [], failed=failed)
        now += length
    for since in range(0, now, 100):
        assert 0 <= trouble.within(since * MS, now * MS) <= (now - since) * MS
