"""A small alerts process to be killed: numbers stand for the feed, and each becomes an alert that is delivered."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

from streamer.alertconfig import SendConfig
from streamer.alerts.delivery.courier import Courier, Receiver
from streamer.alerts.outbox.keeper import Outbox
from streamer.alerts.outbox.thread import OutboxThread, Recording
from streamer.alerts.senders.webhook import WebhookSender
from streamer.clock import HostClock
from tests.alerts.outbox_making import recorded

RULES = ("glass", "fire", "noise")
_CHECKPOINT_EVERY = 7
_PAUSE_S = 0.003


def rule_of(number: int) -> str:
    """The rule under which this number is recorded."""
    return RULES[number % len(RULES)]


def run(path: str, url: str, last: int | None) -> None:
    """Go on from the position in the outbox: until killed, or until `last` and all that is recorded is delivered."""
    asyncio.run(_run(Path(path), url, last))


async def _run(path: Path, url: str, last: int | None) -> None:
    clock = HostClock()
    sender = WebhookSender(SendConfig(url=url, allow_private=True))
    async with OutboxThread(lambda: Outbox.open(path)) as outbox:
        recording, courier = Recording(outbox), Courier(outbox, {"ops": Receiver(sender)}, {}, clock)
        delivering = asyncio.create_task(courier.run())
        position = int(await outbox.do(lambda book: book.position()) or 0)
        for number in itertools.count(position) if last is None else range(position, last):
            courier.recorded(await recording.record([recorded(number, rule=rule_of(number))], clock.wall_ns()))
            if number % _CHECKPOINT_EVERY == 0:
                following = str(number + 1)
                await outbox.do(lambda book: book.checkpoint(following, {}))  # noqa: B023 - awaited in this round
            await asyncio.sleep(_PAUSE_S)
        while await outbox.do(lambda book: book.lanes()):
            await asyncio.sleep(0.02)
        delivering.cancel()
        await asyncio.gather(delivering, return_exceptions=True)
