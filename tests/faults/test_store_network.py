"""The cable to the store: silent, lossy, thin. Real TCP between two network namespaces."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.faults.feeding import Feeding
from tests.faults.network import Network
from tests.stores import Valkey

_PORT = 6390


class Far:
    """A store at the far end of a cable."""

    def __init__(self, network: Network, server: Valkey) -> None:
        self.network = network
        self.server = server
        self.url = f"redis://{network.address}:{_PORT}/0"


@pytest_asyncio.fixture(name="far")
async def far_fixture() -> AsyncIterator[Far]:
    """Over there, and empty."""
    with Network() as network:
        listening = ("--port", str(_PORT), "--bind", "*", "--protected-mode", "no")
        async with Valkey(*listening, within=network.inside) as server:
            yield Far(network, server)


async def test_a_silent_cable(far: Far) -> None:
    """Nothing passes, nobody is told: for longer than our patience, and then for less. Within 2 s of the cable's return
    there are labels again, and nothing is missing or twice."""
    async with Feeding(far.url, response_timeout_s=0.5) as feeding:
        for seconds in (1.6, 0.2):
            await feeding.again()
            far.network.impair(silent=True)
            await feeding.calm(seconds)
            far.network.heal()
            await feeding.again()
        await feeding.end()
        await feeding.balance(far.server.url)
    assert feeding.publisher.statistics.rewritten == 0
    assert feeding.publisher.statistics.store_late > 0


async def test_a_bad_cable(far: Far) -> None:
    """5 % of the packets lost, some twice, some out of order, 10 to 20 ms on the way: order and count are kept."""
    async with Feeding(far.url, response_timeout_s=2.0) as feeding:
        far.network.impair(loss=0.05, delay_s=0.01, jitter_s=0.01, reorder=0.05, duplicate=0.02)
        await feeding.calm(2.0)
        far.network.heal()
        await feeding.again()
        await feeding.end()
        await feeding.balance(far.server.url, blurred_ms=30)
    assert feeding.publisher.statistics.rewritten == 0


async def test_a_thin_cable(far: Far) -> None:
    """Half of what is published fits through: it waits, is late for the store's sake, and comes when there is room."""
    async with Feeding(far.url, response_timeout_s=2.0) as feeding:
        await feeding.again()
        far.network.impair(bytes_per_s=40_000.0, queue_bytes=16_384)
        await feeding.calm(2.0)
        far.network.heal()
        await feeding.again()
        await feeding.end()
        await feeding.balance(far.server.url)
    assert feeding.publisher.statistics.store_late > 0
