"""Writes what became of deliveries, many at a time: a transaction gathers while the one before is on its way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from streamer.alerts.outbox.file import OutboxDamaged, OutboxError
from streamer.alerts.outbox.keeper import Outbox
from streamer.alerts.outbox.rows import Outcome
from streamer.alerts.outbox.thread import OutboxThread

log = logging.getLogger(__name__)

_MOST = 1024
_AGAIN_S = 1.0


class Settling:
    """Outcomes on their way to the disk.

    What is lost with the process here was sent and is not known to be: it is sent again under its id. While the disk
    takes nothing, `full` bounds how much that can be: then nobody sends.
    """

    def __init__(self, outbox: OutboxThread[Outbox]) -> None:
        self._outbox = outbox
        self._unwritten: dict[int, tuple[Outcome, Callable[[Outcome], None]]] = {}
        self._writing: frozenset[int] = frozenset()
        self._turn = asyncio.Lock()
        self._come = asyncio.Event()
        self.trouble = ""

    @property
    def full(self) -> bool:
        """Whether nothing more may be sent until what is here is written."""
        return len(self._unwritten) >= _MOST

    def __contains__(self, row: int) -> bool:
        """Whether an outcome of this delivery is on its way: what the outbox says of it is old."""
        return row in self._unwritten or row in self._writing

    def add(self, outcome: Outcome, written: Callable[[Outcome], None]) -> None:
        """Write this soon, and call `written` with it then; a later outcome of the same delivery takes its place."""
        self._unwritten[outcome.row] = outcome, written
        self._come.set()

    async def flush(self) -> None:
        """Write all that is here now.

        Raises:
            OutboxError: it could not be written; it stays here.
        """
        async with self._turn:
            taken, self._unwritten = self._unwritten, {}
            if not taken:
                return
            self._writing = frozenset(taken)
            try:
                outcomes = [outcome for outcome, _ in taken.values()]
                await self._outbox.do(lambda outbox: outbox.settle(outcomes))
            except BaseException:
                self._unwritten = taken | self._unwritten
                raise
            finally:
                self._writing = frozenset()
        for outcome, written in taken.values():
            written(outcome)

    async def run(self) -> None:
        """Write what comes until cancelled.

        Raises:
            OutboxDamaged: the file is broken.
        """
        while True:
            await self._come.wait()
            self._come.clear()
            try:
                await self.flush()
                self.trouble = ""
            except OutboxDamaged:
                raise
            except OutboxError as error:
                if not self.trouble:
                    log.error("what was delivered can't be written down: %s", error)
                self.trouble = str(error)
                self._come.set()
                await asyncio.sleep(_AGAIN_S)
