"""What stands between a benchmark and the parts that it runs: the service's process, and the way to a camera."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from streamer.bench.relay import Relay
from streamer.bench.running import running_service
from streamer.errors import StreamerError
from tests.conftest import eventually


async def test_a_service_that_does_not_start_says_why() -> None:
    """A configuration that can't be used ends the benchmark at once, with what the service said of it."""
    with pytest.raises(StreamerError, match=r"did not start.*sauce"):
        async with running_service({"streams": {"door": {"sauce": "rtsp://127.0.0.1/"}}}, "unix:///nowhere"):
            pytest.fail("it runs")


@contextlib.asynccontextmanager
async def camera() -> AsyncIterator[int]:
    """The port of a server that answers each message with the same in upper case."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1000):
                writer.write(data.upper())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def connected(relay: Relay) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = int(relay.url("rtsp://127.0.0.1:1/live").removeprefix("rtsp://127.0.0.1:").removesuffix("/live"))
    return await asyncio.open_connection("127.0.0.1", port)


async def test_a_relay_tells_when_the_camera_plays_and_cuts() -> None:
    """All passes both ways; the answer to a PLAY is noted, that to anything else is not; a cut ends a connection, and
    the next one goes through."""
    async with camera() as port, Relay(port) as relay:
        reader, writer = await connected(relay)
        writer.write(b"DESCRIBE x")
        assert await reader.readexactly(10) == b"DESCRIBE X" and relay.played_s is None
        before_s = time.monotonic()
        writer.write(b"PLAY x")
        assert await reader.readexactly(6) == b"PLAY X"
        assert relay.played_s is not None and before_s <= relay.played_s <= time.monotonic()
        relay.cut()
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        reader, writer = await connected(relay)
        writer.write(b"again")
        assert await reader.readexactly(5) == b"AGAIN"
        writer.close()


async def test_a_relay_to_a_camera_that_is_down() -> None:
    """A connection ends at once where the camera does not listen, and works when it does."""
    async with camera() as port:
        pass
    async with Relay(port) as relay:
        reader, writer = await connected(relay)
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        await eventually(lambda: not relay._writers, what="nothing is kept of it")
