"""Numbers for Prometheus: kept a stream in plain objects, turned into series only when somebody scrapes.

Nothing is global: each `Metrics` has its own registry. What belongs to a stream goes with it, so that adding and
removing streams for years leaves no series behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from streamer import __version__
from streamer.answer import Answer
from streamer.channel import ChannelStatistics
from streamer.clock import NS_PER_S
from streamer.media import SourceState, SourceStats
from streamer.messages import Segment
from streamer.observe.freeze import FreezeWatch
from streamer.observe.histogram import Histogram
from streamer.observe.series import StreamCounts, answer_series, source_series
from streamer.observe.stalls import StallWatch


class Metrics:
    """Counts what happens and exposes it.

    Of a stream, one thread adds and removes it, one tells of its segments (`answered`, `published`, `unpublished`), and
    any may `render`.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._streams: dict[str, StreamCounts] = {}
        self._queues: dict[str, Callable[[], ChannelStatistics]] = {}
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self._counters: dict[str, tuple[str, Callable[[], float]]] = {}
        self._durations: dict[str, tuple[str, Callable[[], Histogram]]] = {}
        self._parts: dict[str, tuple[str, Callable[[], dict[str, float]]]] = {}
        self._stalls: StallWatch | None = None
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
        level: Callable[[], int] | None = None,
    ) -> None:
        """Begin counting for `name`; a stream that was there under that name starts from 0.

        Args:
            stats: the source's own counters, read at each scrape.
            state: what the stream is doing now.
            queue: its media waiting to be cut into windows.
            level: its step on the degrade ladder.
        """
        self._streams[name] = StreamCounts(stats, state, queue, level)

    def remove_stream(self, name: str) -> None:
        """Forget `name` and free its series; an unknown name is nothing to do."""
        self._streams.pop(name, None)

    def watch_queue(self, name: str, statistics: Callable[[], ChannelStatistics]) -> None:
        """Expose a queue that all streams share."""
        self._queues[name] = statistics

    def watch(self, name: str, text: str, value: Callable[[], float], *, counter: bool = False) -> None:
        """Expose `value` as `streamer_{name}`, read at each scrape; a `counter` only grows and gets `_total` added."""
        (self._counters if counter else self._gauges)[name] = (text, value)

    def watch_durations(self, name: str, text: str, durations: Callable[[], Histogram]) -> None:
        """Expose a histogram as `streamer_{name}`, read at each scrape."""
        self._durations[name] = (text, durations)

    def watch_parts(self, name: str, text: str, values: Callable[[], dict[str, float]]) -> None:
        """Expose a growing value for each part as `streamer_{name}_total{part=...}`, read at each scrape."""
        self._parts[name] = (text, values)

    def watch_stalls(self, stalls: StallWatch) -> None:
        """Expose how long the turns of the event loops take, and their stalls by loop and place."""
        self._stalls = stalls

    def watch_freezes(self, freezes: FreezeWatch) -> None:
        """Expose how often and how long the whole process did not run."""
        self.watch("frozen_seconds", "Time in which the process did not run.", lambda: freezes.seconds, counter=True)
        self.watch("freezes", "Times in which the process did not run.", lambda: freezes.count, counter=True)

    def answered(self, answer: Answer, segment: Segment, now_ns: int) -> None:
        """A window's answer became `segment` at `now_ns`; the stages up to here are counted where it was computed."""
        stream = self._streams.get(segment.stream)
        if stream is None:
            return
        key = (segment.status, segment.reason or "")
        stream.segments[key] = stream.segments.get(key, 0) + 1
        for step in segment.degraded:
            stream.degraded[step] = stream.degraded.get(step, 0) + 1
        if answer.scores is None:
            return
        window = answer.window
        stream.stages["ingest"].observe(max(0, window.closed_ns - window.end_ns) / NS_PER_S)
        stream.stages["queue"].observe(max(0, answer.started_ns - window.closed_ns) / NS_PER_S)
        stream.stages["compute"].observe(max(0, answer.finished_ns - answer.started_ns) / NS_PER_S)
        stream.stages["order"].observe(max(0, now_ns - answer.finished_ns) / NS_PER_S)

    def published(
        self, name: str, publish_ns: int, total_ns: int, *, late: bool, store_late: bool, frozen: bool = False
    ) -> None:
        """The store acknowledged a segment of `name`.

        Args:
            publish_ns: since it was handed to the publisher.
            total_ns: since the end of its window was captured.
            late: past its deadline: a broken promise.
            store_late: only because the store was away; counted apart and never as late.
            frozen: if late, then only because the process did not run for a while; counted apart, as neither.
        """
        stream = self._streams.get(name)
        if stream is None:
            return
        stream.stages["publish"].observe(publish_ns / NS_PER_S)
        stream.stages["total"].observe(total_ns / NS_PER_S)
        stream.frozen_late += late and frozen
        stream.store_late += store_late and not frozen
        stream.late += late and not store_late and not frozen

    def unpublished(self, name: str) -> None:
        """A message of `name` will never reach the store."""
        stream = self._streams.get(name)
        if stream is not None:
            stream.unpublished += 1

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
        yield from source_series(streams)
        yield from answer_series(streams)
        yield from self._shared_series(streams)

    def _shared_series(self, streams: dict[str, StreamCounts]) -> Iterator[Metric]:
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
        if self._stalls is not None:
            yield from _stall_series(self._stalls)
        for name, (text, value) in dict(self._gauges).items():
            yield GaugeMetricFamily(f"streamer_{name}", text, value=value())
        for name, (text, value) in dict(self._counters).items():
            yield CounterMetricFamily(f"streamer_{name}", text, value=value())
        for name, (text, durations) in dict(self._durations).items():
            histogram = durations()
            shown = HistogramMetricFamily(f"streamer_{name}", text)
            shown.add_metric([], buckets=histogram.buckets(), sum_value=histogram.sum_s)
            yield shown
        for name, (text, values) in dict(self._parts).items():
            family = CounterMetricFamily(f"streamer_{name}", text, labels=["part"])
            for part, amount in values().items():
                family.add_metric([part], amount)
            yield family


def _stall_series(stalls: StallWatch) -> Iterator[Metric]:
    durations = HistogramMetricFamily(
        "streamer_loop_stall_seconds",
        "How long an event loop's turn held up all else on it.",
        labels=["loop"],
    )
    for loop, histogram in stalls.durations().items():
        durations.add_metric([loop], buckets=histogram.buckets(), sum_value=histogram.sum_s)
    counts = CounterMetricFamily(
        "streamer_loop_stalls", "Turns of over 50 ms, by where they stood.", labels=["loop", "where"]
    )
    for (loop, where), count in stalls.counts().items():
        counts.add_metric([loop, where], count)
    yield from (durations, counts)
