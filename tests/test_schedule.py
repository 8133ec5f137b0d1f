"""Earliest deadline first, and nothing started that can't make it, and nothing given up that could."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.schedule import BatchTimes, SchedulePolicy, Scheduler
from tests.builders import MS, S, window


def scheduler(first_batch_ns: int = 50 * MS, max_windows: int = 4) -> Scheduler:
    return Scheduler(SchedulePolicy(max_windows=max_windows, first_batch_ns=first_batch_ns))


def test_earliest_deadline_goes_first_whatever_came_first() -> None:
    """Windows leave in the order of their deadlines, over all streams."""
    target = scheduler(max_windows=2)
    for name, end in (("c", 3 * S), ("a", 1 * S), ("b", 2 * S)):
        target.submit(window(name, end_ns=end))
    batch, missed = target.next_batch(S)
    assert batch is not None and [w.stream for w in batch.windows] == ["a", "b"] and missed == []
    batch, _ = target.next_batch(S)
    assert batch is not None and [w.stream for w in batch.windows] == ["c"]
    assert target.next_batch(S) == (None, [])


def test_a_window_is_shed_exactly_when_a_batch_would_end_past_its_deadline() -> None:
    """With a batch of 50 ms and 10 ms to publish, 60 ms before the deadline is in time, one nanosecond later is not."""
    for now_ns, makes_it in ((2 * S - 60 * MS, True), (2 * S - 60 * MS + 1, False)):
        target = scheduler()
        target.expect_publish(10 * MS)
        target.submit(window(end_ns=S))
        batch, missed = target.next_batch(now_ns)
        assert (batch is not None) is makes_it
        assert len(missed) == (0 if makes_it else 1)


def test_a_batch_is_no_larger_than_its_earliest_deadline_allows() -> None:
    """When eight encodings would be late but two are not, the batch holds one window."""
    target = scheduler(max_windows=8)
    for size, cost in ((1, 10), (2, 20), (4, 40), (8, 80)):
        target.times.record(size, cost * MS, 0)
    for index, name in enumerate("abcd"):
        target.submit(window(name, end_ns=S + index, pictures=(0,), patches=(0,)))
    batch, missed = target.next_batch(2 * S - 30 * MS)
    assert batch is not None and len(batch.windows) == 1 and batch.units == 2 and missed == []


def test_units_count_only_what_was_not_encoded_before() -> None:
    """Pictures shared with an earlier window of the stream cost nothing again; another stream's of the same index
    do."""
    target = scheduler()
    target.submit(window("a", 0, pictures=(0, 1), patches=(0,)))
    target.submit(window("a", 1, pictures=(0, 1, 2), patches=(0, 1)))
    first, _ = target.next_batch(0)
    assert first is not None and first.units == 5
    target.submit(window("a", 2, pictures=(1, 2, 3), patches=(1,)))
    target.submit(window("b", 2, pictures=(1, 2, 3), patches=()))
    second, _ = target.next_batch(0)
    assert second is not None and second.units == 4


def test_forgotten_stream_returns_what_waited() -> None:
    """Removing a stream leaves none of its windows in the queue and loses none silently."""
    target = scheduler()
    for seq in range(3):
        target.submit(window("a", seq))
        target.submit(window("b", seq))
    assert [w.seq for w in target.forget("a")] == [0, 1, 2]
    assert len(target) == 3
    batch, _ = target.next_batch(0)
    assert batch is not None and {w.stream for w in batch.windows} == {"b"}


def test_batch_times_answer_with_a_high_quantile() -> None:
    """One slow batch among a hundred is expected again; sizes never seen scale up from the nearest and never down."""
    times = BatchTimes(first_ns=99 * MS)
    assert times.expect(4, 0) == 99 * MS
    for _ in range(60):
        times.record(4, 10 * MS, 0)
    times.record(4, 35 * MS, 0)
    assert times.expect(3, 0) == 35 * MS and times.expect(3, 0, 0.5) == 10 * MS
    assert times.expect(8, 0) == 70 * MS
    assert times.expect(1, 0) == 35 * MS


def test_a_slow_batch_is_forgotten_after_ten_seconds() -> None:
    """What was measured long ago says nothing of now, but the last measurement of a size is never lost."""
    times = BatchTimes(first_ns=99 * MS)
    times.record(4, 400 * MS, 0)
    times.record(4, 20 * MS, 5 * S)
    assert times.expect(4, 9 * S) == 400 * MS
    assert times.expect(4, 11 * S) == 20 * MS
    assert times.expect(4, 99 * S) == 20 * MS


def test_one_slow_batch_does_not_shed_for_ever() -> None:
    """After a batch that took longer than any window has left, windows are tried again and the queue recovers."""
    target = scheduler()
    target.times.record(1, 10 * MS, 0)
    target.times.record(1, 900 * MS, 0)
    outcomes = []
    for seq in range(6):
        now_ns = S + seq * 500 * MS
        # Each window has 600 ms left: less than the slow batch took, far more than the usual one.
        target.submit(window("a", seq, end_ns=now_ns - 400 * MS, pictures=(seq,)))
        target.submit(window("b", seq, end_ns=now_ns - 400 * MS + 1, pictures=(seq,)))
        batch, missed = target.next_batch(now_ns)
        outcomes.append(batch is not None)
        if batch is not None:
            target.completed(batch, 10 * MS, now_ns)
        assert len(missed) <= 1
    assert all(outcomes)
    later_ns = 20 * S
    target.submit(window("a", 9, end_ns=later_ns - 400 * MS))
    target.submit(window("b", 9, end_ns=later_ns - 400 * MS))
    batch, missed = target.next_batch(later_ns)
    assert batch is not None and len(batch.windows) == 2 and missed == []


@given(
    ends=st.lists(st.integers(0, 3_000), min_size=1, max_size=40),
    cost_ms=st.integers(1, 400),
    publish_ms=st.integers(0, 50),
)
def test_every_window_is_answered_or_given_up_once_and_no_batch_is_late(
    ends: list[int], cost_ms: int, publish_ms: int
) -> None:
    """Over simulated time with exact batch times: exactly one outcome a window, none late, and none shed that fitted
    alone."""
    target = scheduler(first_batch_ns=cost_ms * MS)
    target.expect_publish(publish_ms * MS)
    arrivals = sorted((end * MS, index) for index, end in enumerate(ends))
    now, outcomes = 0, []
    while arrivals or len(target):
        while arrivals and arrivals[0][0] <= now:
            end_ns, index = arrivals.pop(0)
            target.submit(window(f"s{index}", end_ns=end_ns))
        batch, missed = target.next_batch(now)
        for lost in missed:
            assert now + (cost_ms + publish_ms) * MS > lost.deadline_ns
        outcomes += [w.stream for w in missed]
        if batch is not None:
            now += cost_ms * MS
            outcomes += [w.stream for w in batch.windows]
            assert all(now + publish_ms * MS <= w.deadline_ns for w in batch.windows)
        elif arrivals:
            now = max(now, arrivals[0][0])
    assert sorted(outcomes) == sorted(f"s{index}" for index in range(len(ends)))
