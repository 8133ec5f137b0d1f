"""Who is still there: every connection is pinged once a period, a part of them at a time, with one frame for all.

The library's own way is a task and several timers a connection, which costs ten thousand of them a tenth of a core.
"""

from __future__ import annotations

import asyncio

from websockets.frames import CloseCode

from streamer.hub.connection import HubConnection

_PARTS = 20
# Pings sent before the event loop may see to others.
_SLICE = 100


class Pulse:
    """`run` pings those who were added, and parts with those from whom nothing has come since the ping before."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._parts: list[set[HubConnection]] = [set() for _ in range(_PARTS)]
        self.closed_gone = 0

    def add(self, connection: HubConnection) -> None:
        """Ping it from now on."""
        self._parts[connection.number % _PARTS].add(connection)

    def discard(self, connection: HubConnection) -> None:
        """Ping it no more."""
        self._parts[connection.number % _PARTS].discard(connection)

    async def run(self) -> None:
        """Keep on for ever."""
        while True:
            for part in self._parts:
                await asyncio.sleep(self._period_s / _PARTS)
                await self._ping(list(part))

    async def _ping(self, connections: list[HubConnection]) -> None:
        for turn, connection in enumerate(connections, 1):
            if not connection.ping_in_time():
                self.closed_gone += 1
                connection.dismiss(CloseCode.INTERNAL_ERROR, "no answer to a ping")
            if turn % _SLICE == 0:
                await asyncio.sleep(0)
