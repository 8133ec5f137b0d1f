"""Fan-out: everybody gets what they select, once and in order, or is told exactly what they missed."""

from __future__ import annotations

import json
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.cursor import EntryId
from streamer.hub.fanout import Fanout, FanoutStatistics, FeedItem, Subscriber, feed_item
from streamer.hub.filters import Filter
from streamer.hub.frames import text_frame
from streamer.messages import Gap, encode
from tests.stores import segment


class Sink:
    """Takes bytes until it is told not to; reads the frames back."""

    def __init__(self) -> None:
        self.blocked = False
        self.data = b""

    def take(self, data: bytes) -> bool:
        if not self.blocked:
            self.data += data
        return not self.blocked

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


@given(st.binary(max_size=200_000).map(lambda data: data.hex().encode()[:140_000]))
def test_a_frame_holds_its_payload(payload: bytes) -> None:
    """The three forms of the length field are those of RFC 6455."""
    frame = text_frame(payload)
    assert frame.endswith(payload)
    header = len(frame) - len(payload)
    assert header == (2 if len(payload) < 126 else 4 if len(payload) < 65536 else 10)


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
    expected = 0
    for message in sink.messages():
        if message["type"] == "gap":
            assert message["first"] == f"{expected}-0@5f3a"
            expected += int(str(message["count"]))
            assert message["last"] == f"{expected - 1}-0@5f3a"
        else:
            assert message["seq"] == expected
            expected += 1
    assert expected == number


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


async def test_a_message_goes_to_those_who_select_it() -> None:
    """Filters are decided a group; who left gets nothing, and an empty group is forgotten."""
    fanout, everything, doors, left = Fanout(), Sink(), Sink(), Sink()
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
    sinks = [Sink() for _ in range(3)]
    slow = [subscriber(sink) for sink in sinks]
    fanout = Fanout()
    for one, sink in zip(slow, sinks, strict=True):
        sink.blocked = True
        fanout.join(one)
    shared = item(1)
    await fanout.dispatch([shared])
    assert all(one._queue[0] is shared for one in slow)
    assert msgspec.json.decode(shared.frame[4:])["seq"] == 1
