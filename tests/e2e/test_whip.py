"""Publishers over WebRTC against the running service: labels of what they send, and what becomes of the stream."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path

import aiohttp
import pytest

from tests import media_factory as factory
from tests.conftest import eventually
from tests.e2e.running import Running, service
from tests.e2e.watching import Follower, following
from tests.media_factory import Spec
from tests.whip_publisher import Publisher, Sending, prepared, publishing

CONFIG = """
streams:
  lobby: {source: whip}
  stage: {source: whip, takeover: true, audio: false}
ice_servers: ["stun:192.0.2.9:3478"]
"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 s of flashes and beeps as 480p30 H.264 and Opus."""
    folder = tmp_path_factory.mktemp("whip")
    flashes = factory.flash_and_beep(folder / "flashes.mp4", Spec(seconds=10.0))
    return prepared(flashes, folder / "480p.mkv", seconds=10.0)


def address(running: Running, name: str) -> str:
    return f"{running.page}/v1/streams/{name}/whip"


async def ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def test_publishers_come_and_go(clip: Path, tmp_path: Path) -> None:
    """A stream waits for a publisher; labels of what it sends follow; a second one is refused; one that leaves, and one
    that is killed, is told of, and the next is served in a new epoch; a stream with takeover changes hands."""
    config = tmp_path / "streams.yaml"
    # A STUN server that doesn't answer would delay every answer; this test is about the media.
    config.write_text(CONFIG.replace('["stun:192.0.2.9:3478"]', "[]"))
    async with service(config=config) as running:
        async with following(running) as follower:
            await _all_of_it(running, follower, clip)
        await _stopped(running, clip)


async def _all_of_it(running: Running, follower: Follower, clip: Path) -> None:
    waiting = await running.get("/v1/streams/lobby")
    assert (waiting["state"], waiting["reason"]) == ("connecting", "waits for a publisher")
    assert not follower.segments("lobby")
    await _first(running, follower, clip)
    await _killed(running, follower, clip)
    await _taken_over(running, follower, clip)
    assert not [m for m in follower.messages if m["type"] == "segment" and m["latency_ms"]["total"] > m["bound_ms"]]


async def _first(running: Running, follower: Follower, clip: Path) -> None:
    begun_s = time.monotonic()
    async with publishing(address(running, "lobby"), clip) as publisher:
        segments = await follower.until_segments("lobby", 5)
        heard = next(m for m in segments if m["labels"])
        print(f"first segment {segments[0]['at_s'] - begun_s:.2f} s and first label {heard['at_s'] - begun_s:.2f} s")
        assert [m["seq"] for m in segments] == list(range(len(segments)))
        assert segments[4]["coverage"]["video"] > 0.9 and segments[4]["coverage"]["audio"] > 0.9
        async with (
            aiohttp.ClientSession() as http,
            http.post(
                address(running, "lobby"),
                data=await _offer(clip),
                headers={"Content-Type": "application/sdp"},
            ) as answer,
        ):
            assert answer.status == 409 and answer.content_type == "application/problem+json"
        status = await running.get("/v1/streams/lobby")
        assert status["state"] == "live" and status["picture"] == [854, 480] and status["preview"] is False
        assert publisher.location is not None
    left = await follower.until_turn("lobby", "reconnecting")
    assert left["reason"] == "the publisher left" and left["epoch"] is None


async def _offer(clip: Path) -> str:
    publisher = Publisher(clip, Sending())
    try:
        return await publisher.offer()
    finally:
        await publisher.close()


async def _killed(running: Running, follower: Follower, clip: Path) -> None:
    mark = len(follower.messages)
    command = [sys.executable, "-m", "tests.whip_publisher", address(running, "lobby"), str(clip)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        await follower.until_segments("lobby", 3, mark)
        process.send_signal(signal.SIGKILL)
        stalled = await follower.until_turn("lobby", "stalled", mark)
        assert "no media" in stalled["reason"]
        gone = await follower.until_turn("lobby", "reconnecting", mark)
        assert "vanished" in gone["reason"]
    finally:
        await ended(process)
    mark = len(follower.messages)
    async with publishing(address(running, "lobby"), clip):
        segments = await follower.until_segments("lobby", 3, mark)
        assert segments[0]["seq"] == 0 and segments[0]["epoch"] != gone["previous"]["epoch"]
        # Removed and added by the API: the publisher is told, and its session is over.
        assert (await running.call("DELETE", "/v1/streams/lobby"))[0] == 204


async def _taken_over(running: Running, follower: Follower, clip: Path) -> None:
    mark = len(follower.messages)
    async with publishing(address(running, "stage"), clip) as first:
        await follower.until_segments("stage", 2, mark)
        async with publishing(address(running, "stage"), clip):
            turn = await follower.until_turn("stage", "reconnecting", mark)
            assert turn["reason"] == "another publisher took over"
            await eventually(lambda: first.pc.connectionState == "closed", 5)
            epochs = {m["epoch"] for m in follower.segments("stage", mark)}
            await eventually(lambda: {m["epoch"] for m in follower.segments("stage", mark)} - epochs, 15)
            segment = follower.segments("stage", mark)[-1]
            assert segment["coverage"]["audio"] == 0.0


async def _stopped(running: Running, clip: Path) -> None:
    """An orderly end of the service tells its publishers, and leaves no process."""
    async with publishing(address(running, "stage"), clip) as publisher:
        await eventually(lambda: publisher.pc.connectionState == "connected", 10)
        children = running.children
        assert await running.stop() == 0
        await eventually(lambda: publisher.pc.connectionState == "closed", 5)
        assert not any(child.is_running() for child in children)
    assert not any("Traceback" in line for line in running.log)
