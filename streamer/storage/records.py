"""What goes into the store and comes out of it, and how it can fail.

The ones of which there are thousands a second are msgspec structs that the garbage collector does not look at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from streamer.cursor import START, EntryId
from streamer.errors import StoreError


class StoreAway(StoreError):
    """The store cannot be reached, does not answer in time, or is loading; trying again later may help."""


class StoreFull(StoreError):
    """The store has no memory left for writing."""


class Record(Struct, frozen=True, gc=False):
    """One message of a unit, encoded: `mark` is the sequence number of a segment and the state of a stream message."""

    kind: Literal["segment", "stream", "other"]
    json: bytes
    epoch: str = ""
    mark: str | int = ""


class UnitRecord(Struct, frozen=True, gc=False):
    """What one run of the script writes.

    `ordinal` counts a claim's units; `after` is the ordinal that must have been written before. `deadline_us`: on the
    store's clock; a segment written later than this is marked as delivered late by the script itself. `again`: it had
    been written, and the store lost it; the channel, which had it live, does not get it twice. `resent`: it was sent
    before, without an answer.
    """

    stream: str
    owner: str
    ordinal: int
    after: int
    records: tuple[Record, ...]
    deadline_us: int | None = None
    again: bool = False
    resent: bool = False


class Written(Struct, frozen=True, gc=False):
    """The script's answer.

    `early`: not written because a unit before it is missing. `id`: of the unit's segment in the feed, of its last
    message where it has none, '' where nothing was written. `time_us`: the store's clock.
    """

    status: Literal["written", "duplicate", "fenced", "early"]
    id: str
    store: str
    time_us: int
    late: bool

    @property
    def cursor(self) -> str:
        """The place of `id` as messages carry it; '' where nothing was written."""
        return f"{self.id}@{self.store}" if self.id else ""


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """A stream to own.

    `owner` restores a claim (it is the owner that was given) in a store that lost it or lost what was written last; a
    claim that was overtaken by a later one is not granted. `written`: the writer goes on with the ordinal after this
    one at the earliest, as it no longer has those before. `settled`: the ordinal that was acknowledged last, by a store
    of the identity `store`.
    """

    stream: str
    owner: str = ""
    written: int = -1
    settled: int = -1
    store: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim: the owner to write as, and what was written last (None: nothing is known).

    `written`: the last ordinal of this owner's that the store holds, -1 where it holds none.
    """

    granted: bool
    owner: str
    epoch: str | None
    seq: int
    time_us: int
    written: int = -1


@dataclass(frozen=True, slots=True)
class FeedPage:
    """Entries of the feed in order and the identity of the store that they came from ('' while it is empty).

    Nothing after `complete_from` was dropped yet (only pages of a range say so). `again`: those of the entries that may
    be what a store had before it lost it.
    """

    store: str
    entries: list[tuple[EntryId, bytes]]
    complete_from: EntryId = START
    again: frozenset[EntryId] = frozenset()


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
