"""The past for one subscriber: what came after its cursor, from memory or the store, until it stands at the feed's end.

Told as `gap`: what retention took, a cursor of another store, and one that this store never reached.
"""

from __future__ import annotations

import asyncio

from websockets.protocol import OPEN

from streamer.cursor import START, Cursor
from streamer.hub.connection import HubConnection
from streamer.hub.item import FeedItem
from streamer.hub.subscriber import FanoutStatistics, Subscriber
from streamer.hub.tail import Tail
from streamer.messages import Gap
from streamer.storage.store import Store, StoreAway

_SETTLE_S = 0.02
_RETRY_S = 0.25
_AHEAD_S = 5.0
_PAGE = 200
# Written at once: a slow subscriber has to take one of these, not a page, to show that it is alive.
_PIECE = 25
# Pages read from the store at once, for all subscribers together.
_READERS = 8


class Past:
    """Brings subscribers from their cursors to where `tail` stands, each at its own pace."""

    def __init__(self, store: Store, tail: Tail, statistics: FanoutStatistics) -> None:
        self._store = store
        self._tail = tail
        self._statistics = statistics
        self._reading = asyncio.Semaphore(_READERS)

    async def send(self, connection: HubConnection, subscriber: Subscriber, since: Cursor) -> None:
        """Send everything after `since`. On return, with no await after it, what the tail passes on next comes next.

        Raises:
            StoreError: the store answers with an error.
            TimeoutError: the feed does not get to where the store says it is.
        """
        place = since
        while connection.state is OPEN:
            try:
                following = await self._send_more(connection, subscriber, place)
            except StoreAway:
                await asyncio.sleep(_RETRY_S)
                continue
            if following is None:
                return
            place = following

    async def _send_more(self, connection: HubConnection, subscriber: Subscriber, place: Cursor) -> Cursor | None:
        """Send some of what comes after `place`; returns the place after that, None where nothing more is there."""
        tail = self._tail
        if place.store != tail.identity:  # of another store, or emptied while we read
            return await self._skip(connection, subscriber, place, Cursor(START, tail.identity))
        if place.id > tail.last:
            place = await self._ahead(connection, subscriber, place)
        items = tail.after(place.id)
        if items is None:
            return await self._send_stored(connection, subscriber, place)
        if items:
            await self._send_items(connection, subscriber, items[:_PAGE])
            return Cursor(items[:_PAGE][-1].id, place.store)
        return None if place.store == tail.identity else place

    async def _send_stored(self, connection: HubConnection, subscriber: Subscriber, place: Cursor) -> Cursor:
        """Send a page of what only the store still has; returns the place after it."""
        last = self._tail.last
        async with self._reading:
            page = await self._store.range_feed(place.id.next(), last, count=_PAGE)
        if page.store != place.store:
            await asyncio.sleep(_SETTLE_S)  # the tail notices too, and then this is another store
            return place
        if place.id < page.complete_from:
            await self._skip(connection, subscriber, place, Cursor(page.complete_from, place.store))
        if not page.entries:
            return Cursor(last, place.store)
        await self._send_items(connection, subscriber, self._tail.items(page))
        return Cursor(page.entries[-1][0], place.store)

    async def _send_items(self, connection: HubConnection, subscriber: Subscriber, items: list[FeedItem]) -> None:
        selected = [item for item in items if subscriber.filter.selects(item.envelope)]
        for start in range(0, len(selected), _PIECE):
            await asyncio.sleep(0)  # many may be catching up, and those who are live come first
            piece = selected[start : start + _PIECE]
            if await connection.deliver(b"".join(item.framed(subscriber.compressed) for item in piece)):
                self._statistics.sent += len(piece)

    async def _skip(self, connection: HubConnection, subscriber: Subscriber, place: Cursor, to: Cursor) -> Cursor:
        """Tell the subscriber that what came after `place` is not there any more; returns where it goes on."""
        await connection.writable.wait()
        known = place.store == to.store and place.id < to.id
        last = str(Cursor(to.id.previous(), to.store)) if known else None
        subscriber.tell(Gap(first=str(place), last=last, count=None))
        return to

    async def _ahead(self, connection: HubConnection, subscriber: Subscriber, place: Cursor) -> Cursor:
        """A cursor that the feed has not reached here: wait for it if the store has it; else it is of a lost past."""
        async with self._reading:
            bounds = await self._store.feed_bounds()
        if place.store != bounds.store or place.id > bounds.last:
            return await self._skip(connection, subscriber, place, self._tail.cursor)
        async with asyncio.timeout(_AHEAD_S):
            while self._tail.last < place.id and self._tail.identity == place.store:
                await self._tail.moved()
        return place
