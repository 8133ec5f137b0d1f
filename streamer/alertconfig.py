"""The configuration's sections on alerts: rules, receivers, and where alerts and their pictures are kept."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from streamer.configvalue import Duration, Size


class QuietConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Hours in which nothing is delivered: from one time of day to another (past midnight where that is earlier), on
    these days (the day on which they begin), in a time zone of the IANA's database."""

    begin: str = field(name="from")
    end: str = field(name="to")
    days: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] = []
    zone: str = "UTC"


class LimitConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """At most so many in so long; what is held back is told in a summary."""

    most: Annotated[int, Meta(ge=1, le=10_000)]
    per_ns: Duration = field(default=60_000_000_000, name="per")


USUAL_LIMIT = LimitConfig(most=6)


class AlertConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One rule: `when` is CEL over one segment, `stream` a glob, `send` names of the `send` section; in media time.

    for: how long `when` must hold before it fires. clear_when: what ends it (default: `when` no longer holds);
    clear_for: how long that must hold. cooldown: pause after it cleared, before it may fire again. key: what counts as
    the same alert: one a stream, one a group of streams, or one in all. quiet: hours in which its alerts are recorded
    and not delivered. limit: deliveries to each receiver. text: a Jinja template. snapshot, clip: pictures with faces
    blurred, and for how long around that moment.
    """

    name: str
    when: Annotated[str, Meta(min_length=1, max_length=4096)]
    stream: Annotated[str, Meta(min_length=1, max_length=64)] = "*"
    severity: Literal["info", "warning", "critical"] = "warning"
    for_ns: Duration = field(default=0, name="for")
    clear_when: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    clear_for_ns: Duration = field(default=0, name="clear_for")
    cooldown_ns: Duration = field(default=60_000_000_000, name="cooldown")
    key: Literal["stream", "group", "rule"] = "stream"
    quiet: list[QuietConfig] = []
    limit: LimitConfig | None = None
    send: list[str] = []
    send_cleared: bool = False
    text: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    language: Literal["en", "zh"] = "en"
    snapshot: bool = False
    clip_ns: Duration = field(default=0, name="clip")


class SendConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where alerts are delivered, by the scheme of `url`: `https://` or `http://` a webhook, `mqtt://` or `mqtts://` a
    broker, `alertmanager+https://` or `alertmanager+http://` Prometheus' Alertmanager, anything else a service that
    apprise knows.

    secret: signs webhooks. allow_private: addresses of private networks are allowed. quiet: as for a rule. limit: six
    deliveries a minute unless it says otherwise (null: none); brokers and Alertmanager, which show a state, have none.
    discovery: prefix of Home Assistant's discovery topics, for brokers; empty: none.
    """

    url: str
    secret: str | None = None
    allow_private: bool = False
    quiet: list[QuietConfig] = []
    limit: LimitConfig | None = USUAL_LIMIT
    discovery: str = "homeassistant"


class OutboxConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where alerts are written before they are sent (None: the user's state folder), and how long they are kept."""

    path: str | None = None
    keep_ns: Duration = field(default=30 * 86_400_000_000_000, name="keep")


class PicturesConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long snapshots of alerts are kept, and how much of them."""

    keep_ns: Duration = field(default=86_400_000_000_000, name="keep")
    max_bytes: Size = field(default=256 * 1024 * 1024, name="max")
