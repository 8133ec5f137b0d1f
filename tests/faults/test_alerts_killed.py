"""The alerts process, its store and its receiver are killed at random moments: every alert is delivered, and repeats
come under the same id."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import defaultdict
from pathlib import Path

import pytest
from msgspec.structs import replace

from streamer import child
from streamer.alertconfig import OutboxConfig, SendConfig
from streamer.alerts.outbox.book import Book
from streamer.alerts.outbox.rows import Filter
from streamer.alerts.process import AlertsProcess
from streamer.alerts.settings import AlertsSettings, outbox_path
from streamer.publishing.publish import Publisher
from streamer.storage.store import Store
from tests.alerts.barking import DOG, Barking
from tests.alerts.hook import Hook
from tests.stores import Valkey, until

_STREAMS = 8
_EVERY_S = 0.05


class Trial:
    """The parts under trial, and the books that must balance."""

    def __init__(self, valkey: Valkey, hook: Hook, alerts: AlertsProcess, barking: Barking) -> None:
        self.valkey = valkey
        self.hook = hook
        self.alerts = alerts
        self.barking = barking

    async def kill(self, victim: str, down_s: float) -> None:
        """SIGKILL to one of them; store and receiver come back after `down_s`, the process is replaced by itself."""
        if victim == "process":
            pid = await _pid(self.alerts)
            os.kill(pid, signal.SIGKILL)
        elif victim == "store":
            await self.valkey.kill()
            await asyncio.sleep(down_s)
            await self.valkey.start()
        else:
            self.hook.kill()
            await asyncio.sleep(down_s)
            await self.hook.start()

    async def balance(self, path: Path) -> None:
        """Each dog that began was recorded and delivered once or more, under one id of its own."""
        firing = Filter(state="firing")
        due = self.barking.alerts
        await until(lambda: _count(self.hook, "firing") >= due, 60)
        book = Book.open(path, read_only=True)
        try:
            recorded: dict[str, int] = defaultdict(int)
            before = None
            while True:
                page = book.listing(firing, before=before, limit=500)
                for row in page.rows:
                    recorded[row.alert.stream] += 1
                if (before := page.next) is None:
                    break
        finally:
            book.close()
        assert dict(recorded) == {stream: count for stream, count in self.barking.due.items() if count}
        ids = defaultdict(set)
        for taken in self.hook.taken:
            ids[taken.alert["id"], taken.alert["state"]].add(taken.id)
        assert all(len(found) == 1 for found in ids.values()), "one alert came under two ids"
        assert len({next(iter(found)) for found in ids.values()}) == len(ids), "two alerts came under one id"
        assert _count(self.hook, "firing") == due


def _count(hook: Hook, state: str) -> int:
    return len({taken.alert["id"] for taken in hook.taken if taken.alert["state"] == state})


async def _pid(alerts: AlertsProcess) -> int:
    await until(lambda: alerts.pid is not None)
    assert alerts.pid is not None
    return alerts.pid


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.prove)])
async def test_kills_at_random_moments_lose_no_alert(
    kills: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Process, store (which keeps what it has on disk) and receiver, in turn by chance, at moments by chance, while
    dogs bark; then all of them are left in peace, and nothing is missing."""
    monkeypatch.setattr(child, "_LONGEST_PAUSE_S", 0.1)
    chance = random.Random(kills)
    settings = AlertsSettings(
        redis_url="",
        rules=[replace(DOG, send_cleared=True)],
        outbox=OutboxConfig(path=str(tmp_path / "alerts.sqlite3")),
    )
    data = tmp_path / "data"
    data.mkdir()
    async with Valkey("--appendonly", "yes", "--appendfsync", "always", data=data) as valkey, Hook() as hook:
        send = {"ops": SendConfig(url=hook.url, allow_private=True, limit=None)}
        settings = replace(settings, redis_url=valkey.url, send=send)
        store = Store.connect(valkey.url)
        async with AlertsProcess(settings) as alerts, Publisher(store) as publisher:
            trial = Trial(valkey, hook, alerts, Barking(publisher, _STREAMS, random.Random(kills)))
            barking = asyncio.create_task(_bark(trial.barking))
            for _ in range(kills):
                # Now and then while it comes up, else while it works.
                if chance.random() < 0.8:
                    await until(lambda: alerts.report is not None)
                await asyncio.sleep(chance.uniform(0.0, 0.8))
                victim = chance.choice(["process", "process", "store", "receiver"])
                await trial.kill(victim, chance.uniform(0.0, 0.4))
            barking.cancel()
            await asyncio.gather(barking, return_exceptions=True)
            trial.barking.quiet()
            assert await publisher.drain(20) == 0
            await trial.balance(outbox_path(settings.outbox))
        await store.close()
    assert trial.barking.alerts > kills


async def _bark(barking: Barking) -> None:
    while True:
        barking.hop(0.1)
        await asyncio.sleep(_EVERY_S)
