"""Another server takes over at the store's address: what it had not got yet is written again, or told as lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.cameras import free_port
from tests.faults.feeding import STREAMS, Feeding, lost
from tests.stores import Proxy, Valkey, until


class Pair:
    """A primary, its replica, and an address that leads to one of them."""

    def __init__(self, primary: Valkey, replica: Valkey, port: int, address: Proxy) -> None:
        self.primary = primary
        self.replica = replica
        self.address = address
        self._port = port

    async def follow(self) -> None:
        """The replica has all that the primary has, and gets what comes."""
        await self.replica.run("REPLICAOF", "127.0.0.1", self._port)
        await until(self._in_step)

    async def _in_step(self) -> bool:
        return b"master_link_status:up" in _bytes(await self.replica.run("INFO", "replication"))

    async def promote(self) -> None:
        """The replica becomes a primary, and gets nothing more from the old one."""
        await self.replica.run("REPLICAOF", "NO", "ONE")

    def switch(self) -> None:
        """New connections go to the replica."""
        self.address.lead_to(self.replica.socket)


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    """A fresh one, in step."""
    port = free_port()
    listening = ("--port", str(port), "--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0")
    async with Valkey(*listening) as primary, Valkey() as replica, Proxy(primary.socket) as address:
        servers = Pair(primary, replica, port, address)
        await servers.follow()
        yield servers


def _bytes(reply: object) -> bytes:
    assert isinstance(reply, bytes)
    return reply


async def test_a_replica_in_step_takes_over() -> None:
    """The primary dies and its replica is promoted: all is there once, whatever was under way."""
    async with pair() as servers, Feeding(servers.address.url) as feeding:
        await feeding.calm()
        await servers.primary.kill()
        await servers.promote()
        servers.switch()
        await feeding.again()
        await feeding.end()
        feed = await feeding.balance(servers.replica.url)
    assert not any(lost(feed, stream) for stream in STREAMS)


async def test_a_replica_that_had_not_got_everything_takes_over() -> None:
    """What the old primary acknowledged and the new one never got is written again, in its place."""
    async with pair() as servers, Feeding(servers.address.url) as feeding:
        await feeding.calm()
        await servers.promote()
        await feeding.calm(0.4)
        await servers.primary.kill()
        servers.switch()
        await feeding.again()
        await feeding.end()
        feed = await feeding.balance(servers.replica.url)
    assert feeding.publisher.statistics.rewritten >= 3 * 10
    assert not any(lost(feed, stream) for stream in STREAMS)


async def test_a_replica_that_was_far_behind_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no longer here to be written again is named, from the first to the last."""
    monkeypatch.setattr("streamer.publishing.backlog._KEPT_NS", 150_000_000)
    async with pair() as servers, Feeding(servers.address.url) as feeding:
        await feeding.calm()
        await servers.promote()
        await feeding.calm(0.6)
        await servers.primary.kill()
        servers.switch()
        await feeding.again()
        await feeding.end()
        feed = await feeding.balance(servers.replica.url)
    assert feeding.publisher.statistics.rewritten > 0
    assert all(len(lost(feed, stream)) == 1 for stream in STREAMS)


async def test_the_old_primary_lives_on_as_a_replica() -> None:
    """A planned change of roles: connections that are still open lead to a server that takes no writing any more, and
    are left for new ones."""
    async with pair() as servers, Feeding(servers.address.url) as feeding:
        await feeding.calm()
        servers.switch()
        await servers.promote()
        await servers.primary.run("REPLICAOF", "127.0.0.1", "1")
        await feeding.again()
        await feeding.end()
        await feeding.balance(servers.replica.url)
    assert feeding.publisher.statistics.outages >= 1
