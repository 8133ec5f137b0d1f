"""Descriptors run out: in the hub under a crowd, in the service under streams. Those who are there notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.cameras import ToolkitCamera
from tests.conftest import eventually
from tests.e2e.running import service
from tests.e2e.watching import Message, following
from tests.faults.books import account_of, nothing_wrong, report, still_labelled
from tests.faults.test_process_killed import child

StartCamera = Callable[[Path], ToolkitCamera]
CROWD = 40


def leave_room_for(process: psutil.Process, descriptors: int) -> None:
    """From now on `process` can open so many more. Skips where that is not allowed."""
    most = process.num_fds() + descriptors
    try:
        resource.prlimit(
            process.pid, resource.RLIMIT_NOFILE, (most, resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[1])
        )
    except PermissionError:
        pytest.skip("setting another process's limits needs privileges: run as root")


@contextlib.asynccontextmanager
async def crowd(url: str, count: int) -> AsyncIterator[list[ClientConnection]]:
    """As many of `count` subscribers as get in within a second."""

    async def one() -> ClientConnection | None:
        with contextlib.suppress(OSError, TimeoutError):
            return await connect(url, open_timeout=1.0)
        return None

    found = await asyncio.gather(*(one() for _ in range(count)))
    inside = [connection for connection in found if connection is not None]
    try:
        yield inside
    finally:
        await asyncio.gather(*(connection.close() for connection in inside))


async def test_the_hub_runs_out_of_descriptors(looping_clip: Path, toolkit_camera: StartCamera) -> None:
    """With room for a dozen more and forty coming, those who have a place get every message in order; when some leave,
    others get in within seconds. The hub stays the same process."""
    camera = toolkit_camera(looping_clip)
    async with service("--source", f"door={camera.url}") as running, following(running) as follower:
        await follower.until_segments("door", 2)
        hub = child(running, "streamer.hub")
        leave_room_for(hub, 12)
        async with crowd(running.websocket, CROWD) as inside:
            assert 0 < len(inside) < CROWD
            mark = len(follower.messages)
            await follower.until_segments("door", 2, since=mark)
        left_s = time.monotonic()
        await eventually(lambda: hub.num_fds() < 30 + 12, 10, "the crowd's descriptors are free again")
        assert await running.first(2, "segment", within_s=10.0)
        report("a new subscriber is served after the crowd has left", left_s)
        nothing_wrong(account_of(follower.messages, whole=False))
        assert not [m for m in follower.messages if m["type"] == "gap"]
        assert child(running, "streamer.hub").pid == hub.pid


def unheard(turns: list[Message]) -> list[Message]:
    """Where a stream lost its camera, or did not find it."""
    return [turn for turn in turns if turn["state"] == "reconnecting"]


async def test_the_service_runs_out_of_descriptors(looping_clip: Path, toolkit_camera: StartCamera) -> None:
    """With no descriptor left for more cameras, the streams that are there go on in time; those that found none say
    why, and come alive by themselves when there are some."""
    camera = toolkit_camera(looping_clip)
    async with service("--source", f"door={camera.url}") as running, following(running) as follower:
        await follower.until_segments("door", 2)
        process = psutil.Process(running.process.pid)
        unlimited = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        leave_room_for(process, 3)
        names = [f"more-{number}" for number in range(6)]
        for name in names:
            assert (await running.call("PUT", f"/v1/streams/{name}", {"source": camera.url}))[0] == 201
        lost = await eventually(lambda: [t for n in names for t in unheard(follower.turns(n))], 15, "one without")
        assert all(turn["reason"] for turn in lost)
        mark = len(follower.messages)
        await follower.until_segments("door", 4, since=mark)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, unlimited)
        freed_s = time.monotonic()
        for name in names:
            await follower.until_segments(name, 1, timeout=15)
        report("all streams live after there were descriptors again", freed_s)
        segments = [m for m in follower.messages if m.get("stream") == "door"]
        nothing_wrong(account_of(segments, whole=False))
        still_labelled(segments)
