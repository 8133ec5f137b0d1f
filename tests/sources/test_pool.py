"""Reader processes: streams are read there as they would be here, and what happens to a process ends in it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from streamer.channel import Channel
from streamer.clock import HostClock
from streamer.config import StreamConfig
from streamer.media import AudioChunk, EpochStart, Frame, SourceEvent, StateChange
from streamer.sources.pool import ReaderPool
from streamer.sources.source import LiveSource, SourceSettings, droppable, open_source
from tests.conftest import eventually
from tests.processes import ended

SETTINGS = SourceSettings(frame_size=224, sample_rate=16_000, frames_per_second=2)


@pytest.fixture
def pool() -> Iterator[ReaderPool]:
    with ReaderPool(2) as pool:
        yield pool


class Watched:
    """A source at work, and all it has said."""

    def __init__(self, source: LiveSource) -> None:
        self.source = source
        self.channel: Channel[SourceEvent] = Channel(4096, droppable)
        self.events: list[SourceEvent] = []

    def of(self, *kinds: type) -> list[SourceEvent]:
        """What it has said, of these kinds."""
        self.events += self.channel.drain()
        return [event for event in self.events if isinstance(event, kinds)]

    @property
    def states(self) -> list[str]:
        """The states it went through."""
        return [event.state for event in self.of(StateChange) if isinstance(event, StateChange)]


@asynccontextmanager
async def watching(pool: ReaderPool, url: str, name: str = "door") -> AsyncIterator[Watched]:
    watched = Watched(open_source(name, StreamConfig(source=url), SETTINGS, HostClock(), pool.reader))
    task = asyncio.create_task(watched.source.run(watched.channel))
    try:
        yield watched
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_read_there_arrives_here(pool: ReaderPool, looping_clip: Path) -> None:
    """A clip read in another process brings its epoch, pictures, sound, states and counters, until its end."""
    async with watching(pool, f"file:{looping_clip}") as watched:
        await eventually(lambda: "ended" in watched.states, 20)
        frames = [event for event in watched.of(Frame) if isinstance(event, Frame)]
        assert len(watched.of(EpochStart)) == 1 and watched.states[0] == "connecting"
        assert 10 <= len(frames) <= 13 and frames[0].rgb.shape == (224, 224, 3)
        assert sum(len(event.samples) for event in watched.of(AudioChunk) if isinstance(event, AudioChunk)) > 5 * 16_000
        stats = watched.source.stats
        assert stats.packets["video"] > 100 and stats.frames_sampled == len(frames) and stats.fps > 20
        assert psutil.Process(os.getpid()).pid not in pool.pids


async def test_a_process_that_dies_costs_its_streams_a_reconnect(
    pool: ReaderPool, toolkit_camera: Callable[[Path], object], looping_clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Killed, a reader process is replaced, and its stream reconnects and brings pictures again."""
    url = toolkit_camera(looping_clip).url  # type: ignore[attr-defined]
    async with watching(pool, url) as watched:
        await eventually(lambda: len(watched.of(Frame)) > 2, 20)
        for pid in pool.pids:
            os.kill(pid, signal.SIGKILL)
        await eventually(lambda: "reconnecting" in watched.states, 10)
        seen = len(watched.of(Frame))
        await eventually(lambda: len(watched.of(Frame)) > seen + 2, 20)
        assert watched.states[-1] == "live" and pool.deaths == 1 and watched.source.stats.reconnects == 1
        assert "a reader process ended with code -9" in caplog.text


async def test_streams_share_few_processes_and_leave_none_behind(looping_clip: Path) -> None:
    """Six streams are read by two processes, a removed one is freed there, and after the pool no process is left."""
    with ReaderPool(2) as pool:
        async with watching(pool, f"file:{looping_clip}", "s0") as first:
            tasks = [watching(pool, f"file:{looping_clip}", f"s{n}") for n in range(1, 6)]
            others = [await task.__aenter__() for task in tasks]
            await eventually(lambda: all(watched.of(Frame) for watched in [first, *others]), 20)
            pids = pool.pids
            assert len(pids) == 2
            threads = {pid: psutil.Process(pid).num_threads() for pid in pids}
            for task in tasks:
                await task.__aexit__(None, None, None)
            await eventually(lambda: sum(psutil.Process(p).num_threads() for p in pids) < sum(threads.values()), 10)
    assert not any(psutil.pid_exists(pid) for pid in pids)


async def test_how_much_is_decoded_is_heeded_there(
    pool: ReaderPool, toolkit_camera: Callable[[Path], object], looping_clip: Path
) -> None:
    """Told to leave pictures out, the reader in the other process does, and counts them."""
    async with watching(pool, toolkit_camera(looping_clip).url) as watched:  # type: ignore[attr-defined]
        await eventually(lambda: len(watched.of(Frame)) > 2, 20)
        watched.source.ease("none")
        await eventually(lambda: watched.source.stats.drops.get("eased", 0) > 10, 10)


async def test_a_service_that_is_gone_takes_its_readers_with_it(looping_clip: Path) -> None:
    """When the other end of its socket closes, whatever the reason, a reader process ends by itself."""
    with ReaderPool(1) as pool:
        async with watching(pool, f"file:{looping_clip}") as watched:
            await eventually(lambda: watched.of(Frame), 20)
            (pid,) = pool.pids
            reader = psutil.Process(pid)
            for worker in list(pool._workers):
                worker.stop()
            await eventually(lambda: ended(reader), 5)
