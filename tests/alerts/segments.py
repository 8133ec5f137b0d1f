"""Segments for the tests of alerts, by what is said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamer.alerts.conditions.expression import Facts
from streamer.messages import CoverageBody, Label, Share

NS = 1_000_000_000
HOP_NS, WINDOW_NS = NS // 2, 2 * NS


def facts(
    labels: Mapping[str, float] | None = None,
    *,
    at_ns: int = 100 * NS,
    words: Sequence[str] = (),
    people: int = 0,
    looked: bool = True,
    stream: str = "door",
) -> Facts:
    """A segment of two seconds that ends at `at_ns`; one that nobody looked at was shed."""
    share = Share(0.25, 0.75, 0.0)
    return Facts(
        stream,
        at_ns,
        group="yard",
        state="live",
        status="ok" if looked else "shed",
        reason="" if looked else "overload",
        coverage=CoverageBody(1.0, 0.5, 0.0),
        words=words,
        people=people if looked else 0,
        labels={name: Label(name, score, share) for name, score in (labels or {}).items()} if looked else {},
        start_ns=at_ns - WINDOW_NS,
        looked=looked,
    )
