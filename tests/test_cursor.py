"""Cursors are read back as they were written, ordered as the store orders them, and refused clearly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.cursor import END, START, Cursor, EntryId, parse_cursor, parse_id

parts = st.integers(min_value=0, max_value=2**64 - 1)
ids = st.builds(EntryId, parts, parts)
stores = st.text(alphabet="0123456789abcdef", min_size=1, max_size=32)


@given(ids, stores)
def test_a_cursor_is_read_back_as_it_was_written(entry_id: EntryId, store: str) -> None:
    """Writing and parsing are inverse."""
    assert parse_cursor(str(Cursor(entry_id, store))) == Cursor(entry_id, store)
    assert parse_id(str(entry_id)) == entry_id


@given(ids, ids)
def test_ids_are_ordered_by_time_then_counter(a: EntryId, b: EntryId) -> None:
    """Comparison of ids is comparison of (ms, n) as numbers, never as text."""
    assert (a < b) == (a.ms < b.ms or (a.ms == b.ms and a.n < b.n))


@given(ids)
def test_next_and_previous_are_neighbours(entry_id: EntryId) -> None:
    """Nothing lies between an id and its next, and the ends of the range stay where they are."""
    if entry_id != END:
        assert entry_id.next() > entry_id
        assert entry_id.next().previous() == entry_id
    if entry_id != START:
        assert entry_id.previous() < entry_id
    assert END.next() == END
    assert START.previous() == START


@given(st.text(max_size=100))
def test_whatever_is_no_cursor_is_refused(text: str) -> None:
    """Parsing gives a cursor that writes itself back (leading zeros apart), or a ValueError; never anything else."""
    try:
        cursor = parse_cursor(text)
    except ValueError as error:
        assert "cursor" in str(error)
    else:
        assert parse_cursor(str(cursor)) == cursor


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1-",
        "-1",
        "1-1",
        "1-1@",
        "1-1@STORE",
        "1-1@a b",
        " 1-1@a",
        "1-1@a\n",
        "１-1@a",
        "1-99999999999999999999@a",
    ],
)
def test_near_misses_are_refused(text: str) -> None:
    """Each part must be there, in ASCII, and fit into 64 bits."""
    with pytest.raises(ValueError, match="cursor"):
        parse_cursor(text)
