"""The page in a browser in front of a fake service: a websocket that sends what a test says, and a control of lists."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

from streamer.config import StreamConfig
from streamer.http.server import Server, ServerConfig
from streamer.messages import CoverageBody, Hello, Label, LatencyBody, Segment, Share, WireMessage, encode
from streamer.observe.metrics import Metrics
from tests.conftest import eventually
from tests.e2e.browser import Tab, browser
from tests.fake_control import FakeControl


def segment(stream: str = "door", seq: int = 0, **changes: Any) -> Segment:
    """A segment in which a dog is seen and heard."""
    settings: dict[str, Any] = {
        "stream": stream,
        "epoch": "0192f1c6",
        "seq": seq,
        "cursor": f"{1000 + seq}-0@5f3a",
        "start": "2026-11-23T04:07:08.500Z",
        "end": "2026-11-23T04:07:10.500Z",
        "status": "ok",
        "labels": [Label("Dog", 0.93, Share(0.44, 0.56, 0.0)), Label("Rain", 0.31, Share(0.0, 1.0, 0.0))],
        "coverage": CoverageBody(1.0, 0.5, 0.0),
        "latency_ms": LatencyBody(212.4, 31.0, 60.2, 118.0, 3.2),
        "bound_ms": 1000,
    }
    return Segment(**(settings | changes))


@dataclass
class FakeHub:
    """Sends what a test says to every page that is connected, and remembers how they asked."""

    asked: list[str] = field(default_factory=list)
    connections: set[ServerConnection] = field(default_factory=set)

    async def take(self, connection: ServerConnection) -> None:
        """One page's connection, until it goes."""
        assert connection.request is not None
        self.asked.append(connection.request.path)
        await connection.send(encode(Hello(version=1, streams=["door"], cursor="999-0@5f3a")).decode())
        self.connections.add(connection)
        await connection.wait_closed()
        self.connections.discard(connection)

    async def send(self, *messages: WireMessage) -> None:
        """To all pages; waits for the first one."""
        await eventually(lambda: self.connections, 15, "a page subscribed")
        for message in messages:
            for connection in list(self.connections):
                await connection.send(encode(message).decode())

    async def send_shape(self, *messages: dict[str, Any]) -> None:
        """As `send`, for messages of the protocol that this version of the service has no class for."""
        await eventually(lambda: self.connections, 15, "a page subscribed")
        for message in messages:
            for connection in list(self.connections):
                await connection.send(json.dumps(message))

    async def cut(self) -> None:
        """Break all connections without a word."""
        for connection in list(self.connections):
            connection.transport.abort()
        await eventually(lambda: not self.connections, 5, "connections gone")


@dataclass
class Page:
    """A browser with the page open, and the two sides that it talks to."""

    tab: Tab
    hub: FakeHub
    control: FakeControl
    url: str


@asynccontextmanager
async def opened(
    tokens: tuple[str, ...] = (),
    *names: str,
    arguments: tuple[str, ...] = (),
    control: FakeControl | None = None,
    at: str = "",
) -> AsyncIterator[Page]:
    """The page in a browser (with `arguments` on its command line), at the route `at`, in front of `control`, or of one
    that has the streams `names`."""
    hub = FakeHub()
    control = control or FakeControl(
        {name: StreamConfig(source=f"rtsp://user:hunter22@10.0.0.7/{name}") for name in names}
    )
    async with serve(hub.take, "127.0.0.1", 0, compression=None) as listening, browser(arguments) as tab:
        port = next(iter(listening.sockets)).getsockname()[1]
        server = Server(control, Metrics(), ServerConfig(port=0, websocket_port=port, tokens=tokens))
        await server.start()
        try:
            page = Page(tab, hub, control, f"http://127.0.0.1:{server.port}/")
            await tab.size(1280, 800)
            await tab.open(page.url + at)
            if not tokens:
                await tab.until(f"document.querySelectorAll('.card').length === {len(control.entries)}")
            yield page
        finally:
            await server.stop()


def shots_folder(tmp_path: Path) -> Path:
    """Where pictures go: the folder that STREAMER_SHOTS names, or one that is thrown away."""
    folder = Path(os.environ.get("STREAMER_SHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


async def drawn(tab: Tab) -> None:
    """Wait until what came last is drawn: the page draws a tenth of a second after it, in the next frame."""
    await tab.evaluate(
        "new Promise((done) => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done)), 300))"
    )


def camera_of(media: Path, folder: Path, *, seconds: float, size: str = "640:360", fps: int = 30) -> tuple[str, ...]:
    """A browser's arguments for a camera and a microphone, both allowed, that see and hear the first `seconds` of
    `media` over and over; what it needs is made in `folder`."""
    picture, sound = folder / "camera.mjpeg", folder / "microphone.wav"
    command = ["ffmpeg", "-v", "error", "-y", "-t", str(seconds), "-i", str(media)]
    command += ["-map", "0:v:0", "-vf", f"scale={size}", "-r", str(fps), "-q:v", "3", "-f", "mjpeg", str(picture)]
    command += ["-map", "0:a:0", "-ac", "1", "-ar", "48000", str(sound)]
    subprocess.run(command, check=True, timeout=120)
    return (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={picture}",
        f"--use-file-for-fake-audio-capture={sound}",
    )
