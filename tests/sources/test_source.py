"""Live sources against real RTSP servers, a proxy with a temper, and files in real time."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from streamer.clock import HostClock
from streamer.config import StreamConfig
from streamer.errors import UserError
from streamer.sources.machine import Policy
from streamer.sources.source import open_source
from tests import media_factory as factory
from tests.cameras import GstCamera, ToolkitCamera, file_mount, live_mount
from tests.conftest import eventually
from tests.media_factory import Spec
from tests.proxy import Proxy
from tests.sources.recorder import SETTINGS, Recorder, flash_to_beep_s
from tests.test_decode import with_b_frames

S = 1_000_000_000
MS = 1_000_000
Camera = Callable[..., GstCamera]
Looping = Callable[[Path], ToolkitCamera]
Clips = Callable[..., Path]
QUICK = Policy(failed_retry_ns=1 * S)


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("reader:")]


def usually_soon(delays_ns: list[int]) -> bool:
    """Whether media came within 0.4 s of their capture, but where the machine had something else to do."""
    return min(delays_ns) > 0 and sorted(delays_ns)[len(delays_ns) // 2] < 400 * MS


# -- cameras that work -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["tcp", "udp", "auto"])
async def test_a_camera_gives_frames_sound_and_states(gst_camera: Camera, transport: str) -> None:
    """Connecting, live, an epoch, then two pictures a second and unbroken sound, both soon after their capture."""
    camera = gst_camera({"/live": live_mount()})
    async with Recorder(camera.url(), transport=transport) as tape:
        frames = await tape.frames_more(9)
        assert [change.state for change in tape.states] == ["connecting", "live"]
        assert [epoch.reason for epoch in tape.epochs] == ["start"]
        assert all(abs(b.media_ns - a.media_ns - 500 * MS) <= 110 * MS for a, b in pairwise(frames))
        assert frames[-1].rgb.shape == (64, 64, 3)
        assert usually_soon([frame.arrived_ns - frame.media_ns for frame in frames])
        chunks = tape.chunks[5:]
        ends = [chunk.media_ns + len(chunk.samples) * S // 16_000 for chunk in chunks]
        assert all(abs(after.media_ns - end) < 15 * MS for end, after in zip(ends, chunks[1:], strict=False))
        assert usually_soon([chunk.arrived_ns - chunk.media_ns for chunk in chunks])
    # This camera repeats its headers in the midst of key frames; the first may be torn before that is known.
    assert tape.source.stats.drops.get("corrupt", 0) <= 4
    assert 20 < tape.source.stats.fps < 30
    await eventually(lambda: not readers(), 2, "the reader's end")


@pytest.mark.parametrize(
    ("video", "audio"), [("hevc", "opus"), ("mjpeg", "pcmu"), ("h264", "pcma"), ("h264", None), (None, "opus")]
)
async def test_what_cameras_send(gst_camera: Camera, video: str | None, audio: str | None) -> None:
    """H.264, HEVC, MJPEG; Opus, G.711; picture without sound, sound without picture."""
    camera = gst_camera({"/live": live_mount(video, audio)})
    async with Recorder(camera.url()) as tape:
        await tape.until("live")
        await eventually(lambda: len(tape.progress) > 40, 10, "two seconds")
        assert (len(tape.frames) >= 3) is (video is not None)
        assert (len(tape.chunks) >= 15) is (audio is not None)
        last = tape.progress[-1]
        assert (last.video_ns is None) is (video is None)
        assert (last.audio_ns is None) is (audio is None)


async def test_pictures_that_are_reordered_come_in_order(gst_camera: Camera, tmp_path: Path) -> None:
    """B pictures over RTP, which has no decoding time stamps: samples rise, evenly, and on time."""
    path = with_b_frames(tmp_path / "b.mkv", seconds=8.0)
    camera = gst_camera({"/b": file_mount(path, audio=None)})
    async with Recorder(camera.url("/b")) as tape:
        await eventually(lambda: len(tape.frames) >= 12, 15, "12 frames")
        assert all(abs(b.media_ns - a.media_ns - 500 * MS) <= 110 * MS for a, b in pairwise(tape.frames[2:12]))
        assert len(tape.epochs) == 1


async def test_a_camera_that_only_speaks_udp_is_asked_again(gst_camera: Camera) -> None:
    """With `auto` a camera that refuses TCP is read over UDP; with `tcp` the refusal is told."""
    camera = gst_camera({"/live": live_mount(protocols="udp")})
    async with Recorder(camera.url()) as tape:
        await tape.frames_more(2)
    async with Recorder(camera.url(), transport="tcp") as tape:
        change = await tape.until("reconnecting")
        assert change.reason is not None and "transport" in change.reason


async def test_tracks_that_are_not_wanted_stay_away(gst_camera: Camera) -> None:
    """With sound off only pictures come, and the other way round."""
    camera = gst_camera({"/live": live_mount()})
    async with Recorder(camera.url(), audio=False) as tape:
        await tape.frames_more(3)
        assert not tape.chunks
    async with Recorder(camera.url(), video=False) as tape:
        await eventually(lambda: len(tape.chunks) > 10, 10, "sound")
        assert not tape.frames


@pytest.mark.parametrize("beep_after_s", [0.0, 0.12])
async def test_sound_and_picture_are_aligned_over_rtsp(gst_camera: Camera, tmp_path: Path, beep_after_s: float) -> None:
    """A beep made a known time after its flash is found that long after it, within 20 ms, once reports have come."""
    clip = factory.flash_and_beep(tmp_path / "flash.mp4", Spec(seconds=16.0), beep_after_s=beep_after_s)
    camera = gst_camera({"/clip": file_mount(clip)})
    async with Recorder(camera.url("/clip"), rate=25) as tape:
        await eventually(lambda: len(tape.frames) > 25 * 13, 30, "13 s of pictures")
        late = tape.epochs[0].media_ns + 6 * S
        frames = [frame for frame in tape.frames if frame.media_ns > late]
        chunks = [chunk for chunk in tape.chunks if chunk.media_ns > late]
        offsets = flash_to_beep_s(frames, chunks)
        assert len(offsets) >= 5
        assert all(abs(offset - beep_after_s) < 0.02 for offset in offsets), offsets


async def test_a_looping_camera_stays_in_one_epoch(toolkit_camera: Looping, looping_clip: Path) -> None:
    """A camera that plays a file over and over with rising stamps never breaks media time."""
    camera = toolkit_camera(looping_clip)
    async with Recorder(camera.url) as tape:
        await tape.frames_more(18, timeout=20)
        assert len(tape.epochs) == 1
        assert all(abs(b.media_ns - a.media_ns - 500 * MS) <= 110 * MS for a, b in pairwise(tape.frames))


# -- cameras that fail -------------------------------------------------------------------------------------------------


async def test_wrong_passwords_fail_and_stay_secret(
    gst_camera: Camera, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """401 is told as failed with what to do; the password is in no event, no log, and not on the terminal."""
    camera = gst_camera({"/live": live_mount()}, user=("viewer", "right"))
    with caplog.at_level(logging.DEBUG):
        async with Recorder(camera.url(user=("viewer", "hunter2"))) as tape:
            change = await tape.until("failed")
            assert change.reason is not None and change.reason.startswith("401") and "password" in change.reason
    assert "hunter2" not in repr(tape.events) + caplog.text + "".join(capfd.readouterr())


async def test_the_right_password_works(gst_camera: Camera) -> None:
    """Credentials in the URL are used, percent-encoding included."""
    camera = gst_camera({"/live": live_mount()}, user=("viewer", "a:b@c/d"))
    async with Recorder(camera.url(user=("viewer", "a%3Ab%40c%2Fd"))) as tape:
        await tape.until("live")


async def test_a_path_that_is_not_there_fails_and_heals(gst_camera: Camera) -> None:
    """404 is told as failed; when the path appears the slow retry finds it."""
    camera = gst_camera({"/other": live_mount()})
    async with Recorder(camera.url("/live"), QUICK) as tape:
        change = await tape.until("failed")
        assert change.reason is not None and change.reason.startswith("404")
        camera.mounts["/live"] = live_mount()
        camera.restart()
        await tape.until("live")


async def test_nobody_there_is_tried_for_ever(gst_camera: Camera) -> None:
    """A refused connection is reconnecting, not failed; when the camera comes up it is live within 2 s."""
    camera = gst_camera({"/live": live_mount()})
    camera.kill()
    async with Recorder(camera.url()) as tape:
        change = await tape.until("reconnecting")
        assert change.reason is not None and "refused" in change.reason
        camera.start()
        await tape.until("live", 5)


async def test_a_camera_that_is_killed_and_comes_back(gst_camera: Camera) -> None:
    """Killed in mid-stream: reconnecting at once; restarted: live again, a new epoch named `reconnect`."""
    camera = gst_camera({"/live": live_mount()})
    async with Recorder(camera.url()) as tape:
        await tape.frames_more(3)
        camera.kill()
        await tape.until("reconnecting", 3)
        camera.start()
        await tape.until("live", 5, after=len(tape.states))
        await tape.frames_more(2)
        assert [epoch.reason for epoch in tape.epochs] == ["start", "reconnect"]
        assert tape.source.stats.reconnects == 1


async def test_a_frozen_connection_stalls_then_flows_on(toolkit_camera: Looping, looping_clip: Path) -> None:
    """1.5 s without media is stalled; when they flow again it is live in the same epoch, nothing lost."""
    camera = toolkit_camera(looping_clip)
    async with Proxy(camera.port) as proxy, Recorder(proxy.url(camera.url)) as tape:
        await tape.frames_more(5)
        proxy.freeze()
        change = await tape.until("stalled", 3)
        assert change.reason is not None and "no media" in change.reason
        proxy.thaw()
        await tape.until("live", 2, after=len(tape.states))
        await tape.frames_more(3)
        assert len(tape.epochs) == 1


async def test_a_connection_frozen_for_long_is_replaced(toolkit_camera: Looping, looping_clip: Path) -> None:
    """After the longer silence the connection is given up and made anew; the abandoned reader ends by itself."""
    camera = toolkit_camera(looping_clip)
    async with Proxy(camera.port) as proxy:
        async with Recorder(proxy.url(camera.url), Policy(silence_ns=2 * S)) as tape:
            await tape.frames_more(2)
            proxy.freeze()
            await tape.until("reconnecting", 6)
            assert proxy.accepted == 1
            await eventually(lambda: proxy.accepted >= 2, 3, "a new connection")
            proxy.thaw()
            await tape.until("live", 8, after=len(tape.states))
        await eventually(lambda: not readers(), 6, "the end of all readers")


async def test_a_connection_that_is_cut_is_made_anew(toolkit_camera: Looping, looping_clip: Path) -> None:
    """A reset in mid-stream: live again within 2 s."""
    camera = toolkit_camera(looping_clip)
    async with Proxy(camera.port) as proxy, Recorder(proxy.url(camera.url)) as tape:
        await tape.frames_more(2)
        proxy.cut()
        await tape.until("reconnecting", 2)
        await tape.until("live", 3, after=len(tape.states))


async def test_a_delay_on_the_way_that_stays_is_a_jump(toolkit_camera: Looping, looping_clip: Path) -> None:
    """Media that suddenly come two seconds late, and stay so, begin a new epoch instead of being late for ever."""
    camera = toolkit_camera(looping_clip)
    async with Proxy(camera.port) as proxy, Recorder(proxy.url(camera.url)) as tape:
        await tape.frames_more(3)
        proxy.delay_s = 2.0
        await eventually(lambda: len(tape.epochs) == 2, 10, f"{tape.epochs}")
        assert tape.epochs[1].reason == "jump"
        frames = await tape.frames_more(3)
        assert frames[-1].arrived_ns - frames[-1].media_ns < 500 * MS


async def test_a_server_that_is_none(tmp_path: Path) -> None:
    """Something that answers, but not RTSP, is no camera: told, and no reader hangs on it."""

    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n" * 3)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Recorder(f"rtsp://127.0.0.1:{port}/x") as tape:
        change = await eventually(lambda: tape.states[1:] and tape.states[1], 8)
        assert change and change.state in ("failed", "reconnecting") and change.reason


async def test_a_server_that_never_answers_times_out() -> None:
    """A connection that is accepted and then silent is given up after the connect timeout, and tried again."""

    async def mute(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Recorder(f"rtsp://127.0.0.1:{port}/x", Policy(connect_timeout_ns=S)) as tape:
        change = await tape.until("reconnecting", 4)
        assert change.reason is not None and "within" in change.reason
    server.close()


@pytest.mark.parametrize(
    "url", ["http://camera/x", "rtsp://", "camera", "rtsp://host:99999/", "file:", "gopher://x", "rtsp://a b/"]
)
def test_bad_addresses_are_refused_at_once(url: str) -> None:
    """What can't be a source is a user's error, in one line, before anything is connected."""
    with pytest.raises(UserError) as caught:
        open_source("door", StreamConfig(source=url), SETTINGS, HostClock())
    assert "door" in str(caught.value) and "\n" not in str(caught.value)


async def test_a_device_that_is_not_there_fails() -> None:
    """A camera that is not plugged in fails with its reason."""
    async with Recorder("device:/dev/video97") as tape:
        change = await tape.until("failed")
        assert change.reason is not None
    async with Recorder("device:toaster") as tape:
        change = await tape.until("failed")
        assert change.reason is not None and "/dev/video" in change.reason


# -- files in real time ------------------------------------------------------------------------------------------------


async def test_a_file_plays_in_real_time_and_ends(clips: Clips) -> None:
    """Three seconds of file take three seconds, in one epoch, all delivered, and end with `ended`."""
    path = clips("three.mp4", Spec(seconds=3.0))
    async with Recorder(f"file:{path}") as tape:
        await tape.until("ended", 8)
        assert [change.state for change in tape.states] == ["connecting", "live", "ended"]
        taken = tape.states[-1].at_ns - tape.states[0].at_ns
        assert 2800 * MS < taken < 4500 * MS
        assert len(tape.frames) == 6
        assert 2.9 < sum(len(chunk.samples) for chunk in tape.chunks) / 16_000 < 3.1


async def test_a_file_that_loops_begins_an_epoch_each_time(clips: Clips) -> None:
    """With `?loop=1` the file begins again for ever; each time is a new epoch, and media time goes on."""
    path = clips("short.mp4", Spec(seconds=2.0))
    async with Recorder(f"file:{path}?loop=1") as tape:
        await eventually(lambda: len(tape.epochs) >= 3, 12, "three epochs")
        assert [epoch.reason for epoch in tape.epochs[:3]] == ["start", "jump", "jump"]
        steps = [b.media_ns - a.media_ns for a, b in pairwise(tape.epochs[:3])]
        assert all(abs(step - 2 * S) < 400 * MS for step in steps)
        assert all(b.media_ns > a.media_ns for a, b in pairwise(tape.frames))


@pytest.mark.parametrize(("name", "words"), [("text", "text file"), ("empty", "empty"), ("html", "web page")])
async def test_a_file_that_is_no_media_fails(tmp_path: Path, name: str, words: str) -> None:
    """What is no media fails with its reason, and is tried again slowly."""
    path = factory.not_media(tmp_path)[name]
    async with Recorder(f"file:{path}") as tape:
        change = await tape.until("failed")
        assert change.reason is not None and words in change.reason


async def test_a_missing_file_fails_and_heals(tmp_path: Path) -> None:
    """A file that is not there yet fails; when it appears it is played."""
    path = tmp_path / "later.mp4"
    async with Recorder(f"file:{path}", QUICK) as tape:
        await tape.until("failed")
        factory.make(path, Spec(seconds=1.0))
        await tape.until("ended", 8)
        assert tape.frames


async def test_a_picture_track_alone_is_asked_of_a_sound_file(clips: Clips) -> None:
    """Sound switched off on a file that has nothing else: failed, and it says what there is."""
    path = clips("sound.mkv", Spec(video=None))
    async with Recorder(f"file:{path}", audio=False) as tape:
        change = await tape.until("failed")
        assert change.reason is not None and "audio" in change.reason


# -- nothing is left behind --------------------------------------------------------------------------------------------


async def cycles(url: str, count: int) -> None:
    for _ in range(count):
        async with Recorder(url) as tape:
            await eventually(lambda tape=tape: tape.frames, 10, "a frame")  # type: ignore[misc]


async def test_a_cancelled_source_leaves_no_thread_and_no_descriptor(gst_camera: Camera) -> None:
    """Ten times added and removed: as many threads and open files as before."""
    camera = gst_camera({"/live": live_mount()})
    await cycles(camera.url(), 2)
    gc.collect()
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    await cycles(camera.url(), 10)
    await eventually(lambda: threading.active_count() <= threads, 2, "threads")
    assert len(os.listdir("/proc/self/fd")) <= files


@pytest.mark.prove
async def test_two_hundred_cycles_cost_no_memory(gst_camera: Camera) -> None:
    """After 200 times added and removed the process is at most 10 MB larger than after 20."""
    camera = gst_camera({"/live": live_mount()})
    process = psutil.Process()
    await cycles(camera.url(), 20)
    gc.collect()
    before = process.memory_info().rss
    await cycles(camera.url(), 180)
    gc.collect()
    assert process.memory_info().rss - before < 10 * 1024 * 1024
