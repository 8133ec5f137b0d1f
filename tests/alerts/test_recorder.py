"""The recorder: what rules say of a real store's feed is written down once, whatever happens in between."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec.structs import replace

from streamer.alertconfig import AlertConfig, SendConfig
from streamer.alerts.mirror import Mirror
from streamer.alerts.outbox.keeper import Outbox
from streamer.alerts.outbox.rows import AlertRow, Filter, Kept
from streamer.alerts.outbox.thread import OutboxThread
from streamer.alerts.recorder import Recorder
from streamer.alerts.records import Fired
from streamer.alerts.rules.ruleset import RuleSet
from streamer.alerts.settings import AlertsSettings
from streamer.clock import HostClock
from streamer.cursor import START
from streamer.messages import Segment, StreamMessage
from streamer.publishing.publish import Publisher
from streamer.storage.store import FEED, Store
from tests.alerts.barking import DOG, Barking, bark
from tests.hub.serving import publisher_fixture
from tests.stores import Valkey, store_fixture, until, valkey_fixture

__all__ = ["publisher_fixture", "store_fixture", "valkey_fixture"]

HOUR_NS = 3_600_000_000_000
OPS = SendConfig(url="http://127.0.0.1:1/hook", allow_private=True)


class Bench:
    """An outbox, and recorders on it one after another, as after restarts."""

    def __init__(self, path: Path, url: str, outbox: OutboxThread[Outbox]) -> None:
        self.path = path
        self.url = url
        self.outbox = outbox
        self.told: list[Kept] = []
        self.settings = AlertsSettings(redis_url=url, rules=[DOG], send={"ops": OPS})

    @contextlib.asynccontextmanager
    async def recording(
        self, rules: Sequence[AlertConfig] | None = None, *, killed: bool = False
    ) -> AsyncIterator[Recorder]:
        """A recorder until the block is left; with `killed` it keeps nothing at its end."""
        if rules is not None:
            self.settings = replace(self.settings, rules=list(rules))
        store = Store.connect(self.url)
        recorder = Recorder(store, self.outbox, self.settings, self.told.extend, HostClock())
        await recorder.restore()
        following = asyncio.create_task(recorder.follow())
        try:
            # It begins where the feed ends at its first start: it must have been there.
            assert await recorder.began(5)
            yield recorder
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            if not killed:
                await recorder.finish()
            await store.close()

    async def alerts(self, wanted: Filter | None = None) -> list[AlertRow]:
        """What is in the outbox, oldest first."""
        page = await self.outbox.do(lambda outbox: outbox.listing(wanted or Filter(), limit=1000))
        return list(page.rows)[::-1]

    async def said(self) -> list[tuple[str, str]]:
        return [(row.alert.stream, row.alert.state) for row in await self.alerts()]

    async def position(self) -> str | None:
        return await self.outbox.do(lambda outbox: outbox.position())


@pytest_asyncio.fixture(name="bench")
async def bench_fixture(tmp_path: Path, valkey: Valkey) -> AsyncIterator[Bench]:
    path = tmp_path / "alerts.sqlite3"
    async with OutboxThread(lambda: Outbox.open(path)) as outbox:
        yield Bench(path, valkey.url, outbox)


def publish(publisher: Publisher, stream: str, scores: Sequence[float], first: int = 0, epoch: str = "e1") -> None:
    for seq, score in enumerate(scores, first):
        publisher.publish(stream, [bark(stream, seq, score, epoch)])


def read(recorder: Recorder, count: int) -> Callable[[], bool]:
    return lambda: recorder.read >= count


async def test_what_fires_is_written_with_its_text_and_receivers(bench: Bench, publisher: Publisher) -> None:
    """A dog that begins and ends is two records of one id, told once each, with a delivery each to whom the rule
    names."""
    async with bench.recording() as recorder:
        publish(publisher, "door", [0.1, 0.9, 0.9, 0.1, 0.1])
        await until(lambda: recorder.recorded == 2)
        firing, cleared = await bench.alerts()
    assert (firing.alert.state, cleared.alert.state) == ("firing", "cleared")
    assert firing.alert.id == cleared.alert.id and firing.alert.rule == "dog" and firing.alert.stream == "door"
    assert firing.alert.text and firing.alert.labels[0].name == "Dog"
    assert [delivery.receiver for row in (firing, cleared) for delivery in row.deliveries] == ["ops", "ops"]
    assert [kept.alert.state for kept in bench.told] == ["firing", "cleared"]


async def test_a_recorder_that_comes_back_goes_on_where_it_was(bench: Bench, publisher: Publisher) -> None:
    """What was published while nobody read is read, and what was read is not read again."""
    async with bench.recording() as recorder:
        publish(publisher, "door", [0.1, 0.9])
        await until(lambda: recorder.recorded == 1)
    publish(publisher, "door", [0.9, 0.1, 0.9], first=2)
    await publisher.drain(5)
    async with bench.recording() as recorder:
        await until(lambda: recorder.recorded == 2)
        assert recorder.read == 3
    assert await bench.said() == [("door", "firing"), ("door", "cleared"), ("door", "firing")]


async def test_a_recorder_that_was_killed_says_nothing_twice(bench: Bench, publisher: Publisher) -> None:
    """It reads again from where it had kept its place; what it says again has the ids that are there already."""
    async with bench.recording() as recorder:
        publish(publisher, "door", [0.1])
        await until(read(recorder, 1))
    kept = await bench.position()
    async with bench.recording(killed=True) as recorder:
        publish(publisher, "door", [0.9, 0.1, 0.9], first=1)
        await until(lambda: recorder.recorded == 3)
    # What it kept within its second may be there or not: it is taken back to the earlier place.
    before = await bench.said()
    await bench.outbox.do(lambda outbox: outbox.checkpoint(kept or "", dict.fromkeys(outbox.memory())))
    bench.told.clear()
    async with bench.recording() as recorder:
        await until(read(recorder, 3))
    assert await bench.said() == before
    assert bench.told == []


async def test_a_store_that_was_emptied_is_followed_from_its_beginning(
    bench: Bench, publisher: Publisher, valkey: Valkey
) -> None:
    """What the publisher writes again was seen; what comes after it is not missed."""
    async with bench.recording() as recorder:
        publish(publisher, "door", [0.1, 0.9, 0.1])
        await until(lambda: recorder.recorded == 2)
        await valkey.run("FLUSHALL")
        publish(publisher, "door", [0.1, 0.9], first=3)
        await until(lambda: recorder.recorded == 3)
    assert await bench.said() == [("door", "firing"), ("door", "cleared"), ("door", "firing")]


async def test_an_outage_of_the_store_loses_nothing(bench: Bench, publisher: Publisher, valkey: Valkey) -> None:
    """Killed and started again, empty: the rules wait meanwhile, and see all that is written afterwards."""
    async with bench.recording() as recorder:
        publish(publisher, "door", [0.1])
        await until(read(recorder, 1))
        await valkey.kill()
        publish(publisher, "door", [0.9, 0.1, 0.9], first=1)
        await until(lambda: recorder.away)
        await valkey.start()
        await until(lambda: recorder.recorded == 3)
        assert recorder.outages == 1
    assert await bench.said() == [("door", "firing"), ("door", "cleared"), ("door", "firing")]


async def test_what_is_no_message_is_counted_and_left_out(bench: Bench, publisher: Publisher, valkey: Valkey) -> None:
    """Entries of somebody else's, and messages of kinds to come, stop nothing."""
    async with bench.recording() as recorder:
        for json_text in ("nonsense", '{"type":"poem","stream":"door"}', '{"type":"segment"}', "\udcff"):
            await valkey.run("XADD", FEED, "*", "json", json_text.encode("utf-8", "surrogateescape"))
        await valkey.run("XADD", FEED, "*", "other", "field")
        publish(publisher, "door", [0.9])
        await until(lambda: recorder.recorded == 1)
        assert recorder.unreadable == 4


async def test_a_fault_of_the_rules_costs_one_message(
    bench: Bench, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged and counted, and what comes after it is seen."""
    take = RuleSet.take

    def faulty(self: RuleSet, message: Segment, stored_ns: int) -> list[Fired]:
        if message.seq == 1:
            raise ZeroDivisionError("a fault of ours")
        return take(self, message, stored_ns)

    monkeypatch.setattr(RuleSet, "take", faulty)
    async with bench.recording() as recorder:
        publish(publisher, "door", [0.1, 0.9, 0.1, 0.9])
        await until(lambda: recorder.recorded == 1)
        assert recorder.failures == 1
    assert "a fault of ours" in caplog.text
    (row,) = await bench.alerts()
    assert row.alert.segment is not None and row.alert.segment.seq == 3


async def test_rules_that_change_keep_the_memory_of_those_that_stay(bench: Bench, publisher: Publisher) -> None:
    """A rule that goes on firing does not fire again; one that was taken out clears, and its receiver hears of it."""
    cat = replace(DOG, name="cat", when="label('Dog') > 0.6")
    async with bench.recording([DOG, cat]) as recorder:
        publish(publisher, "door", [0.9])
        await until(lambda: recorder.recorded == 2)
        bench.settings = replace(bench.settings, rules=[DOG])
        await recorder.change(bench.settings)
        publish(publisher, "door", [0.9, 0.9], first=1)
        await until(lambda: recorder.recorded == 3)
        await until(read(recorder, 3))
    *_, last = await bench.alerts()
    assert (last.alert.rule, last.alert.state) == ("cat", "cleared")
    assert [delivery.receiver for delivery in last.deliveries] == ["ops"]
    assert len(await bench.said()) == 3


async def test_groups_that_change_are_known_at_once(bench: Bench, publisher: Publisher) -> None:
    """A rule on a group sees the streams that have it now."""
    rule = replace(DOG, when="group == 'front' && label('Dog') > 0.5")
    async with bench.recording([rule]) as recorder:
        publish(publisher, "door", [0.9])
        await until(read(recorder, 1))
        await recorder.change(replace(bench.settings, groups={"door": "front"}))
        publish(publisher, "door", [0.9], first=1)
        await until(lambda: recorder.recorded == 1)
    (row,) = await bench.alerts()
    assert row.alert.group == "front"


async def test_a_disk_that_refuses_moves_no_position(
    bench: Bench, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing can be written nothing is read on; when it can, the alert is there, once."""
    from streamer.alerts.outbox.file import OutboxError

    refusing, record = True, Outbox.record

    def refused(self: Outbox, *arguments: object, **named: object) -> object:
        if refusing:
            raise OutboxError("no space left on device: make room there")
        return record(self, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Outbox, "record", refused)
    async with bench.recording() as recorder:
        publish(publisher, "door", [0.9])
        await until(lambda: "no space" in recorder.trouble)
        place = await bench.position()
        publish(publisher, "door", [0.9, 0.9], first=1)
        await publisher.drain(5)
        await asyncio.sleep(0.1)
        assert await bench.position() == place and recorder.recorded == 0
        refusing = False
        await until(lambda: recorder.recorded == 1)
    assert await bench.said() == [("door", "firing")]


async def test_a_rule_on_time_fires_where_nothing_comes(bench: Bench, publisher: Publisher) -> None:
    """A stream that reconnects has no segments: its rule goes by the store's clock."""
    gone = AlertConfig(name="gone", when="state == 'reconnecting'", for_ns=1_000_000_000)
    async with bench.recording([gone]) as recorder:
        publish(publisher, "door", [0.1])
        publisher.publish("door", [StreamMessage(stream="door", state="reconnecting", epoch="e1")])
        await until(lambda: recorder.recorded == 1)
    assert await bench.said() == [("door", "firing")]


async def test_alerts_are_mirrored_once_and_in_order(bench: Bench, store: Store) -> None:
    """What was recorded stands in the feed in the order of recording, also where a mirror was killed before it knew
    that it had written."""
    publisher = Publisher(store)
    async with publisher, bench.recording() as recorder:
        barking = Barking(publisher, 5)
        for _ in range(20):
            barking.hop()
        await publisher.drain(10)
        await until(lambda: sum(kept.alert.state == "firing" for kept in bench.told) == barking.alerts)
        assert recorder.recorded > 20
    some = await bench.outbox.do(lambda outbox: outbox.unmirrored(7))
    mirror = Mirror(store, bench.outbox, HOUR_NS)
    await store.append_alerts(
        [(f"{kept.alert.id}:{kept.alert.state}", b'{"type":"alert","n":0}') for kept in some], HOUR_NS
    )
    await mirror.empty()
    entries = [json.loads(raw) for _, raw in (await store.range_feed(START, count=10_000)).entries]
    alerts = [entry for entry in entries if entry["type"] == "alert"]
    assert [alert.get("n") for alert in alerts[:7]] == [0] * 7
    recorded = [(row.alert.id, row.alert.state) for row in await bench.alerts()]
    assert [(alert["id"], alert["state"]) for alert in alerts[7:]] == recorded[7:]
    assert all(row.mirrored for row in await bench.alerts())
