"""How many deliveries may go out: at most so many in any stretch of so long, to a receiver and of a rule to a receiver
(pure: time is an argument)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from streamer.alertconfig import LimitConfig


class Window:
    """At most `limit.most` within any `limit.per_ns`; times never go back."""

    def __init__(self, limit: LimitConfig, taken: Iterable[int] = ()) -> None:
        """taken: times at which some went out, the earliest first."""
        self._limit = limit
        self._taken = deque(taken, maxlen=limit.most)

    def room_ns(self, now_ns: int) -> int:
        """When there is room for one more: `now_ns`, or later."""
        if len(self._taken) < self._limit.most:
            return now_ns
        return max(self._taken[0] + self._limit.per_ns, now_ns)

    def take(self, now_ns: int) -> None:
        """One went out. Where there was no room for it, the earliest is forgotten."""
        self._taken.append(now_ns)

    def under(self, limit: LimitConfig) -> Window:
        """The same past under another limit."""
        return Window(limit, self._taken)


class Limits:
    """The limits of all receivers, and of each rule to each receiver."""

    def __init__(self, receivers: Mapping[str, LimitConfig | None], rules: Mapping[str, LimitConfig | None]) -> None:
        self._limits = (dict(receivers), dict(rules))
        self._receivers: dict[str, Window] = {}
        self._rules: dict[tuple[str, str], Window] = {}

    def change(self, receivers: Mapping[str, LimitConfig | None], rules: Mapping[str, LimitConfig | None]) -> None:
        """Other limits from now on; what went out before counts."""
        self._limits = (dict(receivers), dict(rules))
        self._receivers = {
            receiver: window.under(limit)
            for receiver, window in self._receivers.items()
            if (limit := receivers.get(receiver)) is not None
        }
        self._rules = {
            (receiver, rule): window.under(limit)
            for (receiver, rule), window in self._rules.items()
            if (limit := rules.get(rule)) is not None
        }

    def longest_ns(self) -> int:
        """The longest stretch that any limit counts over."""
        return max(
            (limit.per_ns for limits in self._limits for limit in limits.values() if limit is not None), default=0
        )

    def room_ns(self, receiver: str, rule: str, now_ns: int) -> int:
        """When there is room for one more of this rule to this receiver: `now_ns`, or later."""
        return max((window.room_ns(now_ns) for window in self._windows(receiver, [rule])), default=now_ns)

    def take(self, receiver: str, rules: Iterable[str], now_ns: int) -> None:
        """One went out to this receiver, which tells of these rules (an alert: of one; a summary: maybe of several)."""
        for window in self._windows(receiver, rules):
            window.take(now_ns)

    def _windows(self, receiver: str, rules: Iterable[str]) -> Iterable[Window]:
        of_receivers, of_rules = self._limits
        if (limit := of_receivers.get(receiver)) is not None:
            if receiver not in self._receivers:
                self._receivers[receiver] = Window(limit)
            yield self._receivers[receiver]
        for rule in rules:
            if (limit := of_rules.get(rule)) is not None:
                if (receiver, rule) not in self._rules:
                    self._rules[receiver, rule] = Window(limit)
                yield self._rules[receiver, rule]
