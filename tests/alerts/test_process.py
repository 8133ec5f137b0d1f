"""The alerts process: from a segment in the store to a receiver, replaced when it dies, never left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from msgspec.structs import replace

from streamer.alertconfig import AlertConfig, LimitConfig, OutboxConfig, SendConfig
from streamer.alerting import Alerting
from streamer.alerts.outbox.book import Book
from streamer.alerts.outbox.keeper import Outbox
from streamer.alerts.process import AlertsProcess
from streamer.alerts.settings import AlertsSettings, outbox_path
from streamer.cursor import START
from streamer.errors import StreamerError, UserError
from streamer.observe.metrics import Metrics
from streamer.publishing.publish import Publisher
from streamer.storage.store import Store
from tests.alerts.barking import DOG, Barking, bark
from tests.alerts.hook import Hook
from tests.hub.serving import publisher_fixture
from tests.stores import Valkey, store_fixture, until, valkey_fixture

__all__ = ["publisher_fixture", "store_fixture", "valkey_fixture"]


@pytest_asyncio.fixture(name="hook")
async def hook_fixture() -> AsyncIterator[Hook]:
    async with Hook() as hook:
        yield hook


@pytest.fixture(name="settings")
def settings_fixture(tmp_path: Path, valkey: Valkey, hook: Hook) -> AlertsSettings:
    """A rule on dogs, told to the hook."""
    return AlertsSettings(
        redis_url=valkey.url,
        rules=[DOG],
        send={"ops": SendConfig(url=hook.url, allow_private=True, limit=None)},
        outbox=OutboxConfig(path=str(tmp_path / "state" / "alerts.sqlite3")),
        page_url="http://127.0.0.1:8080",
    )


def reported(alerts: AlertsProcess, **least: int) -> bool:
    report = alerts.report
    return report is not None and all(getattr(report, name) >= value for name, value in least.items())


async def test_an_alert_reaches_receiver_and_feed(
    settings: AlertsSettings, publisher: Publisher, store: Store, hook: Hook
) -> None:
    """It says where it was seen and links to the page; its end comes under the same alert's id and another delivery's;
    both stand in the feed, in order, and the figures are reported."""
    async with AlertsProcess(settings) as alerts:
        for seq, score in enumerate([0.1, 0.9, 0.1]):
            publisher.publish("door", [bark("door", seq, score)])
        firing, cleared = await hook.has(2)
        assert (firing.body["type"], cleared.body["type"]) == ("alert.firing", "alert.cleared")
        assert firing.alert["id"] == cleared.alert["id"] and firing.id != cleared.id
        assert firing.alert["stream"] == "door" and firing.alert["segment"] == {"epoch": "e1", "seq": 1}
        assert firing.alert["link"].startswith("http://127.0.0.1:8080/")
        await until(lambda: reported(alerts, recorded=2, mirrored=2, sent=2, read=3))
    entries = [json.loads(raw) for _, raw in (await store.range_feed(START)).entries]
    assert [entry["state"] for entry in entries if entry["type"] == "alert"] == ["firing", "cleared"]


async def test_a_process_that_is_killed_is_replaced_and_goes_on(
    settings: AlertsSettings, publisher: Publisher, hook: Hook
) -> None:
    """SIGKILL: what is published meanwhile is told by its successor, and nothing is told under two ids."""
    async with AlertsProcess(settings) as alerts:
        publisher.publish("door", [bark("door", 0, 0.9)])
        await hook.has(1)
        assert alerts.pid is not None
        os.kill(alerts.pid, signal.SIGKILL)
        for seq, score in enumerate([0.1, 0.9], 1):
            publisher.publish("door", [bark("door", seq, score)])
        await until(lambda: len({taken.id for taken in hook.taken}) >= 3)
        assert alerts.restarts == 1
        await until(lambda: alerts.report is not None)
    assert len({(taken.alert["id"], taken.alert["state"]) for taken in hook.taken}) == 3
    assert len({taken.id for taken in hook.taken}) == 3


async def test_rules_and_receivers_change_while_it_runs(
    settings: AlertsSettings, publisher: Publisher, hook: Hook
) -> None:
    """New settings are taken up by the same process; what fires already goes on without firing again."""
    async with AlertsProcess(settings) as alerts, Hook() as other:
        pid = alerts.pid
        publisher.publish("door", [bark("door", 0, 0.9)])
        await hook.has(1)
        loud = AlertConfig(name="loud", when="label('Dog') > 0.8", send=["other"])
        send = settings.send | {"other": SendConfig(url=other.url, allow_private=True)}
        await alerts.change(replace(settings, rules=[DOG, loud], send=send))
        # Heard when it has been read: until then segments go by the rules before.
        for seq in range(1, 200):
            publisher.publish("door", [bark("door", seq, 0.9)])
            if other.taken:
                break
            await asyncio.sleep(0.05)
        assert [taken.alert["rule"] for taken in await other.has(1)] == ["loud"]
        assert alerts.pid == pid and len(hook.taken) == 1


async def test_it_ends_with_its_parent(settings: AlertsSettings) -> None:
    """When standard input closes, because who started it is gone, the process ends by itself."""
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "streamer.alerts"],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(msgspec.json.encode(settings) + b"\n")
    assert json.loads(await asyncio.wait_for(process.stdout.readline(), 10))["recorded"] == 0
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 5) == 0


async def test_settings_that_cannot_be_used_end_the_start(settings: AlertsSettings) -> None:
    """The process says why and its starter gives up at once."""
    with pytest.raises(StreamerError, match="alerts process did not come up"):
        await asyncio.wait_for(AlertsProcess(replace(settings, redis_url="nonsense://")).start(), 10)


async def test_a_storm_is_a_handful_of_messages_and_loses_no_record(
    settings: AlertsSettings, publisher: Publisher, store: Store, hook: Hook
) -> None:
    """1,000 streams that fire at once: each is recorded and in the feed; the receiver gets as many as its limit allows
    and a summary that tells of all the others."""
    limit = LimitConfig(most=5, per_ns=5_000_000_000)
    send = {"ops": replace(settings.send["ops"], limit=limit)}
    rule = replace(DOG, send_cleared=False)
    async with AlertsProcess(replace(settings, rules=[rule], send=send)) as alerts:
        barking = Barking(publisher, 1000, None)
        barking.hop(0.0)
        await publisher.drain(20)
        barking.hop(1.0)
        await until(lambda: reported(alerts, recorded=1000, mirrored=1000), 30)
        await until(lambda: any(taken.body["type"] == "alerts.held" for taken in hook.taken), 20)
    singles = [taken for taken in hook.taken if taken.body["type"] == "alert.firing"]
    held = sum(taken.body["data"]["count"] for taken in hook.taken if taken.body["type"] == "alerts.held")
    assert len(singles) <= 10 and len(hook.taken) <= 15
    assert len(singles) + held == 1000
    book = Book.open(outbox_path(settings.outbox), read_only=True)
    assert book.counts().firing == 1000
    book.close()
    page = await store.range_feed(START, count=10_000)
    mirrored = [json.loads(raw)["stream"] for _, raw in page.entries if raw.startswith(b'{"type":"alert"')]
    assert len(mirrored) == len(set(mirrored)) == 1000


# -- the service's side ------------------------------------------------------------------------------------------------


def fail(name: str) -> None:
    raise AssertionError(f"{name} failed")


async def test_without_rules_no_process_is_started(settings: AlertsSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the first rule of a changed file one is, and it takes part at once."""
    monkeypatch.setattr("streamer.alerting._FOLLOW_S", 0.02)
    now = [replace(settings, rules=[])]
    metrics = Metrics()
    alerting = Alerting(lambda: now[0], metrics, fail)
    async with alerting.running():
        assert alerting.pid is None
        now[0] = settings
        await until(lambda: alerting.pid is not None)
        await until(lambda: b"streamer_alerts_written 1.0" in metrics.render()[0])
        last = alerting.pid
    assert last is not None
    with pytest.raises(ProcessLookupError):
        os.kill(last, 0)


async def test_an_outbox_that_cannot_be_opened_stops_a_start(settings: AlertsSettings, tmp_path: Path) -> None:
    """The error names the file; without rules nobody asks for it."""
    (tmp_path / "file").write_text("in the way")
    wrong = replace(settings, outbox=OutboxConfig(path=str(tmp_path / "file" / "alerts.sqlite3")))
    with pytest.raises(UserError, match=r"alerts\.sqlite3"):
        async with Alerting(lambda: wrong, Metrics(), fail).running():
            raise AssertionError("it must not start")
    async with Alerting(lambda: replace(wrong, rules=[]), Metrics(), fail).running():
        pass


async def test_an_outbox_that_somebody_keeps_stops_a_start(settings: AlertsSettings) -> None:
    """Two services never write to one outbox: the second is told so in one line."""
    kept = await asyncio.to_thread(Outbox.open, outbox_path(settings.outbox))
    try:
        with pytest.raises(UserError, match=r"alerts\.sqlite3"):
            async with Alerting(lambda: settings, Metrics(), fail).running():
                raise AssertionError("it must not start")
    finally:
        kept.close()


async def test_an_outbox_that_breaks_later_ends_nobody(
    settings: AlertsSettings, publisher: Publisher, hook: Hook
) -> None:
    """A file that is overwritten while it is used is told, moved aside, and alerts go on in a fresh one."""
    path = outbox_path(settings.outbox)
    async with Alerting(lambda: settings, Metrics(), fail).running():
        publisher.publish("door", [bark("door", 0, 0.9)])
        await hook.has(1)
        for file in (path, path.with_name(path.name + "-wal")):
            file.write_bytes(b"\0" * 100_000)
        # Until the process has noticed and begun anew; what it can't write down meanwhile it does not tell.
        for seq in range(1, 400):
            publisher.publish("door", [bark("door", seq, 0.9 if seq % 2 else 0.1)])
            if any(taken.alert["segment"]["seq"] > 1 for taken in hook.taken):
                break
            await asyncio.sleep(0.05)
        else:
            raise AssertionError("no alert any more")


def test_the_outbox_has_a_place_of_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As configured, else in the user's state folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert outbox_path(OutboxConfig()) == tmp_path / "streamer" / "alerts.sqlite3"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert outbox_path(OutboxConfig()) == Path.home() / ".local" / "state" / "streamer" / "alerts.sqlite3"
    assert outbox_path(OutboxConfig(path="/var/lib/a.db")) == Path("/var/lib/a.db")
