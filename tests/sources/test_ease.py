"""Easing a live source: fewer pictures or none, and nothing else changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from tests.cameras import GstCamera, ToolkitCamera, live_mount
from tests.conftest import eventually
from tests.media_factory import Spec
from tests.proxy import Proxy
from tests.sources.recorder import Recorder

S = 1_000_000_000
MS = 1_000_000
Camera = Callable[..., GstCamera]
Looping = Callable[[Path], ToolkitCamera]


def keeps_up(tape: Recorder, since: int) -> None:
    """How far the picture is read is told all the time, never goes back, and is close behind what arrives."""
    told = [event for event in tape.progress[since:] if event.video_ns is not None]
    reached = [event.video_ns or 0 for event in told]
    assert len(told) > 10 and all(a <= b for a, b in pairwise(reached))
    assert all(event.arrived_ns - (event.video_ns or 0) < 700 * MS for event in told)


async def test_every_effort_keeps_the_stream_going(gst_camera: Camera) -> None:
    """Eased to key frames one picture a second comes, eased to none no picture, while sound and progress go on in the
    same epoch; back at all effort pictures come again within a second, the time between key frames."""
    camera = gst_camera({"/live": live_mount()})
    async with Recorder(camera.url()) as tape:
        await tape.frames_more(3)
        tape.source.ease("keyframes")
        await eventually(lambda: tape.source.stats.drops.get("eased"), 2, "packets left out")
        mark, told = len(tape.frames), len(tape.progress)
        await tape.frames_more(3)
        assert all(960 * MS <= b.media_ns - a.media_ns <= 1040 * MS for a, b in pairwise(tape.frames[mark:]))
        tape.source.ease("none")
        await asyncio.sleep(0.2)  # for the packet that is being decoded
        mark, heard = len(tape.frames), len(tape.chunks)
        await eventually(lambda: len(tape.chunks) > heard + 20, 5, "two seconds of sound")
        assert len(tape.frames) == mark
        begun_ns = tape.chunks[-1].media_ns
        tape.source.ease("all")
        frames = await tape.frames_more(4)
        assert frames[0].media_ns - begun_ns < 1200 * MS
        assert all(abs(b.media_ns - a.media_ns - 500 * MS) <= 110 * MS for a, b in pairwise(frames))
        assert [change.state for change in tape.states] == ["connecting", "live"] and len(tape.epochs) == 1
        keeps_up(tape, told)


async def test_without_sound_key_frames_stay(gst_camera: Camera) -> None:
    """A camera without sound that is eased to none gives its key frames."""
    camera = gst_camera({"/live": live_mount(audio=None)})
    async with Recorder(camera.url()) as tape:
        tape.source.ease("none")
        frames = await tape.frames_more(4)
        assert all(900 * MS <= b.media_ns - a.media_ns <= 1100 * MS for a, b in pairwise(frames[1:]))


async def test_effort_outlives_the_connection(toolkit_camera: Looping, looping_clip: Path) -> None:
    """After a cut the new connection is as eased as the one before, from its beginning."""
    camera = toolkit_camera(looping_clip)
    async with Proxy(camera.port) as proxy, Recorder(proxy.url(camera.url)) as tape:
        await tape.frames_more(2)
        tape.source.ease("keyframes")
        proxy.cut()
        await eventually(lambda: len(tape.epochs) == 2, 5, "the next connection")
        since_ns = tape.epochs[1].media_ns
        await eventually(lambda: tape.frames[-1].media_ns > since_ns + 3 * S, 8, "three seconds")
        steps = [b.media_ns - a.media_ns for a, b in pairwise(tape.frames) if a.media_ns >= since_ns]
        assert all(step > 900 * MS for step in steps), steps
        assert tape.source.effort == "keyframes"


async def test_a_played_file_is_eased_too(clips: Callable[..., Path]) -> None:
    """Of a file that is played with key frames alone those come, and it ends as ever."""
    path = clips("three.mp4", Spec(seconds=3.0))
    async with Recorder(f"file:{path}") as tape:
        tape.source.ease("keyframes")
        await tape.until("ended", 8)
        assert len(tape.frames) == 3
        assert 2.9 < sum(len(chunk.samples) for chunk in tape.chunks) / 16_000 < 3.1
