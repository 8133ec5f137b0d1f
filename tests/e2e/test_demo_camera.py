"""The demo's camera as a foreign client, FFmpeg by way of PyAV, finds it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from streamer.demo.camera import LocalCamera
from streamer.errors import MediaError
from tests.conftest import eventually, eventually_sync
from tests.media_factory import Spec, Witness, loopable, make, remuxed
from tests.proxy import Proxy

OPTIONS = {"rtsp_transport": "tcp", "analyzeduration": "200000"}


@pytest.fixture
def camera(looping_clip: Path) -> Iterator[LocalCamera]:
    with LocalCamera(looping_clip) as started:
        yield started


def watch(url: str, enough: Callable[[Witness], bool], timeout_s: float = 30.0, **options: str) -> Witness:
    """Decode until there is enough."""
    witness, deadline = Witness(), time.monotonic() + timeout_s
    with av.open(url, options=OPTIONS | options, timeout=5) as container:
        container.streams.video[0].thread_type = "NONE"
        for packet in container.demux():
            for frame in packet.decode():
                if frame.pts is not None:
                    (witness.see if isinstance(frame, av.VideoFrame) else witness.hear)(frame)
            if enough(witness):
                return witness
            assert time.monotonic() < deadline, f"only {len(witness.video_s)} pictures in {timeout_s} s"
    raise AssertionError("the camera ended")


def test_sound_and_picture_stay_together_over_rounds(tmp_path: Path) -> None:
    """Round after round each beep comes with its flash, within 2 ms, and time goes on without a seam."""
    with LocalCamera(loopable(tmp_path / "short.mp4", blocks=1)) as camera:
        seen = watch(camera.url, lambda witness: len(witness.beeps_s) >= 6)
    offsets = seen.offsets_s()
    assert len(offsets) >= 5
    assert max(map(abs, offsets)) < 0.002
    assert np.diff(seen.flashes_s) == pytest.approx(0.96, abs=0.002)
    assert np.diff(seen.video_s) == pytest.approx(0.04, abs=0.002)
    assert np.diff(seen.audio_s) == pytest.approx(1024 / 48_000, abs=0.002)


def test_tracks_of_unequal_length_start_each_round_together(tmp_path: Path) -> None:
    """A clip whose sound ends before its picture is not torn apart by looping."""
    clip = loopable(tmp_path / "even.mp4", blocks=2)
    shorter = tmp_path / "shorter.mp4"
    remuxed(clip, shorter, lambda packet: packet.stream.type == "video" or packet.pts < 70_000)
    with LocalCamera(shorter) as camera:
        seen = watch(camera.url, lambda witness: len(witness.beeps_s) >= 6)
    assert max(map(abs, seen.offsets_s())) < 0.002


def test_picture_without_sound(tmp_path: Path) -> None:
    """A clip without sound is served as picture alone."""
    with LocalCamera(make(tmp_path / "mute.mp4", Spec(audio=None))) as camera:
        seen = watch(camera.url, lambda witness: len(witness.video_s) >= 60)
    assert not seen.audio_s
    assert np.diff(seen.video_s) == pytest.approx(0.04, abs=0.002)


def test_a_client_can_take_the_sound_alone(camera: LocalCamera) -> None:
    """SETUP of one track gets that track."""
    with av.open(camera.url, options=OPTIONS | {"allowed_media_types": "audio"}, timeout=5) as container:
        assert [stream.type for stream in container.streams] == ["audio"]
        assert sum(1 for _, packet in zip(range(20), container.demux(), strict=False) if packet.size) == 20


def test_no_such_path(camera: LocalCamera) -> None:
    """A path that isn't there is answered 404."""
    with pytest.raises(av.error.HTTPNotFoundError):
        av.open(camera.url.replace("/live", "/nothing"), options=OPTIONS, timeout=5)


def test_udp_is_refused_not_ignored(camera: LocalCamera) -> None:
    """A client that wants UDP learns at once that there is none."""
    started = time.monotonic()
    with pytest.raises(OSError):
        av.open(camera.url, options={"rtsp_transport": "udp"}, timeout=5)
    assert time.monotonic() - started < 3


def test_many_clients_at_once(camera: LocalCamera) -> None:
    """Twelve clients all get their pictures, each from the start."""
    counts = [0] * 12

    def read(index: int) -> None:
        with av.open(camera.url, options=OPTIONS, timeout=10) as container:
            for packet in container.demux(video=0):
                counts[index] += packet.size > 0
                if counts[index] >= 40:
                    return

    threads = [threading.Thread(target=read, args=(index,)) for index in range(len(counts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert counts == [40] * len(counts)


def test_back_on_the_same_port_after_a_kill(camera: LocalCamera) -> None:
    """Killed in mid-stream its client sees the end; started again, it is found where it was."""
    url = camera.url
    with av.open(url, options=OPTIONS, timeout=5) as container:
        packets = container.demux()
        assert next(packets).size
        camera.kill()
        assert camera.pid is None
        # Packets under way still come; then FFmpeg ends the stream or says that it broke.
        try:
            for packet in packets:
                assert packet is not None
        except av.error.FFmpegError:
            pass
    assert camera.start() == url
    assert len(watch(url, lambda witness: len(witness.video_s) >= 10).video_s) >= 10


def test_it_dies_with_its_parent(looping_clip: Path) -> None:
    """A parent that is killed leaves no camera behind."""
    code = (
        "import sys, time; from pathlib import Path; from streamer.demo.camera import LocalCamera;"
        "camera = LocalCamera(Path(sys.argv[1])); camera.start(); print(camera.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(looping_clip)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()

    eventually_sync(lambda: not _alive(child), 5, "the camera's end")


def _alive(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody has asked about yet doesn't."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except OSError:
        return not Path("/proc/self").exists()  # a system without /proc: the signal's answer stands


@pytest.mark.parametrize("kind", ["missing", "text", "codec"])
def test_a_clip_it_cannot_play_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    """What isn't there, is no media or has other codecs is told in one line that names the file."""
    clip = tmp_path / f"{kind}.mp4"
    if kind == "text":
        clip.write_text("a letter, not a clip\n" * 50)
    elif kind == "codec":
        make(clip, Spec(video="libx265", seconds=0.4))
    with pytest.raises(MediaError) as told:
        LocalCamera(clip).start()
    assert clip.name in str(told.value)
    assert "\n" not in str(told.value)


def test_a_taken_port_is_one_clear_error(camera: LocalCamera, looping_clip: Path) -> None:
    """Two cameras on one port: the second says which port is taken."""
    with pytest.raises(MediaError, match=str(camera.port)):
        LocalCamera(looping_clip, camera.port).start()


async def test_a_client_that_stalls_misses_pictures_and_is_not_late_for_ever(tmp_path: Path) -> None:
    """As with a real camera: after a stall of 4 s the client goes on near the present, at a keyframe."""

    def noise(time_s: float, size: tuple[int, int]) -> NDArray[np.uint8]:
        return np.random.default_rng(round(time_s * 25)).integers(0, 256, (size[1], size[0], 3), np.uint8)

    clip = make(tmp_path / "noise.mp4", Spec(seconds=1.0, size=(640, 360), paint=noise, audio=None))
    arrivals: list[tuple[float, float]] = []
    with LocalCamera(clip) as camera:
        async with Proxy(camera.port) as proxy:
            reading = asyncio.create_task(asyncio.to_thread(_arrivals, proxy.url(camera.url), arrivals, 10.0))
            await eventually(lambda: arrivals)
            proxy.freeze()
            await asyncio.sleep(4)
            proxy.thaw()
            await reading
    ages = np.array([at - media for at, media in arrivals])
    assert np.diff([media for _, media in arrivals]).max() > 1.0
    assert ages.max() - ages.min() > 2.0
    assert ages[-1] - ages.min() < 1.2


def _arrivals(url: str, found: list[tuple[float, float]], seconds: float) -> None:
    """(arrival, media time) of each picture's packet, on clocks that differ by a constant."""
    started = time.monotonic()
    with av.open(url, options=OPTIONS, timeout=10) as container:
        for packet in container.demux(video=0):
            if packet.pts is not None and packet.time_base is not None:
                found.append((time.monotonic(), float(packet.pts * packet.time_base)))
            if time.monotonic() - started > seconds:
                return


async def test_a_client_that_talks_nonsense_is_sent_away(camera: LocalCamera) -> None:
    """Garbage, endless heads and odd requests end or are refused; the camera serves on."""
    requests = {
        b"\x00\xff\x01 nonsense\r\n\r\n": b"RTSP/1.0 501",
        b"SETUP rtsp://x/live/track9 RTSP/1.0\r\nCSeq: 1\r\n\r\n": b"RTSP/1.0 404",
        b"SETUP rtsp://x/live/track0 RTSP/1.0\r\nTransport: RTP/AVP/TCP;interleaved=7-300\r\n\r\n": b"RTSP/1.0 461",
        b"PLAY rtsp://x/live RTSP/1.0\r\n\r\n": b"RTSP/1.0 455",
        b"OPTIONS * RTSP/1.0\r\nContent-Length: -5\r\n\r\n": b"",
        b"A" * 100_000: b"",
    }
    for request, start in requests.items():
        reader, writer = await asyncio.open_connection("127.0.0.1", camera.port)
        writer.write(request)
        writer.write_eof()
        try:
            answer = await asyncio.wait_for(reader.read(), 5)
        except ConnectionError:
            answer = b""  # sent away with the rest of it unread
        assert answer.startswith(start), (request[:40], answer)
        writer.close()
    async with asyncio.timeout(10):
        await asyncio.to_thread(watch, camera.url, lambda witness: len(witness.video_s) >= 3)
