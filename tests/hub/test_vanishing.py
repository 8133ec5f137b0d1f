"""Subscribers behind a cable that is cut: no FIN and no reset ever comes, and nobody else notices."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect

from streamer.hub.settings import HubSettings
from streamer.publishing.publish import Publisher
from tests.faults.network import Network
from tests.hub.serving import Serving, published, publisher_fixture, receive, receive_until, seq_is
from tests.stores import Valkey, store_fixture, until, valkey_fixture

__all__ = ["publisher_fixture", "store_fixture", "valkey_fixture"]

# Says a word for each message, then goes on to read and to answer pings until it is killed.
_SUBSCRIBER = """
import asyncio, sys
from websockets.asyncio.client import connect
async def main():
    async with connect(sys.argv[1]) as peer:
        async for message in peer:
            print(len(message), flush=True)
asyncio.run(main())
"""


@pytest.fixture(name="network")
def network_fixture() -> Iterator[Network]:
    """A cable to another machine."""
    with Network() as network:
        yield network


@asynccontextmanager
async def far_subscriber(network: Network, serving: Serving) -> AsyncIterator[None]:
    """A subscriber at the far end of the cable, which has been greeted."""
    url = f"ws://{network.here}:{serving.hub.port}/v1/subscribe"
    process = await asyncio.create_subprocess_exec(
        *network.inside([sys.executable, "-c", _SUBSCRIBER, url]), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 15)
        yield
    finally:
        process.kill()
        await process.wait()


async def test_one_that_vanishes_while_nothing_is_sent_is_noticed_by_its_ping(
    valkey: Valkey, publisher: Publisher, network: Network
) -> None:
    """It stays as long as it answers pings; once its cable is cut it is given up within two periods."""
    settings = HubSettings(redis_url=valkey.url, host="0.0.0.0", port=0, ping_s=0.4)
    async with Serving(settings) as serving, connect(serving.url()) as near, far_subscriber(network, serving):
        await receive(near)
        await asyncio.sleep(3 * settings.ping_s)
        assert serving.hub.clients == 2
        network.impair(silent=True)
        await until(lambda: serving.hub.clients == 1)
        assert serving.hub.report().closed_gone == 1
        await published(publisher, 0, 3)
        assert [m["seq"] for m in await receive_until(near, seq_is(2))] == [0, 1, 2]


async def test_one_that_vanishes_while_much_is_sent_holds_nobody_up(
    valkey: Valkey, publisher: Publisher, network: Network
) -> None:
    """What it will never take is bounded and freed when its time is up; a subscriber beside it gets every message."""
    settings = HubSettings(redis_url=valkey.url, host="0.0.0.0", port=0, stalled_s=1.0)
    async with Serving(settings) as serving, connect(serving.url()) as near, far_subscriber(network, serving):
        await receive(near)
        network.impair(silent=True)
        reading = asyncio.create_task(receive_until(near, seq_is(3999)))
        await published(publisher, 0, 4000)
        assert [m["seq"] for m in await reading] == list(range(4000))
        await until(lambda: serving.hub.clients == 1)
        assert serving.hub.report().closed_slow == 1
        assert serving.hub.report().dropped > 0
        assert not serving.hub.blocked
