"""Earliest deadline first, and nothing started that can't make it, and nothing given up that could."""

from __future__ import annotations

from streamer.media import Window, Work, WorkCosts
from streamer.scheduling.ladder import STEPS, Ladder
from streamer.scheduling.schedule import Batch, SchedulePolicy, Scheduler
from tests.builders import MS, S, window

# A window alone takes 10 ms and each picture and patch in it 10 more: sums are easily told.
COSTS = WorkCosts(call_ns=5 * MS, window_ns=5 * MS, picture_ns=10 * MS, patch_ns=10 * MS)


def scheduler(*, max_windows: int = 4, streams: str = "", costs: WorkCosts = COSTS) -> Scheduler:
    ladder = Ladder()
    for name in streams:
        ladder.put(name, 1.0)
    return Scheduler(SchedulePolicy(max_windows=max_windows), costs, ladder)


def names(batch: Batch | None) -> list[str]:
    return [] if batch is None else [entry.window.stream for entry in batch.entries]


def raised(target: Scheduler, level: int, now_ns: int = 0) -> None:
    """Bring every stream to `level`."""
    while min(target.ladder.levels.values()) < level:
        target.ladder.strain(now_ns := now_ns + S)


def compute(target: Scheduler, now_ns: int, took_ns: int) -> int:
    """One batch; returns the time after it."""
    batch = target.next_batch(now_ns)
    assert batch is not None
    assert all(target.completed(now_ns + took_ns))
    return now_ns + took_ns


# -- what is computed next --------------------------------------------------------------------------------------------


def test_earliest_deadline_goes_first_whatever_came_first() -> None:
    """Windows leave in the order of their deadlines, over all streams."""
    target = scheduler(max_windows=2)
    for name, end in (("c", 3 * S), ("a", 1 * S), ("b", 2 * S)):
        target.submit(window(name, end_ns=end))
    assert names(target.next_batch(S)) == ["a", "b"]
    assert target.completed(S + 20 * MS) == [True, True]
    assert names(target.next_batch(S + 20 * MS)) == ["c"]
    assert target.completed(S + 40 * MS) == [True]
    assert target.next_batch(S + 40 * MS) is None and target.unanswered == 0


def test_a_batch_starts_exactly_as_long_as_it_can_end_in_time() -> None:
    """With a batch of 10 ms and 20 ms to keep free, 30 ms before the deadline is in time, one nanosecond later is
    not."""
    for now_ns, makes_it in ((2 * S - 30 * MS, True), (2 * S - 30 * MS + 1, False)):
        target = scheduler()
        target.reserve_ns = 20 * MS
        target.submit(window(end_ns=S))
        assert (target.next_batch(now_ns) is not None) is makes_it
        assert target.unanswered == 1


def test_a_batch_is_no_larger_than_its_earliest_deadline_allows() -> None:
    """Where two windows together would be late for the first of them, it goes by itself."""
    target = scheduler()
    for index, name in enumerate("abcd"):
        target.submit(window(name, end_ns=S + index, pictures=(0,), patches=(0,)))
    assert names(target.next_batch(2 * S - 40 * MS)) == ["a"]


def test_a_batch_takes_no_more_than_a_quarter_of_the_bound() -> None:
    """What closes while a large batch runs waits for its end: with a bound of 200 ms, no batch of several is longer
    than 50 ms."""
    target = scheduler(max_windows=8)
    for name in "abcdef":
        target.submit(window(name, end_ns=S, bound_ns=200 * MS, pictures=(0,)))
    batch = target.next_batch(S)
    assert batch is not None and len(batch.entries) == 3 and batch.expected_ns == 50 * MS


def test_work_counts_only_what_was_not_encoded_before() -> None:
    """Pictures shared with an earlier window of the stream cost nothing again; another stream's of the same index
    do."""
    target = scheduler()
    target.submit(window("a", 0, pictures=(0, 1), patches=(0,)))
    target.submit(window("a", 1, pictures=(0, 1, 2), patches=(0, 1)))
    first = target.next_batch(0)
    assert first is not None and first.work == Work(2, 3, 2)
    assert target.completed(80 * MS) == [True, True]
    target.submit(window("a", 2, pictures=(1, 2, 3), patches=(1,)))
    target.submit(window("b", 2, pictures=(1, 2, 3), patches=()))
    second = target.next_batch(S)
    assert second is not None and second.work == Work(2, 4, 0)


def test_batches_are_judged_by_what_they_took() -> None:
    """After batches three times as long as modelled, a window starts only as long as three times as much is left."""
    for left_ms, makes_it in ((91, True), (61, False)):
        target, now_ns = scheduler(), S
        for seq in range(8):
            target.submit(window("a", seq, end_ns=now_ns, pictures=(seq,), patches=(seq,)))
            now_ns = compute(target, now_ns, 90 * MS)
        # A probe, which is no promise, would start what could make it on an idle machine: so a second one waits, too.
        target.submit(window("a", 8, end_ns=now_ns - S + left_ms * MS, pictures=(8,), patches=(8,)))
        target.submit(window("b", 8, end_ns=now_ns, pictures=(8,), patches=(8,)))
        assert names(target.next_batch(now_ns)) == (["a"] if makes_it else ["b"])


def test_a_window_that_cannot_make_it_holds_up_nobody() -> None:
    """It stays until its time is up, and the ones behind it are computed."""
    target = scheduler()
    target.submit(window("late", end_ns=0, pictures=(0, 1, 2)))
    target.submit(window("b", end_ns=500 * MS))
    assert names(target.next_batch(980 * MS)) == ["b"]
    assert [lost.stream for lost in target.expire(S)] == ["late"]


def test_one_slow_batch_does_not_shed_for_ever() -> None:
    """After a batch that took longer than any window has left, windows are tried again, and the queue recovers."""
    target, now_ns = scheduler(), S
    target.submit(window("a", 0, end_ns=now_ns))
    assert target.next_batch(now_ns) is not None
    now_ns += 960 * MS
    assert target.completed(now_ns) == [True]
    for seq in range(1, 40):
        for name in "ab":
            target.submit(window(name, seq, end_ns=now_ns - 400 * MS, pictures=(seq,)))
        now_ns = compute(target, now_ns, 30 * MS)
        while len(target):
            now_ns = compute(target, now_ns, 20 * MS)
        now_ns += 400 * MS
    assert not target.expire(now_ns) and target.statistics.shed == 0
    for name in "ab":
        target.submit(window(name, 40, end_ns=now_ns - 400 * MS))
    assert names(target.next_batch(now_ns)) == ["a", "b"]


# -- outcomes ---------------------------------------------------------------------------------------------------------


def test_a_result_after_its_time_is_thrown_away() -> None:
    """A window whose deadline, less what is kept free, passes while it is computed is shed, and its labels are not
    used, whether the guard or the batch's end comes first."""
    for guard_first in (True, False):
        target = scheduler()
        target.reserve_ns = 10 * MS
        target.submit(window("a", end_ns=0))
        target.submit(window("b", end_ns=500 * MS))
        assert names(target.next_batch(900 * MS)) == ["a", "b"]
        lost: list[Window] = target.expire(990 * MS) if guard_first else []
        assert target.completed(995 * MS) == [False, True]
        lost += target.expire(995 * MS)
        assert [found.stream for found in lost] == ["a"] and target.unanswered == 0
        assert (target.statistics.computed, target.statistics.wasted, target.statistics.shed) == (1, 1, 1)


def test_windows_expire_when_their_time_is_up_and_not_before() -> None:
    """At the deadline less what is kept free; the next expiry is told, and moves with it."""
    target = scheduler()
    assert target.next_expiry_ns is None
    for index, name in enumerate("ab"):
        target.submit(window(name, end_ns=S + index))
    target.reserve_ns = 40 * MS
    assert target.next_expiry_ns == 2 * S - 40 * MS
    assert target.expire(2 * S - 40 * MS - 1) == []
    assert [lost.stream for lost in target.expire(2 * S - 40 * MS)] == ["a"]
    target.reserve_ns = 300 * MS
    assert target.next_expiry_ns == 2 * S - 300 * MS + 1
    assert [lost.stream for lost in target.expire(2 * S - 40 * MS)] == ["b"]
    assert len(target) == 0 and target.next_expiry_ns is None


def test_forgotten_stream_returns_all_it_had() -> None:
    """Removing a stream gives back its windows, waiting or in a batch, leaves none of them and loses none silently."""
    target = scheduler(max_windows=1)
    for seq in range(3):
        target.submit(window("a", seq))
        target.submit(window("b", seq))
    assert names(target.next_batch(0)) == ["a"]
    assert sorted(lost.seq for lost in target.forget("a")) == [0, 1, 2]
    assert len(target) == target.unanswered == 3
    assert target.completed(10 * MS) == [False]
    assert names(target.next_batch(10 * MS)) == ["b"]
    assert sorted(lost.seq for lost in target.forget_waiting()) == [0, 1, 2]
    assert target.unanswered == 0 and target.completed(20 * MS) == [False]


def test_a_failed_batch_is_tried_window_by_window() -> None:
    """Where several failed together each gets a second chance alone; what fails alone is lost, its neighbours are
    not."""
    target = scheduler()
    for index, name in enumerate("abc"):
        target.submit(window(name, end_ns=S + index, pictures=(0,)))
    assert names(target.next_batch(S)) == ["a", "b", "c"]
    assert target.failed(S, memory=False) == [] and len(target) == 3
    outcomes = []
    for _ in range(3):
        batch = target.next_batch(S)
        assert batch is not None and len(batch.entries) == 1 and batch.work.pictures == 1
        if names(batch) == ["b"]:
            outcomes += [(lost.stream, "lost") for lost in target.failed(S, memory=False)]
        else:
            assert target.completed(S) == [True]
            outcomes += [(name, "answered") for name in names(batch)]
    assert outcomes == [("a", "answered"), ("b", "lost"), ("c", "answered")] and target.unanswered == 0


def test_want_of_memory_makes_batches_smaller_for_a_minute() -> None:
    """Half as large after each failure for want of memory, one at least; twice as large again after each minute
    without."""

    def size(now_ns: int) -> int:
        for name in "abcdefgh":
            target.submit(window(name, seq=now_ns // MS, end_ns=now_ns))
        while (batch := target.next_batch(now_ns)) and any(entry.window in alone for entry in batch.entries):
            target.completed(now_ns)
        assert batch is not None
        target.completed(now_ns)
        target.forget_waiting()
        return len(batch.entries)

    target, alone = scheduler(max_windows=8), list[Window]()
    assert size(0) == 8
    for expected in (4, 2, 1, 1):
        for name in "abcdefgh":
            target.submit(window(name, end_ns=S))
        batch = target.next_batch(S)
        assert batch is not None
        target.failed(S, memory=True)
        target.forget_waiting()
        assert size(2 * S) == expected
    assert [size(now_s * S) for now_s in (60, 62, 100, 123, 184)] == [1, 2, 2, 4, 8]


def test_a_batch_hangs_when_it_takes_five_times_what_it_should() -> None:
    """And half a second at least: a short one may be held up by anything."""
    target = scheduler()
    assert not target.hangs(0)
    target.submit(window("a", end_ns=0, pictures=tuple(range(20))))
    batch = target.next_batch(0)
    assert batch is not None and batch.expected_ns == 210 * MS
    assert not target.hangs(1050 * MS) and target.hangs(1051 * MS)


# -- too much to do ---------------------------------------------------------------------------------------------------


def overload(target: Scheduler, streams: str, now_ns: int, windows: int = 2) -> None:
    """As much waits as takes far longer than there is time."""
    for seq in range(windows):
        for name in streams:
            end_ns = now_ns - 400 * MS + seq * 500 * MS
            pictures = tuple(range(4 * seq, 4 * seq + 4))
            target.submit(window(name, 1000 + seq, end_ns=end_ns, pictures=pictures, patches=(seq,)))


def test_too_much_climbs_the_ladder_and_enough_does_not() -> None:
    """The ladder is climbed where by what batches take not all that wait can be answered, and only then."""
    for streams, climbs in (("abcdefgh", 0), ("abcdefghijklmnopqrstuvwx", 1)):
        target = scheduler(streams=streams)
        overload(target, streams, S, windows=1)
        assert target.next_batch(S) is not None
        assert target.ladder.climbs == climbs


def test_each_level_leaves_out_what_it_says() -> None:
    """Every second picture at first; then all of them where there is sound, else all but the newest. And the answer
    names it."""
    for level, expected in ((0, (4, 1)), (1, (2, 1)), (2, (2, 1)), (3, (0, 1))):
        target = scheduler(streams="a")
        raised(target, level)
        target.submit(window("a", pictures=(0, 1, 2, 3), patches=(0,)))
        batch = target.next_batch(0)
        assert batch is not None and batch.work == Work(1, *expected)
        assert [len(offered.pictures) for offered in batch.offered] == [expected[0]]
        assert batch.entries[0].degraded == ((), ("frames",), ("frames",), ("video",))[level]
        assert len(batch.entries[0].window.pictures) == 4
    target = scheduler(streams="a")
    raised(target, len(STEPS))
    target.submit(window("a", pictures=(0, 1, 2, 3)))
    batch = target.next_batch(0)
    assert batch is not None and batch.work == Work(1, 1, 0) and batch.entries[0].degraded == ("frames",)


def test_what_the_source_left_out_is_named_once() -> None:
    """A window that came without pictures keeps the names it came with."""
    target = scheduler(streams="a")
    raised(target, 3)
    target.submit(_marked(window("a", pictures=(0,), patches=(0,)), ("keyframes", "video")))
    batch = target.next_batch(0)
    assert batch is not None and batch.entries[0].degraded == ("keyframes", "video")
    assert batch.work == Work(1, 0, 1)


def _marked(plain: Window, degraded: tuple[str, ...]) -> Window:
    return Window(**{name: getattr(plain, name) for name in plain.__slots__} | {"degraded": degraded})


def test_a_shed_window_does_not_leave_its_sound_to_the_next() -> None:
    """At the top of the ladder a window has the newest sound and what is encoded of the rest, and says what is
    missing."""
    target = scheduler(streams="a")
    raised(target, 3)
    target.submit(window("a", 0, patches=(0, 1)))
    assert target.next_batch(0) is not None
    target.completed(MS)
    target.submit(window("a", 3, patches=(1, 2, 3), end_ns=2 * S))
    batch = target.next_batch(S)
    assert batch is not None and batch.work == Work(1, 0, 1) and batch.entries[0].degraded == ("sound",)
    assert [patch.index for patch in batch.offered[0].patches] == [1, 3]


def test_under_overload_streams_take_turns() -> None:
    """With the ladder at its top and too much to do, the stream that has had least comes first, not the earliest
    deadline."""
    target = scheduler(streams="abcdef")
    raised(target, 3)
    slow = WorkCosts(call_ns=100 * MS, window_ns=100 * MS, picture_ns=10 * MS, patch_ns=10 * MS)
    target = Scheduler(SchedulePolicy(max_windows=1), slow, target.ladder)
    now_ns, served = 100 * S, []
    for seq in range(3):
        for place, name in enumerate("abcdef"):
            target.submit(window(name, seq, end_ns=now_ns + place, patches=(seq,)))
        for _ in range(2):
            served += names(target.next_batch(now_ns))
            now_ns += 210 * MS
            target.completed(now_ns)
        target.expire(now_ns + 580 * MS)
        now_ns += 580 * MS
    assert sorted(served) == list("abcdef"), served


def test_what_was_had_in_good_times_is_not_held_against_a_stream() -> None:
    """Streams that were alone for hours and one that has just come take turns from the first moment of overload."""
    target = scheduler(streams="ab", max_windows=1)
    raised(target, 3)
    now_ns = S
    for seq in range(200):
        target.submit(window("a", seq, end_ns=now_ns, patches=(seq,)))
        now_ns = compute(target, now_ns, 20 * MS) + 480 * MS
    served = []
    for seq in range(40):
        for name in "ab":
            target.submit(window(name, 1000 + seq, end_ns=now_ns - 970 * MS, patches=(2000 + seq,)))
        served += names(target.next_batch(now_ns))
        target.completed(now_ns + 20 * MS)
        now_ns += 500 * MS
        target.expire(now_ns)
    assert abs(served[:20].count("a") - served[:20].count("b")) <= 2, served


def test_a_turn_that_came_to_nothing_is_given_again() -> None:
    """The process stood still while a window was computed, which is late for that: under overload its stream comes
    first with its next one. Those that were answered have had their turn."""
    ladder = scheduler(streams="abcdef").ladder
    slow = WorkCosts(call_ns=100 * MS, window_ns=100 * MS, picture_ns=10 * MS, patch_ns=10 * MS)
    target = Scheduler(SchedulePolicy(max_windows=1), slow, ladder)
    raised(target, len(STEPS))
    now_ns, served = 100 * S, []
    for seq, took_ns in enumerate((210 * MS, 2 * S, 210 * MS, 210 * MS)):
        for place, name in enumerate("abcdef"):
            target.submit(window(name, seq, end_ns=now_ns + place, patches=(seq,)))
        served += names(target.next_batch(now_ns))
        assert target.completed(now_ns + took_ns) == [took_ns < S]
        now_ns += 3 * S
        target.expire(now_ns)
    assert served == ["a", "b", "b", "c"]
