"""An outbox with a courier at work, and a clock that only the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from streamer.alertconfig import LimitConfig
from streamer.alerts.delivery.courier import Courier, Receiver
from streamer.alerts.outbox.keeper import Outbox
from streamer.alerts.outbox.rows import Filter, Kept
from streamer.alerts.outbox.thread import OutboxThread
from streamer.alerts.records import Recorded
from streamer.clock import NS_PER_S, ManualClock
from tests.alerts.outbox_making import Ear


class Post:
    """An outbox with a courier at work and a clock that only the test moves."""

    def __init__(self, outbox: OutboxThread[Outbox], courier: Courier, clock: ManualClock) -> None:
        self.outbox = outbox
        self.courier = courier
        self.clock = clock

    async def record(self, *alerts: Recorded) -> list[Kept]:
        kept = await self.outbox.do(lambda outbox: outbox.record(alerts, self.clock.wall_ns()))
        self.courier.recorded(kept)
        return kept

    async def advance(self, seconds: float) -> None:
        """Move the time, and let all have its effect that has one at once."""
        self.clock.advance(int(seconds * NS_PER_S))
        self.courier.wake()
        for _ in range(5):
            await asyncio.sleep(0.002)
            await self.outbox.do(lambda outbox: outbox.held())

    async def states(self) -> dict[str, str]:
        """What became of each alert's one delivery, by the alert's text."""
        page = await self.outbox.do(lambda outbox: outbox.listing(Filter(), limit=1000))
        return {row.alert.text: row.deliveries[0].state for row in reversed(page.rows)}

    async def until(self, expected: Mapping[str, str]) -> None:
        """Wait until the outbox says this of its alerts."""
        async with asyncio.timeout(5):
            while (now := await self.states()) != expected:
                await asyncio.sleep(0.005)
        assert now == expected


@asynccontextmanager
async def post(
    path: Path,
    ears: Mapping[str, Ear],
    *,
    limit: LimitConfig | None = None,
    rules: Mapping[str, LimitConfig | None] | None = None,
    clock: ManualClock | None = None,
) -> AsyncIterator[Post]:
    """A courier at work over the outbox at `path`."""
    clock = clock or ManualClock()
    receivers = {name: Receiver(ear, limit) for name, ear in ears.items()}
    async with OutboxThread(lambda: Outbox.open(path)) as outbox:
        courier = Courier(outbox, receivers, rules or {}, clock, luck=lambda: 0.5)
        task = asyncio.create_task(courier.run())
        try:
            yield Post(outbox, courier, clock)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
