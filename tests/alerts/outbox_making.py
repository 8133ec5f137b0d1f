"""Alerts, receivers and small disks for tests of the outbox and of deliveries."""

from __future__ import annotations

import asyncio

from streamer.alerts.outbox.keeper import Outbox
from streamer.alerts.records import Delivery, DeliveryState, NotDelivered, Recorded, alert_id
from streamer.clock import NS_PER_S, rfc3339
from streamer.messages import Alert, AlertState

T0_NS = 1_700_000_000 * NS_PER_S
"""Where ManualClock's wall clock begins."""


def recorded(
    number: int,
    *,
    rule: str = "glass",
    stream: str = "door",
    state: AlertState = "firing",
    to: tuple[tuple[str, DeliveryState], ...] | str = "ops",
) -> Recorded:
    """The alert of this number, to one receiver or to several with their states."""
    at = rfc3339(T0_NS + number * NS_PER_S)
    alert = Alert(
        stream=stream,
        id=alert_id(rule, stream, number),
        rule=rule,
        state=state,
        severity="warning",
        key=stream,
        since=at,
        at=at,
        late_ms=1.0,
        text=f"{rule} {number}",
    )
    return Recorded(alert, ((to, "pending"),) if isinstance(to, str) else to)


def only_delivery(outbox: Outbox, number: int, rule: str = "glass", stream: str = "door") -> str:
    """The id of the one delivery of that alert."""
    (row,) = outbox.alert(alert_id(rule, stream, number))
    (delivery,) = row.deliveries
    return delivery.id


class Ear:
    """A receiver that writes down what it gets, and does what it is told: `faults` are raised one after another, then
    `always` if set; while `open` is not set it takes nothing and answers nothing."""

    def __init__(self, *faults: NotDelivered | Exception) -> None:
        self.faults: list[NotDelivered | Exception] = list(faults)
        self.always: NotDelivered | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.asked: list[Delivery] = []
        self.got: list[Delivery] = []
        self.under_way = self.most_under_way = 0
        self.closed = False

    async def send(self, delivery: Delivery) -> None:
        self.asked.append(delivery)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.open.wait()
        finally:
            self.under_way -= 1
        if self.faults:
            raise self.faults.pop(0)
        if self.always is not None:
            raise self.always
        self.got.append(delivery)

    async def aclose(self) -> None:
        self.closed = True

    def texts(self) -> list[str]:
        """What it got, in words: an alert's text, or of how many a summary tells."""
        return [one.alert.text if one.summary is None else f"{one.summary.count} held" for one in self.got]
