"""Numbers for Prometheus: kept a stream in plain objects, turned into series only when somebody scrapes.

Nothing is global: each `Metrics` has its own registry. What belongs to a stream goes with it, so that adding and
removing streams for years leaves no series behind.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from streamer import __version__
from streamer.answer import Answer
from streamer.channel import ChannelStatistics
from streamer.clock import NS_PER_S, Clock, HostClock
from streamer.media import SourceState, SourceStats
from streamer.messages import Segment

STAGES = ("ingest", "queue", "compute", "publish", "total")
_STATES: tuple[SourceState, ...] = ("connecting", "live", "stalled", "reconnecting", "ended", "failed")
_LATENCY_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0)
_STALL_BOUNDS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_STALL_PROBE_S = 0.1


class Histogram:
    """Counts of durations in seconds by upper bound; the last bucket has none."""

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0

    def observe(self, value_s: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self._bounds_s, value_s)] += 1
        self._sum_s += value_s

    def add_to(self, family: HistogramMetricFamily, labels: list[str]) -> None:
        """Put the cumulative buckets into `family`."""
        total, buckets = 0, []
        for bound, count in zip((*map(str, self._bounds_s), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric(labels, buckets=buckets, sum_value=self._sum_s)


def _stage_histograms() -> dict[str, Histogram]:
    return {stage: Histogram(_LATENCY_BOUNDS_S) for stage in STAGES}


@dataclass(slots=True)
class _Stream:
    """What is counted of one stream, and where to read the rest."""

    stats: SourceStats
    state: Callable[[], SourceState]
    queue: Callable[[], ChannelStatistics] | None
    segments: dict[tuple[str, str], int] = field(default_factory=dict)
    stages: dict[str, Histogram] = field(default_factory=_stage_histograms)
    late: int = 0
    store_late: int = 0
    unpublished: int = 0


class Metrics:
    """Counts what happens and exposes it. All methods belong to the event loop; only `render` may run on any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._streams: dict[str, _Stream] = {}
        self._queues: dict[str, Callable[[], ChannelStatistics]] = {}
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self._counters: dict[str, tuple[str, Callable[[], float]]] = {}
        self._parts: dict[str, tuple[str, Callable[[], dict[str, float]]]] = {}
        self._stalls = Histogram(_STALL_BOUNDS_S)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    # -- what is told --------------------------------------------------------------------------------------------

    def add_stream(
        self,
        name: str,
        stats: SourceStats,
        state: Callable[[], SourceState],
        queue: Callable[[], ChannelStatistics] | None = None,
    ) -> None:
        """Begin counting for `name`; a stream that was there under that name starts from 0.

        Args:
            stats: the source's own counters, read at each scrape.
            state: what the stream is doing now.
            queue: its media waiting to be cut into windows.
        """
        self._streams[name] = _Stream(stats, state, queue)

    def remove_stream(self, name: str) -> None:
        """Forget `name` and free its series; an unknown name is nothing to do."""
        self._streams.pop(name, None)

    def watch_queue(self, name: str, statistics: Callable[[], ChannelStatistics]) -> None:
        """Expose a queue that all streams share."""
        self._queues[name] = statistics

    def watch(self, name: str, text: str, value: Callable[[], float], *, counter: bool = False) -> None:
        """Expose `value` as `streamer_{name}`, read at each scrape; a `counter` only grows and gets `_total` added."""
        (self._counters if counter else self._gauges)[name] = (text, value)

    def watch_parts(self, name: str, text: str, values: Callable[[], dict[str, float]]) -> None:
        """Expose a growing value for each part as `streamer_{name}_total{part=...}`, read at each scrape."""
        self._parts[name] = (text, values)

    def answered(self, answer: Answer, segment: Segment) -> None:
        """A window got its one answer; the stages up to here are counted where it was computed."""
        stream = self._streams.get(segment.stream)
        if stream is None:
            return
        key = (segment.status, segment.reason or "")
        stream.segments[key] = stream.segments.get(key, 0) + 1
        if answer.scores is None:
            return
        window = answer.window
        stream.stages["ingest"].observe(max(0, window.closed_ns - window.end_ns) / NS_PER_S)
        stream.stages["queue"].observe(max(0, answer.started_ns - window.closed_ns) / NS_PER_S)
        stream.stages["compute"].observe(max(0, answer.finished_ns - answer.started_ns) / NS_PER_S)

    def published(self, name: str, publish_ns: int, total_ns: int, *, late: bool, store_late: bool) -> None:
        """The store acknowledged a segment of `name`.

        Args:
            publish_ns: since it was handed to the publisher.
            total_ns: since the end of its window was captured.
            late: past its deadline: a broken promise.
            store_late: only because the store was away; counted apart and never as late.
        """
        stream = self._streams.get(name)
        if stream is None:
            return
        stream.stages["publish"].observe(publish_ns / NS_PER_S)
        stream.stages["total"].observe(total_ns / NS_PER_S)
        stream.store_late += store_late
        stream.late += late and not store_late

    def unpublished(self, name: str) -> None:
        """A message of `name` will never reach the store."""
        stream = self._streams.get(name)
        if stream is not None:
            stream.unpublished += 1

    async def watch_loop(self, clock: Clock | None = None) -> None:
        """Measure until cancelled by how much the event loop wakes late: everything on it waits as long."""
        clock = clock or HostClock()
        while True:
            before_ns = clock.now_ns()
            await asyncio.sleep(_STALL_PROBE_S)
            self._stalls.observe(max(0.0, (clock.now_ns() - before_ns) / NS_PER_S - _STALL_PROBE_S))

    # -- what is asked -------------------------------------------------------------------------------------------

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The exposition in the format that `accept` (an HTTP header) prefers, and its content type."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self.registry), content_type

    def collect(self) -> Iterator[Metric]:
        """All series now (called by the registry)."""
        # Scrapes run on a thread of their own, while streams come and go on the event loop.
        streams = dict(self._streams)
        yield InfoMetricFamily("streamer_build", "What runs.", {"version": __version__})
        yield from _source_series(streams)
        yield from _answer_series(streams)
        yield from self._shared_series(streams)

    def _shared_series(self, streams: dict[str, _Stream]) -> Iterator[Metric]:
        queues = dict(self._queues)
        depth = GaugeMetricFamily("streamer_queue_depth", "Items waiting.", labels=["queue", "stream"])
        peak = GaugeMetricFamily("streamer_queue_peak", "The most that ever waited.", labels=["queue", "stream"])
        capacity = GaugeMetricFamily("streamer_queue_capacity", "The most that can wait.", labels=["queue", "stream"])
        drops = CounterMetricFamily("streamer_queue_drops", "Items that found no room.", labels=["queue", "stream"])
        found = [(name, "", statistics) for name, statistics in queues.items()]
        found += [("media", name, stream.queue) for name, stream in streams.items() if stream.queue is not None]
        for queue, name, statistics in found:
            now = statistics()
            depth.add_metric([queue, name], now.depth)
            peak.add_metric([queue, name], now.peak)
            capacity.add_metric([queue, name], now.capacity)
            drops.add_metric([queue, name], now.dropped)
        yield from (depth, peak, capacity, drops)
        stalls = HistogramMetricFamily("streamer_loop_stall_seconds", "By how much the event loop woke late.")
        self._stalls.add_to(stalls, [])
        yield stalls
        for name, (text, value) in dict(self._gauges).items():
            yield GaugeMetricFamily(f"streamer_{name}", text, value=value())
        for name, (text, value) in dict(self._counters).items():
            yield CounterMetricFamily(f"streamer_{name}", text, value=value())

        for name, (text, values) in dict(self._parts).items():
            family = CounterMetricFamily(f"streamer_{name}", text, labels=["part"])
            for part, amount in values().items():
                family.add_metric([part], amount)
            yield family


def _source_series(streams: dict[str, _Stream]) -> Iterator[Metric]:
    fps = GaugeMetricFamily("streamer_stream_fps", "Frames a second that arrive.", labels=["stream"])
    lag = GaugeMetricFamily("streamer_stream_lag_seconds", "How late the newest frame arrived.", labels=["stream"])
    state = GaugeMetricFamily("streamer_stream_state", "1 for the state it is in.", labels=["stream", "state"])
    packets = CounterMetricFamily("streamer_stream_packets", "Packets received.", labels=["stream", "track"])
    received = CounterMetricFamily("streamer_stream_received_bytes", "Bytes of media received.", labels=["stream"])
    frames = CounterMetricFamily("streamer_stream_frames", "Frames decoded.", labels=["stream"])
    sampled = CounterMetricFamily("streamer_stream_frames_sampled", "Frames kept for windows.", labels=["stream"])
    reconnects = CounterMetricFamily("streamer_stream_reconnects", "Connections begun anew.", labels=["stream"])
    drops = CounterMetricFamily("streamer_stream_drops", "Items not used.", labels=["stream", "reason"])
    for name, stream in streams.items():
        stats, now = stream.stats, stream.state()
        fps.add_metric([name], stats.fps)
        lag.add_metric([name], stats.lag_ms / 1000)
        for known in _STATES:
            state.add_metric([name, known], float(known == now))
        for track, count in dict(stats.packets).items():
            packets.add_metric([name, track], count)
        received.add_metric([name], stats.bytes)
        frames.add_metric([name], stats.frames_decoded)
        sampled.add_metric([name], stats.frames_sampled)
        reconnects.add_metric([name], stats.reconnects)
        for reason, count in dict(stats.drops).items():
            drops.add_metric([name, reason], count)
    yield from (fps, lag, state, packets, received, frames, sampled, reconnects, drops)


def _answer_series(streams: dict[str, _Stream]) -> Iterator[Metric]:
    segments = CounterMetricFamily("streamer_segments", "Windows answered.", labels=["stream", "status", "reason"])
    late = CounterMetricFamily("streamer_late", "Segments acknowledged past their bound.", labels=["stream"])
    store_late = CounterMetricFamily("streamer_store_late", "Segments late for want of the store.", labels=["stream"])
    lost = CounterMetricFamily("streamer_unpublished", "Messages that never reached the store.", labels=["stream"])
    stages = HistogramMetricFamily("streamer_stage_seconds", "What each stage took.", labels=["stream", "stage"])
    for name, stream in streams.items():
        for (status, reason), count in dict(stream.segments).items():
            segments.add_metric([name, status, reason], count)
        late.add_metric([name], stream.late)
        store_late.add_metric([name], stream.store_late)
        lost.add_metric([name], stream.unpublished)
        for stage, histogram in stream.stages.items():
            histogram.add_to(stages, [name, stage])
    yield from (segments, late, store_late, lost, stages)
