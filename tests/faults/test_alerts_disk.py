"""The disk of the outbox is full: alerts wait in the store, nothing is sent unwritten, and nothing is lost."""

from __future__ import annotations

import subprocess
import tempfile
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
from tests.stores import Valkey, until, valkey_fixture

__all__ = ["valkey_fixture"]


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 32 MB."""
    folder = Path(tempfile.mkdtemp(prefix="disk-", dir="/tmp"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        folder.rmdir()
        pytest.skip(f"no small disk ({mounted.stderr.strip()}): run as root, with mount(8)")
    yield folder
    # Lazily: a process that is just ending may still have a file open there.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


async def test_a_full_disk_holds_alerts_back_and_loses_none(small_disk: Path, valkey: Valkey) -> None:
    """While nothing can be written nothing more is read from the store, and the process says so; with room again every
    alert is recorded and delivered once, those that began meanwhile included."""
    ballast = small_disk / "ballast"
    store = Store.connect(valkey.url)
    async with Hook() as hook, Publisher(store) as publisher:
        settings = AlertsSettings(
            redis_url=valkey.url,
            rules=[DOG],
            send={"ops": SendConfig(url=hook.url, allow_private=True, limit=None)},
            outbox=OutboxConfig(path=str(small_disk / "alerts.sqlite3")),
        )
        barking = Barking(publisher, 20)
        async with AlertsProcess(settings) as alerts:
            barking.hop(0.5)
            await until(lambda: _firing(hook) == barking.alerts > 0)
            with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
                while True:
                    file.write(bytes(65536))
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
