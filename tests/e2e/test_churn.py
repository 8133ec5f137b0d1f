"""Streams that come and go leave nothing behind: no thread, no file, no memory; and a camera that is silent costs
nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from streamer.bench.slopes import slope
from tests.cameras import ToolkitCamera
from tests.conftest import eventually
from tests.e2e.running import Running, service
from tests.e2e.watching import Follower, added, following
from tests.processes import with_word
from tests.proxy import Proxy

StartCamera = Callable[[Path], ToolkitCamera]
# The connections to the store and the threads for what blocks are pooled: one more of each may be opened at any time.
POOLED = 2


@dataclass(frozen=True)
class Held:
    """What a process holds at a moment."""

    rss_mb: float
    threads: int
    files: int

    @classmethod
    def by(cls, process: psutil.Process) -> Held:
        with process.oneshot():
            return cls(process.memory_info().rss / 1e6, process.num_threads(), process.num_fds())


async def cycle(running: Running, follower: Follower, number: int, source: str) -> None:
    """A stream under a name of its own: added, live until its first segment, removed."""
    mark = len(follower.messages)
    async with added(running, f"guest-{number}", source):
        await follower.until_segments(f"guest-{number}", 1, since=mark)
    del follower.messages[:]


async def churn(running: Running, source: str, cycles: int, note: Callable[[int], None]) -> None:
    """`cycles` streams one after the other; `note` is called after each with how many there have been."""
    async with following(running) as follower:
        for number in range(cycles):
            await cycle(running, follower, number, source)
            note(number + 1)


def processes_of(running: Running) -> dict[str, psutil.Process]:
    """The service's own process and its hub."""
    hub = with_word(running.children, "streamer.hub")
    return {"service": psutil.Process(running.process.pid), "hub": hub[0]}


async def test_a_stream_removed_while_its_camera_hangs(looping_clip: Path, toolkit_camera: StartCamera) -> None:
    """Removing streams whose camera is frozen, before they connected or after, is done soon and frees their threads and
    connections."""
    camera = toolkit_camera(looping_clip)
    async with service() as running, following(running) as follower, Proxy(camera.port) as proxy:
        await cycle(running, follower, 0, camera.url)
        process = psutil.Process(running.process.pid)
        was = Held.by(process)
        async with added(running, "live", proxy.url(camera.url)):
            await follower.until_segments("live", 2)
            proxy.freeze()
            async with contextlib.AsyncExitStack() as stack:
                for number in range(2 * POOLED):
                    await stack.enter_async_context(added(running, f"never-{number}", proxy.url(camera.url)))
                await eventually(lambda: proxy.connections == 1 + 2 * POOLED)
            removing_s = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - removing_s < 2.0
        await eventually(lambda: holds_no_more(process, was), 20, f"as before: {was}")


def holds_no_more(process: psutil.Process, was: Held) -> bool:
    now = Held.by(process)
    return now.threads <= was.threads + POOLED and now.files <= was.files + POOLED


# What each figure may have grown by over the cycles after the first tenth: the allocator's arenas and pools fill up
# once, and connections and threads are pooled. A stream that left 20 KB, or one in a hundred that left a thread or a
# file, would show in a thousand.
ALLOWED = {"rss_mb": 10.0, "threads": float(POOLED), "descriptors": float(POOLED)}


async def no_growth(camera: ToolkitCamera, cycles: int) -> None:
    """Resident memory, threads and descriptors of service and hub have no slope over `cycles` streams that come and go
    one after the other, but for noise."""
    async with service() as running:
        processes = processes_of(running)
        figures: dict[str, list[Held]] = {name: [] for name in processes}

        def note(_: int) -> None:
            for name, process in processes.items():
                figures[name].append(Held.by(process))

        await churn(running, camera.url, cycles, note)
        metrics = await (await running.session.get(running.page + "/metrics")).text()
        assert "guest" not in metrics
    broken = []
    for name, held in figures.items():
        kept = held[cycles // 10 :]
        series = {
            "rss_mb": [now.rss_mb for now in kept],
            "threads": [float(now.threads) for now in kept],
            "descriptors": [float(now.files) for now in kept],
        }
        for what, values in series.items():
            # Over cycles in the place of seconds.
            found = slope(list(map(float, range(len(values)))), values)
            assert found is not None
            told = f"{name} {what}: {values[0]:g} to {values[-1]:g}, {found.growth:+.2f} over {len(values)} cycles"
            print(f"{told} (95 %: {found.low / 3600:+.5f} to {found.high / 3600:+.5f} a cycle)")
            if found.grows(ALLOWED[what]):
                broken.append(told)
    assert not broken


@pytest.mark.timeout(400)
async def test_a_hundred_streams_that_come_and_go(looping_clip: Path, toolkit_camera: StartCamera) -> None:
    """A hundred live streams, one after the other, leave memory, threads and descriptors of service and hub as they
    are, and no series in the metrics."""
    await no_growth(toolkit_camera(looping_clip), 100)


@pytest.mark.prove
@pytest.mark.timeout(3600)
async def test_a_thousand_streams_that_come_and_go(looping_clip: Path, toolkit_camera: StartCamera) -> None:
    """A thousand live streams, one after the other, leave memory, threads and descriptors of service and hub as they
    are, and no series in the metrics."""
    await no_growth(toolkit_camera(looping_clip), 1000)


CAMERAS = 4


@pytest.mark.prove
@pytest.mark.timeout(300)
async def test_a_camera_that_is_silent_costs_nothing(looping_clip: Path, toolkit_camera: StartCamera) -> None:
    """Frozen cameras cost the service less than 0.5 % of a core each, from the stall over the loss of the connection to
    the attempts at a new one."""
    camera = toolkit_camera(looping_clip)
    async with service() as running, following(running) as follower, Proxy(camera.port) as proxy:
        idle_s = await used_s(running, 20.0)
        async with contextlib.AsyncExitStack() as stack:
            for number in range(CAMERAS):
                await stack.enter_async_context(added(running, f"ice-{number}", proxy.url(camera.url)))
            for number in range(CAMERAS):
                await follower.until_segments(f"ice-{number}", 4)
            proxy.freeze()
            for number in range(CAMERAS):
                await follower.until_turn(f"ice-{number}", "stalled")
            frozen_s = await used_s(running, 20.0)
            turns = {turn["state"] for turn in follower.turns("ice-0")}
            assert "reconnecting" in turns
            print(f"without streams {idle_s / 20:.4f} core, {CAMERAS} frozen {frozen_s / 20:.4f} core")
            assert (frozen_s - idle_s) / 20.0 / CAMERAS < 0.005
            proxy.thaw()


async def used_s(running: Running, seconds: float) -> float:
    """CPU seconds that the service's own process uses in so many seconds."""
    process = psutil.Process(running.process.pid)
    before = sum(process.cpu_times()[:2])
    await asyncio.sleep(seconds)
    return sum(process.cpu_times()[:2]) - before
