"""Rules tried on what the store holds.

`python -m streamer.alertdesk.trial` does it as a process of its own, so that no label waits for it: `TrialOrder` as
JSON on standard input, `TrialReport` or `TrialFault` on standard output.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

import msgspec
from msgspec import Struct

from streamer.alertconfig import AlertConfig
from streamer.alerts.records import Fired
from streamer.alerts.rules.trial import RuleTrial, Trial
from streamer.alertstatus import TrialReport, TriedAlert, TriedRule, TriedStream
from streamer.clock import NS_PER_MS, NS_PER_S, parse_rfc3339, rfc3339
from streamer.cursor import EntryId
from streamer.errors import StreamerError, UserError
from streamer.messages import Alert, Event, Segment, StreamMessage
from streamer.storage.store import FeedPage, Store

_DAY_NS = 86_400 * NS_PER_S
_PAGE = 1000
# What people look through; how often and how long is counted of all.
_MOST_EPISODES = 500
# Less courtesy than to be in the way of what has a deadline.
_NICE = 10

_decoder = msgspec.json.Decoder(Segment | Event | StreamMessage | Alert)


class TrialOrder(Struct, frozen=True, kw_only=True):
    """What to try: rules that were checked, on messages stored since then (Unix nanoseconds), of streams like the glob.

    groups: the group of each stream that has one. limit_s: where reading takes longer, the rest is left out (None: read
    all).
    """

    redis_url: str
    rules: list[AlertConfig]
    since_ns: int
    groups: dict[str, str] = {}
    stream: str = "*"
    limit_s: float | None = None


class TrialFault(Struct, frozen=True, kw_only=True, tag="fault", tag_field="kind"):
    """Why it could not be tried; `mistake`: by the asker's fault."""

    text: str
    mistake: bool


async def try_rules(order: TrialOrder) -> TrialReport:
    """What the rules would have done.

    Raises:
        UserError: a rule can't be used, or the store's URL is none.
        StoreError: the store is away.
    """
    trying = _Trying(order)
    store = Store.connect(order.redis_url)
    try:
        end_s = time.monotonic() + (order.limit_s if order.limit_s is not None else float("inf"))
        position, more = EntryId(order.since_ns // NS_PER_MS, 0), True
        while more and time.monotonic() < end_s:
            page = await store.range_feed(position, count=_PAGE)
            trying.take(page)
            more = len(page.entries) == _PAGE
            if more:
                position = page.entries[-1][0].next()
        return trying.report(cut=more)
    finally:
        await store.close()


class _Trying:
    """One trial under way: what was read so far."""

    def __init__(self, order: TrialOrder) -> None:
        self._order = order
        self._trial = Trial(order.rules, dict(order.groups), None, most=_MOST_EPISODES)
        self._segments = 0
        # Of each stream when its media begin and end; of all, when the first and the last segment were stored.
        self._spans: dict[str, tuple[int, int]] = {}
        self._first_ns: int | None = None
        self._last_ns = 0

    def take(self, page: FeedPage) -> None:
        self._trial.feed(self._messages(page))

    def _messages(self, page: FeedPage) -> Iterator[tuple[int, Segment | Event | StreamMessage]]:
        for entry, json in page.entries:
            try:
                message = _decoder.decode(json)
            except msgspec.MsgspecError:  # of a later version, or somebody else's: the rules don't see it either
                continue
            if isinstance(message, Alert) or not fnmatchcase(message.stream, self._order.stream):
                continue
            stored_ns = entry.ms * NS_PER_MS
            if isinstance(message, Segment):
                self._count(message, stored_ns)
            yield stored_ns, message

    def _count(self, segment: Segment, stored_ns: int) -> None:
        self._segments += 1
        self._last_ns = stored_ns
        if self._first_ns is None:
            self._first_ns = stored_ns
        end_ns = parse_rfc3339(segment.end)
        first_ns, last_ns = self._spans.get(segment.stream) or (parse_rfc3339(segment.start), end_ns)
        self._spans[segment.stream] = (first_ns, max(last_ns, end_ns))

    def report(self, *, cut: bool) -> TrialReport:
        first_ns = self._first_ns
        # By its own clock: a camera that was there for an hour of a day is told by what it did in that hour.
        spans = {name: max(last_ns - begin_ns, NS_PER_S) for name, (begin_ns, last_ns) in self._spans.items()}
        whole_ns = max(self._last_ns - (first_ns or 0), NS_PER_S, *spans.values())
        return TrialReport(
            asked=rfc3339(self._order.since_ns),
            since=None if first_ns is None else rfc3339(first_ns),
            until=None if first_ns is None else rfc3339(self._last_ns),
            segments=self._segments,
            streams=sorted(spans),
            rules=[_tried(found, spans, whole_ns) for found in self._trial.report()],
            cut=cut,
        )


def _tried(found: RuleTrial, spans: Mapping[str, int], whole_ns: int) -> TriedRule:
    streams = [
        TriedStream(
            stream=name,
            times=times,
            a_day=_a_day(times, spans.get(name, whole_ns)),
            firing_s=firing_ns / NS_PER_S,
        )
        for name, (times, firing_ns) in found.streams.items()
        if times
    ]
    return TriedRule(
        name=found.rule.name,
        times=found.times,
        a_day=_a_day(found.times, whole_ns),
        firing_s=found.firing_ns / NS_PER_S,
        streams=sorted(streams, key=lambda one: (-one.times, one.stream)),
        alerts=[_alert(episode.fired, episode.cleared) for episode in found.episodes],
        failures=found.failures,
    )


def _a_day(times: int, span_ns: int) -> float:
    return round(times * _DAY_NS / span_ns, 3)


def _alert(fired: Fired, cleared: Fired | None) -> TriedAlert:
    label = fired.labels[0] if fired.labels else None
    return TriedAlert(
        stream=fired.stream,
        key=fired.key,
        since=rfc3339(fired.since_ns),
        at=rfc3339(fired.at_ns),
        until=None if cleared is None else rfc3339(cleared.at_ns),
        label=None if label is None else label.name,
        score=None if label is None else label.score,
    )


def main() -> None:
    """Do what standard input says."""
    os.nice(_NICE)
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=TrialOrder)
    said: TrialReport | TrialFault
    try:
        said = asyncio.run(try_rules(order))
    except StreamerError as error:
        said = TrialFault(text=str(error), mistake=isinstance(error, UserError))
    sys.stdout.buffer.write(msgspec.json.encode(said))


if __name__ == "__main__":
    main()
