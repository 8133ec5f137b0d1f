"""The last seconds of a stream's pictures, as they were encoded, in memory alone.

Kept for those who may need a picture of what was a moment ago. Nothing is decoded: to keep a stream costs a copy of its
packets. Whole groups of pictures, from a key frame to the next, are kept and dropped, the oldest first.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import av
from msgspec.structs import replace

from streamer.footage import Coded, Footage
from streamer.media import SourceStats

_S = 1_000_000_000
# Pictures may be shown before one that was decoded earlier; by so much, at the most, in what cameras send.
_REORDERED_NS = _S // 5
# What a picture takes beside its bytes.
_OVERHEAD = 200


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long ago the oldest picture may have arrived, and how many bytes all of them may take."""

    age_ns: int = 20 * _S
    size: int = 24 * 1024 * 1024


@dataclass(slots=True)
class _Group:
    arrived_ns: int
    pictures: list[Coded] = field(default_factory=list)
    size: int = 0


class PacketRing:
    """The ring of one connection's pictures; off, and empty, until `switch(True)`.

    `begin`, `describe` and `add` belong to the thread that reads; the other methods to any. It counts in `stats`:
    `kept_bytes` is what is held, `kept_lost` how many groups were too long to be kept whole: after each of them there
    is nothing to be had until the next key frame.
    """

    def __init__(self, stats: SourceStats, bounds: Bounds = Bounds()) -> None:
        self._stats = stats
        self._bounds = bounds
        self._lock = threading.Lock()
        self._groups: deque[_Group] = deque()
        self._size = 0
        self._is_on = False
        self._is_closed = False
        self._wall_offset_ns = 0
        self._shape = Footage("", b"", (0, 0), "", 0, [])

    def switch(self, on: bool) -> None:
        """Keep pictures from now on, or drop all that are kept at once and keep no more."""
        with self._lock:
            self._is_on = on and not self._is_closed
            if not self._is_on:
                self._clear()

    def close(self) -> None:
        """Drop everything for good."""
        with self._lock:
            self._is_closed, self._is_on = True, False
            self._clear()

    def begin(self, wall_offset_ns: int) -> None:
        """Media time has this distance from the wall's from now on."""
        self._wall_offset_ns = wall_offset_ns

    def describe(self, context: av.VideoCodecContext) -> None:
        """What comes is for decoders like this one, which was not used yet."""
        raw = (context.format.name if context.format else "") if context.name == "rawvideo" else ""
        self._shape = Footage(context.name, context.extradata or b"", (context.width, context.height), raw, 0, [])

    def turn(self, turns: int) -> None:
        """Pictures are to be turned to the left so often."""
        if turns != self._shape.turns:
            with self._lock:
                self._shape = replace(self._shape, turns=turns)

    def add(self, packet: av.Packet[av.VideoStream], media_ns: int, arrived_ns: int) -> None:
        """Keep one whole picture that is to be shown at `media_ns`."""
        if not self._is_on:
            return
        picture = Coded(bytes(packet), media_ns + self._wall_offset_ns, packet.is_keyframe)
        with self._lock:
            if not self._is_on:
                return
            if picture.is_key and not self._belongs_to_last(picture):
                self._groups.append(_Group(arrived_ns))
            if not self._groups:
                return
            group, size = self._groups[-1], len(picture.data) + _OVERHEAD
            group.pictures.append(picture)
            group.size += size
            self._size += size
            self._drop_what_is_too_much(arrived_ns)
            self._stats.kept_bytes = self._size

    def _belongs_to_last(self, key: Coded) -> bool:
        """Whether what came last is the headers of this very picture."""
        return bool(self._groups) and self._groups[-1].pictures[-1].wall_ns == key.wall_ns

    def _drop_what_is_too_much(self, now_ns: int) -> None:
        groups, bounds = self._groups, self._bounds
        while groups and (self._size > bounds.size or now_ns - groups[0].arrived_ns > bounds.age_ns):
            self._size -= groups.popleft().size
            if not groups:
                self._stats.kept_lost += 1

    def _clear(self) -> None:
        self._groups.clear()
        self._size = self._stats.kept_bytes = 0

    def between(self, begin_ns: int, end_ns: int) -> Footage | None:
        """What shows the stream from `begin_ns` to `end_ns` (wall time), as far as it is kept, from the last key frame
        before that on; None where nothing is kept."""
        with self._lock:
            shape, groups = self._shape, [list(group.pictures) for group in self._groups]
        if not groups:
            return None
        begun = (place for place, group in enumerate(groups) if group[0].wall_ns <= begin_ns)
        pictures = [picture for group in groups[max(begun, default=0) :] for picture in group]
        wanted = (place for place, picture in enumerate(pictures) if picture.wall_ns <= end_ns + _REORDERED_NS)
        return replace(shape, pictures=pictures[: max(wanted, default=0) + 1])


def parts(footage: Footage, size: int) -> Iterator[Footage]:
    """`footage` in pieces of about `size` bytes; a picture is never cut."""
    part: list[Coded] = []
    total = 0
    for picture in footage.pictures:
        part.append(picture)
        total += len(picture.data)
        if total >= size:
            yield replace(footage, pictures=part)
            part, total = [], 0
    if part:
        yield replace(footage, pictures=part)


def joined(pieces: list[Footage]) -> Footage | None:
    """What `parts` cut; None of nothing."""
    if not pieces:
        return None
    return replace(pieces[0], pictures=[picture for piece in pieces for picture in piece.pictures])
