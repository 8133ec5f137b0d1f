"""How soon an alert is on its way after the segment that it is about, how many are recorded, and what rules cost.

Three measurements of the real parts:

- *soon*: the real publisher, an embedded store, the real alerts process, and a receiver of webhooks on this machine.
  Segments fall due evenly whatever became of those before; each is of another stream and makes the rule fire. Time runs
  from when a segment was handed to the publisher to the first byte at the receiver. Beside it what is not ours to save:
  until the store had acknowledged it, and what one line appended and forced to the disk takes.
- *storm*: as many streams begin to fire at once; alerts a second from the first segment handed over until the last
  alert is in the outbox, and how many messages the receiver got, with the limit that receivers have by default.
- *rules*: pairs of rule and stream, each evaluated twice a second of media time, with decoding and the keeping of what
  the rules remember: CPU seconds a second of media time, which is the part of a core that they take.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
import msgspec

from streamer.alertconfig import AlertConfig, LimitConfig, OutboxConfig, SendConfig
from streamer.alerts.outbox.book import Book
from streamer.alerts.outbox.keeper import Outbox
from streamer.alerts.outbox.rows import Filter
from streamer.alerts.process import AlertsProcess
from streamer.alerts.rules.ruleset import RuleSet
from streamer.alerts.settings import AlertsSettings
from streamer.bench.conditions import conditions
from streamer.bench.hook import Hook
from streamer.clock import NS_PER_MS, NS_PER_S, rfc3339
from streamer.errors import StreamerError
from streamer.memory import collected_seldom
from streamer.messages import CoverageBody, Label, LatencyBody, Segment, Share, encode
from streamer.publishing.backlog import Unit
from streamer.publishing.publish import Acknowledged, Publisher
from streamer.storage.embedded import EmbeddedStore
from streamer.storage.store import Store

_HOP_NS = 500 * NS_PER_MS
_BEGAN_NS = 1_795_400_000 * NS_PER_S
_BOUND_NS = 60 * NS_PER_S
_LABELS = 8
_PATIENCE_S = 60.0
_QUANTILES = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
_DOG = AlertConfig(name="dog", when="label('Dog') > 0.5", send=["ops"])
# What people ask for, of every kind.
_CONDITIONS = (
    "label('Dog') > 0.5",
    "label('Glass') > 0.6 && share('Glass', 'audio') > 0.5",
    "label('Siren') > 0.4 || label('Alarm') > 0.4",
    "then(label('Glass') > 0.5, label('Person') > 0.5, '30s')",
    "absent('Person', '10m')",
    "said('help')",
    "status == 'shed'",
    "coverage.video < 0.5 && status != 'shed'",
    "stream.startsWith('s0') && label('Fire') > 0.7",
    "state == 'stalled'",
)
_NAMES = ("Dog", "Glass", "Siren", "Alarm", "Person", "Fire", "Speech", "Music", "Car", "Rain", "Cat", "Bell")


@dataclass(frozen=True, slots=True)
class Offered:
    """What is measured: so many segments a second for so many seconds; so many streams in the storm; so many pairs of
    rule and stream over so many seconds of media time."""

    rate: int = 50
    seconds: float = 8.0
    storm: int = 1000
    pairs: int = 10_000
    media_s: int = 10


def run(offered: Offered, as_json: bool) -> None:
    """Measure and print."""
    result = asyncio.run(_measure(offered))
    result |= {"command": "streamer " + " ".join(sys.argv[1:]), **conditions()}
    _say(result)
    if as_json:
        click.echo(json.dumps(result))


def _say(result: dict[str, object]) -> None:
    for name in ("first_byte", "acknowledged", "forced_to_disk", "storm", "rules"):
        figures = result[name]
        assert isinstance(figures, dict)
        click.echo(f"{name:16} " + "  ".join(f"{key} {value}" for key, value in figures.items()), err=True)


async def _measure(offered: Offered) -> dict[str, object]:
    soon = await _soon(offered)
    storm = await _storm(offered.storm)
    return {
        **soon,
        "forced_to_disk": await asyncio.to_thread(_forced_to_disk),
        "storm": storm,
        "rules": await asyncio.to_thread(_rules, offered),
        "input": msgspec.to_builtins(offered),
    }


@dataclass(slots=True)
class _Taken:
    """The publisher's hooks: when each stream's last segment was acknowledged, in monotonic nanoseconds."""

    acked_ns: dict[str, int] = field(default_factory=dict)

    def on_written(self, acknowledged: Acknowledged) -> None:
        self.acked_ns[acknowledged.unit.stream] = acknowledged.acked_ns

    def on_dropped(self, unit: Unit) -> None:
        raise AssertionError(f"a segment of {unit.stream} was dropped")

    def on_fenced(self, stream: str) -> None:
        raise AssertionError(f"nobody else writes {stream}")


@dataclass(frozen=True, slots=True)
class _Running:
    """The real parts, and the place of their outbox."""

    publisher: Publisher
    taken: _Taken
    hook: Hook
    alerts: AlertsProcess
    outbox: Path


@asynccontextmanager
async def _running(limit: LimitConfig | None) -> AsyncIterator[_Running]:
    with tempfile.TemporaryDirectory() as folder:
        path, taken = Path(folder) / "alerts.sqlite3", _Taken()
        async with EmbeddedStore() as embedded, Hook() as hook:
            settings = AlertsSettings(
                redis_url=embedded.url,
                rules=[_DOG],
                send={"ops": SendConfig(url=hook.url, allow_private=True, limit=limit)},
                outbox=OutboxConfig(path=str(path)),
            )
            store = Store.connect(embedded.url)
            async with AlertsProcess(settings) as alerts, Publisher(store, hooks=taken) as publisher:
                yield _Running(publisher, taken, hook, alerts, path)
            await store.close()


async def _soon(offered: Offered) -> dict[str, object]:
    """One segment after another, each a new alert, and when its first byte was there."""
    count = int(offered.rate * offered.seconds)
    async with _running(None) as parts:
        # Everything is connected and loaded once the first one has arrived.
        _publish(parts.publisher, "warm", 0, 0.9)
        await _until(lambda: bool(parts.hook.first_ns))
        handed_ns: dict[str, int] = {}
        began_ns = time.monotonic_ns()
        for index in range(count):
            due_ns = began_ns + index * NS_PER_S // offered.rate
            await asyncio.sleep(max(0, due_ns - time.monotonic_ns()) / NS_PER_S)
            stream = f"s{index:05}"
            handed_ns[stream] = time.monotonic_ns()
            _publish(parts.publisher, stream, 0, 0.9)
        await _until(lambda: len(parts.hook.first_ns) > count)
        reached = [parts.hook.first_ns[stream] - at_ns for stream, at_ns in handed_ns.items()]
        acked = [parts.taken.acked_ns[stream] - at_ns for stream, at_ns in handed_ns.items()]
    return {"first_byte": _figures(reached), "acknowledged": _figures(acked)}


async def _storm(streams: int) -> dict[str, object]:
    """All streams begin to fire at once."""
    async with _running(SendConfig(url="").limit) as parts:
        for index in range(streams):
            _publish(parts.publisher, f"s{index:05}", 0, 0.1)
        await parts.publisher.drain(_PATIENCE_S)
        await _until(lambda: parts.alerts.report is not None and parts.alerts.report.read >= streams)
        began_ns = time.time_ns()
        for index in range(streams):
            _publish(parts.publisher, f"s{index:05}", 1, 0.9)
        await _until(lambda: parts.alerts.report is not None and parts.alerts.report.recorded >= streams)
        await _until(lambda: parts.alerts.report is not None and not parts.alerts.report.pending)
        recorded_ns = await asyncio.to_thread(lambda: list(_recorded_ns(parts.outbox)))
        messages = parts.hook.messages
    seconds = (max(recorded_ns) - began_ns) / NS_PER_S
    return {
        "streams": streams,
        "recorded": len(recorded_ns),
        "recorded_per_second": round(len(recorded_ns) / seconds),
        "messages": messages,
    }


def _recorded_ns(path: Path) -> Iterator[int]:
    """When each alert was recorded, in Unix nanoseconds."""
    book, before = Book.open(path, read_only=True), None
    try:
        while True:
            page = book.listing(Filter(), before=before, limit=500)
            yield from (row.recorded_ns for row in page.rows)
            before = page.next
            if before is None:
                return
    finally:
        book.close()


def _rules(offered: Offered) -> dict[str, object]:
    """Rules of every kind over messages as the store holds them, and what they remember written as it is live."""
    rules = [AlertConfig(name=f"r{index}", when=when) for index, when in enumerate(_CONDITIONS)]
    streams = max(1, offered.pairs // len(rules))
    decoder, rule_set = msgspec.json.Decoder(Segment), RuleSet(rules, {}, None)
    fired = 0
    scenes = [_Scene(random.Random(stream)) for stream in range(streams)]
    with tempfile.TemporaryDirectory() as folder, collected_seldom():  # as in the alerts process
        outbox = Outbox.open(Path(folder) / "alerts.sqlite3")
        busy_s = 0.0
        for second in range(offered.media_s):
            raw = [
                encode(_segment(f"s{stream:05}", 2 * second + hop, scene.next()))
                for hop in range(2)
                for stream, scene in enumerate(scenes)
            ]
            stored_ns = _BEGAN_NS + second * NS_PER_S
            began_s = time.process_time()
            fired += len(rule_set.advance(stored_ns))
            for json_text in raw:
                fired += len(rule_set.take(decoder.decode(json_text), stored_ns))
            outbox.checkpoint(f"{stored_ns // NS_PER_MS}-0@bench", rule_set.changed())
            # In the first second everything is new, once.
            busy_s += time.process_time() - began_s if second else 0.0
        outbox.close()
    evaluated = 2 * streams * len(rules) * (offered.media_s - 1)
    return {
        "pairs": streams * len(rules),
        "core": round(busy_s / (offered.media_s - 1), 4),
        "us_a_pair": round(busy_s / evaluated * 1e6, 3),
        "fired": fired,
    }


def _forced_to_disk() -> dict[str, float]:
    """What a line appended to a file and forced to the disk takes."""
    taken = []
    with tempfile.TemporaryFile() as file:
        for _ in range(100):
            began_ns = time.monotonic_ns()
            file.write(b"x" * 512)
            file.flush()
            os.fsync(file.fileno())
            taken.append(time.monotonic_ns() - began_ns)
    return _figures(taken)


def _figures(durations_ns: Sequence[int]) -> dict[str, float]:
    ordered = sorted(durations_ns)
    last = len(ordered) - 1
    return {
        name: round(ordered[min(last, int(part * len(ordered)))] / NS_PER_MS, 3) for name, part in _QUANTILES.items()
    }


def _publish(publisher: Publisher, stream: str, seq: int, score: float) -> None:
    labels = [Label("Dog", score, Share(0.4, 0.6, 0.0))]
    publisher.publish(stream, [_segment(stream, seq, labels)], time.monotonic_ns() + _BOUND_NS)


def _segment(stream: str, seq: int, labels: list[Label]) -> Segment:
    start_ns = _BEGAN_NS + seq * _HOP_NS
    return Segment(
        stream=stream,
        epoch="019f2b6c51d2",
        seq=seq,
        start=rfc3339(start_ns),
        end=rfc3339(start_ns + 4 * _HOP_NS),
        status="ok",
        labels=labels,
        coverage=CoverageBody(1.0, 0.98, 0.0),
        latency_ms=LatencyBody(112.4, 31.0, 1.2, 77.0, 3.2),
        bound_ms=1000,
    )


class _Scene:
    """The labels of one stream: what is to be seen changes every 20 segments or so, its scores a little in each."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._scores = self._anew()

    def _anew(self) -> dict[str, float]:
        return {name: self._chance.betavariate(0.7, 2.0) for name in self._chance.sample(_NAMES, _LABELS)}

    def next(self) -> list[Label]:
        if self._chance.random() < 0.05:
            self._scores = self._anew()
        scores = {name: min(max(score + self._chance.gauss(0, 0.02), 0.05), 1) for name, score in self._scores.items()}
        ordered = sorted(scores.items(), key=lambda item: -item[1])
        return [Label(name, round(score, 3), Share(0.5, 0.5, 0.0)) for name, score in ordered]


async def _until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > end_s:
            raise StreamerError(f"what is measured did not come within {_PATIENCE_S:g} s")
        await asyncio.sleep(0.01)
