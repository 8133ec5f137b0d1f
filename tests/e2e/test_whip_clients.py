"""A WHIP client of others' making, on GStreamer's WebRTC, publishes into the running service, as Debian ships it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from tests.e2e.running import Running, service
from tests.e2e.watching import Follower, following

pytestmark = pytest.mark.skipif(
    shutil.which("whip-client") is None or shutil.which("cc") is None,
    reason="no whip-client or no cc; `apt-get install simple-whip-client gcc` removes this skip",
)

TOKEN = "s3cret-token"
_PICTURE = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=15/1"
_VIDEO = {
    "H264": f"{_PICTURE} ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15"
    " ! video/x-h264,profile=constrained-baseline ! rtph264pay config-interval=1",
    "VP8": f"{_PICTURE} ! vp8enc deadline=1 cpu-used=8 keyframe-max-dist=15 ! rtpvp8pay",
}
_AUDIO = (
    "audiotestsrc is-live=true wave=red-noise ! audioconvert ! audioresample ! opusenc ! rtpopuspay"
    " ! application/x-rtp,media=audio,encoding-name=OPUS,payload=100"
)
# RFC 8489: a binding request and its answer, and the attribute in which the answer stands.
_STUN_HEAD = struct.Struct("!HHI12s")
_STUN_REQUEST, _STUN_ANSWER, _STUN_COOKIE, _XOR_MAPPED_ADDRESS = 0x0001, 0x0101, 0x2112A442, 0x0020


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the client needs to start at all.

    Debian 12 links the client with libsoup 2 and, through the UPnP library of libnice, with libsoup 3, which ends every
    process that has both. In that library's place stands one that finds no router; nobody asks one on this machine.
    """
    binary = str(shutil.which("whip-client"))
    if "libsoup-2" not in subprocess.run(["ldd", binary], check=True, capture_output=True, text=True).stdout:
        return dict(os.environ)
    folder = tmp_path_factory.mktemp("no-upnp")
    source = folder / "none.c"
    source.write_text("void *gupnp_simple_igd_thread_new(void) { return 0; }\n")
    stub = folder / "libgupnp-igd-1.0.so.4"
    subprocess.run(["cc", "-shared", "-nostdlib", "-o", str(stub), str(source)], check=True, timeout=60)
    # Loaded first, functions of it that don't exist are looked for only when they are called, which is never.
    return {**os.environ, "LD_LIBRARY_PATH": str(folder), "LD_PRELOAD": "libnice.so.10"}


@contextmanager
def stun_server() -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """A STUN server on this machine: its URL, and who asked it so far."""
    asked: list[tuple[str, int]] = []
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)

        def answer() -> None:
            data, peer = server.recvfrom(2048)
            if len(data) < _STUN_HEAD.size:
                return
            kind, _, cookie, transaction = _STUN_HEAD.unpack_from(data)
            if (kind, cookie) != (_STUN_REQUEST, _STUN_COOKIE):
                return
            asked.append(peer)
            (host,) = struct.unpack("!I", socket.inet_aton(peer[0]))
            mapped = struct.pack("!BBHI", 0, 1, peer[1] ^ _STUN_COOKIE >> 16, host ^ _STUN_COOKIE)
            attribute = struct.pack("!HH", _XOR_MAPPED_ADDRESS, len(mapped)) + mapped
            server.sendto(_STUN_HEAD.pack(_STUN_ANSWER, len(attribute), cookie, transaction) + attribute, peer)

        loop.add_reader(server, answer)
        try:
            yield f"stun:127.0.0.1:{server.getsockname()[1]}", asked
        finally:
            loop.remove_reader(server)


class Client:
    """A running client and all that it said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.said += line.decode(errors="replace")

    async def interrupt(self) -> int:
        """End it as by Ctrl+C; its exit code."""
        self.process.send_signal(signal.SIGINT)
        return await asyncio.wait_for(self.process.wait(), 10)


@asynccontextmanager
async def client(
    running: Running, environment: dict[str, str], codec: str, *options: str, audio: bool = True
) -> AsyncIterator[Client]:
    """The client, publishing to `lobby`; what it said stands in the error where the block fails."""
    caps = f" ! application/x-rtp,media=video,encoding-name={codec},payload=96"
    sound = ("-A", _AUDIO) if audio else ()
    command = ["whip-client", "-u", f"{running.page}/v1/streams/lobby/whip", "-o", "-V", _VIDEO[codec] + caps, *sound]
    process = await asyncio.create_subprocess_exec(
        *command, *options, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environment
    )
    started = Client(process)
    reading = asyncio.create_task(started.read())
    try:
        yield started
    except AssertionError as error:
        raise AssertionError(f"{error}\nthe client said:\n{started.said[-3000:]}") from error
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await asyncio.wait_for(reading, 5)


async def _publishes_and_leaves(follower: Follower, publisher: Client, *, audio: bool = True) -> None:
    """State and segments tell of both tracks; at Ctrl+C the session ends by its DELETE, and not by running out."""
    mark = len(follower.messages)
    await follower.until_turn("lobby", "live", mark)
    segments = await follower.until_segments("lobby", 5, mark)
    assert [m["seq"] for m in segments] == list(range(len(segments)))
    assert {m["status"] for m in segments} == {"ok"}
    assert segments[-1]["coverage"]["video"] > 0.9
    assert (segments[-1]["coverage"]["audio"] > 0.9) is audio
    assert all(m["latency_ms"]["total"] <= m["bound_ms"] for m in segments)
    assert (await follower.running.get("/v1/streams/lobby"))["picture"] == [320, 240]
    assert await publisher.interrupt() == 0
    left = await follower.until_turn("lobby", "reconnecting", mark, timeout=3.0)
    assert left["reason"] == "the publisher left"


async def test_it_publishes_with_and_without_trickling(environment: dict[str, str], tmp_path: Path) -> None:
    """H.264 and VP8, each with Opus, are taken one after the other on one stream, whether candidates trickle in after
    the answer or are all in the offer."""
    config = tmp_path / "streams.yaml"
    config.write_text("streams: {lobby: {source: whip}}")
    async with service(config=config) as running, following(running) as follower:
        async with client(running, environment, "H264", "-l", "6") as publisher:
            await _publishes_and_leaves(follower, publisher)
        assert "Sending candidates" in publisher.said
        # A PATCH that was refused would stand there.
        assert "[ERR]" not in publisher.said and "[WARN]" not in publisher.said
        async with client(running, environment, "VP8", "-n") as publisher:
            await _publishes_and_leaves(follower, publisher)
        assert "Trickle ICE:    no" in publisher.said and "Sending candidates" not in publisher.said
        assert "Traceback" not in "".join(running.log)


async def test_tokens_and_ice_servers_reach_it(environment: dict[str, str], tmp_path: Path) -> None:
    """Without the token it is refused; with it, it finds the STUN server in the Link headers, and publishes."""
    config = tmp_path / "streams.yaml"
    with stun_server() as (url, asked):
        config.write_text(f"streams: {{lobby: {{source: whip}}}}\ntokens: [{TOKEN}]\nice_servers: ['{url}']\n")
        async with service(config=config) as running:
            running.websocket += f"?access_token={TOKEN}"
            running.session.headers["Authorization"] = f"Bearer {TOKEN}"
            async with following(running) as follower:
                async with client(running, environment, "H264") as refused:
                    await asyncio.wait_for(refused.process.wait(), 15)
                    assert "401" in refused.said
                assert {turn["state"] for turn in follower.turns("lobby")} <= {"connecting"} and not asked
                async with client(running, environment, "H264", "-t", TOKEN, "-f", "-l", "6", audio=False) as publisher:
                    await _publishes_and_leaves(follower, publisher, audio=False)
                assert f"stun-server={url.replace('stun:', 'stun://')}" in publisher.said
                # The service asked it too, and answered with what it learned.
                assert asked and "typ srflx" in publisher.said
        assert TOKEN not in "".join(running.log)
