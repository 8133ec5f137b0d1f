"""Whatever happens to the store, again and again, in any order."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest

from tests.faults.feeding import Feeding
from tests.stores import Proxy, Valkey, valkey_fixture

__all__ = ["valkey_fixture"]

Fault = Callable[[random.Random, Feeding, Valkey, Proxy], Awaitable[None]]


async def _kill(chance: random.Random, feeding: Feeding, server: Valkey, proxy: Proxy) -> None:
    await server.kill()
    await feeding.calm(chance.uniform(0.0, 0.4))
    await server.start()


async def _freeze(chance: random.Random, feeding: Feeding, server: Valkey, proxy: Proxy) -> None:
    server.freeze()
    await feeding.calm(chance.uniform(0.05, 0.6))
    server.thaw()


async def _cut(chance: random.Random, feeding: Feeding, server: Valkey, proxy: Proxy) -> None:
    for _ in range(chance.randint(1, 4)):
        proxy.cut()
        await feeding.calm(chance.uniform(0.0, 0.05))


async def _tear(chance: random.Random, feeding: Feeding, server: Valkey, proxy: Proxy) -> None:
    proxy.loss, proxy.torn = 0.3, chance.random() < 0.5
    await feeding.calm(0.2)
    proxy.loss = 0.0


async def _empty(chance: random.Random, feeding: Feeding, server: Valkey, proxy: Proxy) -> None:
    await server.run("FLUSHALL")


async def _fill(chance: random.Random, feeding: Feeding, server: Valkey, proxy: Proxy) -> None:
    await server.run("CONFIG", "SET", "maxmemory", "1")
    await feeding.calm(chance.uniform(0.02, 0.2))
    # What was dropped to make room is dropped for good: begin with nothing, so that the books can balance.
    await server.run("CONFIG", "SET", "maxmemory", "0")
    await server.run("FLUSHALL")


_FAULTS: tuple[Fault, ...] = (_kill, _freeze, _cut, _tear, _empty, _fill)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("rounds", [10, pytest.param(100, marks=pytest.mark.prove)])
async def test_after_every_fault_labels_are_there_again_and_the_books_balance(valkey: Valkey, rounds: int) -> None:
    """Killed, frozen, cut, torn, emptied, full, in random order and for random times: after each of them labels within
    2 s, and at the end every segment is in the store once and in order, or named as lost."""
    chance, slowest_s = random.Random(rounds), 0.0
    async with Proxy(valkey.socket) as proxy, Feeding(proxy.url) as feeding:
        for number in range(rounds):
            await feeding.calm(chance.uniform(0.0, 0.2))
            fault = _FAULTS[number] if number < len(_FAULTS) else chance.choice(_FAULTS)
            await fault(chance, feeding, valkey, proxy)
            slowest_s = max(slowest_s, await feeding.again())
        await feeding.end()
        await feeding.balance(valkey.url)
    print(f"\n{rounds} faults: labels again after {slowest_s:.2f} s at most")
