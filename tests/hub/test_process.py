"""The hub as a process: replaced when it dies or hangs, on its port, and never left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys

import pytest
from websockets.asyncio.client import connect

from streamer.errors import StreamerError, UserError
from streamer.hub.process import HubProcess
from streamer.hub.settings import HubSettings
from streamer.publishing.publish import Publisher
from tests.hub.serving import (
    published,
    publisher_fixture,
    receive,
    receive_until,
    seq_is,
    serving_fixture,
)
from tests.stores import Valkey, store_fixture, until, valkey_fixture

__all__ = ["publisher_fixture", "serving_fixture", "store_fixture", "valkey_fixture"]


async def test_a_hub_process_that_is_killed_is_replaced_on_its_port(valkey: Valkey, publisher: Publisher) -> None:
    """Port and past survive: a subscriber reconnects with its cursor and misses nothing."""
    async with HubProcess(HubSettings(redis_url=valkey.url, port=0)) as hub:
        url = f"ws://127.0.0.1:{hub.port}/v1/subscribe"
        async with connect(url) as peer:
            await receive(peer)
            await published(publisher, 0, 5)
            cursor = (await receive_until(peer, seq_is(2)))[-1]["cursor"]
            assert hub.pid is not None
            os.kill(hub.pid, signal.SIGKILL)
            await asyncio.wait_for(peer.wait_closed(), 5)
        await published(publisher, 5, 8)
        async with connect(f"{url}?since={cursor}", open_timeout=15) as peer:
            await receive(peer)
            assert [m["seq"] for m in await receive_until(peer, seq_is(7))] == [3, 4, 5, 6, 7]
        assert hub.restarts == 1
        await until(lambda: hub.report is not None and hub.report.sent >= 5)
        last = hub.pid
    assert last is not None
    with pytest.raises(ProcessLookupError):
        os.kill(last, 0)


async def test_a_hub_process_that_hangs_is_replaced(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that reports nothing any more (SIGSTOP) is killed, and another serves."""
    monkeypatch.setattr("streamer.hub.process._SILENT_S", 2.5)
    async with HubProcess(HubSettings(redis_url=valkey.url, port=0)) as hub:
        assert hub.pid is not None
        os.kill(hub.pid, signal.SIGSTOP)
        await until(lambda: hub.restarts == 1 and hub.report is not None, 20)
        async with connect(f"ws://127.0.0.1:{hub.port}/v1/subscribe") as peer:
            await receive(peer)


async def test_a_hub_process_that_cannot_start_says_so_at_once() -> None:
    """Settings that the hub refuses end the start, not the patience."""
    with pytest.raises(StreamerError, match="did not come up"):
        await asyncio.wait_for(HubProcess(HubSettings(redis_url="nonsense://", port=0)).start(), 10)


async def test_a_hub_process_ends_with_its_parent(valkey: Valkey) -> None:
    """When standard input closes, because who started it is gone, the hub ends by itself."""
    settings = json.dumps({"redis_url": valkey.url, "port": 0}).encode()
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "streamer.hub"],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(settings + b"\n")
    assert json.loads(await asyncio.wait_for(process.stdout.readline(), 10))["clients"] == 0
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 5) == 0


async def test_a_port_that_is_taken_is_a_clear_error(valkey: Valkey) -> None:
    """The error names the address and the option."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"127.0.0.1:{port}.*--ws"):
            await HubProcess(HubSettings(redis_url=valkey.url, port=port)).start()
