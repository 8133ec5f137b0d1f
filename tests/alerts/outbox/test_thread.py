"""The outbox for an event loop: in order, never on the loop, and patient where the disk is not."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from streamer.alerts.outbox.book import Book
from streamer.alerts.outbox.file import OutboxDamaged
from streamer.alerts.outbox.keeper import Outbox
from streamer.alerts.outbox.rows import Filter
from streamer.alerts.outbox.thread import OutboxThread, Recording
from streamer.errors import UserError
from tests.alerts.outbox_making import T0_NS, recorded
from tests.conftest import eventually
from tests.disks import fill, small_disk


async def test_all_is_done_in_one_other_thread_in_order(tmp_path: Path) -> None:
    """Opening, work and closing happen in one thread that is not the loop's, in the order of asking."""
    threads, order = set(), []

    def work(number: int) -> None:
        threads.add(threading.get_ident())
        order.append(number)

    def opened() -> Outbox:
        work(-1)
        return Outbox.open(tmp_path / "alerts.db")

    async with OutboxThread(opened) as outbox:
        await asyncio.gather(*(outbox.do(lambda _, number=number: work(number)) for number in range(50)))  # type: ignore[misc]
        thread = outbox
    assert order == list(range(-1, 50))
    assert len(threads) == 1 and threading.get_ident() not in threads
    with pytest.raises(RuntimeError, match="not open"):
        await thread.do(lambda book: book.counts())


async def test_what_cannot_be_opened_raises_on_entering(tmp_path: Path) -> None:
    """The error of opening comes out of `async with`."""
    with pytest.raises(UserError, match="no alerts were recorded"):
        async with OutboxThread(lambda: Book.open(tmp_path / "none.db", read_only=True)):
            pass


async def test_recording_waits_for_room() -> None:
    """On a full disk recording waits, says why, and is done when there is room again: none lost, none twice."""
    with small_disk("512k") as disk:
        path = disk / "alerts.db"
        async with OutboxThread(lambda: Outbox.open(path)) as outbox:
            recording = Recording(outbox, again_s=0.02)
            ballast = fill(disk)
            alerts = [recorded(number) for number in range(200)]
            task = asyncio.create_task(recording.record(alerts, T0_NS))
            await eventually(lambda: recording.waited >= 3)
            assert str(path) in recording.trouble and not task.done()
            os.unlink(ballast)
            kept = await asyncio.wait_for(task, 10)
            assert [one.alert for one in kept] == [one.alert for one in alerts]
            assert recording.trouble == ""
            assert len((await outbox.do(lambda book: book.listing(Filter(), limit=500))).rows) == 200


async def test_recording_does_not_wait_for_a_file_that_is_gone(tmp_path: Path) -> None:
    """A file that was removed is an error at once: waiting would not bring it back."""
    path = tmp_path / "alerts.db"
    async with OutboxThread(lambda: Outbox.open(path)) as outbox:
        path.unlink()
        with pytest.raises(OutboxDamaged):
            await Recording(outbox).record([recorded(1)], T0_NS)
