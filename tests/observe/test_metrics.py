"""Series for Prometheus: complete while a stream is there, gone with it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from streamer.answer import Answer, segment_of, shed
from streamer.channel import Channel, ChannelStatistics
from streamer.clock import ManualClock
from streamer.media import SourceState, SourceStats
from streamer.observe.freeze import FreezeWatch
from streamer.observe.histogram import Histogram
from streamer.observe.metrics import Metrics
from tests.builders import MS, scores, window


def answer(metrics: Metrics, given: Answer) -> None:
    """Count `given` as the pipeline does."""
    metrics.answered(given, segment_of(given, [], 1000 * MS, 214 * MS, 3 * MS), 214 * MS)


def computed(stream: str = "door") -> Answer:
    """An answer that waited 60 ms and took 118 ms to compute."""
    return Answer(window(stream, end_ns=0, closed_after_ns=31 * MS), "ok", None, scores(0.9), 91 * MS, 209 * MS)


def samples(metrics: Metrics) -> list[Sample]:
    """What a scrape finds, read as Prometheus reads it."""
    text = metrics.render()[0].decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """The one sample of that name with all of `labels`."""
    (found,) = [
        sample.value for sample in samples(metrics) if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return found


def live() -> SourceState:
    """The state of a stream that is well."""
    return "live"


@pytest.fixture
def metrics() -> Metrics:
    """Metrics that know one stream, `door`."""
    metrics = Metrics()
    metrics.add_stream("door", SourceStats(), live)
    return metrics


def test_a_sources_counters_are_read_at_each_scrape() -> None:
    """Nobody has to push what the source counts: a scrape sees it as it is then."""
    metrics, stats = Metrics(), SourceStats()
    state: SourceState = "connecting"
    metrics.add_stream("door", stats, lambda: state)
    stats.fps, stats.lag_ms, stats.reconnects = 24.9, 31.5, 3
    stats.drop("late", 7)
    stats.packets["audio"] = 12
    assert value(metrics, "streamer_stream_fps", stream="door") == 24.9
    assert value(metrics, "streamer_stream_lag_seconds", stream="door") == pytest.approx(0.0315)
    assert value(metrics, "streamer_stream_reconnects_total", stream="door") == 3
    assert value(metrics, "streamer_stream_drops_total", stream="door", reason="late") == 7
    assert value(metrics, "streamer_stream_packets_total", stream="door", track="audio") == 12
    assert value(metrics, "streamer_stream_state", stream="door", state="connecting") == 1
    state = "live"
    assert value(metrics, "streamer_stream_state", stream="door", state="connecting") == 0
    assert value(metrics, "streamer_stream_state", stream="door", state="live") == 1


def test_answers_are_counted_by_status_and_reason(metrics: Metrics) -> None:
    """Every window is in exactly one series, and only computed ones are in the stages' histograms."""
    answer(metrics, computed())
    answer(metrics, computed())
    answer(metrics, shed(window(), "overload", 900 * MS))
    assert value(metrics, "streamer_segments_total", status="ok", reason="") == 2
    assert value(metrics, "streamer_segments_total", status="shed", reason="overload") == 1
    for stage, seconds in (("ingest", 0.031), ("queue", 0.060), ("compute", 0.118), ("order", 0.005)):
        assert value(metrics, "streamer_stage_seconds_count", stage=stage) == 2
        assert value(metrics, "streamer_stage_seconds_sum", stage=stage) == pytest.approx(2 * seconds)


def test_late_and_store_late_are_never_counted_as_both(metrics: Metrics) -> None:
    """A segment that waited for the store is not a broken promise."""
    metrics.published("door", 3 * MS, 212 * MS, late=False, store_late=False)
    metrics.published("door", 3 * MS, 1212 * MS, late=True, store_late=False)
    metrics.published("door", 9000 * MS, 9212 * MS, late=True, store_late=True)
    metrics.unpublished("door")
    assert value(metrics, "streamer_late_total", stream="door") == 1
    assert value(metrics, "streamer_store_late_total", stream="door") == 1
    assert value(metrics, "streamer_unpublished_total", stream="door") == 1
    assert value(metrics, "streamer_stage_seconds_bucket", stage="total", le="0.3") == 1
    assert value(metrics, "streamer_stage_seconds_bucket", stage="total", le="+Inf") == 3


def test_time_in_which_the_process_was_frozen_breaks_no_promise(metrics: Metrics) -> None:
    """What is late only because nothing ran is counted apart, whatever the store did meanwhile."""
    metrics.published("door", 3 * MS, 1212 * MS, late=True, store_late=False, frozen=True)
    metrics.published("door", 900 * MS, 1212 * MS, late=True, store_late=True, frozen=True)
    metrics.published("door", 3 * MS, 912 * MS, late=False, store_late=False, frozen=True)
    assert value(metrics, "streamer_frozen_late_total", stream="door") == 2
    assert value(metrics, "streamer_late_total", stream="door") == 0
    assert value(metrics, "streamer_store_late_total", stream="door") == 0


def test_degraded_segments_are_counted_by_what_was_left_out(metrics: Metrics) -> None:
    """A segment is in the series of each step that it was computed without."""
    for degraded in ((), ("frames",), ("frames", "video")):
        answer(metrics, replace(computed(), status="degraded" if degraded else "ok", degraded=degraded))
    assert value(metrics, "streamer_degraded_total", stream="door", step="frames") == 2
    assert value(metrics, "streamer_degraded_total", stream="door", step="video") == 1
    assert value(metrics, "streamer_segments_total", status="degraded") == 2


def test_a_streams_level_is_read_at_each_scrape() -> None:
    """Where a stream stands on the degrade ladder is told where it has a place there."""
    metrics, level = Metrics(), 0
    metrics.add_stream("door", SourceStats(), live, level=lambda: level)
    metrics.add_stream("yard", SourceStats(), live)
    assert value(metrics, "streamer_stream_level") == 0
    level = 2
    assert value(metrics, "streamer_stream_level", stream="door") == 2


def test_a_removed_stream_leaves_no_series(metrics: Metrics) -> None:
    """After many streams came and went a scrape is as long as before the first."""
    metrics.remove_stream("door")
    before = {(sample.name, tuple(sample.labels.items())) for sample in samples(metrics)}
    for index in range(200):
        name = f"cam-{index}"
        metrics.add_stream(name, SourceStats(), live, lambda: ChannelStatistics(1, 2, 3, 4))
        answer(metrics, computed(name))
        metrics.published(name, MS, MS, late=False, store_late=False)
        metrics.remove_stream(name)
        # What was still under way when the stream went must not bring it back.
        answer(metrics, computed(name))
        metrics.published(name, MS, MS, late=False, store_late=False)
        metrics.unpublished(name)
    assert {(sample.name, tuple(sample.labels.items())) for sample in samples(metrics)} == before


def test_queues_show_depth_peak_capacity_and_drops(metrics: Metrics) -> None:
    """Shared queues and each stream's own are told the same way."""
    channel: Channel[int] = Channel(2)
    for item in range(5):
        channel.offer(item)
    metrics.watch_queue("outbox", lambda: channel.statistics)
    metrics.add_stream("yard", SourceStats(), live, lambda: channel.statistics)
    for labels in ({"queue": "outbox", "stream": ""}, {"queue": "media", "stream": "yard"}):
        assert value(metrics, "streamer_queue_depth", **labels) == 2
        assert value(metrics, "streamer_queue_capacity", **labels) == 2
        assert value(metrics, "streamer_queue_drops_total", **labels) == 3


def test_whatever_is_watched_is_exposed(metrics: Metrics) -> None:
    """Values of other rooms are read at the scrape, as gauges or as counters."""
    clients = 3
    metrics.watch("hub_clients", "Websocket subscribers.", lambda: clients)
    metrics.watch("store_outages", "Times the store went away.", lambda: 2, counter=True)
    assert value(metrics, "streamer_hub_clients") == 3
    clients = 4
    assert value(metrics, "streamer_hub_clients") == 4
    assert value(metrics, "streamer_store_outages_total") == 2


def test_the_process_tells_its_memory(metrics: Metrics) -> None:
    """Resident memory is in the exposition, in bytes."""
    assert value(metrics, "process_resident_memory_bytes") > 10_000_000


def test_two_services_in_one_process_share_nothing() -> None:
    """Each object has its own registry, so that tests and embedders can have several."""
    one, other = Metrics(), Metrics()
    one.add_stream("door", SourceStats(), live)
    assert not [sample for sample in samples(other) if sample.labels.get("stream") == "door"]


def test_histograms_put_a_bound_into_its_own_bucket() -> None:
    """Buckets are cumulative and include their bound, as Prometheus defines them."""
    metrics = Metrics()
    metrics.add_stream("door", SourceStats(), live)
    metrics.published("door", 100 * MS, 100 * MS, late=False, store_late=False)
    assert value(metrics, "streamer_stage_seconds_bucket", stage="total", le="0.05") == 0
    assert value(metrics, "streamer_stage_seconds_bucket", stage="total", le="0.1") == 1
    metrics.published("door", 100 * MS, 99_000 * MS, late=False, store_late=False)
    assert value(metrics, "streamer_stage_seconds_bucket", stage="total", le="5.0") == 1
    assert value(metrics, "streamer_stage_seconds_bucket", stage="total", le="+Inf") == 2


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain"),
        ("text/plain;version=0.0.4", "text/plain"),
        ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text"),
    ],
)
def test_the_scraper_chooses_the_format(metrics: Metrics, accept: str, content_type: str) -> None:
    """Prometheus text by default, OpenMetrics for who asks for it."""
    assert metrics.render(accept)[1].startswith(content_type)


def test_stalls_are_told_by_loop_and_place() -> None:
    """How long turns take and how often which line stalled which loop is in the exposition."""

    class Stalls:
        """One turn of 2 ms on the main loop; two stalls on the publishing one."""

        def durations(self) -> dict[str, Histogram]:
            histogram = Histogram((0.001, 0.005))
            histogram.observe(0.002)
            return {"main": histogram}

        def counts(self) -> dict[tuple[str, str], int]:
            return {("publish", "streamer/publishing/publish.py:7 _send"): 2}

    metrics = Metrics()
    assert not [sample for sample in samples(metrics) if "stall" in sample.name]
    metrics.watch_stalls(Stalls())  # type: ignore[arg-type]
    assert value(metrics, "streamer_loop_stall_seconds_bucket", loop="main", le="0.001") == 0
    assert value(metrics, "streamer_loop_stall_seconds_bucket", loop="main", le="0.005") == 1
    assert value(metrics, "streamer_loop_stall_seconds_sum", loop="main") == 0.002
    assert (
        value(metrics, "streamer_loop_stalls_total", loop="publish", where="streamer/publishing/publish.py:7 _send")
        == 2
    )


def test_freezes_are_told() -> None:
    """How often and for how long nothing ran is in the exposition."""
    clock, metrics = ManualClock(), Metrics()
    freezes = FreezeWatch(clock, lambda: 0)
    metrics.watch_freezes(freezes)
    clock.advance(520 * MS)
    freezes.tick()
    assert value(metrics, "streamer_freezes_total") == 1
    assert value(metrics, "streamer_frozen_seconds_total") == 0.5
