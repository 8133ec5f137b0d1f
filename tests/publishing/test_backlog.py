"""A backlog keeps order, its bound, and account of what it could not keep."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streamer.messages import LatencyBody, Previous, StreamMessage
from streamer.publishing.backlog import Backlog, Unit, Waiting
from streamer.storage.records import Claim
from tests.stores import event, segment

S = 1_000_000_000


def unit(seq: int, epoch: str = "e1") -> Unit:
    return Unit("door", (segment(seq=seq, epoch=epoch),))


def backlog(capacity: int = 100, span_ns: int = 60 * S) -> Backlog:
    return Backlog("door", span_ns, capacity)


def sent(queue: Backlog, waiting: Waiting, now_ns: int = 0) -> list[dict[str, object]]:
    return [json.loads(record.json) for record in queue.records(waiting, now_ns)]


@given(st.lists(st.sampled_from(["add", "send", "settle"]), max_size=200), st.integers(min_value=1, max_value=8))
def test_ordinals_have_no_holes_and_units_keep_their_order(steps: list[str], capacity: int) -> None:
    """Whatever is added, sent and settled in whatever rhythm: ordinals count up from 0 over what is sent, in the order
    of adding; nothing that was sent is dropped; and every unit is settled, waiting or was given back as dropped."""
    queue = backlog(capacity)
    added, settled, dropped = 0, [], []
    ordinals: list[int] = []
    for step in steps:
        if step == "add":
            dropped += queue.add(unit(added), added)
            added += 1
        elif step == "send":
            waiting = next((w for w in queue.units if w.ordinal is None), None)
            if waiting is not None:
                queue.records(waiting, added)
                ordinals.append(waiting.ordinal if waiting.ordinal is not None else -1)
        elif queue.units and queue.units[0].ordinal is not None:
            settled.append(queue.settle("s1", added))
    assert ordinals == list(range(len(ordinals)))
    seqs = [w.unit.segment.seq for w in settled if w.unit.segment]
    waiting_seqs = [w.unit.segment.seq for w in queue.units if w.unit.segment]
    lost_seqs = [u.segment.seq for u in dropped if u.segment]
    assert seqs + waiting_seqs == sorted(seqs + waiting_seqs)
    assert sorted(seqs + waiting_seqs + lost_seqs) == list(range(added))
    assert queue.settled == len(settled) - 1


@given(st.integers(min_value=1, max_value=50), st.integers(min_value=1, max_value=120))
def test_the_number_of_units_is_bounded(capacity: int, count: int) -> None:
    """Unsent units beyond the capacity make room, oldest first; the newest always stays."""
    queue = backlog(capacity)
    for seq in range(count):
        queue.add(unit(seq), seq)
    assert len(queue.units) == min(capacity, count)
    assert [w.unit.segment.seq for w in queue.units if w.unit.segment] == list(range(max(count - capacity, 0), count))


def test_the_age_of_units_is_bounded() -> None:
    """With two segments a second and 60 s, about 120 are kept however long the store is away."""
    queue = backlog(capacity=1000)
    for seq in range(500):
        queue.add(unit(seq), seq * S // 2)
    assert len(queue.units) == 121


def test_what_was_lost_is_told_before_what_is_kept() -> None:
    """The first unit sent after a loss begins with a `stream` message a lost epoch, which names the segments."""
    queue = backlog(capacity=2)
    queue.add(Unit("door", (StreamMessage(stream="door", state="stalled", epoch="e1"), segment(seq=0))), 0)
    for seq in range(1, 4):
        queue.add(unit(seq), 0)
    queue.add(Unit("door", (segment(seq=0, epoch="e2"), event())), 0)
    queue.add(unit(1, "e2"), 0)
    queue.add(unit(2, "e2"), 0)
    first, second = queue.head(2)
    told = sent(queue, first)
    assert [(m["type"], m.get("state"), m.get("epoch"), m.get("seq")) for m in told] == [
        ("stream", "stalled", "e1", None),
        ("stream", "stalled", "e2", None),
        ("segment", None, "e2", 1),
    ]
    assert "4 segments (seq 0 to 3) and 1 other" in str(told[0]["reason"])
    assert "1 segments (seq 0 to 0) and 1 other" in str(told[1]["reason"])
    assert [m["seq"] for m in sent(queue, second)] == [2]


def test_losses_of_ever_new_epochs_are_bounded() -> None:
    """A stream that begins epoch after epoch while the store is away leaves a bounded account behind."""
    queue = backlog(capacity=1)
    for number in range(1000):
        queue.add(unit(0, f"e{number}"), 0)
    told = sent(queue, queue.head(1)[0])
    assert len(told) < 20
    assert told[-1]["epoch"] == "e999"


def test_a_new_epoch_names_the_one_before() -> None:
    """`previous` is filled in from what was sent before, or from what the store knew; what is said already stays."""
    queue = backlog()
    queue.resume_from("e0", 41)
    queue.add(Unit("door", (StreamMessage(stream="door", state="live", epoch="e1"), segment(seq=0))), 0)
    queue.add(unit(1), 0)
    queue.add(Unit("door", (StreamMessage(stream="door", state="live", epoch="e2"),)), 0)
    said = StreamMessage(stream="door", state="live", epoch="e3", previous=Previous("e2", 7))
    queue.add(Unit("door", (said,)), 0)
    announced = [sent(queue, waiting)[0] for waiting in queue.head(4)]
    assert announced[0]["previous"] == {"epoch": "e0", "last_seq": 41}
    assert announced[2]["previous"] == {"epoch": "e1", "last_seq": 1}
    assert announced[3]["previous"] == {"epoch": "e2", "last_seq": 7}


def test_what_cannot_be_encoded_is_told_and_stops_nothing() -> None:
    """A message that is not text is replaced by one that says so, under the same ordinal."""
    queue = backlog()
    broken = StreamMessage(stream="door", state="live", reason="no file \udc80")
    queue.add(Unit("door", (segment(seq=7), broken)), 0)
    (waiting,) = queue.head(1)
    (told,) = sent(queue, waiting)
    assert told["type"] == "stream"
    assert "1 segments (seq 7 to 7) and 1 other" in str(told["reason"])
    assert sent(queue, waiting) == [told]
    assert waiting.ordinal == 0


def test_sending_again_says_the_same_but_for_the_wait() -> None:
    """A repeated unit keeps ordinal, previous and content; its latency grows by what it waited."""
    queue = backlog()
    queue.resume_from("e0", 1)
    queue.add(Unit("door", (StreamMessage(stream="door", state="live", epoch="e1"), segment(seq=0))), 0)
    (waiting,) = queue.head(1)
    announcement, first = sent(queue, waiting, 1_000_000)
    announcement_again, again = sent(queue, waiting, 5 * S)
    assert announcement_again == announcement
    assert waiting.ordinal == 0
    latency, longer = first.pop("latency_ms"), again.pop("latency_ms")
    assert first == again
    assert isinstance(latency, dict)
    assert isinstance(longer, dict)
    assert latency["total"] == 212.4
    assert longer["total"] == 212.4 + 5000
    assert longer["publish"] == latency["publish"] + 5000


def test_a_segment_that_is_in_time_does_not_say_that_it_is_late() -> None:
    """Before its deadline, what publishing is expected to take is at most what is left; after it, what it waited counts
    in full."""
    slow = LatencyBody(1010.2, 31.0, 860.2, 60.0, 59.0)
    queue = backlog()
    queue.add(Unit("door", (replace(segment(seq=0), latency_ms=slow),), deadline_ns=S), 0)
    (waiting,) = queue.head(1)
    for now_ns, total, publish in ((S - 1, 1000.0, 48.8), (S + 1, 2010.2, 1059.0)):
        (said,) = sent(queue, waiting, now_ns)
        latency = said["latency_ms"]
        assert isinstance(latency, dict)
        assert (latency["total"], latency["publish"]) == (total, publish)


def settled(queue: Backlog, count: int, now_ns: int = 0) -> None:
    """Send and settle the oldest `count` units at `now_ns`."""
    for waiting in queue.head(count):
        queue.records(waiting, now_ns)
    for _ in range(count):
        queue.settle("s1", now_ns)


def holding(written: int, epoch: str | None = "e1", seq: int = -1) -> Claim:
    return Claim(True, "owner", epoch, seq, 0, written)


@given(st.integers(1, 120), st.integers(0, 20), st.integers(0, 120), st.integers(0, 10))
def test_what_the_store_lost_goes_again_in_order(done: int, under_way: int, here: int, fresh: int) -> None:
    """Wherever the store falls back to: what is written again and what was under way continue the ordinals without a
    hole from where it stands, or from what is still here; and what is not here any more is told."""
    queue, here = backlog(capacity=1000), min(here, done)
    for seq in range(done + under_way):
        queue.add(unit(seq), 0)
    settled(queue, done)
    for waiting in queue.head(under_way):
        queue.records(waiting, 0)
    if not under_way:
        queue.add(unit(done), 0)
        queue.records(queue.units[0], 0)
    first = max(here, done - 64)
    assert queue.rewritable == max(done - 64, 0) - 1
    assert queue.fall_back(holding(here - 1, seq=here - 1), 0) == done - first
    for seq in range(fresh):
        queue.add(unit(done + max(under_way, 1) + seq), 0)
    found, ordinals, told = [], [], []
    for waiting in queue.head(1000):
        for message in sent(queue, waiting):
            (found if message["type"] == "segment" else told).append(message)
        ordinals.append(waiting.ordinal)
    assert [message["seq"] for message in found] == list(range(first, done + max(under_way, 1) + fresh))
    assert ordinals == list(range(first, done + max(under_way, 1) + fresh))
    reasons = [f"store_lost: the store lost what it had acknowledged, segments (seq {here} to {first - 1} of epoch e1)"]
    assert [message["reason"] for message in told] == (reasons if first > here else [])
    assert len(queue.unsettled()) == max(under_way, 1) + fresh


def test_what_was_settled_long_ago_is_not_kept() -> None:
    """After 5 s a settled unit is gone: from an emptied store it is told as lost."""
    queue = backlog()
    for seq in range(4):
        queue.add(unit(seq), 0)
    settled(queue, 2, now_ns=0)
    settled(queue, 1, now_ns=6 * S)
    queue.records(queue.units[0], 6 * S)
    assert queue.rewritable == 1
    assert queue.fall_back(holding(-1, epoch=None), 6 * S) == 1
    told, again = sent(queue, queue.units[0])
    assert "(seq 0 to 1 of epoch e1)" in str(told["reason"])
    assert again["seq"] == 2


def test_a_store_that_has_everything_gets_nothing_again() -> None:
    """An answer that names the last settled unit, or a later one, changes nothing."""
    queue = backlog()
    for seq in range(3):
        queue.add(unit(seq), 0)
    settled(queue, 2)
    assert queue.fall_back(holding(1), 0) == 0
    assert queue.fall_back(holding(2), 0) == 0
    assert (len(queue.units), queue.settled) == (1, 1)
