"""A store that has no room: in its memory, or on the disk that its file is on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.disks import small_disk
from tests.faults.feeding import STREAMS, Feeding, lost
from tests.stores import Valkey, until, valkey_fixture

__all__ = ["valkey_fixture"]


@pytest.fixture(name="disk")
def disk_fixture() -> Iterator[Path]:
    with small_disk("512k") as disk:
        yield disk


async def test_memory_that_somebody_else_fills(valkey: Valkey) -> None:
    """`maxmemory` reached by keys that are not ours: the outage says so and what to do, only the oldest of ours makes
    room, and once there is memory again all that waited is there, in order."""
    async with Feeding(valkey.url) as feeding:
        await feeding.calm()
        for number in range(40):
            await valkey.run("SET", f"somebody:{number}", "x" * 100_000)
        await valkey.run("CONFIG", "SET", "maxmemory", "1mb")
        await feeding.away()
        outage = feeding.publisher.outage()
        assert outage is not None
        assert "no memory left: raise its maxmemory or lower redis.max_memory" in outage.reason
        await feeding.calm(0.7)
        await valkey.run("FLUSHALL")
        await valkey.run("CONFIG", "SET", "maxmemory", "0")
        await feeding.again()
        await feeding.end()
        await feeding.balance(valkey.url)
    assert feeding.publisher.statistics.store_late > 0


async def test_a_store_that_is_full_for_long_is_not_emptied(valkey: Valkey) -> None:
    """Making room ends after a few times: what fills the memory may be somebody else's, and our past is worth more."""
    async with Feeding(valkey.url) as feeding:
        await feeding.calm(1.0)
        await valkey.run("CONFIG", "SET", "maxmemory", "1")
        await feeding.away()
        await feeding.calm(1.5)
        length = await valkey.run("XLEN", "streamer:feed")
        assert isinstance(length, int)
        assert length >= 50
        await valkey.run("CONFIG", "SET", "maxmemory", "0")
        await feeding.again()
        await feeding.end()


async def test_a_disk_that_is_full(disk: Path) -> None:
    """A store whose file can't grow refuses to write; when there is room again, all that waited is there, once."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(200 * 1024))
    options = ("--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0")
    async with Valkey(*options, data=disk) as server, Feeding(server.url) as feeding:
        await feeding.away()
        outage = feeding.publisher.outage()
        assert outage is not None
        await until(lambda: "No space left" in str(feeding.publisher.outage()))
        await feeding.calm(0.3)
        ballast.unlink()
        # The store itself looks once a second whether it can write again.
        await until(lambda: feeding.publisher.outage() is None)
        await feeding.again()
        await feeding.end()
        feed = await feeding.balance(server.url)
        assert not any(lost(feed, stream) for stream in STREAMS)
