"""Keeping the store within its retention and memory, a little at a time."""

from __future__ import annotations

from collections.abc import Iterable

from streamer.errors import StoreError
from streamer.publishing.acknowledged import PublishConfig
from streamer.storage.records import StoreFull
from streamer.storage.store import Store

# Every so many turns it is looked up of which streams there are segments: also those of writers that are gone.
_STREAMS_EVERY = 150
_PAUSE_S = 0.01
# What stays of all streams when the store itself says that it is full, and how often in a row.
_SHRINK_TO = 0.8
_SHRINKS = 4


class Upkeep:
    """Trims `store` by `config`. Methods raise `StoreError` where it does not answer or refuses."""

    def __init__(self, store: Store, config: PublishConfig) -> None:
        self._store = store
        self._config = config
        self._turn = 0
        self._known: set[str] = set()
        self._shrinks = 0

    async def trim(self, streams: Iterable[str]) -> int:
        """Drop what is too old or too much of all streams, `streams` among them; returns the bytes in use before."""
        if self._turn % _STREAMS_EVERY == 0:
            self._known = set(await self._store.stored_streams())
        self._turn += 1
        config = self._config
        return await self._store.trim(
            self._known.union(streams), config.retention_ns, config.max_memory_bytes, pause_s=_PAUSE_S
        )

    async def make_room(self, problem: StoreError, streams: Iterable[str]) -> None:
        """Drop the oldest messages where `problem` is that the store is full; not for ever, because what fills it may
        be somebody else's."""
        if isinstance(problem, StoreFull) and self._shrinks < _SHRINKS:
            self._shrinks += 1
            await self._store.shrink(streams, _SHRINK_TO)

    def made_room(self) -> None:
        """The store takes what is written."""
        self._shrinks = 0
