"""The station: senders are made, kept, told what lasts, and replaced as the configuration says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec.structs import replace

from streamer.alertconfig import OutboxConfig, SendConfig
from streamer.alerts import station as stations
from streamer.alerts.outbox.keeper import Outbox
from streamer.alerts.outbox.thread import OutboxThread
from streamer.alerts.records import Delivery, Sender
from streamer.alerts.settings import AlertsSettings
from streamer.alerts.station import Station
from streamer.clock import HostClock
from streamer.errors import UserError
from streamer.messages import Alert
from streamer.publishing.publish import Publisher
from tests.alerts.barking import DOG, bark
from tests.hub.serving import publisher_fixture
from tests.stores import Valkey, store_fixture, until, valkey_fixture

__all__ = ["publisher_fixture", "store_fixture", "valkey_fixture"]

DAY_NS = 86_400_000_000_000


class Lamp:
    """A receiver that keeps a state: what it was sent, and what it was told that lasts."""

    def __init__(self, name: str, config: SendConfig) -> None:
        self.name = name
        self.config = config
        self.sent: list[Alert] = []
        self.kept: list[list[str]] = []
        self.closed = False

    async def send(self, delivery: Delivery) -> None:
        self.sent.append(delivery.alert)

    async def keep(self, firing: Sequence[Alert], as_of_ns: int) -> None:
        self.kept.append([alert.id for alert in firing])

    async def aclose(self) -> None:
        self.closed = True


class Made:
    """Every sender that was made, in order."""

    def __init__(self) -> None:
        self.lamps: list[Lamp] = []

    def sender(self, name: str, config: SendConfig) -> Sender:
        if "wrong" in config.url:
            raise UserError("this address is none")
        self.lamps.append(Lamp(name, config))
        return self.lamps[-1]


@pytest.fixture(name="made")
def made_fixture(monkeypatch: pytest.MonkeyPatch) -> Made:
    made = Made()
    monkeypatch.setattr(stations, "make_sender", made.sender)
    monkeypatch.setattr(stations, "_KEEP_S", 0.05)
    return made


@pytest.fixture(name="settings")
def settings_fixture(valkey: Valkey) -> AlertsSettings:
    return AlertsSettings(redis_url=valkey.url, rules=[DOG], send={"ops": SendConfig(url="mqtt://broker")})


@pytest_asyncio.fixture(name="outbox")
async def outbox_fixture(tmp_path: Path) -> AsyncIterator[OutboxThread[Outbox]]:
    async with OutboxThread(lambda: Outbox.open(tmp_path / "alerts.sqlite3")) as outbox:
        yield outbox


def sent(lamp: Lamp, count: int) -> Callable[[], bool]:
    return lambda: len(lamp.sent) >= count


async def test_what_lasts_is_told_again_after_a_restart(
    made: Made, settings: AlertsSettings, outbox: OutboxThread[Outbox], publisher: Publisher
) -> None:
    """A receiver that keeps a state hears of an alert that fires from each station anew, without its being delivered
    again, and no more of it when it is over."""
    async with Station(settings, outbox, HostClock()):
        publisher.publish("door", [bark("door", 0, 0.9)])
        await until(lambda: bool(made.lamps[0].sent))
    assert made.lamps[0].closed
    (alert,) = made.lamps[0].sent
    async with Station(settings, outbox, HostClock()):
        await until(lambda: bool(made.lamps[1].kept))
        assert made.lamps[1].kept[0] == [alert.id]
        publisher.publish("door", [bark("door", 1, 0.1)])
        await until(sent(made.lamps[1], 1))
        await until(lambda: made.lamps[1].kept[-1] == [])
    assert [alert.state for alert in made.lamps[1].sent] == ["cleared"]


async def test_a_receiver_that_stays_keeps_its_sender(
    made: Made, settings: AlertsSettings, outbox: OutboxThread[Outbox], publisher: Publisher
) -> None:
    """Others are made and closed beside it; one whose entry changed gets a new one, which has what comes then."""
    async with Station(settings, outbox, HostClock()) as station:
        door = SendConfig(url="mqtt://other")
        await station.change(replace(settings, send={**settings.send, "door": door}))
        assert [lamp.name for lamp in made.lamps] == ["ops", "door"] and not made.lamps[0].closed
        await station.change(replace(settings, send={"ops": SendConfig(url="mqtt://elsewhere")}))
        assert made.lamps[0].closed and made.lamps[1].closed
        publisher.publish("door", [bark("door", 0, 0.9)])
        await until(sent(made.lamps[2], 1))
        assert made.lamps[2].config.url == "mqtt://elsewhere" and not made.lamps[0].sent


async def test_deliveries_to_a_receiver_that_cannot_be_made_wait(
    made: Made, settings: AlertsSettings, outbox: OutboxThread[Outbox], publisher: Publisher
) -> None:
    """They are tried, told why not, and arrive when the entry is mended; the others are not held up."""
    send = {"ops": SendConfig(url="mqtt://broker"), "bad": SendConfig(url="mqtt://wrong")}
    settings = replace(settings, rules=[replace(DOG, send=["ops", "bad"])], send=send)
    async with Station(settings, outbox, HostClock()) as station:
        publisher.publish("door", [bark("door", 0, 0.9)])
        await until(sent(made.lamps[0], 1))
        await until(lambda: station.report(0.0).failed >= 1)
        # It is counted when it fails, and written down on the outbox's own thread after that.
        rows = []
        while [(row.receiver, row.error) for row in rows] != [("bad", "this address is none")]:
            rows = await outbox.do(lambda book: book.deliveries("pending"))
        await station.change(replace(settings, send={**send, "bad": SendConfig(url="mqtt://mended")}))
        await until(lambda: bool(made.lamps[1].sent), 20)


async def test_what_was_kept_long_enough_is_dropped(
    made: Made,
    settings: AlertsSettings,
    outbox: OutboxThread[Outbox],
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is over and delivered goes; what fires still stays."""
    monkeypatch.setattr(stations, "_FORGET_EVERY_S", 0.05)
    keeping = replace(settings, outbox=OutboxConfig(keep_ns=DAY_NS))
    async with Station(keeping, outbox, HostClock()) as station:
        for seq, score in enumerate([0.9, 0.1, 0.9]):
            publisher.publish("door", [bark("door", seq, score)])
        await until(lambda: station.report(0.0).sent == 3 and station.report(0.0).mirrored == 3)
        assert len(await outbox.do(lambda book: book.rules())) == 1
        await station.change(replace(settings, outbox=OutboxConfig(keep_ns=0)))

        async def left() -> bool:
            firing = await outbox.do(lambda book: book.counts().firing)
            return firing == 1 and (await outbox.do(lambda book: book.rules()))["dog"].fired == 1

        await until(left)
