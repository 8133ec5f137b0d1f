"""RTP packets in whatever order they arrive to whole frames in theirs. Pure: time comes with the packets.

A frame is whole when its last packet says so (the marker bit, RFC 3550 section 5.1; RFC 6184 and RFC 7741 set it on the
last packet of a picture), so nothing waits for the frame after it. Only at a hole does anything wait, for as long as a
repetition takes (RFC 4585 NACK).
"""

from __future__ import annotations

from dataclasses import dataclass

_MS = 1_000_000
_HALF = 1 << 15
_WHOLE = 1 << 16
# A hole that is larger than this, or a step back by more, is a sender that counts anew.
_JUMP = 3000
# Repetitions are asked for in one message of at most so many numbers, and again after this long.
_MOST_ASKED = 64
_ASK_AGAIN_NS = 60 * _MS


@dataclass(slots=True)
class Fragment:
    """One RTP packet, its payload taken out of its codec's wrapping; empty where it only fills a number.

    sequence: 16 bits. timestamp: 32 bits. ends: the last of its frame.
    """

    sequence: int
    timestamp: int
    ends: bool
    data: bytes
    arrived_ns: int


@dataclass(slots=True)
class Coded:
    """One whole frame as it was sent. `follows_loss`: packets got lost between the frame before and this one.
    `arrived_ns`: when its last packet did."""

    timestamp: int
    data: bytes
    arrived_ns: int
    follows_loss: bool


class Sequencer:
    """Feed packets as they arrive; frames come out in order.

    Args:
        joins: several packets make a frame (pictures), else each is one (Opus).
        patience_ns: how long a packet that is missing is waited for.
        most: packets that may wait behind a hole.
    """

    def __init__(self, *, joins: bool, patience_ns: int, most: int) -> None:
        self._joins = joins
        self._patience_ns = patience_ns
        self._most = most
        self._next: int | None = None
        self._held: dict[int, Fragment] = {}
        self._hole_since_ns = 0
        self._asked_ns: int | None = None
        self._parts: list[Fragment] = []
        self._skips = False  # what comes belongs to a frame whose beginning got lost
        self._follows_loss = False
        self.lost = 0
        """Packets given up."""

    def feed(self, fragment: Fragment) -> list[Coded]:
        """Take in the next packet; the frames that are whole now."""
        number = self._number(fragment.sequence)
        if self._next is None:
            self._next = number
        if not -_JUMP < number - self._next < _JUMP:
            self._restart(number)
        if number < self._next:
            return []  # a repetition that came too late, or twice
        now_ns = fragment.arrived_ns
        if not self._held and number != self._next:
            self._hole_since_ns, self._asked_ns = now_ns, None
        self._held[number] = fragment
        coded = self._drain()
        while self._held and (now_ns - self._hole_since_ns > self._patience_ns or len(self._held) > self._most):
            first = min(self._held)
            self.lost += first - self._next
            self._next = first
            self._lose()
            coded += self._drain()
            self._hole_since_ns, self._asked_ns = now_ns, None
        return coded

    def missing(self, now_ns: int) -> list[int]:
        """The sequence numbers to ask for again, oldest first; each hole is asked about every 60 ms."""
        if not self._held or self._next is None:
            return []
        if self._asked_ns is not None and now_ns - self._asked_ns < _ASK_AGAIN_NS:
            return []
        self._asked_ns = now_ns
        numbers = (number for number in range(self._next, max(self._held)) if number not in self._held)
        return [number % _WHOLE for number, _ in zip(numbers, range(_MOST_ASKED), strict=False)]

    def _number(self, sequence: int) -> int:
        """`sequence` without its wrapping at 16 bits."""
        near = sequence if self._next is None else self._next
        return near + (sequence - near + _HALF) % _WHOLE - _HALF

    def _restart(self, number: int) -> None:
        self.lost += len(self._held)
        self._held.clear()
        self._next = number
        self._lose()

    def _lose(self) -> None:
        self._parts.clear()
        self._follows_loss = True
        self._skips = self._joins

    def _drain(self) -> list[Coded]:
        assert self._next is not None
        coded: list[Coded] = []
        while (fragment := self._held.pop(self._next, None)) is not None:
            self._next += 1
            if fragment.data or fragment.ends:
                coded += self._take(fragment)
        return coded

    def _take(self, fragment: Fragment) -> list[Coded]:
        if not self._joins:
            return self._whole([fragment]) if fragment.data else []
        if self._skips:
            # Whether this one begins a frame can't be known; the one after the next end does.
            self._skips = not fragment.ends
            return []
        coded: list[Coded] = []
        if self._parts and fragment.timestamp != self._parts[0].timestamp:
            coded = self._whole(self._parts)  # its end was not marked
            self._parts = []
        self._parts.append(fragment)
        if fragment.ends:
            coded += self._whole(self._parts)
            self._parts = []
        return coded

    def _whole(self, parts: list[Fragment]) -> list[Coded]:
        data = parts[0].data if len(parts) == 1 else b"".join(part.data for part in parts)
        if not data:
            return []
        follows_loss, self._follows_loss = self._follows_loss, False
        return [Coded(parts[0].timestamp, data, parts[-1].arrived_ns, follows_loss)]
