"""What rules remember over a restart: the shapes of its parts, and their keys. Pure.

One part a stream (`stream/NAME`, `epochs/NAME`) and one a standing (`alert/RULE/KEY`), so that what changes in a second
is all that has to be written then.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from streamer.alerts.records import Fired

STREAM, EPOCHS, ALERT = "stream/", "epochs/", "alert/"


class WatchPart(Struct, frozen=True, array_like=True):
    """One rule on one stream, where it has anything to remember; `mark` says of which version of the rule it is."""

    mark: str
    since_ns: int | None
    due_ns: int
    raised: bool
    over_ns: int | None
    when: list[int]
    clear: list[int]


class StreamPart(Struct, frozen=True, array_like=True):
    """Where a stream stands; `watches` by the rule's name."""

    epoch: str | None
    seq: int
    state: str
    reason: str
    media_ns: int | None
    stored_ns: int
    watches: dict[str, WatchPart]


class StandingPart(Struct, frozen=True, array_like=True):
    """What a rule says of one key."""

    fired: Fired | None
    cleared_ns: int | None
    stored_ns: int
    recent: list[int]


encode = msgspec.json.Encoder().encode
read_stream = msgspec.json.Decoder(StreamPart).decode
read_epochs = msgspec.json.Decoder(list[str]).decode
read_standing = msgspec.json.Decoder(StandingPart).decode


def alert_key(rule: str, key: str) -> str:
    """The key of a standing's part. A rule's name has no slash in it."""
    return f"{ALERT}{rule}/{key}"
