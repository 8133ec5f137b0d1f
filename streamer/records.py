"""What goes into the store and comes out of it, and how it can fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from streamer.cursor import START, EntryId
from streamer.errors import StoreError


class StoreAway(StoreError):
    """The store cannot be reached, does not answer in time, or is loading; trying again later may help."""


class StoreFull(StoreError):
    """The store has no memory left for writing."""


@dataclass(frozen=True, slots=True)
class Record:
    """One message of a unit, encoded: `mark` is the sequence number of a segment and the state of a stream message."""

    kind: Literal["segment", "stream", "other"]
    json: bytes
    epoch: str = ""
    mark: str | int = ""


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """What one run of the script writes.

    `ordinal` counts a claim's units; `after` is the ordinal that must have been written before. `deadline_us`: on the
    store's clock; a segment written later than this is marked as delivered late by the script itself.
    """

    stream: str
    owner: str
    ordinal: int
    after: int
    records: Sequence[Record]
    deadline_us: int | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """The script's answer. `early`: not written because a unit before it is missing. `time_us`: the store's clock."""

    status: Literal["written", "duplicate", "fenced", "early"]
    first: str
    last: str
    store: str
    time_us: int
    late: bool


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """A stream to own. `owner` and `written` restore a claim (the owner it gave, the ordinal settled last) in a store
    that lost it, or lost what was written last; a claim that was overtaken by a later one is not granted."""

    stream: str
    owner: str = ""
    written: int = -1


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim: the owner to write as, and what was written last (None: nothing is known)."""

    granted: bool
    owner: str
    epoch: str | None
    seq: int
    time_us: int


@dataclass(frozen=True, slots=True)
class FeedPage:
    """Entries of the feed in order and the identity of the store that they came from ('' while it is empty).

    Nothing after `complete_from` was dropped yet (only pages of a range say so).
    """

    store: str
    entries: list[tuple[EntryId, bytes]]
    complete_from: EntryId = START


@dataclass(frozen=True, slots=True)
class FeedBounds:
    """Where the feed begins and ends: its first entry (None: empty) and the last id that was ever given."""

    store: str
    first: EntryId | None
    last: EntryId


@dataclass(frozen=True, slots=True)
class SegmentPage:
    """Encoded segments and the cursor to go on from (None: these were the last)."""

    segments: list[bytes]
    next: str | None
