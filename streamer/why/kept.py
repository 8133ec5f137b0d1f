"""The recent past of every stream: what each segment was computed from, and sampled pictures where they may be shown.

Told on the publishing thread with every segment, so all it does there is to note references down. Tokens and pictures
that overlapping windows share are held once, and go with the last segment that holds them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from streamer.answer import Answer
from streamer.clock import Clock
from streamer.media import Basis, Picture, ReadWord, Token
from streamer.messages import Label, Reason, Segment, Status
from streamer.why.jpeg import PictureEncoder

KEPT_NS = 120_000_000_000
KEPT_BYTES = 64 * 1024 * 1024
# What a note of a segment, a label in it, and a token or picture take beside their numbers (measured).
_RECORD_BYTES, _LABEL_BYTES, _ITEM_BYTES = 500, 200, 150
_WORD_BYTES = 150


@dataclass(slots=True)
class _Item:
    """A picture or a patch: how many segments hold it, its token if it was encoded, and its JPEG if it is kept."""

    users: int = 0
    token: Token | None = None
    jpeg: bytes | None = None

    @property
    def size(self) -> int:
        token = 0 if self.token is None else self.token.values.nbytes
        return _ITEM_BYTES + token + (0 if self.jpeg is None else len(self.jpeg))


@dataclass(frozen=True, slots=True, eq=False)
class _Record:
    """What is noted of a segment. By index: `video` and `audio`, what its scores rest on, and `shown`, the pictures of
    its window where they may be shown. text: the words they rest on."""

    ring: _Ring
    told_ns: int
    epoch: str
    seq: int
    start_ns: int
    end_ns: int
    wall_offset_ns: int
    status: Status
    reason: Reason | None
    labels: list[Label]
    computed: bool
    video: tuple[int, ...]
    audio: tuple[int, ...]
    shown: tuple[int, ...]
    text: tuple[ReadWord, ...]

    @property
    def size(self) -> int:
        return _RECORD_BYTES + _LABEL_BYTES * len(self.labels) + _WORD_BYTES * len(self.text)


@dataclass(slots=True, eq=False)
class _Ring:
    """One stream's. `newest`: the last picture that was given to be kept."""

    records: OrderedDict[tuple[str, int], _Record] = field(default_factory=OrderedDict)
    pictures: dict[int, _Item] = field(default_factory=dict)
    patches: dict[int, _Item] = field(default_factory=dict)
    newest: int = -1


@dataclass(frozen=True, slots=True)
class Past:
    """One segment as it is kept. Times in nanoseconds of media time; `wall_offset_ns` makes wall time of them.

    `labels`: those it was published with. `basis`: None where nothing was computed, or the engine did not tell.
    `pictures`: JPEGs by index, of those that the basis has.
    """

    epoch: str
    seq: int
    start_ns: int
    end_ns: int
    wall_offset_ns: int
    status: Status
    reason: Reason | None
    labels: list[Label]
    basis: Basis | None
    pictures: dict[int, bytes]


class Kept:
    """The last 120 s of every stream, in 64 MB in all: the oldest goes first. Any thread may call any method.

    Args:
        shows: whether pictures of a stream may be shown; called on the publishing thread.
        encoder: makes JPEGs of pictures, on a thread of its own.
    """

    def __init__(
        self,
        clock: Clock,
        shows: Callable[[str], bool],
        encoder: PictureEncoder,
        *,
        most_bytes: int = KEPT_BYTES,
        most_ns: int = KEPT_NS,
    ) -> None:
        self._clock = clock
        self._shows = shows
        self._encoder = encoder
        self._most_bytes = most_bytes
        self._most_ns = most_ns
        self._rings: dict[str, _Ring] = {}
        # All streams' segments by age: what is too old or too much is always at its left end.
        self._by_age: deque[_Record] = deque()
        self._lock = threading.Lock()
        self._bytes = 0
        self._evicted = 0

    @property
    def size(self) -> int:
        """Bytes held now."""
        return self._bytes

    @property
    def evicted(self) -> int:
        """Segments that went before their time, for want of room."""
        return self._evicted

    def __len__(self) -> int:
        return len(self._by_age)

    # -- the publishing thread ---------------------------------------------------------------------------------------

    def answered(self, answer: Answer, segment: Segment, now_ns: int) -> None:
        """A window's answer became `segment`."""
        window, scores = answer.window, answer.scores
        basis = None if scores is None else scores.basis
        shown = tuple(picture.index for picture in window.pictures) if self._shows(window.stream) else ()
        with self._lock:
            ring = self._rings.get(window.stream)
            if ring is None:
                ring = self._rings[window.stream] = _Ring()
            record = _Record(
                ring,
                now_ns,
                window.epoch,
                window.seq,
                window.start_ns,
                window.end_ns,
                window.wall_offset_ns,
                segment.status,
                segment.reason,
                segment.labels,
                basis is not None,
                () if basis is None else tuple(token.index for token in basis.video),
                () if basis is None else tuple(token.index for token in basis.audio),
                shown,
                () if basis is None else basis.text,
            )
            self._hold(record, basis or Basis())
            self._drop_old(now_ns)
            fresh = [picture for picture in window.pictures if picture.index > ring.newest] if shown else ()
            if fresh:
                ring.newest = max(picture.index for picture in fresh)
        for picture in fresh:
            self._encode(ring, picture)

    def _hold(self, record: _Record, basis: Basis) -> None:
        ring = record.ring
        for token in basis.video:
            self._use(ring.pictures, token.index, token)
        for token in basis.audio:
            self._use(ring.patches, token.index, token)
        for index in record.shown:
            self._use(ring.pictures, index, None)
        ring.records[record.epoch, record.seq] = record
        self._by_age.append(record)
        self._bytes += record.size

    def _use(self, items: dict[int, _Item], index: int, token: Token | None) -> None:
        item = items.get(index)
        if item is None:
            item = items[index] = _Item()
            self._bytes += item.size
        item.users += 1
        if item.token is None and token is not None:
            item.token = token
            self._bytes += token.values.nbytes

    def _drop_old(self, now_ns: int) -> None:
        records = self._by_age
        while records and now_ns - records[0].told_ns > self._most_ns:
            self._drop(records.popleft())
        while len(records) > 1 and self._bytes > self._most_bytes:
            self._drop(records.popleft())
            self._evicted += 1

    def _drop(self, record: _Record) -> None:
        ring = record.ring
        ring.records.pop((record.epoch, record.seq), None)
        for items, indices in ((ring.pictures, record.video + record.shown), (ring.patches, record.audio)):
            for index in indices:
                item = items[index]
                item.users -= 1
                if not item.users:
                    self._bytes -= item.size
                    del items[index]
        self._bytes -= record.size

    def _encode(self, ring: _Ring, picture: Picture) -> None:
        index = picture.index
        self._encoder.offer(picture.rgb, lambda jpeg: self._keep(ring, index, jpeg))

    def _keep(self, ring: _Ring, index: int, jpeg: bytes) -> None:
        """A picture was encoded; by now its stream or its last segment may have gone."""
        with self._lock:
            item = ring.pictures.get(index)
            if item is not None and item.jpeg is None:
                item.jpeg = jpeg
                self._bytes += len(jpeg)

    # -- who asks ----------------------------------------------------------------------------------------------------

    def find(self, stream: str, seq: int, epoch: str | None = None) -> Past | None:
        """One segment, of the newest epoch that has it unless `epoch` names one; None where it is not kept (any
        more)."""
        with self._lock:
            self._drop_old(self._clock.now_ns())
            ring = self._rings.get(stream)
            if ring is None:
                return None
            if epoch is not None:
                record = ring.records.get((epoch, seq))
            else:
                record = next((found for found in reversed(ring.records.values()) if found.seq == seq), None)
            return None if record is None else _past(record)

    def picture(self, stream: str, index: int | None) -> bytes | None:
        """A kept picture as JPEG, the newest where `index` is None; None where it is not kept (any more)."""
        with self._lock:
            self._drop_old(self._clock.now_ns())
            ring = self._rings.get(stream)
            if ring is None:
                return None
            if index is None:
                index = max((found for found, item in ring.pictures.items() if item.jpeg is not None), default=-1)
            item = ring.pictures.get(index)
            return None if item is None else item.jpeg

    def forget(self, stream: str) -> None:
        """Free what is kept of `stream`: after its last answer."""
        with self._lock:
            ring = self._rings.pop(stream, None)
            if ring is None:
                return
            for record in list(ring.records.values()):
                self._drop(record)
            self._by_age = deque(record for record in self._by_age if record.ring is not ring)


def _past(record: _Record) -> Past:
    ring = record.ring
    basis = None
    if record.computed:
        basis = Basis(_tokens(ring.pictures, record.video), _tokens(ring.patches, record.audio), record.text)
    jpegs = {index: ring.pictures[index].jpeg for index in record.video}
    return Past(
        record.epoch,
        record.seq,
        record.start_ns,
        record.end_ns,
        record.wall_offset_ns,
        record.status,
        record.reason,
        record.labels,
        basis,
        {index: jpeg for index, jpeg in jpegs.items() if jpeg is not None},
    )


def _tokens(items: dict[int, _Item], indices: tuple[int, ...]) -> tuple[Token, ...]:
    found = (items[index].token for index in indices)
    return tuple(token for token in found if token is not None)
