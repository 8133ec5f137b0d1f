"""The ring of a stream that really runs: what it had a moment ago can be had, here or from a reader process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from streamer.channel import Channel
from streamer.clock import HostClock
from streamer.config import StreamConfig
from streamer.footage import Footage
from streamer.media import EpochStart, Frame, SourceEvent
from streamer.sources.live import MakeReader
from streamer.sources.pool import ReaderPool
from streamer.sources.reader import Reader
from streamer.sources.source import LiveSource, SourceSettings, droppable, open_source
from tests.conftest import eventually

SETTINGS = SourceSettings(frame_size=64, sample_rate=16_000, frames_per_second=2)
S = 1_000_000_000


class Running:
    """A source at work, and what it has said."""

    def __init__(self, url: str, make_reader: MakeReader) -> None:
        self.source: LiveSource = open_source("door", StreamConfig(source=url), SETTINGS, HostClock(), make_reader)
        self.channel: Channel[SourceEvent] = Channel(4096, droppable)
        self.events: list[SourceEvent] = []

    async def __aenter__(self) -> Running:
        self._task = asyncio.create_task(self.source.run(self.channel))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def frames(self) -> list[tuple[int, Frame]]:
        """The samples so far, with their wall time as segments would have it."""
        self.events += self.channel.drain()
        offset_ns, found = 0, []
        for event in self.events:
            if isinstance(event, EpochStart):
                offset_ns = event.wall_offset_ns
            elif isinstance(event, Frame):
                found.append((event.media_ns + offset_ns, event))
        return found


def nearest(footage: Footage, at_ns: int) -> np.ndarray:
    """The picture of that moment, small."""
    context = av.CodecContext.create(footage.codec, "r")
    context.extradata = footage.setup or None
    frames = []
    for coded in footage.pictures:
        packet = av.Packet(coded.data)
        packet.pts = coded.wall_ns
        frames += context.decode(packet)  # type: ignore[attr-defined]
    frames += context.decode(None)  # type: ignore[attr-defined]
    frame = min(frames, key=lambda frame: abs(frame.pts - at_ns))
    return np.asarray(frame.reformat(width=64, height=64, format="rgb24").to_ndarray())


@pytest.fixture(params=["here", "in a process"])
def make_reader(request: pytest.FixtureRequest) -> Iterator[MakeReader]:
    if request.param == "here":
        yield Reader
    else:
        with ReaderPool(1) as pool:
            yield pool.reader


async def test_a_moment_that_was_sampled_is_in_the_ring(
    make_reader: MakeReader, toolkit_camera: Callable[[Path], object], clips: Callable[..., Path]
) -> None:
    """What a camera's ring shows of the moment of a sample is that sample; switched off, it has nothing at once."""
    url = toolkit_camera(clips("ring.mp4")).url  # type: ignore[attr-defined]
    async with Running(url, make_reader) as running:
        running.source.keep(True)
        await eventually(lambda: len(running.frames()) > 4, 20)
        stats = running.source.stats
        # The last ones: the first may lie before the first key frame that was kept.
        at_ns, frame = running.frames()[-2]
        footage = await running.source.footage(at_ns, at_ns)
        assert footage is not None and footage.codec == "h264" and footage.pictures[0].is_key
        assert stats.kept_bytes > 0
        assert np.abs(nearest(footage, at_ns).astype(int) - frame.rgb).mean() < 8
        running.source.keep(False)
        assert await running.source.footage(at_ns, at_ns) is None
        await eventually(lambda: stats.kept_bytes == 0, 5)


async def test_nobody_asked(make_reader: MakeReader, looping_clip: Path) -> None:
    """A stream that nobody wants pictures of keeps none."""
    async with Running(f"file:{looping_clip}", make_reader) as running:
        await eventually(lambda: running.frames(), 20)
        assert await running.source.footage(0, 1 << 62) is None and running.source.stats.kept_bytes == 0


async def test_it_is_kept_across_reconnects(toolkit_camera: Callable[[Path], object], looping_clip: Path) -> None:
    """What is wanted of a stream is wanted of its next connection too, though the last one's pictures are gone."""
    camera = toolkit_camera(looping_clip)
    with ReaderPool(1) as pool:
        async with Running(camera.url, pool.reader) as running:  # type: ignore[attr-defined]
            running.source.keep(True)
            await eventually(lambda: running.source.stats.kept_bytes > 0, 20)
            camera.restart()  # type: ignore[attr-defined]
            await eventually(lambda: running.source.stats.reconnects, 20)
            before = len(running.frames())
            await eventually(lambda: len(running.frames()) > before + 2, 20)
            at_ns, _ = running.frames()[-1]
            assert await running.source.footage(at_ns, at_ns) is not None


async def test_a_reader_that_died_answers_nothing(looping_clip: Path) -> None:
    """Who waits for pictures of a process that ends is told that there are none."""
    with ReaderPool(1) as pool:
        async with Running(f"file:{looping_clip}", pool.reader) as running:
            running.source.keep(True)
            await eventually(lambda: running.frames(), 20)
            pool._workers[0].stop()
            assert await running.source.footage(0, 1 << 62) is None
