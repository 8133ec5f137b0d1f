"""What a writer writes again after its store lost it, and was passed on before. Pure.

Segments are told apart by epoch and `seq`. Other messages have no number, and a stream may well say the same twice:
what counts is that the store marks what is written again, and that it comes in the order in which it came before.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from hashlib import blake2b

from streamer.hub.filters import Envelope

# Messages of a stream to know again: a writer keeps no more than 64 units for its store, and a unit has a segment and
# now and then an event or two.
_KNOWN = 256
# Streams that have ended and are still known: a writer may have to write their ends again.
_ENDED = 256

# A segment's epoch and `seq`, or a digest of anything else.
_Key = tuple[str | None, int] | bytes


@dataclass(slots=True)
class _Passed:
    """What was passed on of a stream, oldest first, and its `latest` segment; while what is written again comes, what
    was known when that began, and how far it has come in it."""

    known: deque[_Key] = field(default_factory=lambda: deque(maxlen=_KNOWN))
    latest: tuple[str | None, int] = (None, -1)
    before: list[_Key] | None = None
    place: int = 0

    @property
    def rest(self) -> list[_Key]:
        """What was known and has not come again yet."""
        return [] if self.before is None else self.before[self.place :]


class Repeats:
    """Bounded: so many messages of each stream that there is, and of so many that have ended."""

    def __init__(self) -> None:
        self._streams: dict[str, _Passed] = {}
        self._ended: dict[str, _Passed] = {}

    def is_repeat(self, message: Envelope, json: bytes, *, again: bool) -> bool:
        """Note a message of the feed; whether it was there before. `again`: it is marked as written again."""
        passed = self._streams.get(message.stream)
        if passed is None:
            passed = self._ended.pop(message.stream, _Passed())
            self._streams[message.stream] = passed
        if message.type == "segment":
            repeats = self._segment(passed, message, again)
        else:
            repeats = self._note(passed, blake2b(json, digest_size=12).digest(), again)
        if message.type == "stream" and message.state == "ended":
            self._end(message.stream)
        return repeats

    def _segment(self, passed: _Passed, message: Envelope, again: bool) -> bool:
        repeats = self._note(passed, (message.epoch, message.seq), again)
        epoch, seq = passed.latest
        if repeats or (message.epoch == epoch and message.seq <= seq):
            return True
        passed.latest = (message.epoch, message.seq)
        return False

    def _note(self, passed: _Passed, key: _Key, again: bool) -> bool:
        if not again:
            passed.before = None
        elif self._find(passed, key):
            return True
        passed.known.append(key)
        return False

    def _find(self, passed: _Passed, key: _Key) -> bool:
        # A segment from before the place reached: the store has lost it once more, and the run begins again.
        if passed.before is None or (isinstance(key, tuple) and key in passed.known and key not in passed.rest):
            passed.before, passed.place = list(passed.known), 0
        try:
            passed.place = passed.before.index(key, passed.place) + 1
        except ValueError:
            return False
        return True

    def latest(self, stream: str) -> tuple[str | None, int] | None:
        """Epoch and `seq` of the segment of `stream` that came last; None where nothing of it is known."""
        passed = self._streams.get(stream)
        return None if passed is None else passed.latest

    def begin_anew(self) -> None:
        """The store was emptied or replaced: what is written again begins from here."""
        for passed in (*self._streams.values(), *self._ended.values()):
            passed.before = None

    def _end(self, stream: str) -> None:
        self._ended[stream] = self._streams.pop(stream)
        if len(self._ended) > _ENDED:
            del self._ended[next(iter(self._ended))]

    def __len__(self) -> int:
        """Streams of which anything is known."""
        return len(self._streams) + len(self._ended)
