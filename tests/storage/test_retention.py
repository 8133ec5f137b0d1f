"""What has been kept for long enough by our own clock, whatever the ids say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.cursor import START, EntryId
from streamer.storage.retention import Outlived

S = 1_000_000_000
KEEP_NS = 128 * S


def test_what_was_there_a_retention_ago_is_over() -> None:
    """An entry is kept for the time of retention after the first look that found one newer, and no longer than a
    128th of that more."""
    outlived = Outlived()
    for second in range(130):
        assert outlived.at(second * S, EntryId(10**15, second), KEEP_NS) == (
            START if second <= 128 else EntryId(10**15, 1)
        )
    assert outlived.at(200 * S, EntryId(10**15, 130), KEEP_NS) == EntryId(10**15, 72)


def test_a_feed_that_says_nothing_more_is_over_in_time() -> None:
    """Its newest entry goes as well."""
    outlived = Outlived()
    found = [outlived.at(second * S, EntryId(7, 7), KEEP_NS) for second in range(140)]
    assert found[-1] == EntryId(7, 8)


def test_another_feed_begins_anew() -> None:
    """Ids that are smaller than before are those of a store that was emptied: nothing of it is over."""
    outlived = Outlived()
    for second in range(140):
        outlived.at(second * S, EntryId(10**15, second), KEEP_NS)
    assert outlived.at(140 * S, EntryId(10**12, 0), KEEP_NS) == START


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 5)), max_size=100))
def test_nothing_goes_too_early(steps: list[tuple[int, int]]) -> None:
    """However often one looks and whatever comes, no entry is over before it has been there for the retention."""
    outlived, now_s, count, written_s = Outlived(), 0, 0, {}
    for pause_s, more in steps:
        now_s += pause_s
        for _ in range(more):
            count += 1
            written_s[count] = now_s
        over = outlived.at(now_s * S, EntryId(5, count), KEEP_NS)
        assert all(now_s - at_s > 128 for n, at_s in written_s.items() if EntryId(5, n) < over)
