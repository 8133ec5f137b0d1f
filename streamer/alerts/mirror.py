"""Brings recorded alerts to the store's feed, each once, in the order of recording, through every outage."""

from __future__ import annotations

import asyncio
import logging

from streamer.alerts.outbox.file import OutboxDamaged, OutboxError
from streamer.alerts.outbox.keeper import Outbox
from streamer.alerts.outbox.thread import OutboxThread
from streamer.errors import StoreError
from streamer.messages import encode
from streamer.storage.store import MOST_ALERTS, Store

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0


class Mirror:
    """`run` for as long as alerts are recorded; `wake` it when some were. mirrored: how many are in the feed by now."""

    def __init__(self, store: Store, outbox: OutboxThread[Outbox], retention_ns: int) -> None:
        self._store = store
        self._outbox = outbox
        self._retention_ns = retention_ns
        self._woken = asyncio.Event()
        self.mirrored = 0

    def wake(self) -> None:
        """Something was recorded."""
        self._woken.set()

    async def run(self) -> None:
        """Mirror what is there, and what comes, until cancelled.

        Raises:
            OutboxDamaged: the outbox is broken.
        """
        while True:
            self._woken.clear()
            await self.empty()
            await self._woken.wait()

    async def empty(self) -> None:
        """Mirror everything that is there; waits for a store that is away, and for a disk."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                if not await self._step():
                    return
                pause_s = _FIRST_PAUSE_S
            except OutboxDamaged:
                raise
            except (StoreError, OutboxError) as error:
                if pause_s == _FIRST_PAUSE_S:
                    log.warning("%s; alerts wait to be shown", error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _step(self) -> bool:
        """Append some; False: there were none. Where that could not be noted, appending them again changes nothing."""
        rows = await self._outbox.do(lambda outbox: outbox.unmirrored(MOST_ALERTS))
        if not rows:
            return False
        alerts = [(f"{kept.alert.id}:{kept.alert.state}", encode(kept.alert)) for kept in rows]
        await self._store.append_alerts(alerts, self._retention_ns)
        places = [kept.row for kept in rows]
        await self._outbox.do(lambda outbox: outbox.mirrored(places))
        self.mirrored += len(rows)
        return True
