"""Which of a stream's past segments a query means: from and until a cursor or a time. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from streamer.clock import parse_rfc3339
from streamer.cursor import EntryId, parse_cursor
from streamer.errors import UserError


class SegmentTimes(msgspec.Struct):
    """What a query looks at of a stored segment."""

    cursor: str
    start: str


_times_decoder = msgspec.json.Decoder(SegmentTimes)


def segment_times(json: bytes) -> SegmentTimes:
    """The cursor and the start of an encoded segment."""
    return _times_decoder.decode(json)


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of a range: a place in a store or a time, or neither."""

    id: EntryId | None = None
    store: str = ""
    time_ns: int | None = None

    @classmethod
    def parse(cls, name: str, text: str | None) -> Bound:
        """Read `text`; `name` is what its error calls it.

        Raises:
            UserError: it is neither a cursor nor a time.
        """
        if text is None:
            return cls()
        if "@" in text:
            try:
                cursor = parse_cursor(text)
            except ValueError as error:
                raise UserError(f"{name}: {error}") from None
            return cls(id=cursor.id, store=cursor.store)
        try:
            return cls(time_ns=parse_rfc3339(text))
        except ValueError:
            raise UserError(f"{name}: {text[:64]!r} is neither a cursor nor a time like 2026-11-23T04:07:08Z") from None


def within(times: SegmentTimes, entry_id: EntryId, lower: Bound, upper: Bound, end: EntryId) -> bool:
    """Whether the segment `times` at `entry_id` lies in the range; `end` is the place that `upper` names, excluded."""
    if upper.id is not None and entry_id >= end:
        return False
    if lower.time_ns is None and upper.time_ns is None:
        return True
    start_ns = parse_rfc3339(times.start)
    if lower.time_ns is not None and start_ns < lower.time_ns:
        return False
    return upper.time_ns is None or start_ns < upper.time_ns
