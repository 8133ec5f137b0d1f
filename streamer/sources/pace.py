"""How a reader keeps up with what arrives. Pure: time is an argument."""

from __future__ import annotations

from streamer.media import Effort

_MS = 1_000_000
# What a reader does is judged over stretches of this length.
_SPAN_NS = 300 * _MS
# A reader that is this far behind and works most of the time does too much, ...
_BEHIND_NS = 700 * _MS
# ...until it has come this close again, ...
_CAUGHT_UP_NS = 250 * _MS
# ...or for so many stretches has had time to spare and come no closer: then it is the camera that is late.
_NO_CLOSER = 4


class Pace:
    """Tells media that come late from media that are read late.

    A thread that has to wait for a processor, or for the interpreter's lock, can't tell by how long a read took
    whether anything was there to read. What it can tell is whether most of its time goes into reading or into work on
    what it read, and whether it reads faster than media are made, as one does that has fallen behind.
    """

    def __init__(self) -> None:
        self.is_fresh = True
        """Whether what is read now came just now, and was not lying in a buffer for want of time."""
        self.allows: Effort = "all"
        """What there is time for: key frames from falling behind until having caught up, nothing if they are too much
        as well."""
        self._no_closer = 0
        self._begun_ns: int | None = None
        self._worked_ns = 0
        self._taken_ns = 0
        self._first_ns: int | None = None  # media time
        self._media_ns: int | None = None

    def read(self, asked_ns: int, taken_ns: int) -> None:
        """The next packet was asked for at `asked_ns` and there at `taken_ns`."""
        if self._begun_ns is None:
            self._begun_ns = asked_ns
        else:
            self._worked_ns += asked_ns - self._taken_ns
        self._taken_ns = taken_ns
        if taken_ns - self._begun_ns >= _SPAN_NS:
            self._judge(taken_ns - self._begun_ns)
            self._begun_ns, self._worked_ns, self._first_ns = taken_ns, 0, self._media_ns

    def place(self, media_ns: int) -> None:
        """The packet is of this media time."""
        self._media_ns = media_ns if self._media_ns is None else max(self._media_ns, media_ns)
        if self._taken_ns - media_ns < _CAUGHT_UP_NS:
            self.allows = "all"

    def restart(self) -> None:
        """Media time begins anew."""
        self._first_ns = self._media_ns = None

    def _judge(self, span_ns: int) -> None:
        is_busy = 2 * self._worked_ns > span_ns
        advanced_ns = 0 if self._media_ns is None or self._first_ns is None else self._media_ns - self._first_ns
        behind_ns = 0 if self._media_ns is None else self._taken_ns - self._media_ns
        if self.allows == "all":
            self._no_closer = 0
            if is_busy and behind_ns > _BEHIND_NS:
                self.allows = "keyframes"
        elif 10 * advanced_ns < 11 * span_ns:
            self._no_closer += not is_busy
            if self._no_closer >= _NO_CLOSER:
                self.allows = "all"
            elif behind_ns > _BEHIND_NS:
                self.allows = "none"
        self.is_fresh = self.allows == "all" and not is_busy and 4 * advanced_ns <= 5 * span_ns
