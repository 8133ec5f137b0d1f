"""Words that have not settled, told to who listens now: the newest of each stream, kept nowhere."""

from __future__ import annotations

import asyncio

from streamer.errors import StoreError
from streamer.messages import SpeechMessage, encode
from streamer.storage.store import Store
from streamer.tasks import cancelled, watched


class Captions:
    """Belongs to one event loop, as does `store`.

    told, lost: texts that were passed on, and those that were overtaken or that the store did not take.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[str, SpeechMessage] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.told = 0
        self.lost = 0

    def start(self) -> None:
        """Begin to pass on."""
        self._task = watched(self._run(), "captions")

    async def stop(self) -> None:
        """End at once."""
        if self._task is not None:
            await cancelled(self._task)
            self._task = None
        self._waiting.clear()

    def tell(self, message: SpeechMessage) -> None:
        """Pass on `message` soon, unless there is a newer one of its stream before that. Never waits."""
        self.lost += self._waiting.pop(message.stream, None) is not None
        self._waiting[message.stream] = message
        self._wake.set()

    def settled(self, stream: str) -> None:
        """What waits of `stream` is old: its utterance is final."""
        self._waiting.pop(stream, None)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            while self._waiting:
                waiting, self._waiting = list(self._waiting.values()), {}
                try:
                    await self._store.tell_speech([encode(message) for message in waiting])
                    self.told += len(waiting)
                except StoreError:  # the publisher meets the same, and says so
                    self.lost += len(waiting)
            await self._wake.wait()
