"""Fan-out: everybody gets what they select, once and in order, or is told exactly what they missed."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.cursor import EntryId
from streamer.hub.fanout import Fanout
from streamer.hub.filters import Filter
from streamer.hub.item import FeedItem, feed_item
from streamer.hub.subscriber import FanoutStatistics, Subscriber
from streamer.messages import Gap, encode
from tests.stores import segment


class Sink:
    """Takes bytes until it is told not to, or until `room` is used up (then `on_full`); reads the frames back."""

    def __init__(self, descriptor: int = 0) -> None:
        self.descriptor = descriptor
        self.blocked = False
        self.room = 1 << 30
        self.data = b""
        self.on_full: Callable[[], None] = lambda: None

    @property
    def ready(self) -> bool:
        return not self.blocked

    def take(self, data: bytes) -> bool:
        if self.blocked:
            return False
        taken = min(self.room, len(data))
        self.room -= taken
        self.data += data[:taken]
        if taken < len(data):
            self.take_rest(data[taken:])
        return True

    def take_rest(self, data: bytes) -> None:
        """What a transport does: keeps it, and says that it is full."""
        assert not self.blocked
        self.data += data
        self.blocked = True
        self.on_full()

    def write(self, data: bytes) -> int:
        """What a socket does: takes as much as there is room for."""
        assert not self.blocked, "written to while something else waits before it"
        if not self.room:
            raise BlockingIOError
        taken = data[: self.room]
        self.room -= len(taken)
        self.data += taken
        return len(taken)

    def messages(self) -> list[dict[str, object]]:
        found, data = [], self.data
        while data:
            assert data[0] == 0x81
            length, start = data[1], 2
            if length == 126:
                (length,), start = struct.unpack_from("!H", data, 2), 4
            elif length == 127:
                (length,), start = struct.unpack_from("!Q", data, 2), 10
            found.append(json.loads(data[start : start + length]))
            data = data[start + length :]
        return found


def item(number: int, stream: str = "door") -> FeedItem:
    return feed_item(EntryId(number, 0), "5f3a", encode(segment(stream, number)))


EVERYTHING = Filter()


def subscriber(sink: Sink, filter_: Filter = EVERYTHING, capacity: int = 4) -> Subscriber:
    return Subscriber(filter_, sink, FanoutStatistics(), capacity)


@pytest.mark.parametrize(
    ("json_", "expected"),
    [
        (b'{"type":"stream","stream":"door"}', b'{"type":"stream","cursor":"7-0@5f3a","stream":"door"}'),
        (b'{"stream":"door","type":"stream"}', b'{"cursor":"7-0@5f3a","stream":"door","type":"stream"}'),
        (b' { "type" : "stream" } ', b'{"cursor":"7-0@5f3a","type" : "stream" } '),
        (b'{"type":"stream"}', b'{"cursor":"7-0@5f3a","type":"stream"}'),
    ],
)
def test_the_cursor_goes_into_any_object(json_: bytes, expected: bytes) -> None:
    """After `type` in messages of ours; anywhere valid in those that others wrote."""
    frame = feed_item(EntryId(7, 0), "5f3a", json_).frame
    assert frame[2:] == expected
    assert json.loads(frame[2:])["cursor"] == "7-0@5f3a"


@pytest.mark.parametrize("json_", [b"", b"[]", b"{}", b"x", b'{"type":1}', b"\xff"])
def test_what_is_no_message_is_refused(json_: bytes) -> None:
    """Entries that others wrote into the feed cannot break the hub."""
    with pytest.raises(ValueError):
        feed_item(EntryId(7, 0), "5f3a", json_)


@given(
    st.lists(st.sampled_from(["item", "two", "block", "free", "gap"]), max_size=80),
    st.integers(min_value=1, max_value=5),
)
def test_a_subscriber_gets_each_message_or_is_told_that_it_is_missing(steps: list[str], capacity: int) -> None:
    """Blocked and freed in any rhythm, what arrives is in order, nothing comes twice, and each hole is exactly one gap
    with the cursors of the first and last message missing and their number."""
    sink = Sink()
    one = subscriber(sink, capacity=capacity)
    number = 0
    for step in steps:
        if step in ("item", "two"):
            items = [item(number + offset) for offset in range(2 if step == "two" else 1)]
            number += len(items)
            one.offer(items, b"".join(i.frame for i in items))
        elif step == "block":
            sink.blocked = True
        elif step == "free":
            sink.blocked = False
            one.flush()
        assert one.waiting <= capacity
    sink.blocked = False
    one.flush()
    assert _accounted(sink) == number


def test_a_gap_of_unknown_size_swallows_what_waits() -> None:
    """When the store was emptied, a blocked subscriber is told of one gap without a count."""
    sink = Sink()
    one = subscriber(sink)
    sink.blocked = True
    one.offer([item(1)], item(1).frame)
    one.tell(Gap(first="1-0@5f3a", last=None, count=None))
    one.offer([item(2)], item(2).frame)
    sink.blocked = False
    one.flush()
    assert [message["type"] for message in sink.messages()] == ["gap", "segment"]
    assert sink.messages()[0]["count"] is None


def fanout_to(sinks: Sequence[Sink]) -> Fanout:
    """A fan-out that writes to these sinks by their descriptors."""
    by_descriptor = {sink.descriptor: sink for sink in sinks}
    return Fanout(FanoutStatistics(), lambda descriptor, data: by_descriptor[descriptor].write(data))


async def test_a_message_goes_to_those_who_select_it() -> None:
    """Filters are decided a group; who left gets nothing, and an empty group is forgotten."""
    everything, doors, left = sinks = [Sink(number) for number in range(3)]
    fanout = fanout_to(sinks)
    fanout.join(subscriber(everything))
    fanout.join(subscriber(doors, Filter(frozenset({"d*"}))))
    gone = subscriber(left, Filter(frozenset({"l*"})))
    fanout.join(gone)
    fanout.leave(gone)
    fanout.leave(gone)
    await fanout.dispatch([item(1, "door"), item(2, "lobby"), item(3, "door")])
    assert [message["seq"] for message in everything.messages()] == [1, 2, 3]
    assert [message["seq"] for message in doors.messages()] == [1, 3]
    assert left.data == b""
    assert len(fanout._groups) == 2


async def test_frames_are_shared() -> None:
    """Queues of slow subscribers hold the very same objects."""
    sinks = [Sink(number) for number in range(3)]
    slow = [subscriber(sink) for sink in sinks]
    fanout = fanout_to(sinks)
    for one, sink in zip(slow, sinks, strict=True):
        sink.blocked = True
        fanout.join(one)
    shared = item(1)
    await fanout.dispatch([shared])
    assert all(one._queue[0] is shared for one in slow)
    assert msgspec.json.decode(shared.frame[4:])["seq"] == 1


async def test_those_who_ask_for_compression_share_one_compressed_frame() -> None:
    """The frame is made once, only where somebody wants it, and holds the very message when it is unpacked."""
    plain, first, second = sinks = [Sink(number) for number in range(3)]
    fanout = fanout_to(sinks)
    fanout.join(subscriber(plain))
    shared = item(1)
    await fanout.dispatch([shared])
    assert shared._compressed is None
    for sink in (first, second):
        fanout.join(Subscriber(EVERYTHING, sink, FanoutStatistics(), compressed=True))
    await fanout.dispatch([shared])
    assert first.data == second.data == shared.framed(True)
    assert shared.framed(True) is shared.framed(True)
    assert plain.messages() == [msgspec.json.decode(shared.frame[4:])] * 2


@pytest.mark.parametrize("ahead", [0, 1])
async def test_who_joins_in_the_middle_of_a_dispatch_is_not_sent_what_came_before(ahead: int) -> None:
    """A dispatch is sliced, and others come and go meanwhile: it serves those who were there when it was called."""
    sinks = [Sink(number) for number in range(1000)]
    fanout = fanout_to(sinks)
    crowd = [subscriber(sink) for sink in sinks[:-1]]
    for one in crowd:
        fanout.join(one)
    dispatching = asyncio.create_task(fanout.dispatch([item(1)]))
    for _ in range(ahead):
        await asyncio.sleep(0)
    fanout.join(subscriber(sinks[-1]))
    fanout.leave(crowd[-1])
    sinks[-2].blocked = True  # its connection is over, and its descriptor may be another's by now
    await dispatching
    assert [len(sink.messages()) for sink in sinks] == [1] * 998 + [0, 0]


async def test_others_get_their_turn_in_a_dispatch_and_take_no_more_than_their_share_of_it() -> None:
    """Between slices the event loop sees to others; where these are slow the slices grow, so that the dispatch does not
    wait for them after each two hundred subscribers."""
    sinks = [Sink(number) for number in range(10_000)]
    fanout = fanout_to(sinks)
    for sink in sinks:
        fanout.join(subscriber(sink))
    turns = 0

    async def other(seconds: float) -> None:
        nonlocal turns
        while True:
            turns += 1
            time.sleep(seconds)  # noqa: ASYNC251 - a handler that takes long is what this is about
            await asyncio.sleep(0)

    async def turns_of_others(seconds: float) -> int:
        nonlocal turns
        turns = 0
        busy = asyncio.create_task(other(seconds))
        await fanout.dispatch([item(1)])
        busy.cancel()
        return turns

    assert 6 <= await turns_of_others(0.05) <= 25  # of 50 slices that are not allowed to grow


@given(st.lists(st.tuples(st.sampled_from(["item", "full", "short", "free", "turn"]), st.integers(0, 2)), max_size=60))
@settings(deadline=None)
def test_sockets_that_fill_up_and_empty_at_any_moment_lose_nothing_unsaid(steps: list[tuple[str, int]]) -> None:
    """Whenever a socket takes nothing or a part of a frame, before, in or between the slices of a dispatch, what comes
    out of it are whole frames in order, and what is missing is told."""
    asyncio.run(_any_moment(steps))


async def _any_moment(steps: list[tuple[str, int]]) -> None:
    sinks = [Sink(number) for number in range(3)]
    fanout = fanout_to(sinks)
    ones = [subscriber(sink) for sink in sinks]
    for one, sink in zip(ones, sinks, strict=True):
        fanout.join(one)
        sink.on_full = partial(fanout.hold, one)
    number, dispatching = 0, asyncio.create_task(asyncio.sleep(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamer.hub.fanout._SLICE", 1)
        patch.setattr("streamer.hub.fanout._LONGEST_SLICE", 1)
        for step, which in [*steps, ("free", 0), ("free", 1), ("free", 2)]:
            if step == "item":
                await dispatching
                dispatching = asyncio.create_task(fanout.dispatch([item(number)]))
                number += 1
            elif step == "turn":
                await asyncio.sleep(0)
            else:
                sinks[which].room = {"full": 0, "short": 7, "free": 1 << 30}[step]
                if step == "free" and sinks[which].blocked:
                    sinks[which].blocked = False
                    fanout.resume(ones[which])
        await dispatching
    assert [_accounted(sink) for sink in sinks] == [number] * 3


def _accounted(sink: Sink) -> int:
    """How many messages are there or told to be missing, in order."""
    expected = 0
    for message in sink.messages():
        if message["type"] == "gap":
            assert message["first"] == f"{expected}-0@5f3a"
            expected += int(str(message["count"]))
            assert message["last"] == f"{expected - 1}-0@5f3a"
        else:
            assert message["seq"] == expected
            expected += 1
    return expected
