"""What is handed over is in the store in order and exactly once, whatever happens to the store meanwhile."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from streamer.cursor import START
from streamer.messages import StreamMessage
from streamer.publishing.backlog import Unit
from streamer.publishing.publish import Acknowledged, PublishConfig, Publisher
from streamer.storage.store import Store
from tests.stores import Proxy, Valkey, event, segment, store_fixture, until, valkey_fixture

__all__ = ["store_fixture", "valkey_fixture"]

S = 1_000_000_000


class Told:
    """What a publisher told its hooks."""

    def __init__(self) -> None:
        self.written: list[Acknowledged] = []
        self.dropped: list[Unit] = []
        self.fenced: list[str] = []

    def on_written(self, acknowledged: Acknowledged) -> None:
        self.written.append(acknowledged)

    def on_dropped(self, unit: Unit) -> None:
        self.dropped.append(unit)

    def on_fenced(self, stream: str) -> None:
        self.fenced.append(stream)


@pytest_asyncio.fixture(name="impatient")
async def impatient_fixture(valkey: Valkey) -> AsyncIterator[Store]:
    """A store that is given up on after 0.15 s."""
    store = Store.connect(valkey.url, response_timeout_s=0.15)
    yield store
    await store.close()


async def feed(valkey: Valkey) -> list[dict[str, object]]:
    """Everything in the feed, read over a connection of its own."""
    store = Store.connect(valkey.url)
    try:
        return [json.loads(entry) for _, entry in (await store.range_feed(START, count=100_000)).entries]
    finally:
        await store.close()


async def seqs(valkey: Valkey) -> dict[tuple[str, str], list[int]]:
    """Sequence numbers in the feed, by stream and epoch, in feed order."""
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for message in await feed(valkey):
        if message["type"] == "segment":
            found[str(message["stream"]), str(message["epoch"])].append(int(str(message["seq"])))
    return found


@asynccontextmanager
async def listening(valkey: Valkey, heard: list[int]) -> AsyncIterator[None]:
    """Collects the sequence numbers of what comes on the channel of `door`."""

    async def listen() -> None:
        while line := await reader.readline():
            if line.startswith(b"{"):
                heard.append(json.loads(line)["seq"])

    reader, writer = await asyncio.open_unix_connection(valkey.socket)
    writer.write(b"SUBSCRIBE streamer:segments:door\r\n")
    await reader.readuntil(b":1\r\n")
    task = asyncio.create_task(listen())
    try:
        yield
    finally:
        task.cancel()
        writer.close()


def deadline(seconds: float = 10.0) -> int:
    return time.monotonic_ns() + int(seconds * S)


async def test_units_of_many_streams_arrive_in_order(store: Store, valkey: Valkey) -> None:
    """Each stream's segments stand in the feed once and in order, and each acknowledgement is told once and in time."""
    told = Told()
    async with Publisher(store, hooks=told) as publisher:
        for seq in range(100):
            for stream in ("a", "b", "c"):
                publisher.publish(stream, [segment(stream, seq)], deadline())
        assert await publisher.drain(10) == 0
    assert await seqs(valkey) == {(stream, "e1"): list(range(100)) for stream in ("a", "b", "c")}
    assert len(told.written) == 300
    assert not any(acknowledged.late for acknowledged in told.written)
    assert all(a.handed_ns <= a.sent_ns <= a.acked_ns for a in told.written)
    assert publisher.typical_ns > 0
    assert publisher.statistics.written == 300


async def test_a_unit_is_whole_and_in_its_own_order(store: Store, valkey: Valkey) -> None:
    """Announcement, segment and events of one unit stand together in the order given."""
    async with Publisher(store) as publisher:
        announcement = StreamMessage(stream="door", state="live", epoch="e1")
        publisher.publish("door", [announcement, segment(), event()], deadline())
        assert await publisher.drain(5) == 0
    assert [message["type"] for message in await feed(valkey)] == ["stream", "segment", "event"]


async def test_a_process_that_starts_again_names_the_epoch_before(store: Store, valkey: Valkey) -> None:
    """The first announcement of a new publisher carries epoch and seq that the store had last."""
    for epoch, count in (("e1", 3), ("e2", 1)):
        async with Publisher(store) as publisher:
            publisher.publish("door", [StreamMessage(stream="door", state="live", epoch=epoch)])
            for seq in range(count):
                publisher.publish("door", [segment(seq=seq, epoch=epoch)])
            assert await publisher.drain(5) == 0
    announced = [message["previous"] for message in await feed(valkey) if message["type"] == "stream"]
    assert announced == [None, {"epoch": "e1", "last_seq": 2}]


async def test_a_killed_store_is_ridden_out(impatient: Store, valkey: Valkey) -> None:
    """Killed in mid-publishing and started again empty: what was not acknowledged before is there once, in order,
    without a hole, and says that it is late where it is."""
    told = Told()
    async with Publisher(impatient, hooks=told) as publisher:
        for seq in range(50):
            publisher.publish("door", [segment(seq=seq)], deadline())
        await until(lambda: len(told.written) > 5)
        await valkey.kill()
        acknowledged = len(told.written)
        for seq in range(50, 100):
            publisher.publish("door", [segment(seq=seq)], deadline(0.05 if seq < 80 else 60))
        await until(lambda: publisher.outage() is not None)
        outage = publisher.outage()
        assert outage is not None
        assert "away" in outage.reason
        assert outage.waiting == 100 - acknowledged
        await asyncio.sleep(0.06)
        await valkey.start()
        assert await publisher.drain(10) == 0
        assert publisher.outage() is None
    in_store = (await seqs(valkey))["door", "e1"]
    assert in_store == list(range(in_store[0], 100))
    assert in_store[0] <= acknowledged
    late = [message["seq"] for message in await feed(valkey) if message.get("delivered_late")]
    assert late == list(range(50, 80))
    assert publisher.statistics.store_late == 30
    assert publisher.statistics.late == 0


async def test_a_frozen_store_is_ridden_out(impatient: Store, valkey: Valkey) -> None:
    """SIGSTOP for longer than our patience, several times: nothing is missing, nothing twice, nothing out of order."""
    async with Publisher(impatient) as publisher:
        seq = 0
        for _ in range(3):
            for _ in range(40):
                publisher.publish("door", [segment(seq=seq)], deadline())
                seq += 1
                await asyncio.sleep(0)
            valkey.freeze()
            for _ in range(40):
                publisher.publish("door", [segment(seq=seq)], deadline())
                seq += 1
            await until(lambda: publisher.outage() is not None)
            await asyncio.sleep(0.3)
            valkey.thaw()
            await until(lambda: publisher.outage() is None)
        assert await publisher.drain(10) == 0
    assert (await seqs(valkey))["door", "e1"] == list(range(seq))


async def test_a_frozen_store_marks_what_it_writes_late(impatient: Store, valkey: Valkey) -> None:
    """A segment that lay in the frozen store's own socket past its deadline says `delivered_late` all the same."""
    told = Told()
    async with Publisher(impatient, hooks=told) as publisher:
        publisher.publish("door", [segment(seq=0)], deadline())
        assert await publisher.drain(5) == 0
        valkey.freeze()
        publisher.publish("door", [segment(seq=1)], deadline(0.1))
        await asyncio.sleep(0.3)
        valkey.thaw()
        assert await publisher.drain(5) == 0
    assert [message["delivered_late"] for message in await feed(valkey)] == [False, True]
    assert [acknowledged.store_late for acknowledged in told.written] == [False, True]


async def test_a_full_store_is_ridden_out(store: Store, valkey: Valkey) -> None:
    """Out of memory is an outage like any other; room is made, and what waited is written once and in order."""
    async with Publisher(store) as publisher:
        for seq in range(300):
            publisher.publish("door", [segment(seq=seq)], deadline())
        assert await publisher.drain(5) == 0
        await valkey.run("CONFIG", "SET", "maxmemory", "1")
        for seq in range(300, 400):
            publisher.publish("door", [segment(seq=seq)], deadline())
        await until(lambda: publisher.outage() is not None)
        assert "no memory left" in str(publisher.outage())
        await valkey.run("CONFIG", "SET", "maxmemory", "0")
        assert await publisher.drain(5) == 0
    in_store = (await seqs(valkey))["door", "e1"]
    assert in_store == list(range(in_store[0], 400))
    assert in_store[0] <= 300


async def test_lost_answers_and_cut_connections_lose_and_double_nothing(valkey: Valkey) -> None:
    """Through a connection that breaks in place of every twentieth answer, and at other times, 3 streams of 300 units
    each stand in the feed exactly once, in order."""
    async with Proxy(valkey.socket) as proxy:
        store = Store.connect(proxy.url)
        proxy.loss = 0.05
        async with Publisher(store) as publisher:
            for seq in range(300):
                for stream in ("a", "b", "c"):
                    publisher.publish(stream, [segment(stream, seq), event(stream)], deadline())
                if seq % 50 == 49:
                    proxy.cut()
                await asyncio.sleep(0.005)
            proxy.loss = 0.0
            assert await publisher.drain(20) == 0
            assert publisher.statistics.duplicates > 0
            assert proxy.connections > 5
        await store.close()
    assert await seqs(valkey) == {(stream, "e1"): list(range(300)) for stream in ("a", "b", "c")}
    assert sum(message["type"] == "event" for message in await feed(valkey)) == 900


async def test_a_slow_store_is_no_outage(valkey: Valkey) -> None:
    """50 ms a round trip costs latency, nothing else: batches grow, and all is written."""
    async with Proxy(valkey.socket) as proxy:
        proxy.delay_s = 0.05
        store = Store.connect(proxy.url)
        async with Publisher(store) as publisher:
            for seq in range(400):
                publisher.publish("door", [segment(seq=seq)], deadline())
            assert await publisher.drain(20) == 0
            assert publisher.statistics.outages == 0
            assert publisher.typical_ns > 40_000_000
        await store.close()
    assert (await seqs(valkey))["door", "e1"] == list(range(400))


async def test_an_emptied_store_gets_again_what_it_had_last(store: Store, valkey: Valkey) -> None:
    """FLUSHALL in mid-publishing: what was acknowledged in the seconds before is written again, once, and publishing
    goes on in order; who listens on the channel does not hear anything twice."""
    told = Told()
    heard: list[int] = []
    async with Publisher(store, hooks=told) as publisher, listening(valkey, heard):
        for seq in range(60):
            publisher.publish("door", [segment(seq=seq)], deadline())
            if seq == 40:
                await publisher.drain(5)
                await valkey.run("FLUSHALL")
        assert await publisher.drain(5) == 0
        await until(lambda: len(heard) >= 60)
    assert (await seqs(valkey))["door", "e1"] == list(range(60))
    assert heard == list(range(60))
    assert len(told.written) == 60
    assert publisher.statistics.rewritten == 41


async def test_what_an_emptied_store_lost_for_good_is_told(store: Store, valkey: Valkey) -> None:
    """What was acknowledged too long ago to be written again is named by a `stream` message before what follows."""
    async with Publisher(store) as publisher:
        for seq in range(300):
            publisher.publish("door", [segment(seq=seq)], deadline())
        await publisher.drain(5)
        await valkey.run("FLUSHALL")
        publisher.publish("door", [segment(seq=300)], deadline())
        assert await publisher.drain(5) == 0
    first, *others = await feed(valkey)
    left = [message["seq"] for message in others]
    assert left == list(range(int(str(left[0])), 301))
    assert 0 < int(str(left[0])) < 300
    reason = (
        f"store_lost: the store lost what it had acknowledged, segments (seq 0 to {int(str(left[0])) - 1} of epoch e1)"
    )
    assert (first["type"], first["reason"], first["epoch"]) == ("stream", reason, "e1")


async def test_a_lost_hash_alone_is_no_lost_feed(store: Store, valkey: Valkey) -> None:
    """Where only `streamer:last:{name}` was evicted, what stands in the feed is not written twice."""
    async with Publisher(store) as publisher:
        for seq in range(10):
            publisher.publish("door", [segment(seq=seq)], deadline())
            if seq == 5:
                await publisher.drain(5)
                await valkey.run("DEL", "streamer:last:door")
        assert await publisher.drain(5) == 0
    assert [message.get("seq") for message in await feed(valkey)] == list(range(10))
    assert publisher.statistics.rewritten == 0


async def test_a_newer_writer_takes_over(store: Store, valkey: Valkey) -> None:
    """The one before is told once, drops what it has and what it gets, and writes nothing more until it opens again."""
    told = Told()
    async with Publisher(store, hooks=told) as old, Publisher(store) as new:
        old.publish("door", [segment(seq=0, epoch="old")])
        await old.drain(5)
        new.publish("door", [segment(seq=0, epoch="new")])
        await new.drain(5)
        old.publish("door", [segment(seq=1, epoch="old")])
        await until(lambda: told.fenced == ["door"])
        old.publish("door", [segment(seq=2, epoch="old")])
        assert len(told.dropped) == 2
        new.publish("door", [segment(seq=1, epoch="new")])
        assert await new.drain(5) == 0
        assert await old.drain(5) == 0
        old.open("door")
        old.publish("door", [segment(seq=0, epoch="older")])
        assert await old.drain(5) == 0
    assert await seqs(valkey) == {("door", "old"): [0], ("door", "new"): [0, 1], ("door", "older"): [0]}
    assert told.fenced == ["door"]


async def test_what_does_not_fit_is_dropped_oldest_first_and_told(impatient: Store, valkey: Valkey) -> None:
    """With the store away for too long the last units are kept; the feed says which segments are missing."""
    told = Told()
    config = PublishConfig(capacity=20)
    async with Publisher(impatient, config, hooks=told) as publisher:
        publisher.publish("door", [StreamMessage(stream="door", state="live", epoch="e1"), segment(seq=0)])
        await publisher.drain(5)
        await valkey.kill()
        for seq in range(1, 100):
            publisher.publish("door", [segment(seq=seq)], deadline())
        await valkey.start()
        assert await publisher.drain(10) == 0
    kept = (await seqs(valkey))["door", "e1"]
    lost = [unit.segment.seq for unit in told.dropped if unit.segment]
    assert sorted(kept + lost) == list(range(100))
    assert kept[-20:] == list(range(80, 100))
    assert publisher.statistics.dropped == len(lost)
    _, notice = [message for message in await feed(valkey) if message["type"] == "stream"]
    assert f"{len(lost)} segments (seq {lost[0]} to {lost[-1]})" in str(notice["reason"])


async def test_nothing_waits_for_a_store_that_was_never_there(valkey: Valkey) -> None:
    """With no store at the start, publishing does not block, `drain` gives up in time and says how much is left; once
    the store is there all of it is written."""
    await valkey.kill()
    store = Store.connect(valkey.url)
    async with Publisher(store) as publisher:
        for seq in range(10):
            publisher.publish("door", [segment(seq=seq)])
        assert await publisher.drain(0.1) == 10
        assert publisher.outage() is not None
        await valkey.start()
        assert await publisher.drain(5) == 0
    await store.close()
    assert (await seqs(valkey))["door", "e1"] == list(range(10))


async def test_a_closed_stream_leaves_nothing_behind(store: Store) -> None:
    """After `close` what was handed over is still written; then the stream is forgotten, and it can be opened anew."""
    async with Publisher(store) as publisher:
        for turn in range(3):
            publisher.open("door")
            publisher.publish("door", [segment(epoch=f"e{turn}")])
            publisher.close("door")
            assert await publisher.drain(5) == 0
            assert publisher._backlogs == {}
            assert publisher._turns == {}
            assert publisher._closing == set()
        assert publisher.statistics.written == 3


async def test_old_messages_are_trimmed_while_publishing(
    store: Store, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The publisher keeps the streams within the memory it was given, newest last."""
    monkeypatch.setattr("streamer.publishing.publish._TRIM_EVERY_S", 0.05)
    config = PublishConfig(max_memory_bytes=300_000)
    async with Publisher(store, config) as publisher:
        for seq in range(2000):
            publisher.publish("door", [segment(seq=seq)])
            if seq % 200 == 0:
                await publisher.drain(5)
        assert await publisher.drain(5) == 0
        await until(lambda: 0 < publisher.statistics.used_bytes < 300_000)
    left = (await seqs(valkey))["door", "e1"]
    assert left == list(range(left[0], 2000))
    assert 0 < len(left) < 1000


async def test_an_idle_publisher_knows_that_the_store_is_away(
    impatient: Store, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing to publish, an outage begins and ends all the same."""
    monkeypatch.setattr("streamer.publishing.publish._TRIM_EVERY_S", 0.05)
    async with Publisher(impatient) as publisher:
        await valkey.kill()
        await until(lambda: publisher.outage() is not None)
        await valkey.start()
        await until(lambda: publisher.outage() is None)


async def test_what_is_left_at_the_end_is_told(valkey: Valkey) -> None:
    """Units that were never acknowledged are given to the hooks when the publisher is closed."""
    await valkey.kill()
    store, told = Store.connect(valkey.url), Told()
    async with Publisher(store, hooks=told) as publisher:
        publisher.publish("door", [segment()])
        assert await publisher.drain(0.05) == 1
    assert [unit.stream for unit in told.dropped] == ["door"]
    await store.close()
    await valkey.start()


async def test_other_threads_may_look_at_any_time(store: Store) -> None:
    """While streams come and go and units are written, another thread reads what it may: it is never an error, never
    below zero, and in the end it is what it should be."""
    done = threading.Event()

    def look() -> int:
        looks = 0
        while not done.is_set():
            outage = publisher.outage()
            assert outage is None or outage.waiting >= 0
            assert publisher.waiting >= 0
            assert publisher.reserve_ns >= 5_000_000
            assert publisher.typical_ns >= 0
            looks += 1
        return looks

    async with Publisher(store) as publisher:
        looking = asyncio.create_task(asyncio.to_thread(look))
        for number in range(1000):
            publisher.publish(f"s{number}", [segment(f"s{number}")], deadline())
            publisher.close(f"s{number}")
            if number % 100 == 0:
                await asyncio.sleep(0)
        assert await publisher.drain(10) == 0
        done.set()
        assert await looking > 10
        assert publisher.waiting == 0
        assert publisher.typical_ns > 0
