"""What goes between the rooms of alerts: what rules say, what is kept, and what is handed to a sender."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal, Protocol

from streamer.errors import StreamerError
from streamer.messages import Alert, AlertState, Label, Severity

DeliveryState = Literal["pending", "sent", "dead", "held", "quiet", "snoozed"]
"""`held`: by a limit, and told in a summary; `quiet`, `snoozed`: never to be sent, unless somebody asks for it."""


@dataclass(frozen=True, slots=True)
class Fired:
    """A rule fired, or what it fired for is over. Times are media time in nanoseconds since 1970.

    id: the same for both, and the same again where the same feed is read twice (`alert_id`). since_ns: when what the
    rule asks for began; at_ns: when it had lasted long enough, or was over. labels: those that the rule names, then the
    segment's likeliest, five at most. epoch, seq: the segment at which it was seen, None where time alone did it.
    """

    id: str
    rule: str
    key: str
    stream: str
    group: str | None
    state: AlertState
    severity: Severity
    since_ns: int
    at_ns: int
    labels: tuple[Label, ...] = ()
    words: tuple[str, ...] = ()
    epoch: str | None = None
    seq: int | None = None


def alert_id(rule: str, key: str, since_ns: int) -> str:
    """An id that only this rule, key and time have: 16 hex digits of their SHA-256."""
    return hashlib.sha256(f"{rule}\0{key}\0{since_ns}".encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Recorded:
    """An alert to be kept, and to whom it goes: receivers' names with the state that each delivery begins in."""

    alert: Alert
    receivers: tuple[tuple[str, DeliveryState], ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """What limits held back: how many alerts, between which recording times (Unix nanoseconds), and of which rules how
    many."""

    count: int
    first_ns: int
    last_ns: int
    rules: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One alert (or a summary, then `alert` is the latest it tells of) on its way to one receiver.

    id: stays the same however often it is sent: receivers know repeats by it. attempt: from 1. recorded_ns: when it was
    recorded, Unix nanoseconds.
    """

    id: str
    receiver: str
    alert: Alert
    attempt: int
    recorded_ns: int
    summary: Summary | None = None
    pictures: tuple[str, ...] = field(default=())


class NotDelivered(StreamerError):
    """A receiver did not take it. `retry`: whether another try may help; `after_s`: the pause that it asked for."""

    def __init__(self, text: str, *, retry: bool = True, after_s: float | None = None) -> None:
        super().__init__(text)
        self.retry = retry
        self.after_s = after_s


class Sender(Protocol):
    """Brings deliveries to one receiver; several may be under way at a time."""

    async def send(self, delivery: Delivery) -> None:
        """Return when the receiver has it.

        Raises:
            NotDelivered: it has not, or may not have; the text is for people and holds no secret.
        """

    async def aclose(self) -> None:
        """Let go of connections; what is under way may fail."""
