"""When pictures are sampled."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streamer.sources.sampling import Grid

S = 1_000_000_000
MS = 1_000_000


@given(
    interval_ms=st.integers(10, 400),
    frames_per_second=st.sampled_from([1, 2, 4]),
    gop=st.integers(1, 120),
    jitter=st.integers(0, 8),
)
def test_samples_keep_their_distance(interval_ms: int, frames_per_second: int, gop: int, jitter: int) -> None:
    """However pictures and key frames fall, samples are a period apart to within an eighth and a picture."""
    grid, period_ns = Grid(frames_per_second), S // frames_per_second
    taken = []
    for index in range(600):
        media_ns = index * interval_ms * MS + (index * 7919 % (jitter + 1)) * MS
        is_key = gop * interval_ms * MS >= period_ns // 2 and index % gop == 0
        if grid.is_due(media_ns, is_key, min(interval_ms * MS // 2, grid.reach_ns)):
            grid.take(media_ns, is_key, None)
            taken.append(media_ns)
    slack_ns = period_ns // 8 + (interval_ms + jitter) * MS
    steps = [b - a for a, b in pairwise(taken)]
    assert all(step >= period_ns - slack_ns for step in steps)
    if interval_ms * MS < period_ns:
        assert all(step <= period_ns + slack_ns for step in steps)
    else:
        assert len(taken) == 600


def test_the_grid_comes_into_step_with_key_frames() -> None:
    """Key frames a whole number of periods apart end up being samples, by steps of at most an eighth of a period."""
    grid = Grid(2)
    grid.restart(0)
    keys = [310 * MS + second * S for second in range(20)]
    taken = []
    for index in range(20 * 50):
        media_ns = index * 20 * MS + 10 * MS
        is_key = media_ns in keys
        if grid.is_due(media_ns, is_key, 10 * MS):
            following = next((key for key in keys if key > media_ns), None)
            grid.take(media_ns, is_key, following)
            taken.append(media_ns)
    assert set(keys[4:]) <= set(taken)
    assert all(abs(b - a - 500 * MS) <= 83 * MS for a, b in pairwise(taken))


def test_a_gap_does_not_bring_a_volley_of_samples() -> None:
    """After a hole the next sample is a period after the first picture behind it."""
    grid = Grid(2)
    grid.restart(0)
    taken = [ms for ms in [*range(0, 1000, 40), *range(5000, 7000, 40)] if _take(grid, ms)]
    assert taken[:2] == [0, 480] or taken[:2] == [0, 520]
    behind = [ms for ms in taken if ms >= 5000]
    assert all(abs(b - a - 500) <= 40 for a, b in pairwise(behind))


def _take(grid: Grid, ms: int) -> bool:
    due = grid.is_due(ms * MS, False, 20 * MS)
    if due:
        grid.take(ms * MS, False, None)
    return due
