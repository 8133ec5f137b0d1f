"""What is told of alerts to people: what fired and who was told, the rules with their snoozes, and what a rule would
have done in the past. Times are RFC 3339 in UTC."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from streamer.messages import Alert, AlertState, Severity

DeliveryState = Literal["pending", "sent", "dead", "held", "quiet", "snoozed"]
AlertFilter = Literal["firing", "cleared", "dead"]

# As many units as a person writes, and no sum of them that lasts over ten years.
SpanText = Annotated[str, Meta(pattern=r"^([0-9]{1,3}(ms|s|m|h|d)){1,3}$")]
SnoozeText = Annotated[str, Meta(pattern=r"^([1-9][0-9]{0,2}(s|m|h|d)){1,3}$")]
RuleText = Annotated[str, Meta(min_length=1, max_length=4096)]
GLOB_PATTERN = r"^[a-z0-9_*?\[\]!-]{1,64}$"
GlobText = Annotated[str, Meta(pattern=GLOB_PATTERN)]


class DeliveryStatus(Struct, frozen=True, kw_only=True):
    """One message of an alert (that it fires, or that it is over: `says`) on its way to one receiver; or, where
    `summary` is not None, the summary of so many that limits held back, of which this alert was the latest.

    state: `pending` until the receiver has it (`sent`), or until it was tried for a day (`dead`); `held` by a limit and
    told in a summary; `quiet`, `snoozed`: not to be sent unless somebody asks for it. `changed`: when it came to this
    state, or was tried last; `next`: when it is tried again. `error`: what the receiver said last, without secrets.
    """

    id: str
    alert: str
    rule: str
    stream: str
    receiver: str
    says: AlertState
    state: DeliveryState
    summary: int | None = None
    attempts: int
    changed: str | None = None
    next: str | None = None
    error: str | None = None


class AlertStatus(Struct, frozen=True, kw_only=True):
    """An alert from its firing until it is over: `cleared` is None while it fires. `recorded`: when it was written
    down. `told`: how many deliveries are in each state."""

    id: str
    state: AlertState
    fired: Alert
    cleared: Alert | None = None
    recorded: str
    told: dict[str, int] = {}


class AlertDetail(Struct, frozen=True, kw_only=True):
    """An alert with each of its deliveries, the oldest first."""

    alert: AlertStatus
    deliveries: list[DeliveryStatus]


class AlertQuery(Struct, frozen=True, kw_only=True):
    """Which alerts: of one rule, of one stream, in one state (`dead`: with a delivery that was given up), recorded
    at `since_ns` (Unix nanoseconds) or later, and older than `before`, the `next` of a list."""

    rule: str | None = None
    stream: str | None = None
    state: AlertFilter | None = None
    since_ns: int | None = None
    before: int | None = None
    limit: int = 50


class AlertList(Struct, frozen=True, kw_only=True):
    """Alerts, the newest first; `next` is the `before` that goes on from here, None at the end."""

    alerts: list[AlertStatus]
    next: str | None = None


class Snooze(Struct, frozen=True, kw_only=True):
    """Alerts of a rule (None: of all), of streams like the glob `stream` (None: of all), are recorded and not sent
    until then."""

    rule: str | None
    stream: str | None
    until: str


class SnoozeOrder(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For how long to snooze (`30m`, `2h`, `1d`), and of which streams alone (a glob)."""

    span: SnoozeText = field(name="for")
    stream: GlobText | None = None


class RuleStatus(Struct, frozen=True, kw_only=True):
    """A rule of the configuration, and what it does: how many alerts of it fire now, and when it fired last."""

    name: str
    when: str
    stream: str
    severity: Severity
    key: Literal["stream", "group", "rule"]
    for_s: float
    clear_when: str | None
    clear_for_s: float
    cooldown_s: float
    send: list[str]
    firing: int = 0
    last_fired: str | None = None
    snoozes: list[Snooze] = []


class RuleList(Struct, frozen=True, kw_only=True):
    """The rules in the configuration's order."""

    rules: list[RuleStatus]


class RuleDraft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule to try, with the configuration's words for what decides when it fires."""

    when: RuleText
    stream: GlobText = "*"
    span: SpanText = field(default="0s", name="for")
    clear_when: RuleText | None = None
    clear_for: SpanText = "0s"
    cooldown: SpanText = "60s"
    key: Literal["stream", "group", "rule"] = "stream"


class RuleTry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to try on the past: a rule, or the name of one of the configuration; and how far back to begin."""

    rule: RuleDraft | RuleText
    since: SpanText = "24h"


class TriedAlert(Struct, frozen=True, kw_only=True):
    """One time that a rule would have fired: from when until when (None: it still would). `label`: the likeliest."""

    stream: str
    key: str
    since: str
    at: str
    until: str | None = None
    label: str | None = None
    score: float | None = None


class TriedStream(Struct, frozen=True, kw_only=True):
    """How often a rule would have fired on one stream, and for how long in all. `a_day`: by what is kept of this stream
    alone."""

    stream: str
    times: int
    a_day: float
    firing_s: float


class TriedRule(Struct, frozen=True, kw_only=True):
    """What one rule would have done. `alerts`: the first of them, oldest first; `times` counts all. `failures`: how
    many segments its conditions could not be evaluated on."""

    name: str
    times: int
    a_day: float
    firing_s: float
    streams: list[TriedStream]
    alerts: list[TriedAlert]
    failures: int = 0


class TrialReport(Struct, frozen=True, kw_only=True):
    """What rules would have done with what the store holds. `asked`: where it was to begin; `since`, `until`: when the
    first and the last segment that were looked at were stored, None where there were none. `cut`: there is more than is
    read in one go."""

    asked: str
    since: str | None
    until: str | None
    segments: int
    streams: list[str]
    rules: list[TriedRule]
    cut: bool = False
