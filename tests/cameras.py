"""RTSP cameras for tests, each a real server in a process of its own on 127.0.0.1, or at the far end of a cable.

`ToolkitCamera` (aio-rtsp-toolkit, TCP) loops a file for ever; `GstCamera` (GStreamer's server) does TCP and UDP, any
codec that its payloaders know, shared live sources, and passwords. All of them start, stop, are killed and come back
on the port they had.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import pytest

from tests.faults.network import Network

GST_PYTHON = "/usr/bin/python3"
GST_INSTALL = (
    "apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good "
    "gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav gstreamer1.0-rtsp"
)
_START_TIMEOUT_S = 30.0


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A child process that prints a line once it listens, and ends when its standard input closes."""

    port: int
    network: Network | None
    process: subprocess.Popen[str] | None

    @property
    def address(self) -> str:
        """Where it listens: here, or at the far end of its cable."""
        return "127.0.0.1" if self.network is None else self.network.address

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _greeting(self) -> str:
        """What the child is told on standard input before it listens."""
        return ""

    def start(self) -> Self:
        """Start it and wait until it listens; a second start while it runs does nothing."""
        if self.process is not None:
            return self
        command = self._command() if self.network is None else self.network.inside(self._command())
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(self._greeting())
        process.stdin.flush()
        watchdog = threading.Timer(_START_TIMEOUT_S, process.kill)
        watchdog.start()
        answer = process.stdout.readline().strip()
        watchdog.cancel()
        assert answer.isdigit(), f"{' '.join(self._command())} did not start: it said {answer!r}"
        self.port = int(answer)
        self.process = process
        return self

    def stop(self) -> None:
        """Ask it to end; its clients see their connections closed."""
        self._end(ask=True)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(ask=False)

    def restart(self) -> Self:
        """Kill it and bring it back on the same port."""
        self.kill()
        return self.start()

    def _end(self, *, ask: bool) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        if not ask:
            process.kill()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


_TOOLKIT = """
import asyncio, os, sys, threading
from concurrent.futures import ThreadPoolExecutor
from aio_rtsp_toolkit.server import RtspServer
answer = os.dup(1)
os.dup2(2, 1)
def end():
    sys.stdin.read()
    os._exit(0)
async def main():
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(32))  # a thread a session
    server = RtspServer(sys.argv[1], host=sys.argv[3], port=int(sys.argv[2]))
    await server.start()
    os.write(answer, f"{server._server.sockets[0].getsockname()[1]}\\n".encode())
    threading.Thread(target=end, daemon=True).start()
    await server.serve_forever()
asyncio.run(main())
"""


class ToolkitCamera(Server):
    """Loops an MP4 (H.264 or HEVC without B-frames, AAC or G.711) for ever, over TCP alone.

    Mind that its sender reports place sound up to 40 ms off the picture: its tracks start their clocks each by itself.
    """

    def __init__(self, clip: Path, port: int = 0, network: Network | None = None) -> None:
        self.clip = clip
        self.port = port
        self.network = network
        self.process = None

    def _command(self) -> list[str]:
        return [sys.executable, "-c", _TOOLKIT, str(self.clip.parent), str(self.port), self.address]

    @property
    def url(self) -> str:
        """Where to read the clip; `url` of another file beside it differs in the name only."""
        return f"rtsp://{self.address}:{self.port}/{quote(self.clip.name)}?play_count=0"


@dataclass
class Mount:
    """A path of a GstCamera: a pipeline in parentheses whose payloaders are `pay0`, `pay1`. A shared one has one
    pipeline for all its clients, as a camera has; else each client gets its own, from the start."""

    launch: str
    shared: bool = False
    protocols: str = "any"


_PARSERS = {
    "libx264": "h264parse config-interval=-1 ! rtph264pay",
    "libx265": "h265parse config-interval=-1 ! rtph265pay",
    "mjpeg": "jpegparse ! rtpjpegpay",
    "aac": "aacparse ! rtpmp4gpay",
    "libopus": "opusparse ! rtpopuspay",
    "pcm_mulaw": "rtppcmupay",
    "pcm_alaw": "rtppcmapay",
}


def file_mount(clip: Path, video: str | None = "libx264", audio: str | None = "aac", **options: Any) -> Mount:
    """Plays a clip once to each client, as it was encoded, at its own pace. AAC comes from an `.mp4`: from an `.mkv`
    this server plays it 21 ms late."""
    demuxer = "matroskademux" if clip.suffix == ".mkv" else "qtdemux"
    tracks = [(kind, codec) for kind, codec in (("video", video), ("audio", audio)) if codec is not None]
    queue = "queue max-size-time=0 max-size-bytes=0 max-size-buffers=0"
    branches = [
        f"d.{kind}_0 ! {queue} ! {_PARSERS[codec]} name=pay{index} pt={96 + index}"
        for index, (kind, codec) in enumerate(tracks)
    ]
    return Mount(f'( filesrc location="{clip}" ! {demuxer} name=d {" ".join(branches)} )', **options)


_ENCODERS = {
    "h264": "x264enc bframes=0 {quick} ! rtph264pay config-interval=-1",
    "hevc": "x265enc {quick} ! rtph265pay config-interval=-1",
    "mjpeg": "jpegenc ! rtpjpegpay",
    "aac": "audioconvert ! avenc_aac ! aacparse ! rtpmp4gpay",
    "opus": "audioconvert ! audioresample ! opusenc ! rtpopuspay",
    "pcmu": "audioconvert ! audioresample ! mulawenc ! rtppcmupay",
    "pcma": "audioconvert ! audioresample ! alawenc ! rtppcmapay",
}
_AUDIO_RATES = {"pcmu": 8_000, "pcma": 8_000}


def live_mount(
    video: str | None = "h264",
    audio: str | None = "aac",
    *,
    size: tuple[int, int] = (320, 240),
    fps: int = 25,
    **options: Any,
) -> Mount:
    """A live test pattern and tone that all clients share: `video` h264, hevc, mjpeg; `audio` aac, opus, pcmu, pcma."""
    branches = []
    if video is not None:
        caps = f"video/x-raw,format=I420,width={size[0]},height={size[1]},framerate={fps}/1"
        quick = f"tune=zerolatency speed-preset=ultrafast key-int-max={fps}"
        branches.append(f"videotestsrc is-live=true pattern=smpte ! {caps} ! {_ENCODERS[video].format(quick=quick)}")
    if audio is not None:
        caps = f"audio/x-raw,rate={_AUDIO_RATES.get(audio, 48_000)},channels=1"
        branches.append(f"audiotestsrc is-live=true wave=sine freq=440 ! {caps} ! {_ENCODERS[audio]}")
    payloaders = [f"{branch} name=pay{index} pt={96 + index}" for index, branch in enumerate(branches)]
    return Mount(f"( {' '.join(payloaders)} )", **{"shared": True, **options})


@dataclass
class GstCamera(Server):
    """Serves `mounts` (path -> Mount); with `user` every path asks for that name and password (digest)."""

    mounts: dict[str, Mount]
    user: tuple[str, str] | None = None
    port: int = 0
    network: Network | None = None
    process: subprocess.Popen[str] | None = field(default=None, init=False)

    def _command(self) -> list[str]:
        return [GST_PYTHON, str(Path(__file__).with_name("gst_rtsp_server.py"))]

    def _greeting(self) -> str:
        mounts = {path: vars(mount) for path, mount in self.mounts.items()}
        return json.dumps({"address": self.address, "port": self.port, "mounts": mounts, "user": self.user}) + "\n"

    def start(self) -> Self:
        """Skips the test, visibly, where GStreamer's server isn't installed."""
        require_gstreamer()
        return super().start()

    def url(self, path: str = "/live", user: tuple[str, str] | None = None) -> str:
        """The address of a mount, with these credentials in it, else none."""
        login = f"{user[0]}:{user[1]}@" if user else ""
        return f"rtsp://{login}{self.address}:{self.port}{path}"


@cache
def _gstreamer_missing() -> bool:
    code = (
        "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer;"
        "Gst.init(None);"
        "assert all(Gst.ElementFactory.find(name) for name in ('x264enc', 'avenc_aac', 'rtph265pay', 'rtpbin'))"
    )
    try:
        return subprocess.run([GST_PYTHON, "-c", code], capture_output=True, timeout=60).returncode != 0
    except OSError:
        return True


def require_gstreamer() -> None:
    """Skip the test with the command that installs GStreamer's RTSP server, where it is missing."""
    if _gstreamer_missing():
        pytest.skip(f"GStreamer's RTSP server is not installed: {GST_INSTALL}")
