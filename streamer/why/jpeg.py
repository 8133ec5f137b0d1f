"""Pictures to JPEG and back: encoded on a thread of its own, because the millisecond that takes has no deadline."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from fractions import Fraction
from types import TracebackType

import av
import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

# Of 2 (best) to 31: photographs of 224 x 224 take 10 KB, and differ by 3 of 255 on average from what they were.
_QUANTISER = 4
_CAPACITY = 64
_JOIN_S = 2.0

Done = Callable[[bytes], None]


class Jpeg:
    """An encoder of pictures of one size. Not for several threads at once."""

    def __init__(self) -> None:
        self._context: av.VideoCodecContext | None = None

    def encode(self, rgb: NDArray[np.uint8]) -> bytes:
        """uint8 `[H, W, 3]` RGB -> a JPEG file, 4:2:0."""
        height, width = rgb.shape[:2]
        context = self._context
        if context is None or (context.width, context.height) != (width, height):
            context = self._context = _context(width, height)
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuvj420p")
        # Every picture stands by itself; only the time stamps must not go back.
        frame.pts = None
        return b"".join(bytes(packet) for packet in context.encode(frame))


def _context(width: int, height: int) -> av.VideoCodecContext:
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height = width, height
    context.pix_fmt = "yuvj420p"
    context.time_base = Fraction(1, 1)
    context.qmin = context.qmax = _QUANTISER
    context.thread_count = 1
    return context


def decode(jpeg: bytes) -> NDArray[np.uint8]:
    """A JPEG file -> uint8 `[H, W, 3]` RGB.

    Raises:
        av.FFmpegError, ValueError: it is none.
    """
    context = av.CodecContext.create("mjpeg", "r")
    frames = context.decode(av.Packet(jpeg)) or context.decode(None)
    if not frames:
        raise ValueError(f"no picture in {len(jpeg)} bytes")
    return frames[0].to_ndarray(format="rgb24").astype(np.uint8, copy=False)


class PictureEncoder:
    """`with PictureEncoder() as encoder: encoder.offer(rgb, done)`: `done` gets the JPEG, on the encoder's thread.

    At most 64 pictures wait; where there are more the oldest is dropped and counted. `offer` belongs to one thread.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[NDArray[np.uint8], Done] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="pictures", daemon=True)
        self.dropped = 0
        self.failures = 0

    def __enter__(self) -> PictureEncoder:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._queue.put(None)
        self._thread.join(_JOIN_S)

    def __len__(self) -> int:
        return self._queue.qsize()

    def offer(self, rgb: NDArray[np.uint8], done: Done) -> None:
        """Have `rgb` (uint8 `[H, W, 3]`) encoded soon; never waits."""
        if self._queue.qsize() >= _CAPACITY:
            try:
                self._queue.get_nowait()
                self.dropped += 1
            except queue.Empty:
                pass  # the thread has just taken the last one itself
        self._queue.put((rgb, done))

    def _work(self) -> None:
        jpeg = Jpeg()
        while (item := self._queue.get()) is not None:
            rgb, done = item
            try:
                done(jpeg.encode(rgb))
            except Exception:  # A picture that can't be encoded costs itself, and must not end those of all streams.
                self.failures += 1
                log.exception("a picture could not be encoded")
                jpeg = Jpeg()
