"""SIGKILL at any instant: no alert is lost, and repeats come under the same id."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import signal
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from streamer.alerts.outbox.book import Book
from streamer.alerts.outbox.keeper import Outbox
from streamer.alerts.outbox.rows import Filter
from tests.alerts.outbox_making import recorded
from tests.alerts.senders.receiver import Receiver, answers, resets
from tests.faults.outbox_process import RULES, rule_of, run

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.faults.outbox_process"])
# Past what any of the killed processes can have reached.
_MORE = 30


def start(path: Path, url: str, last: int | None = None) -> ForkServerProcess:
    process = _PROCESSES.Process(target=run, args=(str(path), url, last))
    process.start()
    return process


async def ended(process: ForkServerProcess, within_s: float) -> int | None:
    """Its exit code once it has ended."""
    await asyncio.to_thread(process.join, within_s)
    return process.exitcode


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.prove)])
async def test_no_alert_is_lost_and_none_changes_its_id(tmp_path: Path, kills: int) -> None:
    """A process that records and delivers is killed at random moments, and its receiver breaks off now and then: in the
    end each alert of the whole sequence is recorded once and has arrived, each under one id however often it came, and
    first arrivals of each rule are in the order of recording."""
    chance = random.Random(kills)
    path = tmp_path / "alerts.db"
    async with Receiver(answers(204)) as receiver:
        for _ in range(kills):
            receiver.behave = resets if chance.random() < 0.2 else answers(204)
            process = start(path, receiver.url)
            await asyncio.sleep(chance.uniform(0.02, 0.5))
            receiver.behave = answers(204)
            await asyncio.sleep(chance.uniform(0, 0.2))
            assert process.is_alive() and process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            assert await ended(process, 10) == -signal.SIGKILL
        arrived = len(receiver.requests)
        last = reached(path) + _MORE
        assert await ended(start(path, receiver.url, last), 60) == 0
    assert last > kills, "it got on between kills"
    assert arrived > kills, "and delivered"
    assert_all_there(path, last)
    assert_all_arrived(receiver, last)


def reached(path: Path) -> int:
    """How many alerts were recorded."""
    book = Book.open(path)
    found = len(book.listing(Filter(), limit=1_000_000).rows)
    book.close()
    return found


def assert_all_there(path: Path, last: int) -> None:
    """The outbox was never damaged, and holds each alert once, sent."""
    outbox = Outbox.open(path)
    rows = outbox.listing(Filter(), limit=1_000_000).rows
    outbox.close()
    assert outbox.moved_aside is None and not list(path.parent.glob("*damaged*"))
    assert [row.alert for row in reversed(rows)] == [recorded(n, rule=rule_of(n)).alert for n in range(last)]
    assert {delivery.state for row in rows for delivery in row.deliveries} == {"sent"}


def assert_all_arrived(receiver: Receiver, last: int) -> None:
    """What the receiver got tells of each alert, under an id of its own, in order."""
    ids: dict[str, set[str]] = {}
    for request in receiver.requests:
        ids.setdefault(json.loads(request.body)["data"]["text"], set()).add(request.headers["webhook-id"])
    expected = [f"{rule_of(number)} {number}" for number in range(last)]
    assert set(ids) == set(expected), "none is lost, none invented"
    assert {len(its) for its in ids.values()} == {1}, "an alert's id stays"
    assert len({one for its in ids.values() for one in its}) == last, "and is no other's"
    for rule in RULES:
        assert [text for text in ids if text.startswith(rule)] == [text for text in expected if text.startswith(rule)]
    print(f"{last} alerts, {len(receiver.requests) - last} repeats")
