"""Far too much to do, on the real engine: every segment comes once and in time, and what can be done is shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamer.bench.arrivals import Media
from streamer.bench.baselines import DropOldest, UnboundedFifo
from streamer.bench.overload import Offered, measure
from streamer.bench.tally import Tally
from streamer.engine import load
from streamer.media import WorkCosts
from streamer.scheduling.schedule import SchedulePolicy
from tests.builders import MS, S, window


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_every_segment_comes_in_time_from_half_to_four_times_the_capacity(looping_clip: Path) -> None:
    """At each load every window has exactly one segment in the store, none after its deadline, and no stream is
    answered with labels more than a fifth more often than another."""
    offered = Offered(looping_clip, at=(0.5, 1.0, 2.0, 4.0), seconds=5.0, capacity_s=3.0, baselines=False)
    result: dict[str, Any] = await measure(offered)
    assert result["late"] == result["missing"] == result["duplicate"] == 0 and result["holds"], [
        (run["at"], run["late"], run["missing"], run["duplicate"], run["faults"]) for run in result["runs"]
    ]
    for run in result["runs"]:
        assert run["late"] == run["missing"] == run["duplicate"] == 0, run
        fewest, most = run["answered"]
        # Give or take one answer: there are about seven a stream.
        assert fewest > 0 and most - 1 <= 1.2 * (fewest + 1), run


def test_a_clip_gives_windows_to_many_streams(looping_clip: Path) -> None:
    """Each stream has the clip's windows one after the other, again and again, with indices that never repeat and
    pictures shared by the windows that overlap; two streams are not at the same place."""
    geometry = load("cpu", None).geometry
    media = Media(looping_clip, geometry)
    seen: dict[int, int] = {}
    newest = -1
    for seq in range(40):
        cut = media.window(3, seq, end_ns=(seq + 1) * geometry.hop_ns, bound_ns=S)
        assert (cut.stream, cut.seq, cut.deadline_ns - cut.end_ns) == ("s0003", seq, S)
        assert cut.pictures and cut.patches and cut.coverage.video > 0.9
        for picture in cut.pictures:
            assert seen.setdefault(picture.index, id(picture.rgb)) == id(picture.rgb)
        assert max(picture.index for picture in cut.pictures) >= newest
        newest = max(picture.index for picture in cut.pictures)
    first, other = (media.window(stream, 0, 0, S) for stream in (0, 1))
    assert first.pictures[0].rgb is not other.pictures[0].rgb


def segment(seq: int, *, written_ms: int, status: str = "ok", late: bool = False, total: float = 100.0) -> Any:
    message = {
        "type": "segment",
        "stream": "s0000",
        "epoch": "0",
        "seq": seq,
        "end": "1970-01-01T00:00:01.000Z",
        "status": status,
        "reason": None if status != "shed" else "overload",
        "delivered_late": late,
        "latency_ms": {"total": total},
        "bound_ms": 1000,
    }
    return message, written_ms


@pytest.mark.parametrize(
    ("given", "late"),
    [
        (segment(0, written_ms=1900), False),
        (segment(0, written_ms=2001), False),
        (segment(0, written_ms=2002), True),
        (segment(0, written_ms=1900, late=True), True),
        (segment(0, written_ms=1900, total=1000.1), True),
    ],
    ids=["in time", "cut off to the millisecond", "written late", "says that it is late", "took too long by itself"],
)
def test_a_segment_is_late_by_any_clock(given: tuple[Any, int], late: bool) -> None:
    """By the store's, by the mark that it carries or by its own latency; then it does not count as answered, but where
    that is excused."""
    tally = Tally()
    tally.take(*given)
    assert tally.overdue == ({("s0000", 0)} if late else set())
    assert tally.answered()["s0000"] == int(not late)
    assert tally.answered(excused={("s0000", 0)})["s0000"] == 1


def test_a_tally_counts_what_is_missing_and_what_is_there_twice() -> None:
    """Segments before the settled one count only for what must never be."""
    tally = Tally(settled_seq=2)
    for seq, status in ((0, "ok"), (2, "shed"), (2, "shed"), (3, "degraded")):
        tally.take(*segment(seq, written_ms=1500 + seq, status=status))
    assert (tally.missing, tally.duplicate, tally.seen["s0000"]) == (1, 1, 4)
    assert tally.answered()["s0000"] == 1 and tally.counted["degraded"] == 1
    assert tally.latency_ms() == {"p50": 502, "p95": 503, "p99": 503, "max": 503}


def test_a_queue_without_end_answers_all_and_late() -> None:
    """First come, first served, whatever the deadlines."""
    queue = UnboundedFifo(SchedulePolicy(max_windows=2), WorkCosts())
    for seq in range(5):
        queue.submit(window("a", seq, pictures=(seq,)))
    answered = []
    while (batch := queue.next_batch(100 * S)) is not None:
        assert all(queue.completed(100 * S + 20 * MS))
        answered += batch.offered
    assert [found.seq for found in answered] == [0, 1, 2, 3, 4]
    assert queue.expire(200 * S) == [] and queue.unanswered == 0


def test_the_newest_window_takes_the_place_of_the_older_one() -> None:
    """Each stream waits with one window at most; what made room is told once."""
    queue = DropOldest(SchedulePolicy(max_windows=8), WorkCosts())
    for seq in range(3):
        for name in "ab":
            queue.submit(window(name, seq))
    assert len(queue) == 2 and queue.unanswered == 6
    assert [(lost.stream, lost.seq) for lost in queue.expire(0)] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    batch = queue.next_batch(0)
    assert batch is not None and [(found.stream, found.seq) for found in batch.offered] == [("a", 2), ("b", 2)]
    assert queue.completed(0) == [True, True] and queue.unanswered == 0
