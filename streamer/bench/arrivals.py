"""Windows of real media in any number of streams, without their decoding: a clip is decoded and cut once.

They come on time whatever becomes of those before (an open loop), or each when one before it was answered (a closed
one).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from streamer.errors import MediaError
from streamer.media import AudioChunk, EpochStart, Frame, Geometry, Window
from streamer.sources.replay import read_file
from streamer.window import Windower, WindowPolicy

_S = 1_000_000_000
# How far apart in the clip streams begin, in hops: whatever happens in it happens to all of them, but not at once.
_APART = 5


class Media:
    """The windows of a clip, again and again for each stream, with indices that never repeat.

    Where the clip begins again nothing of the windows before is left to reuse: once in its length a stream's window
    costs as much as a first one.

    Raises:
        MediaError: the clip is shorter than a window.
    """

    def __init__(self, clip: Path, geometry: Geometry) -> None:
        self.hop_ns = geometry.hop_ns
        windower = Windower("clip", geometry, WindowPolicy(bound_ns=0, grace_ns=None))
        cut: list[Window] = []
        for event in read_file(clip, geometry, geometry.frame_rates[0]):
            if isinstance(event, EpochStart):
                windower.begin("clip", event)
            elif isinstance(event, Frame | AudioChunk):
                windower.feed(event)
                cut += windower.poll(0)
        # Those at the beginning are not full.
        self._windows = cut[geometry.window_ns // geometry.hop_ns - 1 :]
        if not self._windows:
            raise MediaError(f"{clip} is shorter than a window: give a longer clip")
        self._pictures = 1 + max(picture.index for window in cut for picture in window.pictures)
        self._patches = 1 + max((patch.index for window in cut for patch in window.patches), default=0)

    def window(self, number: int, seq: int, end_ns: int, bound_ns: int) -> Window:
        """Window `seq` of stream `number`, whose end was captured at `end_ns` and which closes now."""
        turn, place = divmod(number * _APART + seq, len(self._windows))
        cut = self._windows[place]
        pictures, patches = turn * self._pictures, turn * self._patches
        return replace(
            cut,
            stream=name_of(number),
            epoch="0",
            seq=seq,
            start_ns=end_ns - (cut.end_ns - cut.start_ns),
            end_ns=end_ns,
            closed_ns=time.monotonic_ns(),
            deadline_ns=end_ns + bound_ns,
            wall_offset_ns=time.time_ns() - time.monotonic_ns(),
            pictures=tuple(replace(picture, index=picture.index + pictures) for picture in cut.pictures),
            patches=tuple(replace(patch, index=patch.index + patches) for patch in cut.patches),
        )


def name_of(number: int) -> str:
    """What stream `number` is called."""
    return f"s{number:04}"


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """`streams` streams for `seconds`, each with a window a hop, spread evenly over it."""

    media: Media
    streams: int
    seconds: float
    bound_ns: int

    @property
    def windows(self) -> int:
        """How many windows each stream has."""
        return max(1, int(self.seconds * _S // self.media.hop_ns))

    async def run(self, accept: Callable[[Window], None]) -> None:
        """Give each window to `accept` when it is due."""
        begin_ns, number = time.monotonic_ns(), 0
        while number < self.streams * self.windows:
            due_ns = begin_ns + number * self.media.hop_ns // self.streams
            if due_ns > time.monotonic_ns():
                await asyncio.sleep((due_ns - time.monotonic_ns()) / _S)
                continue
            seq, stream = divmod(number, self.streams)
            accept(self.media.window(stream, seq, due_ns, self.bound_ns))
            number += 1


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """`streams` streams in turn for `seconds`, with never more than `most` windows unanswered."""

    media: Media
    streams: int
    seconds: float
    bound_ns: int
    most: int

    async def run(self, accept: Callable[[Window], None], unanswered: Callable[[], int]) -> int:
        """Give a window to `accept` whenever there is room; returns how many there were."""
        end_s, number = time.monotonic() + self.seconds, 0
        while time.monotonic() < end_s:
            while unanswered() < self.most:
                seq, stream = divmod(number, self.streams)
                accept(self.media.window(stream, seq, time.monotonic_ns(), self.bound_ns))
                number += 1
            await asyncio.sleep(0.001)
        return number
