"""Alerts of plain lists behind the HTTP side: what the tests of routes and page steer."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec.structs import replace

from streamer.alertstatus import (
    AlertDetail,
    AlertList,
    AlertQuery,
    AlertStatus,
    DeliveryStatus,
    RuleStatus,
    RuleTry,
    Snooze,
    TrialReport,
    TriedAlert,
    TriedRule,
    TriedStream,
)
from streamer.clock import NS_PER_S, parse_rfc3339, rfc3339
from streamer.messages import Alert, AlertSegment, Label, Share

NOON = "2026-11-23T12:00:00.000Z"
NOON_NS = parse_rfc3339(NOON)


def alert(number: int = 0, *, rule: str = "glass", stream: str = "door", at_ns: int = NOON_NS) -> Alert:
    """The alert `number`, that fires."""
    return Alert(
        stream=stream, id=f"{number:016x}", rule=rule, state="firing", severity="critical", key=stream, group="front",
        since=rfc3339(at_ns - NS_PER_S), at=rfc3339(at_ns), late_ms=412.5, text=f"Glass on {stream}",
        labels=[Label("Glass", 0.83, Share(0.2, 0.8, 0.0)), Label("Speech", 0.4, Share(0.0, 1.0, 0.0))],
        words=["watch", "out"], segment=AlertSegment("0192f1c6", 42),
    )  # fmt: skip


def status(fired: Alert, cleared_ns: int | None = None, **told: int) -> AlertStatus:
    """An alert as it is listed; `told`: deliveries by state."""
    over = None if cleared_ns is None else replace(fired, state="cleared", at=rfc3339(cleared_ns))
    return AlertStatus(
        id=fired.id, state="firing" if over is None else "cleared", fired=fired, cleared=over, recorded=fired.at,
        told=told,
    )  # fmt: skip


def delivery(name: str, **changes: object) -> DeliveryStatus:
    """A delivery to `ops` that was given up."""
    settings: dict[str, object] = {
        "alert": f"{0:016x}", "rule": "glass", "stream": "door", "receiver": "ops",
        "says": "firing", "state": "dead", "attempts": 31, "changed": NOON,
        "error": "ops answered 500 Internal Server Error",
    }  # fmt: skip
    return DeliveryStatus(id=name, **(settings | changes))  # type: ignore[arg-type]


def rule(name: str = "glass", **changes: object) -> RuleStatus:
    """A rule on glass that breaks."""
    settings: dict[str, object] = {
        "when": "label('Glass') > 0.6", "stream": "*", "severity": "critical", "key": "stream", "for_s": 1.0,
        "clear_when": None, "clear_for_s": 0.0, "cooldown_s": 60.0, "send": ["ops"],
    }  # fmt: skip
    return RuleStatus(name=name, **(settings | changes))  # type: ignore[arg-type]


def report(asked_ns: int, until_ns: int, *times_ns: int) -> TrialReport:
    """What a rule would have done: fired on `door` at each of `times_ns`, for 10 s."""
    found = [
        TriedAlert(
            stream="door", key="door", since=rfc3339(at_ns - NS_PER_S), at=rfc3339(at_ns),
            until=rfc3339(at_ns + 10 * NS_PER_S), label="Glass", score=0.83,
        )
        for at_ns in times_ns
    ]  # fmt: skip
    a_day = len(found) * 86_400 * NS_PER_S / (until_ns - asked_ns)
    streams = [TriedStream(stream="door", times=len(found), a_day=a_day, firing_s=11.0 * len(found))] if found else []
    tried = TriedRule(
        name="tried", times=len(found), a_day=a_day, firing_s=11.0 * len(found), streams=streams, alerts=found
    )
    return TrialReport(
        asked=rfc3339(asked_ns), since=rfc3339(asked_ns), until=rfc3339(until_ns), segments=7200,
        streams=["door", "yard"], rules=[tried],
    )  # fmt: skip


def busy_alerts() -> FakeAlerts:
    """One alert that fires, one that is over and was not delivered, and two rules, one of them snoozed."""
    kept = [status(alert(1), sent=1), status(alert(0, at_ns=NOON_NS - 60 * NS_PER_S), NOON_NS, dead=1, sent=1)]
    snoozes = [Snooze(rule="quiet", stream=None, until=rfc3339(NOON_NS + 3600 * NS_PER_S))]
    return FakeAlerts(
        kept=kept,
        deliveries={kept[1].id: [delivery("d-1"), delivery("d-2", receiver="chat", state="sent", error=None)]},
        known=[rule(firing=1, last_fired=NOON), rule("quiet", severity="info", send=[], snoozes=snoozes)],
    )


@dataclass
class FakeAlerts:
    """Keeps what it is told; `broken` is raised by whatever is asked. `kept`: alerts, the newest first; `deliveries`:
    of each alert; `known`: the rules; `answer`: what a trial finds; `resent`, `tried`, `queries`: what was asked for;
    `now_ns`: Unix time."""

    kept: list[AlertStatus] = field(default_factory=list)
    deliveries: dict[str, list[DeliveryStatus]] = field(default_factory=dict)
    known: list[RuleStatus] = field(default_factory=list)
    answer: TrialReport | None = None
    resent: list[str] = field(default_factory=list)
    tried: list[RuleTry] = field(default_factory=list)
    queries: list[AlertQuery] = field(default_factory=list)
    broken: Exception | None = None
    now_ns: int = NOON_NS

    def _check(self) -> None:
        if self.broken is not None:
            raise self.broken

    async def alerts(self, query: AlertQuery) -> AlertList:
        self._check()
        self.queries.append(query)
        found = [one for one in self.kept if _asked_for(one, query)]
        first = query.before or 0
        page = found[first : first + query.limit]
        following = first + query.limit
        return AlertList(alerts=page, next=str(following) if following < len(found) else None)

    async def alert(self, name: str) -> AlertDetail | None:
        self._check()
        found = next((one for one in self.kept if one.id == name), None)
        return None if found is None else AlertDetail(alert=found, deliveries=self.deliveries.get(name, []))

    async def resend(self, delivery: str) -> DeliveryStatus | None:
        self._check()
        for found in self.deliveries.values():
            for place, one in enumerate(found):
                if one.id == delivery:
                    self.resent.append(delivery)
                    found[place] = replace(one, state="pending", next=NOON)
                    return found[place]
        return None

    async def rules(self) -> list[RuleStatus]:
        self._check()
        return self.known

    async def snooze(self, rule: str | None, stream: str | None, span_ns: int) -> Snooze | None:
        self._check()
        made = Snooze(rule=rule, stream=stream, until=rfc3339(self.now_ns + span_ns))
        self._drop(rule, stream)
        found = self._named(rule)
        for place in found:
            self.known[place] = replace(self.known[place], snoozes=[*self.known[place].snoozes, made])
        return made if found else None

    async def unsnooze(self, rule: str | None, stream: str | None) -> bool:
        self._check()
        return self._drop(rule, stream)

    def _named(self, rule: str | None) -> list[int]:
        return [place for place, one in enumerate(self.known) if rule in (None, one.name)]

    def _drop(self, rule: str | None, stream: str | None) -> bool:
        """The snooze of exactly this rule and these streams."""
        dropped = False
        for place in self._named(rule):
            one = self.known[place]
            left = [other for other in one.snoozes if (other.rule, other.stream) != (rule, stream)]
            dropped = dropped or left != one.snoozes
            self.known[place] = replace(one, snoozes=left)
        return dropped

    async def try_rule(self, trial: RuleTry) -> TrialReport | None:
        self._check()
        self.tried.append(trial)
        if isinstance(trial.rule, str) and trial.rule not in {one.name for one in self.known}:
            return None
        return self.answer or report(self.now_ns - 3600 * NS_PER_S, self.now_ns)


def _asked_for(one: AlertStatus, query: AlertQuery) -> bool:
    in_state = query.state is None or query.state == one.state or (query.state == "dead" and bool(one.told.get("dead")))
    fits = query.rule in (None, one.fired.rule) and query.stream in (None, one.fired.stream)
    return in_state and fits and (query.since_ns is None or parse_rfc3339(one.fired.at) >= query.since_ns)
