"""Words that have not settled, on their way to subscribers: the newest of each stream, never kept, after all else.

They come by a channel of the store beside the feed and have no cursor: who is slow, or still catching up, goes without
them, and has the utterance when it is final.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from streamer.errors import StoreError
from streamer.hub.fanout import Fanout
from streamer.hub.item import FeedItem, passing_item
from streamer.storage.store import Store

log = logging.getLogger(__name__)

_RETRY_S = 0.25
# Streams whose words wait; of each only the newest.
_MOST_WAITING = 1024
# Streams whose last utterance is remembered.
_MOST_KNOWN = 16_384
# For every moment spent on them, so many go to the feed.
_REST = 3.0


class Captions:
    """`follow` and `run` are its life; `settled` is told what the feed passes on.

    skipped: texts that were overtaken before they were sent. unreadable: what was no such message.
    """

    def __init__(self, store: Store, fanout: Fanout) -> None:
        self._store = store
        self._fanout = fanout
        self._waiting: dict[str, FeedItem] = {}
        self._final: dict[str, int] = {}
        self._wake = asyncio.Event()
        self.skipped = 0
        self.unreadable = 0

    async def follow(self) -> None:
        """Take what the store passes on, through its outages."""
        while True:
            try:
                async for json in self._store.speech():
                    self.take(json)
            except StoreError:
                pass  # the tail of the feed meets the same, and says so
            await asyncio.sleep(_RETRY_S)

    def take(self, json: bytes) -> None:
        """Words that have not settled: send them soon, unless newer ones come first."""
        try:
            item = passing_item(json)
        except ValueError:  # written by somebody else
            self.unreadable += 1
            return
        message = item.envelope
        if message.type != "speech" or message.final:
            self.unreadable += 1
            return
        if isinstance(message.utterance, int) and message.utterance <= self._final.get(message.stream, -1):
            return
        self.skipped += self._waiting.pop(message.stream, None) is not None
        self._waiting[message.stream] = item
        while len(self._waiting) > _MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]
            self.skipped += 1
        self._wake.set()

    def settled(self, items: Sequence[FeedItem]) -> None:
        """These go out now: what waits of the same utterances is old."""
        for item in items:
            message = item.envelope
            if message.type != "speech" or not isinstance(message.utterance, int):
                continue
            self._final[message.stream] = message.utterance
            waiting = self._waiting.get(message.stream)
            number = None if waiting is None else waiting.envelope.utterance
            if isinstance(number, int) and number <= message.utterance:
                del self._waiting[message.stream]
                self.skipped += 1
            if len(self._final) > _MOST_KNOWN:
                del self._final[next(iter(self._final))]

    async def run(self) -> None:
        """Send what waits, oldest stream first, with rests between."""
        while True:
            self._wake.clear()
            while self._waiting:
                began_s = time.monotonic()
                await self._fanout.pass_by(self._waiting.pop(next(iter(self._waiting))))
                await asyncio.sleep(_REST * (time.monotonic() - began_s))
            await self._wake.wait()
