"""Streams that come and go leave nothing behind: no thread, no file, no memory; and a camera that is silent costs
nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.cameras import ToolkitCamera
from tests.conftest import eventually
from tests.e2e.running import Running, service
from tests.e2e.watching import Follower, added, following
from tests.proxy import Proxy

StartCamera = Callable[[Path], ToolkitCamera]


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
    hub = [child for child in running.children if "streamer.hub" in " ".join(child.cmdline())]
    return {"service": psutil.Process(running.process.pid), "hub": hub[0]}


async def test_streams_that_come_and_go(looping_clip: Path, toolkit_camera: StartCamera) -> None:
    """After a dozen streams the service has the threads and files that it had after two, and hardly more memory."""
    camera = toolkit_camera(looping_clip)
    async with service() as running:
        processes = processes_of(running)
        after: dict[int, Held] = {}
        await churn(running, camera.url, 2, lambda count: None)
        before = {name: Held.by(process) for name, process in processes.items()}
        await churn(running, camera.url, 12, lambda count: None)
        for name, process in processes.items():
            print(name, before[name], Held.by(process))
            await asyncio.sleep(3)
            print(name, before[name], Held.by(process))


@pytest.mark.prove
@pytest.mark.timeout(1200)
async def test_two_hundred_streams_that_come_and_go(looping_clip: Path, toolkit_camera: StartCamera) -> None:
    """Resident memory after 200 streams is within 10 MB of that after 20, in the service and in its hub."""
    camera = toolkit_camera(looping_clip)
    async with service() as running:
        processes = processes_of(running)
        held: list[dict[str, Held]] = []

        def note(count: int) -> None:
            held.append({name: Held.by(process) for name, process in processes.items()})
            if count % 20 == 0:
                print(count, held[-1], flush=True)

        await churn(running, camera.url, 200, note)
        for name in processes:
            assert held[199][name].rss_mb - held[19][name].rss_mb < 10.0
