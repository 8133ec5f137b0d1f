"""The outbox for an event loop: its blocking methods run in one thread of their own, one after another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Self, TypeVar

from streamer.alerts.outbox.book import Book
from streamer.alerts.outbox.file import OutboxDamaged, OutboxError
from streamer.alerts.outbox.keeper import Outbox
from streamer.alerts.outbox.rows import Kept
from streamer.alerts.records import Recorded

log = logging.getLogger(__name__)

Kind = TypeVar("Kind", bound=Book)
Given = TypeVar("Given")

_AGAIN_S = 1.0


class OutboxThread(Generic[Kind]):
    """`await thread.do(lambda book: book.counts())`. Use as an asynchronous context; it opens and closes the file.

    What is asked for waits in the order of asking; its bound is the number of tasks that wait for an answer.
    """

    def __init__(self, open_book: Callable[[], Kind]) -> None:
        """`open_book`, say `lambda: Outbox.open(path)`, is called in the thread when the context is entered."""
        self._open = open_book
        self._thread = ThreadPoolExecutor(1, "outbox")
        self._book: Kind | None = None

    async def __aenter__(self) -> Self:
        try:
            self._book = await asyncio.get_running_loop().run_in_executor(self._thread, self._open)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        book, self._book = self._book, None
        if book is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, book.close)
        self._thread.shutdown(wait=False)

    async def do(self, work: Callable[[Kind], Given]) -> Given:
        """What `work` gives, done in the thread after all that was asked for before. Where the caller is cancelled, it
        is done nevertheless.

        Raises:
            OutboxError: the file can't be read or written just now.
            RuntimeError: outside the context.
        """
        if (book := self._book) is None:
            raise RuntimeError("the outbox is not open")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, book)


class Recording:
    """Records alerts and does not give up: where the disk is full or the file locked it waits, so that its caller does
    not go on reading the feed and nothing is lost. `trouble`: what it waits for now ("": nothing); `waited`: how often
    it had to."""

    def __init__(self, outbox: OutboxThread[Outbox], again_s: float = _AGAIN_S) -> None:
        self._outbox = outbox
        self._again_s = again_s
        self.trouble = ""
        self.waited = 0

    async def record(self, alerts: Sequence[Recorded], now_ns: int) -> list[Kept]:
        """As `Outbox.record`, however long it takes.

        Raises:
            OutboxDamaged: the file is broken; whoever opens it next moves it aside.
        """
        while True:
            try:
                kept = await self._outbox.do(lambda outbox: outbox.record(alerts, now_ns))
            except OutboxDamaged:
                raise
            except OutboxError as error:
                self.waited += 1
                if not self.trouble:
                    log.error("alerts wait to be recorded: %s", error)
                self.trouble = str(error)
                await asyncio.sleep(self._again_s)
            else:
                if self.trouble:
                    log.info("alerts are recorded again")
                    self.trouble = ""
                return kept
