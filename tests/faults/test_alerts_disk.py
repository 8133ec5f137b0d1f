"""The disk of the outbox is full: alerts wait in the store, nothing is sent unwritten, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.alertconfig import OutboxConfig, SendConfig
from streamer.alerts.process import AlertsProcess
from streamer.alerts.settings import AlertsSettings
from streamer.publishing.publish import Publisher
from streamer.storage.store import Store
from tests.alerts.barking import DOG, Barking
from tests.alerts.hook import Hook
from tests.disks import fill, small_disk
from tests.stores import Valkey, until, valkey_fixture

__all__ = ["valkey_fixture"]


@pytest.fixture(name="disk")
def disk_fixture() -> Iterator[Path]:
    with small_disk("32m") as disk:
        yield disk


async def test_a_full_disk_holds_alerts_back_and_loses_none(disk: Path, valkey: Valkey) -> None:
    """While nothing can be written nothing more is read from the store, and the process says so; with room again every
    alert is recorded and delivered once, those that began meanwhile included."""
    store = Store.connect(valkey.url)
    async with Hook() as hook, Publisher(store) as publisher:
        settings = AlertsSettings(
            redis_url=valkey.url,
            rules=[DOG],
            send={"ops": SendConfig(url=hook.url, allow_private=True, limit=None)},
            outbox=OutboxConfig(path=str(disk / "alerts.sqlite3")),
        )
        barking = Barking(publisher, 20)
        async with AlertsProcess(settings) as alerts:
            barking.hop(0.5)
            await until(lambda: _firing(hook) == barking.alerts > 0)
            ballast = fill(disk)
            for _ in range(20):
                barking.hop(0.5)
            await until(lambda: alerts.report is not None and not alerts.report.written)
            waiting = barking.alerts - _firing(hook)
            assert waiting > 0
            ballast.unlink()
            barking.quiet()
            await until(lambda: _firing(hook) == barking.alerts, 60)
            assert alerts.report is not None and alerts.restarts == 0
    ids = [taken.id for taken in hook.taken]
    assert len(ids) == len(set(ids))
    await store.close()


def _firing(hook: Hook) -> int:
    return len({taken.alert["id"] for taken in hook.taken if taken.alert["state"] == "firing"})
