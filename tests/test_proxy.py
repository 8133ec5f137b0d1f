"""The proxy does to a connection what it says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.conftest import eventually
from tests.proxy import Proxy


@pytest.fixture
async def echo_port() -> AsyncIterator[int]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_it_relays_both_ways_and_the_end(echo_port: int) -> None:
    """What goes in comes out, and so does the end of a stream."""
    async with Proxy(echo_port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        await eventually(lambda: proxy.connections == 0)
        assert proxy.accepted == 1
        assert proxy.relayed_bytes == 10


async def test_frozen_it_holds_everything_and_loses_nothing(echo_port: int) -> None:
    """While frozen nothing passes and nothing closes; thawed, all of it comes."""
    async with Proxy(echo_port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"a")
        assert await reader.readexactly(1) == b"a"
        proxy.freeze()
        writer.write(b"bcd")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.3)
        proxy.thaw()
        assert await asyncio.wait_for(reader.readexactly(3), 2) == b"bcd"
        writer.close()


async def test_a_delay_is_kept(echo_port: int) -> None:
    """A delay of 0.1 s each way makes a round trip of 0.2 s."""
    async with Proxy(echo_port) as proxy:
        proxy.delay_s = 0.1
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        started = time.monotonic()
        writer.write(b"x")
        await reader.readexactly(1)
        assert 0.2 <= time.monotonic() - started < 1.0
        writer.close()


async def test_a_throttle_is_kept(echo_port: int) -> None:
    """200 kB through 400 kB/s take half a second or more."""
    async with Proxy(echo_port) as proxy:
        proxy.bytes_per_s = 400_000
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        started = time.monotonic()
        writer.write(bytes(200_000))
        await reader.readexactly(200_000)
        assert time.monotonic() - started > 0.3
        writer.close()


async def test_a_cut_resets_and_a_new_connection_works(echo_port: int) -> None:
    """Cut, the client's read fails at once; its next connection is served."""
    async with Proxy(echo_port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"a")
        await reader.readexactly(1)
        proxy.cut()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(reader.readexactly(1), 2)
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"b")
        assert await reader.readexactly(1) == b"b"
        writer.close()


async def test_refusing_closes_new_connections(echo_port: int) -> None:
    """While refusing, a connection ends before anything came through it."""
    async with Proxy(echo_port) as proxy:
        proxy.refusing = True
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await asyncio.wait_for(reader.read(1), 2) == b""
        writer.close()


async def test_a_target_that_is_down_closes_the_client() -> None:
    """Where nobody listens behind it, a client sees its connection end."""
    async with Proxy(1) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await asyncio.wait_for(reader.read(1), 2) == b""
        writer.close()


def test_url_goes_through_the_proxy() -> None:
    """The host and port are the proxy's; the credentials, the path and the query stay."""
    proxy = Proxy(554)
    proxy.port = 4000
    assert proxy.url("rtsp://u:p@127.0.0.1:554/live?x=1") == "rtsp://u:p@127.0.0.1:4000/live?x=1"
