"""What a batch is expected to take: the model, stretched by what batches took of late."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.media import Work, WorkCosts
from streamer.scheduling.batch_times import BatchTimes
from tests.builders import MS, S

COSTS = WorkCosts(call_ns=2 * MS, window_ns=1 * MS, picture_ns=10 * MS, patch_ns=3 * MS)
SMALL, LARGE = Work(1, 1, 1), Work(8, 16, 8)


def times(*factors: float, work: Work = SMALL, at_ns: int = 0) -> BatchTimes:
    target = BatchTimes(COSTS)
    for factor in factors:
        target.record(work, int(COSTS.of(work) * factor), at_ns)
    return target


def test_before_anything_was_measured_the_model_counts() -> None:
    """A call, and so much for each window, picture and patch."""
    assert BatchTimes(COSTS).expect(Work(2, 3, 1), 0, 0.99) == (2 + 2 + 30 + 3) * MS


def test_a_high_quantile_is_expected() -> None:
    """One slow batch among sixty is what a high quantile expects, and not what a low one does."""
    target = times(*[1.0] * 60, 3.5)
    assert target.expect(SMALL, 0, 0.99) == pytest.approx(3.5 * 16 * MS)
    assert target.expect(SMALL, 0, 0.5) == pytest.approx(16 * MS)
    target = times(*[1.0] * 120, 3.5)
    assert target.expect(SMALL, 0, 0.99) == pytest.approx(16 * MS)


def test_sizes_stretch_apart_and_unknown_ones_like_the_nearest() -> None:
    """Small batches say nothing of large ones, except where no large one was seen."""
    target = times(2.0)
    assert target.expect(LARGE, 0, 0.99) == 2 * COSTS.of(LARGE)
    target.record(LARGE, int(1.1 * COSTS.of(LARGE)), 0)
    assert target.expect(LARGE, 0, 0.99) == pytest.approx(1.1 * COSTS.of(LARGE))
    assert target.expect(SMALL, 0, 0.99) == 2 * COSTS.of(SMALL)


_works = st.builds(Work, st.integers(1, 64), st.integers(0, 300), st.integers(0, 300))


@given(st.lists(st.tuples(_works, st.floats(0.01, 100)), max_size=20), _works, _works)
def test_less_work_never_takes_longer(seen: list[tuple[Work, float]], work: Work, more: Work) -> None:
    """Whatever sizes were fast or slow, part of some work is expected to take no longer than all of it."""
    target = BatchTimes(COSTS)
    for done, factor in seen:
        target.record(done, int(COSTS.of(done) * factor), 0)
    assert target.expect(work, 0, 0.99) <= target.expect(work + more, 0, 0.99)


def test_what_is_older_than_ten_seconds_is_forgotten() -> None:
    """A slow batch counts for ten seconds."""
    target = times(9.0)
    target.record(SMALL, COSTS.of(SMALL), 5 * S)
    assert target.stretch(COSTS.of(SMALL), 9 * S, 0.99) == 9.0
    assert target.stretch(COSTS.of(SMALL), 11 * S, 0.99) == 1.0


def test_a_size_that_was_slow_once_is_not_avoided_for_ever() -> None:
    """A large batch that hung makes large ones seem impossible for ten seconds; then small ones, which go on, tell."""
    target = times(50.0, work=LARGE)
    for second in range(15):
        target.record(SMALL, int(1.2 * COSTS.of(SMALL)), second * S)
        expected = 50.0 if second <= 10 else 1.2
        assert target.stretch(COSTS.of(LARGE), second * S, 0.99) == pytest.approx(expected)


def test_the_last_batch_of_all_is_never_forgotten() -> None:
    """After a night without a camera, what is known is what the last batch took."""
    target = times(1.0, 1.7)
    assert target.stretch(COSTS.of(SMALL), 40_000 * S, 0.5) == pytest.approx(1.7)
    assert target.stretch(COSTS.of(LARGE), 40_001 * S, 0.99) == pytest.approx(1.7)


def test_what_is_usual_follows_within_some_batches_and_ignores_one() -> None:
    """One hiccup does not change what is usual of late; a machine three times as slow shows after five batches."""
    target = times(*[1.0] * 16, 40.0)
    assert target.lately == 1.0
    for _ in range(5):
        target.record(LARGE, 3 * COSTS.of(LARGE), 0)
    assert target.lately == 3.0
