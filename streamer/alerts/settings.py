"""What the alerts process is told and what it tells: the two ends of its standard input and output."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct

from streamer.alertconfig import AlertConfig, OutboxConfig, SendConfig


class AlertsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the alerts process is told at its start, and again whenever it changes.

    groups: the group of each stream that has one. labels: names that a rule may speak of, None: any. retention_ns: how
    long the store's feed keeps what is mirrored to it. page_url: where people find the page, for links; None: none.
    """

    redis_url: str
    rules: list[AlertConfig] = []
    send: dict[str, SendConfig] = {}
    outbox: OutboxConfig = OutboxConfig()
    groups: dict[str, str] = {}
    labels: list[str] | None = None
    retention_ns: int = 3_600_000_000_000
    page_url: str | None = None


def outbox_path(config: OutboxConfig) -> Path:
    """Where the outbox is: as configured, else $XDG_STATE_HOME/streamer/alerts.sqlite3, else the same in
    ~/.local/state."""
    if config.path is not None:
        return Path(config.path).expanduser()
    shared = os.environ.get("XDG_STATE_HOME")
    return (Path(shared) if shared else Path.home() / ".local" / "state") / "streamer" / "alerts.sqlite3"


class AlertsReport(Struct, frozen=True, kw_only=True):
    """An alerts process' figures: gauges (`stored`: the store answers; `written`: the outbox takes what is written;
    `behind_ms`: how old the message was that was read last, while more are waiting; `firing`; `pending`, `dead`:
    deliveries) and counts since its start.

    read: messages of the feed. unreadable: those that were none. missed: times the feed no longer held what came next.
    failures: evaluations of rules that failed. recorded, mirrored: alerts. sent: deliveries that arrived. failed:
    attempts that did not. died: deliveries given up. outages: times the store went away. loop_lag_ms: how late the
    event loop ran at worst since the report before.
    """

    stored: bool
    written: bool
    behind_ms: float
    firing: int
    pending: int
    dead: int
    read: int
    unreadable: int
    missed: int
    failures: int
    recorded: int
    mirrored: int
    sent: int
    failed: int
    died: int
    outages: int
    loop_lag_ms: float
