"""Two who read along for a whole run: one from the store's feed, one as a subscriber through the hub."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from streamer.bench.outcomes import Account
from streamer.commands.watch import Subscription, follow
from streamer.cursor import START, EntryId
from streamer.errors import StoreError
from streamer.storage.store import Store

_BLOCK_MS = 500
_COUNT = 500
_PAUSE_S = 0.02
_PAST = 200


class Tap:
    """Reads the store's feed from its beginning on and keeps the account of what is there."""

    def __init__(self, url: str, account: Account) -> None:
        self.account = account
        self.losses = 0
        self._store = Store.connect(url)
        self._identity = ""
        self._place: EntryId = START

    async def run(self) -> None:
        """Read until cancelled, through outages."""
        while True:
            try:
                await self._read(_BLOCK_MS)
            except StoreError:
                await asyncio.sleep(_PAUSE_S)

    async def finish(self) -> None:
        """Read what is left. Raises StoreError where the store does not answer."""
        while await self._read(1):
            pass
        await self._store.close()

    async def _read(self, block_ms: int) -> int:
        page = await self._store.read_feed(self._place, block_ms=block_ms, count=_COUNT)
        if page.store and page.store != self._identity:
            if self._identity:
                self.losses += 1
                self.account.break_off()
                self._place = START
            self._identity = page.store
            # What this page holds may begin after the new store's beginning: it was asked for by the old place.
            page = await self._store.read_feed(self._place, block_ms=1, count=_COUNT)
        for entry_id, raw in page.entries:
            self.account.take(json.loads(raw), entry_id.ms)
            self._place = entry_id
        return len(page.entries)


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a segment with labels reached a subscriber (seconds, monotonic clock), and its epoch."""

    at_s: float
    epoch: str


class Follower:
    """A subscriber to everything who comes back by itself; `labelled` holds each stream's newest labels' arrival,
    `overloaded_s` when a segment last came that the machine had no time for, `lost_s` when it last lost its camera."""

    def __init__(self, url: str, account: Account) -> None:
        self.account = account
        self.labelled: dict[str, Arrival] = {}
        self.overloaded_s: dict[str, float] = {}
        self.lost_s: dict[str, float] = {}
        self.gaps = 0
        self.interruptions = 0
        self._url = url
        self._cursors: deque[str] = deque(maxlen=_PAST)

    @property
    def past(self) -> str | None:
        """A cursor of some while ago, None at the beginning."""
        return self._cursors[0] if self._cursors else None

    async def run(self) -> None:
        """Follow until cancelled."""
        async for raw in follow(Subscription(self._url), self._interrupted):
            self._take(json.loads(raw))

    def _interrupted(self, _: str) -> None:
        self.interruptions += 1

    def _take(self, message: dict[str, object]) -> None:
        if message["type"] == "gap":
            self.gaps += 1
            self.account.break_off()
            return
        if isinstance(cursor := message.get("cursor"), str):
            self._cursors.append(cursor)
        self.account.take(message)
        stream = str(message.get("stream"))
        if message["type"] == "stream" and message["state"] == "reconnecting":
            self.lost_s[stream] = time.monotonic()
        elif message["type"] == "segment" and message["labels"]:
            self.labelled[stream] = Arrival(time.monotonic(), str(message["epoch"]))
        elif message["type"] == "segment" and message["reason"] == "overload":
            self.overloaded_s[stream] = time.monotonic()

    async def labels_after(
        self, stream: str, since: Callable[[], float | None], epoch: str | None, patience_s: float
    ) -> float | None:
        """Seconds from the moment that `since` gives (None: not yet known) to the first labels of `stream` that arrive
        after it, in another epoch than `epoch`; None where none come within `patience_s`."""
        deadline_s = time.monotonic() + patience_s
        while time.monotonic() < deadline_s:
            began_s, arrival = since(), self.labelled.get(stream)
            if began_s is not None and arrival is not None and arrival.at_s > began_s and arrival.epoch != epoch:
                return arrival.at_s - began_s
            await asyncio.sleep(0.005)
        return None
