"""What is counted of one stream, and the series that Prometheus is given of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from streamer.channel import ChannelStatistics
from streamer.media import SourceState, SourceStats
from streamer.observe.histogram import Histogram

STAGES = ("ingest", "queue", "compute", "order", "publish", "total")
_STATES: tuple[SourceState, ...] = ("connecting", "live", "stalled", "reconnecting", "ended", "failed")
_LATENCY_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0)


def _stage_histograms() -> dict[str, Histogram]:
    return {stage: Histogram(_LATENCY_BOUNDS_S) for stage in STAGES}


@dataclass(slots=True)
class StreamCounts:
    """What is counted of one stream, and where to read the rest."""

    stats: SourceStats
    state: Callable[[], SourceState]
    queue: Callable[[], ChannelStatistics] | None
    level: Callable[[], int] | None
    segments: dict[tuple[str, str], int] = field(default_factory=dict)
    degraded: dict[str, int] = field(default_factory=dict)
    stages: dict[str, Histogram] = field(default_factory=_stage_histograms)
    late: int = 0
    store_late: int = 0
    frozen_late: int = 0
    unpublished: int = 0


def source_series(streams: dict[str, StreamCounts]) -> Iterator[Metric]:
    fps = GaugeMetricFamily("streamer_stream_fps", "Frames a second that arrive.", labels=["stream"])
    lag = GaugeMetricFamily("streamer_stream_lag_seconds", "How late the newest frame arrived.", labels=["stream"])
    state = GaugeMetricFamily("streamer_stream_state", "1 for the state it is in.", labels=["stream", "state"])
    level = GaugeMetricFamily("streamer_stream_level", "Its step on the degrade ladder.", labels=["stream"])
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
        if stream.level is not None:
            level.add_metric([name], stream.level())
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
    yield from (fps, lag, state, level, packets, received, frames, sampled, reconnects, drops)


def answer_series(streams: dict[str, StreamCounts]) -> Iterator[Metric]:
    segments = CounterMetricFamily("streamer_segments", "Windows answered.", labels=["stream", "status", "reason"])
    degraded = CounterMetricFamily("streamer_degraded", "Segments by what was left out.", labels=["stream", "step"])
    late = CounterMetricFamily("streamer_late", "Segments acknowledged past their bound.", labels=["stream"])
    store_late = CounterMetricFamily("streamer_store_late", "Segments late for want of the store.", labels=["stream"])
    frozen_late = CounterMetricFamily(
        "streamer_frozen_late", "Segments late because the process did not run.", labels=["stream"]
    )
    lost = CounterMetricFamily("streamer_unpublished", "Messages that never reached the store.", labels=["stream"])
    stages = HistogramMetricFamily("streamer_stage_seconds", "What each stage took.", labels=["stream", "stage"])
    for name, stream in streams.items():
        for (status, reason), count in dict(stream.segments).items():
            segments.add_metric([name, status, reason], count)
        for step, count in dict(stream.degraded).items():
            degraded.add_metric([name, step], count)
        late.add_metric([name], stream.late)
        store_late.add_metric([name], stream.store_late)
        frozen_late.add_metric([name], stream.frozen_late)
        lost.add_metric([name], stream.unpublished)
        for stage, histogram in stream.stages.items():
            stages.add_metric([name, stage], buckets=histogram.buckets(), sum_value=histogram.sum_s)
    yield from (segments, degraded, late, store_late, frozen_late, lost, stages)
