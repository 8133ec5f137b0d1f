"""Starts the hub as a process of its own and keeps it there, so that ten thousand sockets never hold up a label."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys

import msgspec
from msgspec.structs import replace

from streamer import child
from streamer.errors import StreamerError, UserError
from streamer.hub.settings import HubReport, HubSettings

log = logging.getLogger(__name__)

_START_S = 15.0
_STOP_S = 4.0
# A hub that reports nothing for this long (once a second is usual) is hung.
_SILENT_S = 15.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0
# One that lasted this long was healthy: the next failure is a new one.
_HEALTHY_S = 10.0


class HubProcess:
    """`async with HubProcess(settings) as hub: hub.port`.

    The listening socket belongs to this process and is inherited by the hub, so the port is known at once, stays ours
    while a hub that died is replaced, and connections made meanwhile wait instead of being refused.
    """

    def __init__(self, settings: HubSettings) -> None:
        self._settings = settings
        self._socket: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._first_report = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        self._stopping = False
        self.restarts = 0
        self.report: HubReport | None = None

    @property
    def port(self) -> int:
        """Where subscribers connect (the one that was given by the system where the settings said 0)."""
        assert self._socket is not None, "the hub is not started"
        port: int = self._socket.getsockname()[1]
        return port

    @property
    def pid(self) -> int | None:
        """The hub's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def __aenter__(self) -> HubProcess:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Bind the port, start the hub and wait until it serves.

        Raises:
            UserError: the address cannot be listened on.
            StreamerError: the hub did not come up.
        """
        self._socket = await _bound(self._settings.host, self._settings.port)
        self._supervisor = asyncio.create_task(self._supervise(), name="hub-process")
        reported = asyncio.create_task(self._first_report.wait())
        await asyncio.wait([reported, self._supervisor], timeout=_START_S, return_when=asyncio.FIRST_COMPLETED)
        reported.cancel()
        if not self._first_report.is_set():
            await self.stop()
            raise StreamerError("the hub did not come up; the lines it wrote before this say why")

    async def stop(self) -> None:
        """Let the hub send the end of the feed and say goodbye, then end it; safe to call twice."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), _STOP_S)
            except TimeoutError:
                log.warning("the hub does not stop: killed")
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
            self._supervisor = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        while not self._stopping:
            began = loop.time()
            code = await self._run()
            self.report = None
            if self._stopping or not self._first_report.is_set():
                return
            self.restarts += 1
            pause_s = _FIRST_PAUSE_S if loop.time() - began > _HEALTHY_S else min(2 * pause_s, _LONGEST_PAUSE_S)
            log.error("the hub ended with code %s; starting it again in %.1f s", code, pause_s)
            await asyncio.sleep(pause_s)

    async def _run(self) -> int:
        assert self._socket is not None
        fd = self._socket.fileno()
        process = self._process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "streamer.hub"],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(fd,),
            env=child.environment(),
            # Its own session: Ctrl-C in a terminal must reach the service alone, which stops the hub in its turn.
            start_new_session=True,
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            settings = replace(self._settings, listen_fd=fd)
            with contextlib.suppress(ConnectionError):
                process.stdin.write(msgspec.json.encode(settings) + b"\n")
                await process.stdin.drain()
            await self._listen(process.stdout)
            return await process.wait()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise

    async def _listen(self, reports: asyncio.StreamReader) -> None:
        """Take reports until the hub ends; end it when none come any more, for then it serves nobody either."""
        try:
            while line := await asyncio.wait_for(reports.readline(), _SILENT_S):
                self.report = msgspec.json.decode(line, type=HubReport)
                self._first_report.set()
        except TimeoutError:
            log.error("the hub has not reported for %g s: killed", _SILENT_S)
            if self._process is not None:
                self._process.kill()


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
