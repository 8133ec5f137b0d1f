"""What a hub process is told and what it tells: the two ends of its standard input and output."""

from __future__ import annotations

from msgspec import Struct


class HubSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a hub process is told.

    listen_fd: a bound socket inherited from who started it, in place of `host` and `port`. origins: web origins that
    may subscribe (`http://host:port`; `*`: any), beside pages at `page_port` of the address that was asked. tokens: one
    must be shown, as a Bearer token or, for browsers, as `access_token` in the query; none: none is asked. stalled_s: a
    subscriber whose socket took nothing for so long is closed with 1013. ping_s: pause between pings, and patience.
    """

    redis_url: str
    host: str = "127.0.0.1"
    port: int = 8081
    listen_fd: int | None = None
    origins: list[str] = []
    page_port: int | None = None
    tokens: list[str] = []
    max_clients: int = 12_000
    stalled_s: float = 20.0
    ping_s: float = 20.0


class HubReport(Struct, frozen=True, kw_only=True):
    """A hub's figures: gauges (`clients`, `blocked`, `stored`: the store answers) and counts since its start.

    sent: messages written to subscribers. dropped: messages that slow ones missed. gaps: how often they were told so.
    refused: requests answered with an HTTP error. closed_slow, closed_flood, closed_gone: connections ended with 1013,
    with 1008, and because nothing came back any more. outages: times the store went away. overtaken: words that
    had not settled and were not sent, for newer ones. loop_lag_ms: how late the
    event loop ran at worst since the report before.
    """

    clients: int
    blocked: int
    stored: bool
    sent: int
    dropped: int
    gaps: int
    refused: int
    closed_slow: int
    closed_flood: int
    closed_gone: int
    outages: int
    overtaken: int = 0
    loop_lag_ms: float
