"""One message to many subscribers: decided once a filter, framed once for all, and nobody waits for anybody.

Each subscriber has a bounded queue of its own that begins where its socket stops taking bytes. When that is full the
oldest make room and are counted; once the socket takes bytes again the subscriber is told what it missed (`gap`) before
what is left. The queues hold references to frames that all share, so a slow subscriber costs pointers.

Ten thousand sockets take a tenth of a second. They are served in slices, between which the event loop sees to others.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streamer.cursor import Cursor, EntryId
from streamer.hub.filters import Envelope, Filter, envelope
from streamer.hub.frames import compressed_frame, text_frame
from streamer.messages import Gap, WireMessage, encode

# A minute of eight streams' segments: what comes at once when the store returns, for a subscriber that takes its time.
QUEUE_CAPACITY = 1024
# Subscribers served before the event loop may see to others: about 2 ms of sending.
_SLICE = 200


@dataclass(slots=True, eq=False)
class FeedItem:
    """A message of the feed, ready to be sent: its place, what filters see, and its websocket frame with the cursor."""

    id: EntryId
    cursor: str
    envelope: Envelope
    frame: bytes
    _compressed: bytes | None = None

    def framed(self, compressed: bool) -> bytes:
        """The frame as it is, or compressed: done when the first subscriber needs it, and once for all of them."""
        if not compressed:
            return self.frame
        if self._compressed is None:
            self._compressed = compressed_frame(self.frame)
        return self._compressed


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


def message_frame(message: WireMessage) -> bytes:
    """`message` encoded and framed."""
    return text_frame(encode(message))


class Sink(Protocol):
    """Where a subscriber's bytes go."""

    @property
    def descriptor(self) -> int:
        """Of its socket; what is ready may be written to it directly."""
        ...

    @property
    def ready(self) -> bool:
        """Whether nothing waits before what is written to the socket now, and the connection is open."""
        ...

    def take(self, data: bytes) -> bool:
        """Take all of `data` without waiting; False, and nothing taken, while it is not ready."""
        ...

    def take_rest(self, data: bytes) -> None:
        """Take the end of what the socket has taken the beginning of, or none of, when it was ready."""
        ...


@dataclass(slots=True)
class FanoutStatistics:
    """Counts since the start: messages written to subscribers, messages that made room, gaps told."""

    sent: int = 0
    dropped: int = 0
    gaps: int = 0


@dataclass(slots=True, eq=False)
class Subscriber:
    """One subscriber: its filter, its sink, and what waits while the sink takes nothing."""

    filter: Filter
    sink: Sink
    statistics: FanoutStatistics
    capacity: int = QUEUE_CAPACITY
    compressed: bool = False
    _queue: deque[FeedItem] = field(default_factory=deque)
    _missed: tuple[str, str, int] | None = None

    def offer(self, items: Sequence[FeedItem], data: bytes) -> None:
        """Send `items`, whose frames are `data` one after the other, or keep them until the sink takes bytes again."""
        if self.sink.take(data):
            self.statistics.sent += len(items)
            return
        for item in items:
            self._keep(item)

    def _keep(self, item: FeedItem) -> None:
        self._queue.append(item)
        if len(self._queue) > self.capacity:
            gone = self._queue.popleft()
            first, _, count = self._missed or (gone.cursor, gone.cursor, 0)
            self._missed = (first, gone.cursor, count + 1)
            self.statistics.dropped += 1

    def tell(self, gap: Gap) -> None:
        """Say that something is missing, in its place among what is sent. One is enough while nothing gets through."""
        if not self._send_gap(gap):
            if self._missed is not None:
                self.statistics.dropped += len(self._queue)
            self._queue.clear()
            self._missed = (gap.first or "", gap.last or "", -1)

    def flush(self) -> None:
        """Write what waits as far as the sink takes it."""
        if self._missed is not None:
            first, last, count = self._missed
            if not self._send_gap(Gap(first=first or None, last=last or None, count=count if count >= 0 else None)):
                return
            self._missed = None
        while self._queue and self.sink.take(self._queue[0].framed(self.compressed)):
            self._queue.popleft()
            self.statistics.sent += 1

    def _send_gap(self, gap: Gap) -> bool:
        taken = self.sink.take(message_frame(gap))
        self.statistics.gaps += taken
        return taken

    @property
    def waiting(self) -> int:
        """Messages in its queue."""
        return len(self._queue)


@dataclass(slots=True)
class _Group:
    """The subscribers with one filter. `ready` are in the order in which they came, with their descriptors: that is how
    they lie in memory, and sending in any other order takes a fifth longer."""

    ready: dict[Subscriber, int] = field(default_factory=dict)
    held: set[Subscriber] = field(default_factory=set)


_Audience = list[tuple[Filter, bool, list[tuple[Subscriber, int]], list[Subscriber]]]


class Fanout:
    """The subscribers that follow the feed live, grouped by filter so that a message is decided once a group.

    `write` writes to a descriptor and says how many bytes it took; OSError where none.
    """

    def __init__(self, statistics: FanoutStatistics, write: Callable[[int, bytes], int] = os.write) -> None:
        self._statistics = statistics
        self._write = write
        self._groups: dict[tuple[Filter, bool], _Group] = {}
        # Those who became ready, were held or left since the last dispatch began: it has to look at them again.
        self._changed: set[Subscriber] = set()

    def join(self, subscriber: Subscriber) -> None:
        """`subscriber` gets what is dispatched from now on."""
        group = self._groups.setdefault((subscriber.filter, subscriber.compressed), _Group())
        group.held.add(subscriber)
        self.resume(subscriber)

    def leave(self, subscriber: Subscriber) -> None:
        """`subscriber` gets nothing more; leaving twice does no harm."""
        group = self._group(subscriber)
        if group is not None:
            self.hold(subscriber)
            group.held.discard(subscriber)
            if not group.ready and not group.held:
                del self._groups[subscriber.filter, subscriber.compressed]

    def hold(self, subscriber: Subscriber) -> None:
        """Its sink is not ready any more. To be called before its descriptor is closed or anything else is written."""
        group = self._group(subscriber)
        if group is not None and group.ready.pop(subscriber, None) is not None:
            group.held.add(subscriber)
            self._changed.add(subscriber)

    def resume(self, subscriber: Subscriber) -> None:
        """Its sink takes bytes again: what waits is written first."""
        subscriber.flush()
        group = self._group(subscriber)
        if group is not None and subscriber in group.held and subscriber.sink.ready:
            group.held.remove(subscriber)
            group.ready[subscriber] = subscriber.sink.descriptor
            self._changed.add(subscriber)

    def dispatch(self, items: Sequence[FeedItem]) -> Coroutine[None, None, None]:
        """To be awaited, before the next call: gives `items`, in feed order, to everybody who selects them.

        Who that is is settled by the call itself, so who joins while it is awaited is not sent what came before.
        """
        return self._dispatch(items, self._audience())

    def tell(self, gap: Gap) -> Coroutine[None, None, None]:
        """To be awaited like `dispatch`: tells everybody that something is missing."""
        return _tell(gap, self._audience())

    def _group(self, subscriber: Subscriber) -> _Group | None:
        return self._groups.get((subscriber.filter, subscriber.compressed))

    def _audience(self) -> _Audience:
        self._changed.clear()
        return [
            (filter_, compressed, list(group.ready.items()), list(group.held))
            for (filter_, compressed), group in self._groups.items()
        ]

    async def _dispatch(self, items: Sequence[FeedItem], audience: _Audience) -> None:
        turns = 0
        for filter_, compressed, ready, held in audience:
            selected = [item for item in items if filter_.selects(item.envelope)]
            data = b"".join(item.framed(compressed) for item in selected)
            for start in range(0, len(ready) if selected else 0, _SLICE):
                part = ready[start : start + _SLICE]
                self._serve(part, selected, data)
                turns = await _next_turn(turns + len(part))
            for subscriber in held if selected else ():
                subscriber.offer(selected, data)
            # Deciding takes time too, and there may be as many filters as subscribers.
            turns = await _next_turn(turns + len(items) + len(held))

    def _serve(self, part: list[tuple[Subscriber, int]], items: Sequence[FeedItem], data: bytes) -> None:
        """Send to those who were ready when the dispatch began. Nothing of them is looked at but the descriptor: ten
        thousand connections don't fit into a processor's caches, and finding each one out would take half as long again
        as the sending."""
        if not self._changed.isdisjoint(subscriber for subscriber, _ in part):
            for subscriber, _ in part:
                subscriber.offer(items, data)
            return
        write, length = self._write, len(data)
        for subscriber, descriptor in part:
            try:
                taken = write(descriptor, data)
            except OSError:
                taken = 0  # full or broken: the sink meets the same, and knows what to do
            if taken < length:
                subscriber.sink.take_rest(data[taken:])
        self._statistics.sent += len(items) * len(part)


async def _next_turn(turns: int) -> int:
    """Let the event loop see to others if `turns` were taken; how many count from here on."""
    if turns < _SLICE:
        return turns
    await asyncio.sleep(0)
    return 0


async def _tell(gap: Gap, audience: _Audience) -> None:
    turns = 0
    for _, _, ready, held in audience:
        for subscriber in [*(subscriber for subscriber, _ in ready), *held]:
            subscriber.tell(gap)
            turns = await _next_turn(turns + 1)
