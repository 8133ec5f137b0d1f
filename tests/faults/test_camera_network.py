"""Cameras at the far end of a bad network, read by a source: what is lost is missed and not made up, what comes late is
put in its place, and when the network is good again so are the pictures."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from streamer.media import Frame
from tests.cameras import GstCamera, file_mount, live_mount
from tests.conftest import eventually
from tests.faults.mosaic import Pictures, how_wrong, mosaic, pictures_of
from tests.faults.network import Network
from tests.sources.recorder import Recorder

S = 1_000_000_000
MS = 1_000_000
# Key frames of these cameras are a second apart; the promise counts from the first.
_BACK_S = 1.0 + 2.0


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """15 s of mosaic, about 1.3 Mb/s."""
    return mosaic(tmp_path_factory.mktemp("mosaic") / "mosaic.mp4", 15.0)


@pytest.fixture(scope="module")
def pictures(clip: Path) -> Pictures:
    """What a source should make of it."""
    return pictures_of(clip)


@asynccontextmanager
async def watched(clip: Path | None, transport: str, **network_is: float) -> AsyncIterator[tuple[Network, Recorder]]:
    """A camera that plays `clip`, or a live one, at the far end of a cable, and what a source makes of it."""
    with Network() as network:
        network.impair(**network_is)
        mount = live_mount() if clip is None else file_mount(clip)
        with GstCamera({"/live": mount}, network=network) as camera:
            async with Recorder(camera.url(), rate=4, transport=transport) as tape:
                await tape.frames_more(4)
                yield network, tape


async def both(test: Callable[[str], Coroutine[object, object, None]]) -> None:
    """Run a test for either transport, at the same time."""
    await asyncio.gather(test("tcp"), test("udp"))


def shown(frames: list[Frame], since_ns: int, until_ns: int) -> float:
    """The part of a stretch of media time that the frames in it stand for."""
    return sum(f.duration_ns for f in frames if since_ns <= f.media_ns < until_ns) / (until_ns - since_ns)


def mostly_right(frames: list[Frame], pictures: Pictures) -> None:
    """Frames are pictures of the clip. One in some hundred that lost a packet in its midst still decodes without a
    complaint, and then those up to the next key frame are wrong as well."""
    wrong = [error for error in how_wrong(frames, pictures) if error > 3]
    assert len(wrong) <= 1 + len(frames) // 4, wrong


def is_smooth(tape: Recorder, since: int, sound: int) -> None:
    """From these numbers on: pictures evenly, soon, sound without a gap, and one epoch all along."""
    steps = [b.media_ns - a.media_ns for a, b in pairwise(tape.frames[since:])]
    assert all(abs(step - 250 * MS) <= 90 * MS for step in steps), (steps, tape.source.stats)
    ends = [chunk.media_ns + len(chunk.samples) * S // 16_000 for chunk in tape.chunks]
    gaps = [abs(b.media_ns - end) for end, b in zip(ends[sound:], tape.chunks[sound + 1 :], strict=False)]
    assert all(gap < 15 * MS for gap in gaps), gaps
    assert [change.state for change in tape.states] == ["connecting", "live"] and len(tape.epochs) == 1


async def test_what_is_lost_is_missed_and_not_made_up(clip: Path, pictures: Pictures) -> None:
    """Over UDP, pictures that lost packets or refer to ones that did are not shown for what they are not: they are
    missing, counted, and the more are lost the more are missing. The connection stays, and afterwards all is there."""

    async def test(loss: float) -> float:
        async with watched(clip, "udp") as (network, tape):
            network.down.loss = loss
            await asyncio.sleep(0.2)
            mark, since_ns = len(tape.frames), time.monotonic_ns()
            await asyncio.sleep(4)
            lossy, share = tape.frames[mark:], shown(tape.frames[mark:], since_ns, time.monotonic_ns())
            network.heal()
            healed_s, mark = time.monotonic(), len(tape.frames)
            assert network.down.lost > 500 * loss and tape.source.stats.drops["corrupt"] > 10
            mostly_right(lossy, pictures)
            await tape.frames_more(1, _BACK_S)
            print(f"first picture {time.monotonic() - healed_s:.2f} s after the loss of {loss:.0%} ended")
            await tape.frames_more(14)
            # The key frame that was on its way then may have lost packets too; the next comes a second later.
            whole = [frame for frame in tape.frames[mark:] if frame.media_ns > healed_s * S + 2.1 * S]
            assert max(how_wrong(whole, pictures)) < 3
            assert [change.state for change in tape.states] == ["connecting", "live"] and len(tape.epochs) == 1
            return share

    little, much = await asyncio.gather(test(0.02), test(0.1))
    assert much < little < 0.95 and much < 0.5


async def test_delay_and_disorder(clip: Path, pictures: Pictures) -> None:
    """Packets that come 200 to 250 ms late, each way, cost no picture and no sound, and their times stay even. Over UDP
    those that overtake each other are put in order, and every picture is what it was; those that come twice can cost
    the picture that they are part of."""

    async def late(transport: str) -> None:
        # From the beginning: in mid-stream TCP would take so much more delay for loss, and stop for a second or two.
        async with watched(clip, transport, delay_s=0.2, jitter_s=0.05) as (_, tape):
            await tape.frames_more(6)
            mark, sound = len(tape.frames), len(tape.chunks)
            frames = await tape.frames_more(12)
            is_smooth(tape, mark, sound)
            assert all(frame.arrived_ns - frame.media_ns < 700 * MS for frame in frames)

    async def overtaken() -> None:
        async with watched(clip, "udp") as (network, tape):
            network.down.reorder = 0.05
            mark, sound = len(tape.frames), len(tape.chunks)
            frames = await tape.frames_more(16)
            is_smooth(tape, mark, sound)
            assert max(how_wrong(frames, pictures)) < 1 and "corrupt" not in tape.source.stats.drops

    async def twice() -> None:
        async with watched(clip, "udp") as (network, tape):
            network.down.duplicate = 0.02
            mostly_right(await tape.frames_more(12), pictures)

    await asyncio.gather(both(late), overtaken(), twice())


async def test_less_bandwidth_than_the_camera_needs(clip: Path) -> None:
    """With a tenth of the bandwidth it needs, a camera's pictures are missing and nothing late is passed off as new;
    with all of it back they are there again, and fresh."""

    async def test(transport: str) -> None:
        async with watched(clip, transport) as (network, tape):
            network.down.bytes_per_s = 25_000
            since_ns = time.monotonic_ns()
            await asyncio.sleep(3)
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


async def test_a_network_that_falls_silent() -> None:
    """Without a word, neither FIN nor RST: for 2.5 s, a stream is stalled, and goes on in the same epoch when the
    network is back. For longer, the connection is given up; when the network is back pictures are there within 2 s of a
    key frame, in a new epoch."""

    async def for_a_moment(transport: str) -> None:
        async with watched(None, transport) as (network, tape):
            network.impair(silent=True)
            stalled = await tape.until("stalled", 3)
            assert stalled.reason is not None and "no media" in stalled.reason
            await asyncio.sleep(1.0)
            network.heal()
            # TCP's own patience doubles with every try: it may sleep for as long again as the silence was.
            await tape.until("live", 4, after=len(tape.states))
            await tape.frames_more(2, _BACK_S)
            assert len(tape.epochs) == 1

    async def for_long(transport: str) -> None:
        async with watched(None, transport) as (network, tape):
            network.impair(silent=True)
            silent_s = time.monotonic()
            await tape.until("reconnecting", 7.5)
            await asyncio.sleep(max(0.0, silent_s + 6.6 - time.monotonic()))  # in the midst of an attempt to connect
            network.heal()
            healed_s = time.monotonic()
            await tape.frames_more(1, _BACK_S)
            print(f"first picture {time.monotonic() - healed_s:.2f} s after the network was back over {transport}")
            assert [epoch.reason for epoch in tape.epochs] == ["start", "reconnect"]

    await asyncio.gather(both(for_a_moment), both(for_long))
