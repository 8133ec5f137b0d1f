"""Cameras that misbehave, read by a source: what must hold while they do, and that pictures and sound are there again
within 2 s of the first key frame that the camera sends afterwards."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from streamer.demo.clip import Clip, load
from streamer.media import AudioChunk, Frame
from streamer.sources.machine import Policy
from tests.conftest import eventually
from tests.faults.mosaic import Pictures, how_wrong, mosaic, pictures_of
from tests.faults.odd_camera import Manners, OddCamera
from tests.sources.recorder import Recorder

S = 1_000_000_000
MS = 1_000_000
_BACK_S = 2.0
# What is silent is given up after 5 s, and a new connection is there within 1 s and a little.
_GIVEN_UP_S = 5.0 + 1.5


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mosaic(tmp_path_factory.mktemp("odd") / "mosaic.mp4", 6.0)


@pytest.fixture(scope="module")
def clip(path: Path) -> Clip:
    return load(path)


@pytest.fixture(scope="module")
def pictures(path: Path) -> Pictures:
    return pictures_of(path)


@asynccontextmanager
async def watched(
    clip: Clip, transport: str = "tcp", policy: Policy | None = None
) -> AsyncIterator[tuple[OddCamera, Recorder]]:
    """A camera that behaves so far, and what a source makes of it."""
    async with OddCamera(clip) as camera, Recorder(camera.url, policy, rate=4, transport=transport) as tape:
        await tape.frames_more(4)
        yield camera, tape


async def both(test: Callable[[str], Coroutine[object, object, None]]) -> None:
    """Run a test for either transport, at the same time."""
    await asyncio.gather(test("tcp"), test("udp"))


async def comes_back(tape: Recorder, camera: OddCamera, since_s: float, what: str) -> None:
    """Pictures and sound of what was made after `since_s` are handed out within 2 s of the first key frame sent."""
    key_s = await eventually(lambda: next((at_s for at_s in camera.keyframes_s if at_s > since_s), None), 15, "a key")
    assert key_s is not None
    for kind in (Frame, AudioChunk):
        taken_ns = await eventually(
            lambda kind=kind: next(  # type: ignore[misc]
                (at_ns for at_ns, e in tape.events if isinstance(e, kind) and e.media_ns > key_s * S - 100 * MS), None
            ),
            10,
            f"{kind.__name__} after {what}; {tape.states}",
        )
        took_s = taken_ns / S - key_s
        print(f"{kind.__name__} {took_s:.2f} s after the first key frame after {what}")
        assert took_s < _BACK_S, what


def is_sane(tape: Recorder, since: int = 0) -> None:
    """From event number `since` on no picture is of another time than about now."""
    ages_ms = [(at_ns - e.media_ns) // MS for at_ns, e in tape.events[since:] if isinstance(e, Frame)]
    assert all(-1_100 < age < 2_600 for age in ages_ms), ages_ms


async def test_garbage_in_packets(clip: Clip, pictures: Pictures) -> None:
    """Packets full of noise, a third of them or all, bring no picture that the camera did not see; the connection is
    kept or made anew, and afterwards all is as before."""
    chance = random.Random(7)

    async def test(transport: str, part: float) -> None:
        async with watched(clip, transport) as (camera, tape):
            camera.manners.payload = lambda _, data: chance.randbytes(len(data)) if chance.random() < part else data
            await asyncio.sleep(0.2)
            mark = len(tape.frames)
            await asyncio.sleep(2)
            wrong = [error for error in how_wrong(tape.frames[mark:], pictures) if error > 3]
            assert len(wrong) <= 1 + len(tape.frames[mark:]) // 4, wrong
            camera.manners = Manners()
            await comes_back(tape, camera, time.monotonic(), f"{part:.0%} noise over {transport}")
            assert tape.source.stats.drops["corrupt"] > 0 and tape.state == "live"

    await asyncio.gather(*(test(transport, part) for transport in ("tcp", "udp") for part in (1.0, 0.3)))


async def test_garbage_between_packets(clip: Clip) -> None:
    """Noise between the packets of a TCP connection costs what it hits; where the thread is lost by it, that is told as
    stalled and the connection is made anew."""
    async with watched(clip) as (camera, tape):
        camera.manners.noise = random.Random(5).randbytes(700)
        await asyncio.sleep(1.5)
        camera.manners = Manners()
        ended_s, mark = time.monotonic(), len(tape.frames)
        await eventually(lambda: len(tape.frames) > mark + 4, _GIVEN_UP_S + _BACK_S, f"pictures; {tape.states}")
        print(f"pictures {time.monotonic() - ended_s:.2f} s after noise between packets")
        assert tape.state == "live"


async def test_nothing_after_play(clip: Clip) -> None:
    """A camera that accepts everything and sends nothing is told so and asked again, and is live once it sends."""
    async with OddCamera(clip) as camera:
        camera.manners.mute = True
        async with Recorder(camera.url, Policy(connect_timeout_ns=1 * S), rate=4) as tape:
            change = await tape.until("reconnecting", 4)
            assert change.reason is not None and "no media within" in change.reason
            camera.manners.mute = False
            await comes_back(tape, camera, time.monotonic(), "silence after PLAY")


async def test_four_times_the_speed(clip: Clip) -> None:
    """A camera whose clock runs four times too fast is put right again and again, in epochs that say so; no more is
    handed out than there is time for, and at its own speed it is what it was."""

    async def test(transport: str) -> None:
        async with watched(clip, transport) as (camera, tape):
            mark, since_s = len(tape.frames), time.monotonic()
            camera.manners.speed = 4.0
            await asyncio.sleep(3)
            # An epoch begins with a picture, whenever that is.
            most = 4 * (time.monotonic() - since_s + 1) + len(tape.epochs)
            assert len(tape.frames) - mark <= most
            assert {epoch.reason for epoch in tape.epochs[1:]} == {"jump"}
            is_sane(tape, mark)
            camera.manners.speed = 1.0
            await comes_back(tape, camera, time.monotonic(), f"four times the speed over {transport}")

    await both(test)


async def test_another_resolution(clip: Clip, tmp_path: Path) -> None:
    """When the camera changes its picture's size in mid-stream, the new pictures follow in the same epoch, right."""
    other = mosaic(tmp_path / "other.mp4", 3.0, (480, 360))
    larger = load(other)

    async def test(transport: str) -> None:
        async with watched(clip, transport) as (camera, tape):
            camera.clip = larger
            changed_s = time.monotonic()
            await comes_back(tape, camera, changed_s, f"another resolution over {transport}")
            await tape.frames_more(3)
            assert max(how_wrong(tape.frames[-3:], pictures_of(other))) < 3
            assert [change.state for change in tape.states] == ["connecting", "live"] and len(tape.epochs) == 1

    await both(test)


async def test_a_camera_whose_clock_jumps(clip: Clip) -> None:
    """When the clock in the sender reports jumps by hours, and back, at most an epoch begins each time; pictures stay
    of now, for it is our clock that counts."""

    async def test(hours: int) -> None:
        async with watched(clip) as (camera, tape):
            for shift_s in (3600.0 * hours, 0.0):
                mark, events = len(tape.epochs), len(tape.events)
                camera.manners.wall_shift_s = shift_s
                await asyncio.sleep(1.3)  # a report comes each second
                assert len(tape.epochs) <= mark + 1
                await comes_back(tape, camera, time.monotonic(), f"a clock that jumped by {shift_s:.0f} s")
                is_sane(tape, events)
            assert [change.state for change in tape.states] == ["connecting", "live"]

    await asyncio.gather(test(3), test(-3))


_CHANCE = random.Random(11)
STAMPS: dict[str, Callable[[int, int], int]] = {
    "all the same": lambda _track, _ticks: 12_345,
    "at random": lambda _track, _ticks: _CHANCE.getrandbits(32),
    "at random now and then": lambda _track, ticks: _CHANCE.getrandbits(32) if _CHANCE.random() < 0.1 else ticks,
    "backwards": lambda _track, ticks: -ticks,
    "of one track gone astray": lambda track, ticks: ticks + (1 << 30 if track else 0),
}


async def test_absurd_time_stamps(clip: Clip) -> None:
    """Whatever stamps a camera writes, its pictures are placed about now or left out, the connection is kept, and as
    soon as the stamps make sense again so does media time."""

    async def test(what: str, transport: str) -> None:
        async with watched(clip, transport) as (camera, tape):
            events = len(tape.events)
            camera.manners.ticks = STAMPS[what]
            await asyncio.sleep(2.5)
            is_sane(tape, events)
            camera.manners = Manners()
            await comes_back(tape, camera, time.monotonic(), f"stamps {what} over {transport}")
            await tape.frames_more(6)
            ages_ms = [(frame.arrived_ns - frame.media_ns) // MS for frame in tape.frames[-2:]]
            assert all(-50 < age < 400 for age in ages_ms), (what, ages_ms)
            assert [change.state for change in tape.states] == ["connecting", "live"]

    await asyncio.gather(*(test(what, transport) for what in STAMPS for transport in ("tcp", "udp")))


async def test_sessions_that_end_or_begin_anew_without_a_word(clip: Clip) -> None:
    """A camera that goes on with another SSRC, sequence and time base: over TCP pictures go on; over UDP, where what it
    sends may look like the past and is thrown away as such, the connection is made anew after its silence. Told goodbye
    over RTCP, a stream reconnects at once; asked to TEARDOWN by the camera, which no camera may, after its silence."""

    async def another_source_over_tcp() -> None:
        async with watched(clip) as (camera, tape):
            camera.renew()
            await comes_back(tape, camera, time.monotonic(), "another SSRC over tcp")
            assert tape.state == "live" and tape.source.stats.reconnects == 0

    async def another_source_over_udp() -> None:
        async with watched(clip, "udp") as (camera, tape):
            camera.renew()
            renewed_s = time.monotonic()
            await tape.until("reconnecting", 7)
            await tape.frames_more(2, _GIVEN_UP_S)
            print(f"pictures {time.monotonic() - renewed_s:.2f} s after another SSRC over udp")

    async def goodbye() -> None:
        async with watched(clip) as (camera, tape):
            camera.say_bye()
            change = await tape.until("reconnecting", 2)
            assert change.reason is not None and "ended" in change.reason
            await comes_back(tape, camera, time.monotonic(), "BYE")

    async def teardown() -> None:
        async with watched(clip) as (camera, tape):
            camera.tear_down()
            since_s = time.monotonic()
            await tape.until("stalled", 3)
            await tape.until("reconnecting", 6)
            await comes_back(tape, camera, since_s, "TEARDOWN")

    await asyncio.gather(another_source_over_tcp(), another_source_over_udp(), goodbye(), teardown())


async def test_a_thousand_refusals() -> None:
    """A thousand connections in a row that are accepted and closed leave no thread and no descriptor behind, and are
    told as one loss."""
    accepted = 0

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    url = f"rtsp://127.0.0.1:{server.sockets[0].getsockname()[1]}/live"
    policy = Policy(backoff_ns=MS // 10, backoff_cap_ns=MS // 10, failed_retry_ns=MS // 10)
    async with server, Recorder(url, policy) as tape:
        await eventually(lambda: accepted > 50, 10, "the first refusals")
        gc.collect()
        threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
        await eventually(lambda: accepted > 1000, 30, "a thousand refusals")
        gc.collect()
        assert threading.active_count() <= threads + 2 and len(os.listdir("/proc/self/fd")) <= files + 4
        assert len(tape.states) <= 3, tape.states


async def returns(clip: Clip, times: int, seed: int) -> None:
    """A camera that goes and comes `times` times, each time back in time."""
    chance = random.Random(seed)
    async with watched(clip, chance.choice(["tcp", "udp"])) as (camera, tape):
        for number in range(times):
            mark = len(tape.states)
            await camera.stop()
            await tape.until("reconnecting", 8, after=mark)
            await asyncio.sleep(chance.uniform(0, 1.5))
            since_s = time.monotonic()
            await camera.start()
            await comes_back(tape, camera, since_s, f"return {number} of camera {seed}")


async def test_back_within_two_seconds_ten_times(clip: Clip) -> None:
    """A camera that is gone and comes back after any time has its pictures and sound handed out within 2 s of its first
    key frame, ten times out of ten."""
    await asyncio.gather(*(returns(clip, 2, seed) for seed in range(5)))


@pytest.mark.prove
async def test_back_within_two_seconds_a_hundred_times(clip: Clip) -> None:
    """A hundred times out of a hundred."""
    await asyncio.gather(*(returns(clip, 20, seed) for seed in range(5)))
