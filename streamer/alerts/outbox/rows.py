"""What the outbox keeps, as it is read: alerts, their deliveries, snoozes and counts. Times are Unix nanoseconds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

from streamer.alerts.records import Delivery, DeliveryState, Summary
from streamer.messages import Alert, AlertState


@dataclass(frozen=True, slots=True)
class Kept:
    """An alert that was written. row: its place in the order of recording; receivers: as it was recorded with them."""

    row: int
    alert: Alert
    recorded_ns: int
    receivers: tuple[tuple[str, DeliveryState], ...] = ()


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """How far one delivery is.

    id: what the receiver knows repeats by. alert_id, alert_state, rule, stream: of its alert (of a summary: the latest
    it tells of). attempts: how often it was sent so far. due_ns: when it is tried next at the earliest, while
    `pending`. tried_ns: its first try, None before it. changed_ns: when `state` or `attempts` changed last. error: why
    the last try failed, "" if it did not. told_in: the delivery of the summary that tells of a `held` one.
    """

    id: str
    receiver: str
    state: DeliveryState
    alert_id: str
    alert_state: AlertState
    rule: str
    stream: str
    attempts: int
    due_ns: int
    tried_ns: int | None
    changed_ns: int
    error: str
    summary: Summary | None
    told_in: str | None


@dataclass(frozen=True, slots=True)
class AlertRow:
    """An alert with its deliveries. row: for paging; firing: it fires still; mirrored: it is in the feed."""

    row: int
    alert: Alert
    recorded_ns: int
    firing: bool
    mirrored: bool
    deliveries: tuple[DeliveryRow, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Alerts, the latest recorded first. next: `before` of the following page, None where this is the last."""

    rows: tuple[AlertRow, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which alerts are asked for; None: all. rule, stream: exact names. state: of the message. firing: only those that
    fire still. since_ns: recorded then or later. delivery: at least one of its deliveries is in this state."""

    rule: str | None = None
    stream: str | None = None
    state: AlertState | None = None
    firing: bool = False
    since_ns: int | None = None
    delivery: DeliveryState | None = None


@dataclass(frozen=True, slots=True)
class Snooze:
    """Alerts of `rule` (None: every rule) on streams like the glob `stream` (None: every one) are not delivered
    before `until_ns`."""

    rule: str | None
    stream: str | None
    until_ns: int

    def covers(self, rule: str, stream: str, now_ns: int) -> bool:
        """Whether an alert of this rule and stream, recorded now, is not to be delivered."""
        return (
            now_ns < self.until_ns
            and self.rule in (None, rule)
            and (self.stream is None or fnmatchcase(stream, self.stream))
        )


def is_snoozed(snoozes: Iterable[Snooze], rule: str, stream: str, now_ns: int) -> bool:
    """Whether any of them covers it."""
    return any(snooze.covers(rule, stream, now_ns) for snooze in snoozes)


@dataclass(frozen=True, slots=True)
class RuleFacts:
    """What the outbox knows of a rule: how often it fired, firing now, and when its last alert was recorded."""

    fired: int
    firing: int
    last_ns: int


@dataclass(frozen=True, slots=True)
class Counts:
    """For metrics. deliveries: by receiver and state, of `pending`, `dead` and `held` (not told yet). oldest_ns: when
    the oldest one still pending was recorded, None without any. unmirrored: alerts not in the feed yet. file_bytes:
    what it takes on disk."""

    deliveries: dict[tuple[str, Literal["pending", "dead", "held"]], int]
    oldest_ns: int | None
    unmirrored: int
    firing: int
    file_bytes: int


class Lane(NamedTuple):
    """Deliveries that are sent one after another: of one receiver and rule ("" for summaries), and those that somebody
    asked for apart from the others."""

    receiver: str
    rule: str
    asked: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """A delivery that is to be sent. rule: "" for a summary. begun_ns: when it was recorded or asked for again: a day
    later it is given up. asked: somebody asked for it, so that no limit holds it back."""

    row: int
    id: str
    receiver: str
    rule: str
    alert: Alert
    recorded_ns: int
    begun_ns: int
    attempts: int
    due_ns: int
    asked: bool
    summary: Summary | None

    def delivery(self, attempt: int) -> Delivery:
        """As a sender gets it, for its try number `attempt` (from 1)."""
        return Delivery(
            self.id, self.receiver, self.alert, attempt, self.recorded_ns, self.summary, tuple(self.alert.pictures)
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a delivery. state: `pending` where it is tried again at `due_ns`. at_ns: now. tried_ns: its first
    try, None where it was not sent (a limit held it back)."""

    row: int
    state: DeliveryState
    at_ns: int
    attempts: int
    tried_ns: int | None = None
    due_ns: int = 0
    error: str = ""


def delivery_id(alert_id: str, state: AlertState, receiver: str) -> str:
    """The id of one alert's delivery to one receiver: the same whenever and wherever it is recorded."""
    return "msg_" + hashlib.sha256(f"{alert_id}\0{state}\0{receiver}".encode()).hexdigest()[:24]


def summary_id(first: str) -> str:
    """The id of the summary whose earliest delivery held back is `first`."""
    return "msg_" + hashlib.sha256(f"summary\0{first}".encode()).hexdigest()[:24]
