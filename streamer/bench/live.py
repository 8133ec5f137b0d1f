"""What running streams cost, and what became of their segments, over a measured time: for the benchmarks that put real
senders before the real service."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from streamer.bench.processes import Samples, busy_seconds, cpu_seconds, resident_mb, scrape
from streamer.bench.running import Started
from streamer.cursor import EntryId
from streamer.storage.embedded import EmbeddedStore
from streamer.storage.store import Store

_SETTLE_S = 8.0
_PATIENCE_S = 60
_HOP_S = 0.5
# Of what should have come, the part without which labels would be of something else.
_COVERED = 0.9
_LOOKS = ("streamer_looks_total", ())
_QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))


@dataclass(slots=True)
class Run:
    """One number of streams, measured for `seconds`.

    cores: of each process of the service. stages: the same by part, as the service tells it. machine: cores that all
    processes of the machine used, the senders and whatever else runs there. degraded: how often each work was left out.
    coverage: the mean of each modality. late: by the segments' own words; acknowledged_late: by the service's counter,
    with what was late because the service was not run at all. looks: in how many pictures a second people were looked
    for.
    """

    streams: int
    seconds: float
    segments: int = 0
    missing: int = 0
    late: int = 0
    acknowledged_late: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    degraded: dict[str, int] = field(default_factory=dict)
    coverage: dict[str, float] = field(default_factory=dict)
    latency_ms: dict[str, float] = field(default_factory=dict)
    latency_parts_ms: dict[str, dict[str, float]] = field(default_factory=dict)
    cores: dict[str, float] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    machine: float = 0.0
    looks: float = 0.0
    rss_mb: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether every hop was answered in time with labels, of pictures and sound that were there."""
        kept = not self.missing and not self.late and not self.acknowledged_late
        seen = all(coverage >= _COVERED for coverage in self.coverage.values())
        return self.segments > 0 and kept and seen and set(self.statuses) == {"ok"}

    @property
    def cores_a_stream(self) -> float:
        """Cores that the service (pipeline, readers, hub, store) used for each stream."""
        return sum(self.cores.values()) / self.streams


def processes_of(service: Started, store: EmbeddedStore) -> dict[str, list[int]]:
    """The process ids of a service and its store, by what they are."""
    return {
        "service": [service.pid],
        "readers": service.readers,
        "hub": [service.hub or 0],
        "store": [store.pid or 0],
    }


def spent(watched: dict[str, list[int]]) -> dict[str, float]:
    """CPU seconds so far."""
    return {name: sum(map(cpu_seconds, pids)) for name, pids in watched.items()}


async def settled(store: Store, count: int) -> None:
    """Return when every stream has had full windows for a while. TimeoutError where some never begin."""
    async with asyncio.timeout(_PATIENCE_S):
        while len(await store.streams()) < count:  # noqa: ASYNC110 - the store has no event for it
            await asyncio.sleep(0.5)
    await asyncio.sleep(_SETTLE_S)


async def measure(entry: Run, store: Store, service: Started, watched: dict[str, list[int]]) -> None:
    """Look on for `entry.seconds` and fill in `entry`."""
    told = scrape(f"{service.page}/metrics")
    before, busy = spent(watched), busy_seconds()
    place = (await store.feed_bounds()).last
    started = time.monotonic()
    await asyncio.sleep(entry.seconds)
    elapsed = time.monotonic() - started
    entry.machine = (busy_seconds() - busy) / elapsed
    entry.cores = {name: (now - before[name]) / elapsed for name, now in spent(watched).items()}
    after = scrape(f"{service.page}/metrics")
    stages = _stages(told)
    entry.stages = {name: (value - stages.get(name, 0.0)) / elapsed for name, value in _stages(after).items()}
    entry.acknowledged_late = round(_late(after) - _late(told))
    entry.looks = (after.get(_LOOKS, 0.0) - told.get(_LOOKS, 0.0)) / elapsed
    entry.rss_mb = round(sum(resident_mb(pid) for pids in watched.values() for pid in pids), 1)
    count([message for _, message in await feed(store, place)], entry)


def _stages(samples: Samples) -> dict[str, float]:
    return {
        dict(labels)["part"]: value for (name, labels), value in samples.items() if name == "streamer_cpu_seconds_total"
    }


def _late(samples: Samples) -> float:
    return sum(value for (name, _), value in samples.items() if name == "streamer_late_total")


async def feed(store: Store, after: EntryId) -> list[tuple[EntryId, dict[str, Any]]]:
    """All that was published after `after`."""
    found = []
    place = after.next()
    while page := (await store.range_feed(place, count=1000)).entries:
        found += [(entry, json.loads(raw)) for entry, raw in page]
        place = page[-1][0].next()
    return found


def count(messages: Iterable[dict[str, Any]], entry: Run) -> None:
    """Outcomes, holes and latencies of the segments among `messages`, into `entry`."""
    segments = [message for message in messages if message["type"] == "segment"]
    entry.segments = len(segments)
    entry.statuses = dict(Counter(segment["status"] for segment in segments))
    entry.degraded = dict(Counter(work for segment in segments for work in segment["degraded"]))
    entry.late = sum(segment["latency_ms"]["total"] > segment["bound_ms"] for segment in segments)
    seqs: dict[tuple[str, str], list[int]] = {}
    for segment in segments:
        seqs.setdefault((segment["stream"], segment["epoch"]), []).append(segment["seq"])
    entry.missing = sum(found[-1] - found[0] + 1 - len(found) for found in seqs.values())
    expected = entry.streams * (entry.seconds / _HOP_S - 2)
    entry.missing += max(0, round(expected - entry.segments))
    for name in ("video", "audio"):
        values = [segment["coverage"][name] for segment in segments]
        entry.coverage[name] = round(sum(values) / len(values), 3) if values else 0.0
    for part in ("total", "ingest", "queue", "compute", "publish"):
        found_ms = [segment["latency_ms"][part] for segment in segments if segment["latency_ms"].get(part) is not None]
        entry.latency_parts_ms[part] = percentiles(found_ms)
    entry.latency_ms = entry.latency_parts_ms.pop("total")


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """p50, p95, p99 and the largest; zeros where there are none."""
    ordered = sorted(values)
    return {
        name: ordered[min(len(ordered) - 1, int(quantile * len(ordered)))] if ordered else 0.0
        for name, quantile in _QUANTILES
    }
