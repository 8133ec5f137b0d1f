"""The end of the feed, followed: the newest messages in memory and what comes, read once for all subscribers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from bisect import bisect_right
from collections.abc import Callable, Coroutine, Sequence

from streamer.cursor import START, Cursor, EntryId
from streamer.errors import StoreError
from streamer.hub.item import FeedItem, feed_item
from streamer.hub.repeats import Repeats
from streamer.storage.store import FeedPage, Store

log = logging.getLogger(__name__)

_BLOCK_MS = 1000
_COUNT = 64
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.25
_LAST_ENTRIES_S = 1.0


class Tail:
    """Follows one store's feed: `on_items` gets what is new, in order; `on_reset` is told when the store was emptied.

    Both are awaited, one at a time, and to the end even where `follow` is cancelled meanwhile.

    `keep` newest messages stay in memory, so that subscribers who come back after a short absence (all at once, when
    this process was restarted) need nothing from the store.
    """

    def __init__(
        self,
        store: Store,
        on_items: Callable[[Sequence[FeedItem]], Coroutine[None, None, None]],
        on_reset: Callable[[Cursor], Coroutine[None, None, None]],
        keep: int = 1024,
    ) -> None:
        self._store = store
        self._on_items = on_items
        self._on_reset = on_reset
        self._keep = keep
        self._recent: list[FeedItem] = []
        self._since = START
        self._moved = asyncio.Event()
        self._begun = asyncio.Event()
        self._passing: asyncio.Task[None] | None = None
        self.ready = False
        self.identity = ""
        self.last = START
        self.streams: set[str] = set()
        self._repeats = Repeats()
        self.away = False
        self.outages = 0
        self.unreadable = 0

    @property
    def cursor(self) -> Cursor:
        """Where the feed stands: of the last message given to `on_items`, or being given to it."""
        return Cursor(self.last, self.identity)

    async def begun(self, timeout_s: float) -> bool:
        """Whether the store has answered; waits `timeout_s` at most for its first answer."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._begun.wait(), timeout_s)
        return self.ready

    async def moved(self) -> None:
        """Return when the next messages (or the store's emptying) are known here."""
        await self._moved.wait()

    def after(self, position: EntryId) -> list[FeedItem] | None:
        """Messages after `position` as far as they were given to `on_items`; None where memory does not reach back."""
        if position < self._since:
            return None
        return self._recent[bisect_right(self._recent, position, key=lambda item: item.id) :]

    async def follow(self) -> None:
        """Read for ever, through outages of the store."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                if not self.ready:
                    await self._begin()
                await self._take(await self._store.read_feed(self.last, block_ms=_BLOCK_MS, count=_COUNT))
                pause_s = _FIRST_PAUSE_S
                self.away = False
            except StoreError as error:
                if not self.away:
                    self.away = True
                    self.outages += 1
                    log.warning("%s; subscribers wait", error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def finish(self) -> None:
        """Read what the feed still holds and end; to be called after `follow` was cancelled. Gives up after 1 s."""
        try:
            async with asyncio.timeout(_LAST_ENTRIES_S):
                if self._passing is not None:
                    await self._passing
                while self.ready and await self._take(await self._store.range_feed(self.last.next(), count=_COUNT)):
                    pass
        except (StoreError, TimeoutError) as error:
            log.warning("the end of the feed was not read: %s", error or "no answer in time")

    async def _begin(self) -> None:
        bounds = await self._store.feed_bounds()
        page = await self._store.newest(self._keep)
        self.identity = page.store or bounds.store
        self._recent = self._noted(page)
        self.streams = set(await self._store.streams())
        self.last = page.entries[-1][0] if page.entries else bounds.last
        self._since = page.entries[0][0] if page.entries else bounds.last
        self.ready = True
        self._begun.set()

    async def _take(self, page: FeedPage) -> bool:
        """Pass on a page; True if there was something on it."""
        if page.store and page.store != self.identity:
            await self._reset(page.store)
            return True
        if not page.entries:
            return False
        items = self._noted(page)
        self.last = page.entries[-1][0]
        self._remember(items)
        await self._pass_on(self._on_items([item for item in items if not item.repeats]))
        return True

    async def _pass_on(self, passing: Coroutine[None, None, None]) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
        self._passing = asyncio.create_task(passing)
        await asyncio.shield(self._passing)

    async def _reset(self, identity: str) -> None:
        """The store was emptied or replaced: begin anew with what it holds now."""
        before = self.cursor
        self.identity, self.last, self._since = identity, START, START
        self._recent = []
        self._repeats.begin_anew()
        log.warning("the store was emptied: following it from its beginning")
        await self._pass_on(self._on_reset(before))

    def _remember(self, items: list[FeedItem]) -> None:
        self._recent += items
        if len(self._recent) > 2 * self._keep:
            self._since = self._recent[-self._keep - 1].id
            del self._recent[: -self._keep]

    def items(self, page: FeedPage) -> list[FeedItem]:
        """The messages of a page, decoded and framed; what is no message is left out and counted."""
        items = []
        for entry_id, json in page.entries:
            try:
                items.append(feed_item(entry_id, page.store or self.identity, json))
            except ValueError:  # written by somebody else
                self.unreadable += 1
        return items

    def _noted(self, page: FeedPage) -> list[FeedItem]:
        """The messages of the feed's next page; each says whether it is a repeat. Keeps track of which streams there
        are."""
        json = dict(page.entries)
        items = self.items(page)
        for item in items:
            message = item.envelope
            if message.type == "alert":
                # Written once, by another writer, and after its stream's end too, which it does not undo.
                continue
            item.repeats = self._repeats.is_repeat(message, json[item.id], again=item.id in page.again)
            if message.type == "stream" and message.state == "ended":
                self.streams.discard(message.stream)
            elif message.stream:
                self.streams.add(message.stream)
        return items
