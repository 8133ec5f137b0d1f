"""The store's process is killed, frozen, emptied: what was handed over is there again, and soon."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.publishing.publish import PublishConfig
from tests.faults.feeding import STREAMS, Feeding, lost
from tests.stores import Proxy, Valkey, valkey_fixture

__all__ = ["valkey_fixture"]


async def test_killed_and_started_again_without_its_data(valkey: Valkey) -> None:
    """SIGKILL, and an empty store at the same address: what it had acknowledged shortly before is written again, what
    was handed over meanwhile after it, and labels are there again within 2 s."""
    async with Feeding(valkey.url) as feeding:
        await feeding.calm()
        await valkey.kill()
        await feeding.calm(0.7)
        await valkey.start()
        await feeding.again()
        await feeding.end()
        feed = await feeding.balance(valkey.url)
    assert feeding.publisher.statistics.rewritten > 0
    assert feeding.publisher.statistics.store_late > 0
    assert not any(lost(feed, stream) for stream in STREAMS)


async def test_killed_and_started_again_with_its_data(tmp_path: Path) -> None:
    """With a file that has everything, nothing is written twice, be it ever so uncertain what had been written."""
    async with Valkey("--appendonly", "yes", data=tmp_path) as server, Feeding(server.url) as feeding:
        for _ in range(2):
            await feeding.calm()
            await server.kill()
            await feeding.calm(0.1)
            await server.start()
            await feeding.again()
        await feeding.end()
        feed = await feeding.balance(server.url)
        assert feeding.publisher.statistics.rewritten == 0
        assert not any(lost(feed, stream) for stream in STREAMS)


async def test_started_again_with_a_file_that_lost_its_end(tmp_path: Path) -> None:
    """A machine that lost power had not everything on its disk: what is missing at the end is written again."""
    async with Valkey("--appendonly", "yes", data=tmp_path) as server, Feeding(server.url) as feeding:
        await feeding.calm(0.4)
        await server.kill()
        (file,) = tmp_path.glob("appendonlydir/*.incr.aof")
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) * 2 // 3])
        await server.start()
        await feeding.again()
        await feeding.end()
        await feeding.balance(server.url)
        assert feeding.publisher.statistics.rewritten > 0


async def test_frozen(valkey: Valkey) -> None:
    """SIGSTOP for longer than our patience, and again for less: nothing is missing or twice, nothing is written again,
    and what came late for it is marked and counted as the store's."""
    async with Feeding(valkey.url) as feeding:
        for seconds in (0.8, 0.2):
            await feeding.calm()
            valkey.freeze()
            await feeding.calm(seconds)
            valkey.thaw()
            await feeding.again()
        await feeding.end()
        await feeding.balance(valkey.url)
    assert feeding.publisher.statistics.rewritten == 0
    assert feeding.publisher.statistics.store_late > 0


async def test_emptied_again_and_again(valkey: Valkey) -> None:
    """FLUSHALL, three times: each time the last seconds are written again, before what follows; nothing is late."""
    async with Feeding(valkey.url) as feeding:
        for _ in range(3):
            await feeding.calm()
            await valkey.run("FLUSHALL")
            await feeding.again()
        await feeding.end()
        feed = await feeding.balance(valkey.url)
    assert feeding.publisher.statistics.rewritten > 0
    assert feeding.publisher.statistics.store_late == 0
    assert feeding.publisher.statistics.outages == 0
    assert not any(lost(feed, stream) for stream in STREAMS)


async def test_away_for_longer_than_is_kept(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """What had to make room, and what was acknowledged too long ago to be still here, is named before what follows."""
    monkeypatch.setattr("streamer.publishing.backlog._KEPT_NS", 100_000_000)
    async with Feeding(valkey.url, config=PublishConfig(span_ns=300_000_000)) as feeding:
        await feeding.calm(0.4)
        await valkey.kill()
        await feeding.calm(0.8)
        await valkey.start()
        await feeding.again()
        await feeding.end()
        feed = await feeding.balance(valkey.url)
    assert feeding.dropped
    for stream in STREAMS:
        gone, made_room = lost(feed, stream)
        assert gone.startswith("store_lost")
        assert made_room.startswith("store_away")


async def test_cut_in_the_middle_of_replies(valkey: Valkey) -> None:
    """Connections that break within an answer, again and again: nothing is lost, nothing twice, and no answer is taken
    for another's."""
    async with Proxy(valkey.socket) as proxy, Feeding(proxy.url) as feeding:
        proxy.torn, proxy.loss = True, 0.1
        await feeding.calm(1.5)
        proxy.loss = 0.0
        await feeding.again()
        await feeding.end()
        await feeding.balance(valkey.url)
        assert proxy.connections > 5
        assert feeding.publisher.statistics.duplicates > 0
        assert feeding.publisher.statistics.rewritten == 0


async def test_slow(valkey: Valkey) -> None:
    """A store that takes 150 ms for each answer is no outage and makes nothing late; one that takes 700 ms makes late
    what it makes late, and is quick again when it is."""
    async with Proxy(valkey.socket) as proxy, Feeding(proxy.url, response_timeout_s=2.0) as feeding:
        await feeding.calm()
        proxy.delay_s = 0.15
        await feeding.again()
        await feeding.calm(0.5)
        assert feeding.publisher.statistics.store_late == 0
        assert feeding.publisher.reserve_ns >= 200_000_000
        proxy.delay_s = 0.7
        await feeding.calm(1.5)
        proxy.delay_s = 0.0
        await feeding.again()
        await feeding.end()
        await feeding.balance(valkey.url)
        assert feeding.publisher.statistics.outages == 0
        assert feeding.publisher.statistics.store_late > 0
