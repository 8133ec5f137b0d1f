"""The cameras that other tests stand on give what was ordered, over TCP and UDP, to FFmpeg by way of PyAV."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from tests.cameras import GstCamera, ToolkitCamera, file_mount, live_mount
from tests.media_factory import Spec, Witness, flash_and_beep


def watch(url: str, transport: str, seconds: float) -> tuple[list[str], Witness]:
    """What the tracks are called, and what was decoded in `seconds`."""
    found, started = Witness(), time.monotonic()
    options = {"rtsp_transport": transport, "analyzeduration": "500000"}
    with av.open(url, options=options, timeout=5) as container:
        names = [stream.codec_context.name for stream in container.streams]
        for packet in container.demux():
            for frame in packet.decode():
                if frame.pts is not None:
                    (found.see if isinstance(frame, av.VideoFrame) else found.hear)(frame)
            if time.monotonic() - started > seconds:
                break
    return names, found


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize(
    ("video", "audio", "names"),
    [
        ("h264", "aac", ["h264", "aac"]),
        ("hevc", "opus", ["hevc", "opus"]),
        ("mjpeg", "pcmu", ["mjpeg", "pcm_mulaw"]),
        (None, "pcma", ["pcm_alaw"]),
        ("h264", None, ["h264"]),
    ],
)
def test_live_pattern(
    gst_camera: Callable[..., GstCamera], transport: str, video: str | None, audio: str | None, names: list[str]
) -> None:
    """Every codec of a live GStreamer camera decodes, on either transport."""
    camera = gst_camera({"/live": live_mount(video, audio)})
    found_names, found = watch(camera.url(), transport, 1.6)
    assert found_names == names
    assert len(found.video_s) > 10 or video is None
    assert len(found.audio_s) > 4 or audio is None


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize(
    ("name", "video", "audio", "rate"),
    [
        ("clip.mp4", "libx264", "aac", 48_000),
        ("clip.mkv", "libx265", "libopus", 48_000),
        ("clip.mov", "mjpeg", "pcm_mulaw", 8_000),
    ],
)
def test_a_file_keeps_its_sound_in_place(
    gst_camera: Callable[..., GstCamera], tmp_path: Path, transport: str, name: str, video: str, audio: str, rate: int
) -> None:
    """A file played by GStreamer has its beeps 0.1 s after its flashes, as made, within 3 ms."""
    pixels = "yuvj420p" if video == "mjpeg" else "yuv420p"
    spec = Spec(seconds=4, video=video, audio=audio, sample_rate=rate, pix_fmt=pixels)
    clip = flash_and_beep(tmp_path / name, spec, beep_after_s=0.1)
    camera = gst_camera({"/file": file_mount(clip, video, audio)})
    _, found = watch(camera.url("/file"), transport, 3)
    assert len(found.offsets_s()) >= 2
    assert found.offsets_s() == pytest.approx([0.1] * len(found.offsets_s()), abs=0.003)


def test_credentials_and_paths(gst_camera: Callable[..., GstCamera]) -> None:
    """No or wrong credentials get 401, right ones the stream; a path that isn't there gets 404."""
    locked = gst_camera({"/live": live_mount(audio=None)}, ("watchman", "correct horse"))
    for user in (None, ("watchman", "wrong")):
        with pytest.raises(av.error.HTTPUnauthorizedError):
            av.open(locked.url(user=user), options={"rtsp_transport": "tcp"}, timeout=5)
    names, _ = watch(locked.url(user=("watchman", "correct horse")), "tcp", 1)
    assert names == ["h264"]
    with pytest.raises(av.error.HTTPNotFoundError):
        open_camera = gst_camera({"/live": live_mount(audio=None)})
        av.open(open_camera.url("/nothing"), options={"rtsp_transport": "tcp"}, timeout=5)


def test_killed_and_back_on_its_port(
    gst_camera: Callable[..., GstCamera], toolkit_camera: Callable[[Path], ToolkitCamera], looping_clip: Path
) -> None:
    """Both kinds of camera come back where they were."""
    gst = gst_camera({"/live": live_mount(audio=None)})
    port = gst.port
    assert watch(gst.restart().url(), "tcp", 1)[0] == ["h264"]
    assert gst.port == port
    toolkit = toolkit_camera(looping_clip)
    port = toolkit.port
    names, found = watch(toolkit.restart().url, "tcp", 2)
    assert names == ["h264", "aac"]
    assert toolkit.port == port
    assert len(found.offsets_s()) >= 1
