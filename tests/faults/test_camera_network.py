"""Cameras at the far end of a bad network, read by a source: what is lost is missed and not made up, what comes late is
put in its place, and when the network is good again so are the pictures."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from streamer.decode import PictureConverter
from streamer.media import Frame
from tests.cameras import GstCamera, file_mount, live_mount
from tests.conftest import eventually
from tests.faults.network import Network
from tests.media_factory import Spec, make
from tests.sources.recorder import Recorder

S = 1_000_000_000
MS = 1_000_000
# Key frames of these cameras are a second apart; the promise counts from the first.
_BACK_S = 1.0 + 2.0


def mosaic(time_s: float, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Random tiles, others in every picture: each picture takes several packets and looks like no other."""
    tiles = np.random.default_rng(round(time_s * 1000)).integers(0, 256, (size[1] // 20, size[0] // 20, 3), np.uint8)
    return np.kron(tiles, np.ones((20, 20, 1), np.uint8))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 s of mosaic, about 2 Mb/s."""
    return make(tmp_path_factory.mktemp("mosaic") / "mosaic.mp4", Spec(seconds=20.0, paint=mosaic))


@pytest.fixture(scope="module")
def pictures(clip: Path) -> NDArray[np.float32]:
    """Its pictures as a source hands them out, `[n, 64, 64, 3]`."""
    convert = PictureConverter(64, "squash")
    with av.open(str(clip)) as container:
        container.streams.video[0].codec_context.options = {"skip_loop_filter": "all"}
        return np.stack([convert(picture) for picture in container.decode(video=0)]).astype(np.float32)


@asynccontextmanager
async def watched(clip: Path | None, transport: str) -> AsyncIterator[tuple[Network, Recorder]]:
    """A camera that plays `clip`, or a live one, at the far end of a cable, and what a source makes of it."""
    with Network() as network:
        mount = live_mount() if clip is None else file_mount(clip)
        with GstCamera({"/live": mount}, network=network) as camera:
            async with Recorder(camera.url(), rate=4, transport=transport) as tape:
                await tape.frames_more(4)
                yield network, tape


async def both(test: Callable[[str], object]) -> None:
    """Run a test for either transport, at the same time."""
    await asyncio.gather(test("tcp"), test("udp"))  # type: ignore[call-overload]


def errors(frames: list[Frame], pictures: NDArray[np.float32]) -> list[float]:
    """How far each frame is from the picture of the clip that it is closest to, in levels of 255."""
    return [float(np.abs(pictures - frame.rgb).mean(axis=(1, 2, 3)).min()) for frame in frames]


def shown(frames: list[Frame], since_ns: int, until_ns: int) -> float:
    """The part of a stretch of media time that the frames in it stand for."""
    return sum(f.duration_ns for f in frames if since_ns <= f.media_ns < until_ns) / (until_ns - since_ns)


def is_smooth(tape: Recorder, since: int, sound: int) -> None:
    """From these numbers on: pictures evenly, soon, sound without a gap, and one epoch all along."""
    steps = [b.media_ns - a.media_ns for a, b in pairwise(tape.frames[since:])]
    assert all(abs(step - 250 * MS) <= 90 * MS for step in steps), steps
    ends = [chunk.media_ns + len(chunk.samples) * S // 16_000 for chunk in tape.chunks]
    gaps = [abs(b.media_ns - end) for end, b in zip(ends[sound:], tape.chunks[sound + 1 :], strict=False)]
    assert all(gap < 15 * MS for gap in gaps), gaps
    assert [change.state for change in tape.states] == ["connecting", "live"] and len(tape.epochs) == 1


@pytest.mark.parametrize("loss", [0.02, 0.1])
async def test_what_is_lost_is_missed_and_not_made_up(clip: Path, pictures: NDArray[np.float32], loss: float) -> None:
    """Over UDP, pictures that lost packets or refer to ones that did are not shown for what they are not: they are
    missing, counted, and the more are lost the more are missing. The connection stays, and afterwards all is there."""
    async with watched(clip, "udp") as (network, tape):
        network.down.loss = loss
        await asyncio.sleep(0.2)
        mark, since_ns = len(tape.frames), time.monotonic_ns()
        await asyncio.sleep(5)
        lossy = tape.frames[mark:]
        share = shown(lossy, since_ns, time.monotonic_ns())
        network.heal()
        healed_s, mark = time.monotonic(), len(tape.frames)
        assert network.down.lost > 500 * loss
        assert tape.source.stats.drops["corrupt"] > 10
        assert share < (0.95 if loss < 0.05 else 0.5)
        wrong = [error for error in errors(lossy, pictures) if error > 3]
        # A key frame that lost a packet in its midst may pass for whole; those that are lost in any other way do not.
        assert len(wrong) <= len(lossy) // 4, wrong
        await tape.frames_more(1, _BACK_S)
        print(f"first picture {time.monotonic() - healed_s:.2f} s after the loss of {loss:.0%} ended")
        await tape.frames_more(6)
        assert max(errors(tape.frames[mark + 1 :], pictures)) < 3
        assert [change.state for change in tape.states] == ["connecting", "live"] and len(tape.epochs) == 1


async def test_delay_and_jitter(clip: Path) -> None:
    """Packets that come 200 to 250 ms late, each way, cost neither pictures nor sound nor the evenness of their times."""

    async def test(transport: str) -> None:
        async with watched(clip, transport) as (network, tape):
            network.impair(delay_s=0.2, jitter_s=0.05)
            await tape.frames_more(6)  # media time finds its new distance
            mark, sound = len(tape.frames), len(tape.chunks)
            frames = await tape.frames_more(12)
            is_smooth(tape, mark, sound)
            assert all(frame.arrived_ns - frame.media_ns < 700 * MS for frame in frames)

    await both(test)


async def test_reordering_and_duplicates(clip: Path, pictures: NDArray[np.float32]) -> None:
    """Over UDP, packets that overtake each other or come twice are put in order, and every picture is what it was."""
    async with watched(clip, "udp") as (network, tape):
        network.down.reorder, network.down.duplicate = 0.05, 0.05
        mark, sound = len(tape.frames), len(tape.chunks)
        frames = await tape.frames_more(16)
        is_smooth(tape, mark, sound)
        assert max(errors(frames, pictures)) < 1 and "corrupt" not in tape.source.stats.drops


async def test_less_bandwidth_than_the_camera_needs(clip: Path) -> None:
    """With a tenth of the bandwidth it needs, a camera's pictures are missing and nothing late is passed off as new;
    with all of it back they are there again, and fresh."""

    async def test(transport: str) -> None:
        async with watched(clip, transport) as (network, tape):
            network.down.bytes_per_s = 25_000
            since_ns = time.monotonic_ns()
            await asyncio.sleep(4)
            assert shown(tape.frames, since_ns, time.monotonic_ns()) < 0.6
            network.heal()
            healed_ns = time.monotonic_ns()
            fresh = functools.partial(_fresh, tape, healed_ns)
            await eventually(fresh, _BACK_S + 1.0, f"fresh pictures over {transport}; {tape.states}")
            print(f"fresh {(time.monotonic_ns() - healed_ns) / S:.2f} s after the bandwidth was back over {transport}")
            frames = await tape.frames_more(6)
            assert all(frame.arrived_ns - frame.media_ns < 700 * MS for frame in frames)

    await both(test)


def _fresh(tape: Recorder, since_ns: int) -> bool:
    return any(frame.media_ns > since_ns for frame in tape.frames[-3:])


async def test_a_network_that_falls_silent_for_a_moment() -> None:
    """Silent for 2.5 s without a word, a stream is stalled; when the network is back it goes on in the same epoch."""

    async def test(transport: str) -> None:
        async with watched(None, transport) as (network, tape):
            network.impair(silent=True)
            stalled = await tape.until("stalled", 3)
            assert stalled.reason is not None and "no media" in stalled.reason
            await asyncio.sleep(1.0)
            network.heal()
            await tape.until("live", 2, after=len(tape.states))
            await tape.frames_more(2, _BACK_S)
            assert len(tape.epochs) == 1

    await both(test)


async def test_a_connection_that_is_half_open() -> None:
    """Silent for longer, without FIN or RST, the connection is given up; when the network is back pictures are there
    within 2 s of a key frame, in a new epoch."""

    async def test(transport: str) -> None:
        async with watched(None, transport) as (network, tape):
            network.impair(silent=True)
            silent_s = time.monotonic()
            await tape.until("reconnecting", 7.5)
            await asyncio.sleep(max(0.0, silent_s + 8.3 - time.monotonic()))  # between two attempts of the kernel's own
            network.heal()
            healed_s = time.monotonic()
            await tape.frames_more(1, _BACK_S)
            print(f"first picture {time.monotonic() - healed_s:.2f} s after the network was back over {transport}")
            assert [epoch.reason for epoch in tape.epochs] == ["start", "reconnect"]

    await both(test)
