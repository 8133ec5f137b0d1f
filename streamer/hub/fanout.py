"""One message to many subscribers: decided once a filter, framed once for all, and nobody waits for anybody.

Ten thousand sockets take the better part of a tenth of a second. They are served in slices, between which the event
loop sees to others, and those whose sockets take bytes are written to with no look at anything but their descriptors.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field

from streamer.hub.filters import Filter
from streamer.hub.item import FeedItem
from streamer.hub.subscriber import FanoutStatistics, Subscriber
from streamer.messages import Gap

# Subscribers served before the event loop may see to others: about 2 ms of sending, and 20 where others take longer.
_SLICE, _LONGEST_SLICE = 200, 2000


@dataclass(slots=True)
class _Group:
    """The subscribers with one filter. `ready` are in the order in which they came, with their descriptors: that is how
    they lie in memory, and sending in any other order takes a fifth longer."""

    ready: dict[Subscriber, int] = field(default_factory=dict)
    held: set[Subscriber] = field(default_factory=set)


@dataclass(slots=True)
class _Audience:
    """Who is served by a dispatch: a group as it was. Two lists and not one of pairs: ten thousand pairs a message
    would keep the garbage collector busy."""

    filter: Filter
    compressed: bool
    ready: list[Subscriber]
    descriptors: list[int]
    held: list[Subscriber]


class Fanout:
    """The subscribers that follow the feed live, grouped by filter so that a message is decided once a group.

    `write` writes to a descriptor and says how many bytes it took; OSError where none.
    """

    def __init__(self, statistics: FanoutStatistics, write: Callable[[int, bytes], int] = os.write) -> None:
        self._statistics = statistics
        self._write = write
        self._groups: dict[tuple[Filter, bool], _Group] = {}
        # Those who became ready, were held or left since the dispatch under way began: it has to look at them again.
        self._changed: set[Subscriber] = set()
        self._dispatching = False

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
            self._has_changed(subscriber)

    def resume(self, subscriber: Subscriber) -> None:
        """Its sink takes bytes again: what waits is written first."""
        subscriber.flush()
        group = self._group(subscriber)
        if group is not None and subscriber in group.held and subscriber.sink.ready:
            group.held.remove(subscriber)
            group.ready[subscriber] = subscriber.sink.descriptor
            self._has_changed(subscriber)

    def _has_changed(self, subscriber: Subscriber) -> None:
        if self._dispatching:
            self._changed.add(subscriber)

    def dispatch(self, items: Sequence[FeedItem]) -> Coroutine[None, None, None]:
        """To be awaited, before the next call: gives `items`, in feed order, to everybody who selects them.

        Who that is is settled by the call itself, so who joins while it is awaited is not sent what came before.
        """
        self._dispatching = True
        return self._dispatch(items, self._audiences())

    def tell(self, gap: Gap) -> Coroutine[None, None, None]:
        """To be awaited like `dispatch`: tells everybody that something is missing."""
        return _tell(gap, self._audiences())

    async def pass_by(self, item: FeedItem) -> None:
        """Give `item`, which is no loss, to those who select it and take bytes now; may run beside a dispatch."""
        turns = _Turns()
        for (filter_, compressed), group in list(self._groups.items()):
            if not filter_.selects(item.envelope):
                continue
            data = item.framed(compressed)
            for subscriber in list(group.ready):
                # By its sink: a dispatch under way writes to descriptors, and has to know who takes no more.
                self._statistics.sent += subscriber in group.ready and subscriber.sink.take(data)
                await turns.took(1)

    def _group(self, subscriber: Subscriber) -> _Group | None:
        return self._groups.get((subscriber.filter, subscriber.compressed))

    def _audiences(self) -> list[_Audience]:
        return [
            _Audience(filter_, compressed, list(group.ready), list(group.ready.values()), list(group.held))
            for (filter_, compressed), group in self._groups.items()
        ]

    async def _dispatch(self, items: Sequence[FeedItem], audiences: list[_Audience]) -> None:
        turns = _Turns()
        try:
            for audience in audiences:
                # Deciding takes time too, and there may be as many filters as subscribers.
                await turns.took(len(items))
                await self._serve_audience(audience, items, turns)
        finally:
            self._dispatching = False
            self._changed.clear()

    async def _serve_audience(self, audience: _Audience, items: Sequence[FeedItem], turns: _Turns) -> None:
        selected = [item for item in items if audience.filter.selects(item.envelope)]
        if not selected:
            return
        data = b"".join(item.framed(audience.compressed) for item in selected)
        for start in range(0, len(audience.ready), _SLICE):
            await turns.took(self._serve(audience, start, selected, data))
        for subscriber in audience.held:
            subscriber.offer(selected, data)
            await turns.took(1)

    def _serve(self, audience: _Audience, start: int, items: Sequence[FeedItem], data: bytes) -> int:
        """Send to a slice of those who were ready when the dispatch began; how many they are.

        Nothing of them is looked at but the descriptor: ten thousand connections don't fit into a processor's caches,
        and finding out about each would take half as long again as the sending.
        """
        ready = audience.ready[start : start + _SLICE]
        if self._changed and not self._changed.isdisjoint(ready):
            for subscriber in ready:
                subscriber.offer(items, data)
            return len(ready)
        write, length = self._write, len(data)
        for place, descriptor in enumerate(audience.descriptors[start : start + _SLICE]):
            try:
                taken = write(descriptor, data)
            except OSError:
                taken = 0  # full or broken: the sink meets the same, and knows what to do
            if taken < length:
                ready[place].sink.take_rest(data[taken:])
        self._statistics.sent += len(items) * len(ready)
        return len(ready)


class _Turns:
    """Lets the event loop see to others after each slice. Where it stays away longer than the slice took (hundreds are
    connecting at once) slices grow, so that the last subscriber does not wait for all of that fifty times."""

    def __init__(self) -> None:
        self._size = _SLICE
        self._taken = 0
        self._since_s = time.monotonic()

    async def took(self, count: int) -> None:
        """`count` subscribers were served."""
        self._taken += count
        if self._taken < self._size:
            return
        left_s = time.monotonic()
        await asyncio.sleep(0)
        back_s = time.monotonic()
        busy = back_s - left_s > left_s - self._since_s
        self._size = min(2 * self._size, _LONGEST_SLICE) if busy else _SLICE
        self._taken, self._since_s = 0, back_s


async def _tell(gap: Gap, audiences: list[_Audience]) -> None:
    turns = _Turns()
    for audience in audiences:
        for subscriber in [*audience.ready, *audience.held]:
            subscriber.tell(gap)
            await turns.took(1)
