"""Cursors: where a subscriber stands in the feed, as `<ms>-<n>@<store>`.

The first part is the feed's own entry id; the second names the store it came from, so that a cursor of a store that
was emptied or replaced is recognised instead of being read as a place in the new one.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_ID = re.compile(r"(\d{1,20})-(\d{1,20})", re.ASCII)
_CURSOR = re.compile(r"(\d{1,20})-(\d{1,20})@([0-9a-z]{1,32})", re.ASCII)
_MAX = 2**64 - 1


class EntryId(NamedTuple):
    """An entry id of a stream in the store: milliseconds of the store's clock and a counter within them."""

    ms: int
    n: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.n}"

    def next(self) -> EntryId:
        """The smallest id after this one (the largest possible id has none and stays)."""
        if self.n < _MAX:
            return EntryId(self.ms, self.n + 1)
        return EntryId(self.ms + 1, 0) if self.ms < _MAX else self

    def previous(self) -> EntryId:
        """The largest id before this one (the smallest possible id has none and stays)."""
        if self.n > 0:
            return EntryId(self.ms, self.n - 1)
        return EntryId(self.ms - 1, _MAX) if self.ms > 0 else self


START = EntryId(0, 0)
END = EntryId(_MAX, _MAX)


class Cursor(NamedTuple):
    """A place in one store's feed."""

    id: EntryId
    store: str

    def __str__(self) -> str:
        return f"{self.id}@{self.store}"


def parse_id(text: str) -> EntryId:
    """The entry id written as `ms-n`.

    Raises:
        ValueError: `text` is not one, or a part exceeds 64 bits.
    """
    match = _ID.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an entry id (like 1795406830712-0)")
    return _bounded(match[1], match[2], text)


def parse_cursor(text: str) -> Cursor:
    """The cursor written as `ms-n@store`.

    Raises:
        ValueError: `text` is not one; the message says what one looks like.
    """
    match = _CURSOR.fullmatch(text)
    if match is None:
        shown = text if len(text) <= 64 else text[:64] + "..."
        raise ValueError(f"{shown!r} is not a cursor (like 1795406830712-0@5f3a9c01): use one that a message carried")
    return Cursor(_bounded(match[1], match[2], text), match[3])


def _bounded(ms: str, n: str, text: str) -> EntryId:
    entry_id = EntryId(int(ms), int(n))
    if entry_id.ms > _MAX or entry_id.n > _MAX:
        raise ValueError(f"{text!r} is not a cursor: a part of it exceeds 64 bits")
    return entry_id
