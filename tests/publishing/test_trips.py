"""What of a round trip was the store's doing, and what our own."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from streamer.clock import ManualClock
from streamer.publishing.trips import Blame, Pulse, Trip, Trouble

MS = 1_000_000


def trip(sent_ms: int, ended_ms: int, *stalls_ms: tuple[int, int], failed: bool = False) -> Trip:
    """A round trip, its times in milliseconds."""
    stalls = tuple((begin * MS, end * MS) for begin, end in stalls_ms)
    return Trip(sent_ms * MS, ended_ms * MS, stalls, failed)


def store_ms(trouble: Trouble, since_ms: int, until_ms: int) -> float:
    """Milliseconds between the two that were the store's."""
    return trouble.within(since_ms * MS, until_ms * MS).store_ns / MS


def test_a_trip_of_usual_length_is_no_trouble() -> None:
    """Up to 20 ms count for nothing, and of a longer one what is beyond them."""
    trouble = Trouble()
    trouble.trip(trip(0, 20))
    assert store_ms(trouble, 0, 100) == 0
    trouble.trip(trip(100, 150))
    assert store_ms(trouble, 0, 200) == 30
    assert store_ms(trouble, 130, 140) == 10
    assert store_ms(trouble, 150, 200) == 0


def test_a_slow_trip_should_have_taken_what_the_slowest_usual_one_did() -> None:
    """After trips of 2 and 3 ms all but 3 ms of a slow one are the store's; a slow one does not become usual by
    itself."""
    trouble = Trouble()
    for number in range(8):
        trouble.trip(trip(10 * number, 10 * number + 2 + number % 2))
    trouble.trip(trip(100, 150))
    trouble.trip(trip(200, 250))
    assert store_ms(trouble, 100, 150) == 47
    assert store_ms(trouble, 200, 250) == 47


def test_our_stalls_are_taken_out_of_a_trip() -> None:
    """Of a trip of 100 ms with stalls at 30 to 50 and 60 to 70, 50 ms lie beyond the first 20 and outside of them; of
    one that failed all that is outside counts. The stalls are told, and how much of them was before a deadline."""
    trouble = Trouble()
    stalls = [(30, 50), (60, 70)]
    trouble.trip(trip(0, 100, *stalls))
    beyond = ((70 * MS, 100 * MS), (50 * MS, 60 * MS), (20 * MS, 30 * MS))
    assert trouble.within(0, 100 * MS) == Blame(beyond, 30 * MS, 30 * MS)
    assert trouble.within(0, 100 * MS, 40 * MS) == Blame(beyond, 30 * MS, 10 * MS)
    trouble = Trouble()
    trouble.trip(trip(0, 100, *stalls, failed=True))
    assert store_ms(trouble, 0, 100) == 70


def test_an_outage_counts_once() -> None:
    """From the trip that found it out to `back` everything counts, and trips that fail within it add nothing."""
    trouble, first, second = Trouble(), trip(0, 50, failed=True), trip(60, 90, failed=True)
    trouble.trip(first)
    trouble.away(first)
    trouble.trip(second)
    trouble.away(second)
    assert store_ms(trouble, 0, 200) == 200
    trouble.back(200 * MS)
    assert store_ms(trouble, 0, 1000) == 200
    assert store_ms(trouble, 100, 120) == 20


def test_an_outage_begins_after_our_own_stall() -> None:
    """A trip with a stall that may have hidden its answer: the outage that it shows begins when that was over."""
    trouble, found_out = Trouble(), trip(0, 100, (20, 60))
    trouble.trip(found_out)
    trouble.away(found_out)
    trouble.trip(trip(110, 180))
    assert store_ms(trouble, 0, 200) == 140


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200), st.sampled_from(["ok", "failed", "away", "back"]))))
def test_trouble_is_never_longer_than_the_time_asked_for(trips: list[tuple[int, int, str]]) -> None:
    """However trips and outages follow one another, no millisecond counts twice."""
    trouble, now = Trouble(), 0
    for pause, length, what in trips:
        now += pause
        latest = trip(now, now + length, failed=what in ("failed", "away"))
        trouble.trip(latest)
        now += length
        if what == "away":
            trouble.away(latest)
        elif what == "back":
            trouble.back(now * MS)
    for since in range(0, now, 100):
        assert 0 <= store_ms(trouble, since, now) <= now - since


class Asked:
    """A pulse that is rung by hand, with its clock and its requests."""

    def __init__(self) -> None:
        self.clock = ManualClock(now_ns=10**12)
        self.requests = 5
        self.pulse = Pulse(self.clock, lambda: self.requests)
        self.sent_ns = self.pulse.begin()

    def beat(self, after_ms: int) -> None:
        """The timer rings after so many milliseconds."""
        self.clock.advance(after_ms * MS)
        self.pulse._beat()

    def stalls_ms(self, failed: bool = False) -> list[tuple[float, float]]:
        """The trip ends: the stalls that it tells of, from its beginning."""
        stalls = self.pulse.end(self.sent_ns, failed=failed).stalls
        return [((begin - self.sent_ns) / MS, (end - self.sent_ns) / MS) for begin, end in stalls]


async def test_a_stall_after_which_nothing_was_there_did_no_harm() -> None:
    """The loop stood still for 90 ms and rang on time after it, without an answer: the store had not answered."""
    asked = Asked()
    asked.requests += 1
    asked.beat(10)
    asked.beat(90)
    asked.beat(10)
    assert asked.stalls_ms() == []


async def test_a_stall_that_ends_with_the_answer_may_have_hidden_it() -> None:
    """When the answer is there right after a stall, or before the next ring, nobody knows how long it lay there."""
    asked = Asked()
    asked.requests += 1
    asked.beat(10)
    asked.beat(90)
    asked.clock.advance(5 * MS)
    assert asked.stalls_ms() == [(10, 100)]
    asked = Asked()
    asked.requests += 1
    asked.clock.advance(90 * MS)
    assert asked.stalls_ms() == [(0, 90)]


async def test_a_stall_before_a_request_holds_it_up() -> None:
    """Before the first request is written (while connecting), and where one more follows a stall, it did harm."""
    asked = Asked()
    asked.beat(90)
    asked.requests += 1
    asked.beat(10)
    asked.beat(10)
    assert asked.stalls_ms() == [(0, 90)]
    asked = Asked()
    asked.requests += 1
    asked.beat(90)
    asked.requests += 1
    asked.beat(10)
    assert asked.stalls_ms() == [(0, 90)]


async def test_a_pulse_rings_by_itself() -> None:
    """While a trip is under way the loop's own timer asks, and ends with it."""
    asked = Asked()
    asked.requests += 1
    asked.clock.advance(90 * MS)
    async with asyncio.timeout(10):
        while asked.pulse._last_ns == asked.sent_ns:
            await asyncio.sleep(0.001)
    asked.clock.advance(10 * MS)
    assert asked.stalls_ms(failed=True) in ([(0, 90)], [])
