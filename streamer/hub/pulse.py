"""Who is still there: every connection is pinged once a period, a part of them at a time, with one frame for all.

The library's own way is a task and several timers a connection, which costs ten thousand of them a tenth of a core.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from websockets.frames import CloseCode

from streamer.hub.connection import HubConnection

_PARTS = 20
# Pings sent before the event loop may see to others.
_SLICE = 100


class Pulse:
    """`run` pings `peers`, and parts with those from whom nothing has come since the ping before."""

    def __init__(self, peers: Collection[HubConnection], period_s: float) -> None:
        self._peers = peers
        self._period_s = period_s
        self.closed_gone = 0

    async def run(self) -> None:
        """Keep on for ever."""
        part = 0
        while True:
            await asyncio.sleep(self._period_s / _PARTS)
            part = (part + 1) % _PARTS
            due = [connection for connection in self._peers if connection.number % _PARTS == part]
            for turn, connection in enumerate(due, 1):
                if not connection.ping_in_time():
                    self.closed_gone += 1
                    connection.dismiss(CloseCode.INTERNAL_ERROR, "no answer to a ping")
                if turn % _SLICE == 0:
                    await asyncio.sleep(0)
