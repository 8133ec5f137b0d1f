"""Alerts in a real outbox, for the tests of those who read it."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from streamer.alerts.outbox.keeper import Outbox
from streamer.alerts.outbox.rows import Lane, Outcome
from streamer.alerts.records import DeliveryState, Recorded
from streamer.clock import NS_PER_S, rfc3339
from tests.fake_alerts import NOON_NS, alert

FIRING, OVER, OTHER = (f"{number:016x}" for number in (2, 1, 0))


def fill(path: Path) -> None:
    """Of `door`, an alert that is over and was not delivered, and one that fires; of `yard`, one of another rule that
    is over. A minute lies between them."""
    outbox = Outbox.open(path)
    try:
        yard = alert(0, rule="bark", stream="yard")
        _record(outbox, 0, Recorded(yard, (("chat", "quiet"),)))
        _record(outbox, 1, Recorded(replace(yard, state="cleared", at=rfc3339(NOON_NS + 9 * NS_PER_S))))
        over = alert(1)
        _record(outbox, 60, Recorded(over, (("ops", "pending"), ("chat", "pending"))))
        _settle(outbox, "ops", "dead", error="ops answered 500")
        _settle(outbox, "chat", "sent")
        _record(outbox, 61, Recorded(replace(over, state="cleared", at=rfc3339(NOON_NS + 70 * NS_PER_S))))
        _record(outbox, 120, Recorded(alert(2), (("ops", "pending"),)))
    finally:
        outbox.close()


def _record(outbox: Outbox, after_s: int, recorded: Recorded) -> None:
    outbox.record([recorded], NOON_NS + after_s * NS_PER_S)


def _settle(outbox: Outbox, receiver: str, state: DeliveryState, error: str = "") -> None:
    """What became of everything that waits for a receiver."""
    waiting = outbox.waiting(Lane(receiver, "glass", False), 10)
    assert waiting, "there is something to settle"
    outbox.settle([Outcome(one.row, state, NOON_NS + 61 * NS_PER_S, 3, error=error) for one in waiting])
