"""A stream more is refused where it would not be served, and the refusal says by how much."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamer.media import WorkCosts
from streamer.scheduling.capacity import Use, engine_part, refusal
from tests.builders import MS
from tests.test_window import GEOMETRY

IDLE = Use(streams=0, live=0, cores=0.0, degraded=0, shed=0)


def using(streams: int, cores_each: float = 0.05, *, live: int | None = None, degraded: int = 0, shed: int = 0) -> Use:
    return Use(streams, streams if live is None else live, streams * cores_each, degraded, shed)


def test_the_first_stream_is_admitted() -> None:
    """On an idle machine with anything to spare there is room for one."""
    assert refusal(IDLE, each_engine=0.3, cores=1) is None


def test_the_engine_sets_a_limit_and_the_refusal_names_it() -> None:
    """Nine streams of a tenth of the engine each are admitted, the tenth is not, and is told what ten would take."""
    assert refusal(using(8), each_engine=0.1, cores=16) is None
    text = refusal(using(9), each_engine=0.1, cores=16)
    assert text is not None and "10 streams would take 100% of the engine" in text and "90%" in text


def test_the_cores_set_a_limit_and_the_refusal_names_it() -> None:
    """Streams that take a fifth of a core each fill nine tenths of two cores with nine."""
    assert refusal(using(8, 0.2), each_engine=0.01, cores=2) is None
    text = refusal(using(9, 0.2), each_engine=0.01, cores=2)
    assert text is not None and "10 streams at 0.20 cores each would take 2.00 cores, and 1.80 of 2" in text


def test_streams_that_are_not_live_cost_what_live_ones_do() -> None:
    """What is measured is shared among those that media come from; those that will come are counted like them."""
    assert refusal(Use(streams=8, live=2, cores=0.4, degraded=0, shed=0), 0.01, cores=2) is None
    assert refusal(Use(streams=9, live=2, cores=0.4, degraded=0, shed=0), 0.01, cores=2) is not None


def test_before_anything_was_measured_a_stream_is_taken_to_cost_a_tenth_of_a_core() -> None:
    """A configuration of many streams is not let in at once because none of them has cost anything yet."""
    assert refusal(using(16, live=0), 0.001, cores=2) is None
    assert refusal(using(18, live=0), 0.001, cores=2) is not None


@pytest.mark.parametrize(("degraded", "shed"), [(3, 0), (0, 7)])
def test_none_is_admitted_while_work_is_left_out(degraded: int, shed: int) -> None:
    """Where others lose something already, whatever the sums say, one stream more is refused with the counts."""
    text = refusal(using(4, degraded=degraded, shed=shed), each_engine=0.01, cores=16)
    assert text is not None and f"{degraded} with less of it, {shed} windows shed" in text


def test_what_a_stream_takes_of_the_engine() -> None:
    """Pictures at their rate, a patch each 0.48 s, a call and a window each half second, stretched as batches are."""
    costs = WorkCosts(call_ns=1 * MS, window_ns=2 * MS, picture_ns=10 * MS, patch_ns=4.8 * MS)  # type: ignore[arg-type]
    assert engine_part(costs, 1.0, GEOMETRY, frame_rate=2) == pytest.approx(0.020 + 0.010 + 0.006)
    assert engine_part(costs, 3.0, GEOMETRY, frame_rate=4) == pytest.approx(3 * (0.040 + 0.010 + 0.006))
    looking = engine_part(replace(costs, look_ns=30 * MS), 1.0, GEOMETRY, frame_rate=2, looks=True)
    assert looking == pytest.approx(0.020 + 0.060 + 0.010 + 0.006)
