"""One message to many subscribers: decided once a filter, framed once for all, and nobody waits for anybody.

Each subscriber has a bounded queue of its own that begins where its socket stops taking bytes. When that is full the
oldest make room and are counted; once the socket takes bytes again the subscriber is told what it missed (`gap`) before
what is left. The queues hold references to frames that all share, so a slow subscriber costs pointers.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streamer.cursor import Cursor, EntryId
from streamer.filters import Envelope, Filter, envelope
from streamer.messages import Gap, WireMessage, encode

# A minute of eight streams' segments: what comes at once when the store returns, for a subscriber that takes its time.
QUEUE_CAPACITY = 1024


@dataclass(frozen=True, slots=True)
class FeedItem:
    """A message of the feed, ready to be sent: its place, what filters see, and its websocket frame with the cursor."""

    id: EntryId
    cursor: str
    envelope: Envelope
    frame: bytes


def feed_item(entry_id: EntryId, store: str, json: bytes) -> FeedItem:
    """The entry `entry_id` of `store`, decoded and framed.

    Raises:
        ValueError: `json` is not a message.
    """
    cursor = str(Cursor(entry_id, store))
    return FeedItem(entry_id, cursor, envelope(json), text_frame(_with_cursor(json, cursor)))


def _with_cursor(json: bytes, cursor: str) -> bytes:
    """`json` (an object) with the cursor in it: after `type`, which every message of ours begins with, else first."""
    member = b'"cursor":"' + cursor.encode() + b'"'
    comma = json.find(b",")
    if json.startswith(b'{"type":') and comma > 0:
        return json[:comma] + b"," + member + json[comma:]
    opening = json.index(b"{") + 1
    rest = json[opening:].lstrip()
    return b"{" + member + (b"" if rest.startswith(b"}") else b",") + rest


def text_frame(payload: bytes) -> bytes:
    """`payload` (UTF-8) as one unmasked final text frame of RFC 6455, section 5.2, as a server sends it."""
    length = len(payload)
    if length < 126:
        return struct.pack("!BB", 0x81, length) + payload
    if length < 65536:
        return struct.pack("!BBH", 0x81, 126, length) + payload
    return struct.pack("!BBQ", 0x81, 127, length) + payload


def message_frame(message: WireMessage) -> bytes:
    """`message` encoded and framed."""
    return text_frame(encode(message))


class Sink(Protocol):
    """Where a subscriber's bytes go."""

    @property
    def blocked(self) -> bool:
        """Whether the socket's buffer is full (or the connection gone): what is written now would pile up."""
        ...

    def write(self, data: bytes) -> None:
        """Send `data` without waiting."""
        ...


@dataclass(slots=True)
class FanoutStatistics:
    """Counts since the start: messages written to subscribers, messages that made room, gaps told."""

    sent: int = 0
    dropped: int = 0
    gaps: int = 0


@dataclass(slots=True, eq=False)
class Subscriber:
    """One subscriber: its filter, its sink, and what waits while the sink is blocked."""

    filter: Filter
    sink: Sink
    statistics: FanoutStatistics
    capacity: int = QUEUE_CAPACITY
    _queue: deque[FeedItem] = field(default_factory=deque)
    _missed: tuple[str, str, int] | None = None

    def offer(self, items: Sequence[FeedItem], data: bytes) -> None:
        """Send `items`, whose frames are `data` one after the other, or keep them until the sink takes bytes again."""
        if self._queue or self._missed is not None or self.sink.blocked:
            for item in items:
                self._keep(item)
        else:
            self.sink.write(data)
            self.statistics.sent += len(items)

    def _keep(self, item: FeedItem) -> None:
        self._queue.append(item)
        if len(self._queue) > self.capacity:
            gone = self._queue.popleft()
            first, _, count = self._missed or (gone.cursor, gone.cursor, 0)
            self._missed = (first, gone.cursor, count + 1)
            self.statistics.dropped += 1

    def tell(self, gap: Gap) -> None:
        """Say that something is missing, in its place among what is sent. One is enough while nothing gets through."""
        if self.sink.blocked:
            if self._missed is not None:
                self.statistics.dropped += len(self._queue)
            self._queue.clear()
            self._missed = (gap.first or "", gap.last or "", -1)
        else:
            self._write_gap(gap)

    def flush(self) -> None:
        """Write what waits as far as the sink takes it; call when it takes bytes again."""
        while not self.sink.blocked:
            if self._missed is not None:
                first, last, count = self._missed
                self._missed = None
                self._write_gap(Gap(first=first or None, last=last or None, count=count if count >= 0 else None))
            elif self._queue:
                self.sink.write(self._queue.popleft().frame)
                self.statistics.sent += 1
            else:
                return

    def _write_gap(self, gap: Gap) -> None:
        self.statistics.gaps += 1
        self.sink.write(message_frame(gap))

    @property
    def waiting(self) -> int:
        """Messages in its queue."""
        return len(self._queue)


class Fanout:
    """The subscribers that follow the feed live, grouped by filter so that a message is decided once a group."""

    def __init__(self) -> None:
        self._groups: dict[Filter, set[Subscriber]] = {}

    def join(self, subscriber: Subscriber) -> None:
        """`subscriber` gets what is dispatched from now on."""
        self._groups.setdefault(subscriber.filter, set()).add(subscriber)

    def leave(self, subscriber: Subscriber) -> None:
        """`subscriber` gets nothing more; leaving twice does no harm."""
        group = self._groups.get(subscriber.filter, set())
        group.discard(subscriber)
        if not group:
            self._groups.pop(subscriber.filter, None)

    def dispatch(self, items: Sequence[FeedItem]) -> None:
        """Give `items`, in feed order, to everybody who selects them."""
        for filter_, subscribers in self._groups.items():
            selected = [item for item in items if filter_.selects(item.envelope)]
            if not selected:
                continue
            data = selected[0].frame if len(selected) == 1 else b"".join(item.frame for item in selected)
            for subscriber in subscribers:
                subscriber.offer(selected, data)

    def tell(self, gap: Gap) -> None:
        """Tell everybody that something is missing."""
        for subscribers in self._groups.values():
            for subscriber in subscribers:
                subscriber.tell(gap)
