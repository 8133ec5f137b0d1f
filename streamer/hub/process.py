"""Starts the hub as a process of its own and keeps it there, so that ten thousand sockets never hold up a label."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from streamer.child import SILENT_S, ChildProcess
from streamer.errors import UserError
from streamer.hub.settings import HubReport, HubSettings
from streamer.observe.metrics import Metrics

_SILENT_S = SILENT_S
_COUNTERS = {
    "sent": "Messages sent to subscribers.",
    "dropped": "Messages that slow subscribers missed.",
    "gaps": "Times a subscriber was told of a gap.",
    "overtaken": "Words that had not settled, and were not sent for newer ones.",
    "closed_slow": "Subscribers parted with: too slow.",
    "closed_gone": "Subscribers that had vanished.",
}


class HubProcess(ChildProcess[HubReport]):
    """`async with HubProcess(settings) as hub: hub.port`.

    The listening socket belongs to this process and is inherited by the hub, so the port is known at once, stays ours
    while a hub that died is replaced, and connections made meanwhile wait instead of being refused.
    """

    def __init__(self, settings: HubSettings) -> None:
        super().__init__("streamer.hub", "hub", HubReport, _SILENT_S)
        self._settings = settings
        self._socket: socket.socket | None = None

    @property
    def port(self) -> int:
        """Where subscribers connect (the one that was given by the system where the settings said 0)."""
        assert self._socket is not None, "the hub is not started"
        port: int = self._socket.getsockname()[1]
        return port

    def settings(self) -> HubSettings:
        """What the hub is told: the socket to serve on is one of this process."""
        return replace(self._settings, listen_fd=self.inherited()[0])

    def inherited(self) -> Sequence[int]:
        """The listening socket."""
        assert self._socket is not None
        return (self._socket.fileno(),)

    def watch(self, metrics: Metrics) -> None:
        """Show the hub's figures among the service's."""

        def of_report(name: str) -> Callable[[], float]:
            return lambda: float(getattr(self.report, name)) if self.report is not None else 0.0

        metrics.watch("hub_clients", "Websocket subscribers.", of_report("clients"))
        for name, text in _COUNTERS.items():
            metrics.watch(f"hub_{name}", text, of_report(name), counter=True)
        metrics.watch("hub_restarts", "Times the hub process was replaced.", lambda: self.restarts, counter=True)

    async def start(self) -> None:
        """Bind the port, start the hub and wait until it serves.

        Raises:
            UserError: the address cannot be listened on.
            StreamerError: the hub did not come up.
        """
        self._socket = await _bound(self._settings.host, self._settings.port)
        await super().start()

    async def stop(self) -> None:
        """Let the hub send the end of the feed and say goodbye, then end it; safe to call twice."""
        await super().stop()
        if self._socket is not None:
            self._socket.close()
            self._socket = None


async def _bound(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise UserError(f"{host} is no address of this machine ({error}): give another with --ws HOST:PORT") from error
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        remedy = "give another address with --ws HOST:PORT"
        raise UserError(f"cannot listen on {host}:{port} ({error.strerror}): {remedy}") from error
    return listener
