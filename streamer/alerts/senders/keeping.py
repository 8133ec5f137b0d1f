"""Receivers that show an alert for as long as it lasts (brokers, Alertmanager), and what they have to be told for it.

They forget: a broker or Alertmanager that was restarted, or we. So beside the deliveries they get the whole truth from
time to time, from the outbox, and whatever they show otherwise is put right.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from streamer.alerts.outbox.rows import AlertRow
from streamer.messages import Alert


@runtime_checkable
class Keeper(Protocol):
    """A sender whose receiver keeps a state."""

    async def keep(self, firing: Sequence[Alert], as_of_ns: int) -> None:
        """Show these and no others; what was recorded after `as_of_ns` (Unix nanoseconds) stays as it is.

        To be called when the sender begins and twice a minute or so, with `kept_for` of what the outbox has. Does
        nothing where the receiver can't be reached: the next call makes up for it.
        """


def kept_for(receiver: str, rows: Iterable[AlertRow]) -> list[Alert]:
    """Of alerts that fire still (`Book.firing`), those that `receiver` shows or should: all that went to it, also what
    a limit held back or what it did not take, but nothing that was to stay quiet."""
    return [
        row.alert
        for row in rows
        if any(sent.receiver == receiver and sent.state not in ("quiet", "snoozed") for sent in row.deliveries)
    ]


class Firing:
    """What a receiver shows now, by what was delivered. At most `most` alerts, and as many that were over lately; the
    oldest are forgotten beyond that (`forgotten`)."""

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._firing: OrderedDict[str, tuple[Alert, int]] = OrderedDict()
        self._over: OrderedDict[str, Alert] = OrderedDict()
        self.forgotten = 0

    @property
    def alerts(self) -> list[Alert]:
        """Those that fire, the oldest first."""
        return [alert for alert, _ in self._firing.values()]

    def take(self, alert: Alert, recorded_ns: int) -> Alert | None:
        """Note what a delivery says. Returns what fires or is over as it was first shown (an end may name another
        stream of the group, or another severity), None where this firing is over already: it is a late repeat."""
        if alert.state == "firing":
            if alert.id in self._over:
                return None
            self._add(alert, recorded_ns)
            return self._firing[alert.id][0]
        known = self._firing.pop(alert.id, None)
        shown = known[0] if known is not None else self._over.get(alert.id, alert)
        self._over[alert.id] = shown
        if len(self._over) > self._most:
            self._over.popitem(last=False)
        return shown

    def agree(self, firing: Sequence[Alert], as_of_ns: int) -> tuple[list[Alert], list[Alert]]:
        """Hold what is shown against what fires in truth; returns what was missing, and what is over unheard of."""
        true = {alert.id: alert for alert in firing}
        stale = [id for id, (_, told_ns) in self._firing.items() if id not in true and told_ns <= as_of_ns]
        ended = [self._firing.pop(id)[0] for id in stale]
        missing = [alert for id, alert in true.items() if id not in self._firing and id not in self._over]
        for alert in missing:
            self._add(alert, as_of_ns)
        return missing, ended

    def _add(self, alert: Alert, recorded_ns: int) -> None:
        self._firing.setdefault(alert.id, (alert, recorded_ns))
        if len(self._firing) > self._most:
            self._firing.popitem(last=False)
            self.forgotten += 1
