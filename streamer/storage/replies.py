"""What the store's replies mean. Pure."""

from __future__ import annotations

from typing import Any

from streamer.cursor import START, EntryId, parse_id
from streamer.errors import StoreError
from streamer.storage.records import Claim, Written


def claim_of(reply: list[Any]) -> Claim:
    """The answer of `claim.lua`."""
    status, owner, epoch, seq, time_us, written = reply
    return Claim(status == b"claimed", text(owner), text(epoch) or None, int(seq or -1), int(time_us), int(written))


def written_of(reply: list[Any]) -> Written:
    """The answer of `feed.lua`."""
    status, place, store, time_us, late = reply
    return Written(status.decode(), place.decode(), store.decode(), time_us, late == 1)


def entries(reply: list[Any] | None) -> list[tuple[EntryId, bytes]]:
    """Ids and JSON of a stream's entries; one that is not ours (without the field) is left out."""
    found = []
    for entry in reply or []:
        json = field(entry[1] or [], b"json") if entry else None
        if json is not None:
            found.append((parse_id(text(entry[0])), bytes(json)))
    return found


def written_again(reply: list[Any] | None) -> frozenset[EntryId]:
    """Ids of the entries that are marked as written again."""
    marked = [entry[0] for entry in reply or [] if entry and field(entry[1] or [], b"again") is not None]
    return frozenset(parse_id(text(entry_id)) for entry_id in marked)


def complete_from(info: list[Any] | StoreError) -> EntryId:
    """From which entry on a stream is whole, by its `XINFO STREAM`: its first, or the beginning if it lost none."""
    if isinstance(info, StoreError):  # "no such key": nothing was written, so nothing was dropped
        return START
    if field(info, b"entries-added") == field(info, b"length"):
        return START
    oldest = entries([field(info, b"first-entry")])
    return oldest[0][0] if oldest else parse_id(text(field(info, b"last-generated-id")))


def field(pairs: list[Any], name: bytes) -> Any:
    """The value after `name` in a flat list of names and values, None where there is none."""
    for index in range(0, len(pairs) - 1, 2):
        if pairs[index] == name:
            return pairs[index + 1]
    return None


def text(value: bytes | str | None) -> str:
    """A reply as text; '' for nil."""
    return "" if value is None else value if isinstance(value, str) else value.decode()
