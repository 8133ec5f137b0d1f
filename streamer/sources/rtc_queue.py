"""Frames between the thread that receives and the one that decodes: bounded in number, bytes and time."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Literal

_S = 1_000_000_000
# Sound is 50 packets a second, and a wake-up costs more than a packet: so many of them are read together, or with the
# next picture.
_GATHERED = 4


@dataclass(frozen=True, slots=True)
class Received:
    """One whole frame with its time: `pts_ns` on its peer's axis, `wall_ns` by its sender's clock, None unless told."""

    kind: Literal["video", "audio"]
    data: bytes
    pts_ns: int
    wall_ns: int | None
    arrived_ns: int
    is_key: bool


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may wait: frames, bytes, and nanoseconds between the oldest and the newest."""

    frames: int = 400
    size: int = 8 * 1024 * 1024
    span_ns: int = 2 * _S


class FrameQueue:
    """One writer, one reader, on any threads.

    Where a frame does not fit, the oldest pictures go, up to the next key frame, because those after a picture that is
    missing can't be decoded; where no key frame waits, all pictures go and those that come until the next one. Sound
    goes where that is not enough.
    """

    def __init__(self, bounds: Bounds | None = None) -> None:
        self._bounds = Bounds() if bounds is None else bounds
        self._waiting: deque[Received] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._lacks_key = False
        self._dropped: dict[str, int] = {}
        self.peak = (0, 0)
        """The most frames and bytes that ever waited."""

    def put(self, frame: Received) -> bool:
        """Append `frame`, making room; True: a key frame should be asked for."""
        with self._changed:
            if self._is_closed:
                return False
            if self._lacks_key and frame.kind == "video":
                if not frame.is_key:
                    self._count("overflow")
                    return True
                self._lacks_key = False
            self._waiting.append(frame)
            self._bytes += len(frame.data)
            if self._is_full:
                self._make_room()
            self.peak = (max(self.peak[0], len(self._waiting)), max(self.peak[1], self._bytes))
            if frame.kind == "video" or len(self._waiting) >= _GATHERED:
                self._changed.notify()
            return self._lacks_key

    def get(self, timeout_s: float) -> Received | None:
        """The oldest frame; None where none came in time, or none will come any more. Who waits is woken by a picture,
        or by a few packets of sound."""
        with self._changed:
            if not self._waiting and not self._is_closed:
                self._changed.wait(timeout_s)
            if not self._waiting:
                return None
            frame = self._waiting.popleft()
            self._bytes -= len(frame.data)
            return frame

    def count(self, reason: str) -> None:
        """A frame was left out before it came here."""
        with self._changed:
            self._count(reason)

    def take_dropped(self) -> dict[str, int]:
        """How many frames were left out since the last time this was asked, by reason: `overflow` had no room."""
        with self._changed:
            dropped, self._dropped = self._dropped, {}
            return dropped

    def waits_ns(self, now_ns: int) -> int:
        """How long the oldest frame has waited."""
        with self._changed:
            return now_ns - self._waiting[0].arrived_ns if self._waiting else 0

    def close(self) -> None:
        """Nothing more is taken in; what waits can still be got."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    @property
    def is_over(self) -> bool:
        """Closed, and empty."""
        with self._changed:
            return self._is_closed and not self._waiting

    @property
    def _is_full(self) -> bool:
        return len(self._waiting) > self._bounds.frames or self._bytes > self._bounds.size or self._is_old

    @property
    def _is_old(self) -> bool:
        waiting = self._waiting
        return bool(waiting) and waiting[-1].arrived_ns - waiting[0].arrived_ns > self._bounds.span_ns

    def _make_room(self) -> None:
        while self._is_full:
            pictures = [index for index, frame in enumerate(self._waiting) if frame.kind == "video"]
            if not pictures or (self._is_old and pictures[0] > 0):
                self._keep(list(self._waiting)[1:])
                continue
            key = next((index for index in pictures[1:] if self._waiting[index].is_key), None)
            # Without a key frame behind it one that is alone and too large can't stay either.
            gone = {index for index in pictures if key is None or index < key}
            self._lacks_key = key is None
            self._keep([frame for index, frame in enumerate(self._waiting) if index not in gone])

    def _keep(self, frames: list[Received]) -> None:
        self._count("overflow", len(self._waiting) - len(frames))
        self._waiting = deque(frames)
        self._bytes = sum(len(frame.data) for frame in frames)

    def _count(self, reason: str, count: int = 1) -> None:
        if count:
            self._dropped[reason] = self._dropped.get(reason, 0) + count
