"""Cameras and networks that misbehave, through the whole service: the faulty stream says so and comes back, and the one
beside it never notices."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from streamer.demo.clip import load
from tests.cameras import GstCamera, ToolkitCamera, file_mount, live_mount
from tests.conftest import eventually
from tests.e2e.tap import KeyframeTap
from tests.e2e.watching import Follower, Site, added, keeps_the_promise, running_site, unnoticed
from tests.faults.mosaic import mosaic
from tests.faults.network import Network
from tests.faults.odd_camera import OddCamera
from tests.proxy import Proxy

pytestmark = pytest.mark.asyncio(loop_scope="module")

StartToolkit = Callable[[Path], ToolkitCamera]
StartGst = Callable[..., GstCamera]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(looping_clip: Path) -> AsyncIterator[Site]:
    async with running_site(looping_clip) as site:
        yield site


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def the_neighbour_never_notices(site: Site) -> AsyncIterator[None]:
    """While a test has its way with other streams, `steady` gets every segment in time and with its labels."""
    async with unnoticed(site):
        yield


async def test_a_frozen_connection(site: Site, toolkit_camera: StartToolkit) -> None:
    """Frozen for a while, a stream is `stalled`, each hop answered in time as shed for want of media, and goes on
    in the same epoch; frozen for long, it reconnects, and is live again in a new epoch when the ice has gone."""
    camera, follower = toolkit_camera(site.clip), site.follower
    async with Proxy(camera.port) as proxy, added(site.running, "ice", proxy.url(camera.url)):
        before = (await follower.until_segments("ice", 4))[-1]
        mark = len(follower.messages)
        proxy.freeze()
        stalled = await follower.until_turn("ice", "stalled", since=mark)
        assert stalled["epoch"] == before["epoch"] and "no media" in stalled["reason"]
        shed = (await follower.until_segments("ice", 3, since=follower.messages.index(stalled)))[1:]
        assert {(s["status"], s["reason"]) for s in shed} == {("shed", "no_media")}
        assert (await site.stream("ice"))["state"] == "stalled"
        mark = len(follower.messages)
        proxy.thaw()
        thawed = await follower.until_turn("ice", "live", since=mark, timeout=5)
        assert thawed["epoch"] == before["epoch"]
        await eventually(
            lambda: [s for s in follower.segments("ice", mark) if s["status"] == "ok" and s["coverage"]["video"] > 0.9],
            10,
            "whole windows again",
        )
        mark = len(follower.messages)
        frozen_s = time.monotonic()
        proxy.freeze()
        lost = await follower.until_turn("ice", "reconnecting", since=mark)
        assert lost["at_s"] - frozen_s < 7.5 and lost["previous"]["epoch"] == before["epoch"]
        # The hops of about 3.5 s between the stall and the end of the connection.
        shed = [s for s in follower.segments("ice", mark) if s["reason"] == "no_media"]
        assert len(shed) >= 5
        mark = len(follower.messages)
        proxy.thaw()
        proxy.cut()
        back = await follower.until_turn("ice", "live", since=mark)
        assert back["epoch"] != before["epoch"]
        assert (await follower.until_segments("ice", 2, since=mark))[0]["seq"] == 0
    keeps_the_promise(follower.messages, "ice")


async def test_a_cut_connection(site: Site, toolkit_camera: StartToolkit) -> None:
    """Cut three times, each time a stream is `reconnecting` at once with its last `seq` named, and back soon."""
    camera, follower = toolkit_camera(site.clip), site.follower
    async with Proxy(camera.port) as proxy, added(site.running, "cable", proxy.url(camera.url)):
        for _ in range(3):
            await eventually(lambda: follower.segments("cable"), 10)
            mark = len(follower.messages)
            proxy.cut()
            cut_s = time.monotonic()
            lost = await follower.until_turn("cable", "reconnecting", since=mark)
            assert lost["at_s"] - cut_s < 1.0 and lost["epoch"] is None and lost["reason"]
            back = await follower.until_turn("cable", "live", since=mark)
            assert back["at_s"] - cut_s < 4.0
            await follower.until_segments("cable", 2, since=mark)
        status = await site.stream("cable")
        assert status["reconnects"] == 3 and status["state"] == "live"
    keeps_the_promise(follower.messages, "cable")


async def test_a_connection_that_slows_down(site: Site, toolkit_camera: StartToolkit) -> None:
    """Delayed by more than the bound and then throttled below what the camera sends, a stream still gets every hop in
    time, with a coverage that tells what was missing, and recovers."""
    camera, follower = toolkit_camera(site.clip), site.follower
    async with Proxy(camera.port) as proxy, added(site.running, "slow", proxy.url(camera.url)):
        await follower.until_segments("slow", 4)
        mark = len(follower.messages)
        proxy.delay_s = 1.2
        await eventually(lambda: [s for s in follower.segments("slow", mark) if s["coverage"]["video"] < 0.9], 10)
        proxy.delay_s = 0.0
        proxy.bytes_per_s = 4_000.0
        mark = len(follower.messages)
        await eventually(lambda: [s for s in follower.segments("slow", mark) if max(s["coverage"].values()) < 0.9], 20)
        proxy.bytes_per_s = None
        mark = len(follower.messages)
        await eventually(lambda: [s for s in follower.segments("slow", mark) if s["coverage"]["video"] > 0.9], 20)
    keeps_the_promise(follower.messages, "slow")


@pytest.mark.parametrize("kind", ["toolkit", "gstreamer"])
async def test_a_camera_that_is_killed(
    site: Site, toolkit_camera: StartToolkit, gst_camera: StartGst, kind: str
) -> None:
    """Killed in mid-stream and started again, a camera's labels are there within 2 s of its first keyframe."""
    camera: ToolkitCamera | GstCamera
    if kind == "toolkit":
        camera = toolkit_camera(site.clip)
        url = camera.url
    else:
        camera = gst_camera({"/live": live_mount("h264", "aac")})
        url = camera.url()
    name, follower = f"killed-{kind}", site.follower
    async with KeyframeTap(camera.port) as tap, added(site.running, name, tap.url(url)):
        before = (await follower.until_segments(name, 3))[-1]
        mark = len(follower.messages)
        camera.kill()
        lost = await follower.until_turn(name, "reconnecting", since=mark)
        assert lost["reason"]
        tap.keyframes_s.clear()
        await asyncio.to_thread(camera.start)
        mark = follower.messages.index(lost)
        back = (await follower.until_segments(name, 1, since=mark))[0]
        assert back["status"] == "ok" and back["epoch"] != before["epoch"] and back["seq"] == 0
        # The first hop holds no whole patch of sound yet, and what is shown has no name: the second has labels.
        labelled = await eventually(lambda: [s for s in follower.segments(name, mark) if s["labels"]], 10)
        assert 0 < labelled[0]["at_s"] - tap.keyframes_s[0] < 2.0
    keeps_the_promise(follower.messages, name)


async def test_a_camera_on_udp(site: Site, gst_camera: StartGst) -> None:
    """Over UDP a stream is whole; it stalls when its camera hangs and reconnects when that is killed, and is whole
    again after either."""
    camera, follower = gst_camera({"/live": live_mount("h264", "opus", protocols="udp")}), site.follower
    async with added(site.running, "udp", camera.url(), transport="udp"):
        assert whole((await follower.until_segments("udp", 6))[-1])
        mark = len(follower.messages)
        assert camera.process is not None
        camera.process.send_signal(signal.SIGSTOP)
        await follower.until_turn("udp", "stalled", since=mark)
        mark = len(follower.messages)
        camera.process.send_signal(signal.SIGCONT)
        await eventually(lambda: any(whole(s) for s in follower.segments("udp", mark)), 15, "whole after the hang")
        mark = len(follower.messages)
        camera.kill()
        await follower.until_turn("udp", "reconnecting", since=mark)
        mark = len(follower.messages)
        await asyncio.to_thread(camera.start)
        await eventually(lambda: any(whole(s) for s in follower.segments("udp", mark)), 15, "whole after the restart")
    keeps_the_promise(follower.messages, "udp")


async def test_a_network_that_loses_packets(site: Site, tmp_path: Path) -> None:
    """Over UDP through a network that loses one packet in ten, every hop is answered in time and says in its coverage
    what was not seen; without the loss it is whole again."""
    clip, follower = await asyncio.to_thread(mosaic, tmp_path / "mosaic.mp4", 20.0), site.follower
    with Network() as network, GstCamera({"/clip": file_mount(clip)}, network=network) as camera:
        async with added(site.running, "lossy", camera.url("/clip"), transport="udp"):
            await eventually(lambda: any(whole(s) for s in follower.segments("lossy")), 15, "whole")
            network.down.loss = 0.1
            mark = len(follower.messages)
            await eventually(lambda: [s for s in follower.segments("lossy", mark) if s["coverage"]["video"] < 0.6], 10)
            network.heal()
            mark, healed_s = len(follower.messages), time.monotonic()
            found = await eventually(lambda: [s for s in follower.segments("lossy", mark) if whole(s)], 10, "whole")
            print(f"a whole window {found[0]['at_s'] - healed_s:.2f} s after the loss ended")
            assert not [turn for turn in follower.turns("lossy", mark) if turn["state"] != "live"]
    keeps_the_promise(follower.messages, "lossy")


async def labels_return(site: Site, name: str, times: int) -> None:
    """A camera that goes and comes back `times` times: each time its labels are there within 2 s of a key frame."""
    chance, follower = random.Random(name), site.follower
    async with OddCamera(load(site.clip)) as camera, added(site.running, name, camera.url):
        await eventually(lambda: [s for s in follower.segments(name) if s["labels"]], 10, "labels")
        for number in range(times):
            mark = len(follower.messages)
            await camera.stop()
            await follower.until_turn(name, "reconnecting", since=mark)
            await asyncio.sleep(chance.uniform(0, 1.5))
            camera.keyframes_s.clear()
            mark = len(follower.messages)
            await camera.start()
            labelled = await eventually(lambda m=mark: [s for s in follower.segments(name, m) if s["labels"]], 15)  # type: ignore[misc]
            took_s = labelled[0]["at_s"] - camera.keyframes_s[0]
            print(f"labels of {name} {took_s:.2f} s after the first key frame of return {number}")
            assert 0 < took_s < 2.0
    keeps_the_promise(follower.messages, name)


async def test_labels_are_back_within_two_seconds(site: Site) -> None:
    """Labels are there again within 2 s of the first key frame of a camera that was away, ten times of ten."""
    await asyncio.gather(*(labels_return(site, f"away-{number}", times) for number, times in enumerate((4, 3, 3))))


@pytest.mark.prove
async def test_labels_are_back_within_two_seconds_a_hundred_times(site: Site) -> None:
    """A hundred times of a hundred."""
    await asyncio.gather(*(labels_return(site, f"often-{number}", 50) for number in range(2)))


def whole(segment: dict[str, object], video: bool = True, audio: bool = True) -> bool:
    coverage = segment["coverage"]
    assert isinstance(coverage, dict)
    there = {"video": coverage["video"] > 0.95, "audio": coverage["audio"] > 0.95}
    return segment["status"] == "ok" and there == {"video": video, "audio": audio}


async def test_a_wrong_password(site: Site, gst_camera: StartGst) -> None:
    """A wrong password ends in `failed` with the reason and is written nowhere; the right one heals it."""
    camera, follower = gst_camera({"/live": live_mount("h264", None)}, ("watchman", "s3same-0pen")), site.follower
    async with added(site.running, "locked", camera.url(user=("watchman", "wr0ng-w0rd"))):
        failed = await follower.until_turn("locked", "failed")
        assert "401" in failed["reason"] and "password" in failed["reason"]
        status = await site.stream("locked")
        assert status["state"] == "failed" and status["reason"] == failed["reason"]
        assert not follower.segments("locked")
        right = {"source": camera.url(user=("watchman", "s3same-0pen"))}
        assert (await site.running.call("PUT", "/v1/streams/locked", right))[0] == 200
        segments = await follower.until_segments("locked", 2)
        assert segments[-1]["coverage"]["audio"] == 0.0
        shown = json.dumps([follower.messages, await site.running.get("/v1/streams")]) + "".join(site.running.log)
        shown += await (await site.running.session.get(site.running.page + "/metrics")).text()
        assert "wr0ng" not in shown and "s3same" not in shown and "watchman" not in shown


async def test_paths_and_ports_where_nothing_is(site: Site, gst_camera: StartGst) -> None:
    """A path that the camera does not have fails, saying so; a port where nobody listens is tried again and again."""
    camera, follower = gst_camera({"/live": live_mount(None, "pcmu")}), site.follower
    async with added(site.running, "nopath", camera.url("/nothing")):
        assert "404" in (await follower.until_turn("nopath", "failed"))["reason"]
    camera.stop()
    async with added(site.running, "noport", camera.url()):
        assert "refused" in (await follower.until_turn("noport", "reconnecting"))["reason"]
        await asyncio.to_thread(camera.start)
        await follower.until_segments("noport", 1)


async def becomes_whole(follower: Follower, name: str, mark: int) -> None:
    """Wait for a whole window of a stream that is called `VIDEO-AUDIO`, with `none` for a track that it has not."""
    video, audio = (kind != "none" for kind in name.split("-"))
    await eventually(lambda: any(whole(s, video, audio) for s in follower.segments(name, mark)), 20, f"{name} whole")


async def test_every_codec(site: Site, gst_camera: StartGst) -> None:
    """Windows are whole of H.264, HEVC and MJPEG with AAC, Opus and G.711, picture without sound and the reverse."""
    pairs = [(video, audio) for video in ("h264", "hevc", "mjpeg", None) for audio in ("aac", "opus", "pcmu", None)]
    mounts = {
        f"{video}-{audio}".lower(): live_mount(video, audio, size=(160, 128), fps=10) for video, audio in pairs[:-1]
    }
    camera, follower = gst_camera({f"/{name}": mount for name, mount in mounts.items()}), site.follower
    # Four at a time: they are encoded on this machine as well.
    names = list(mounts)
    for some in (names[at : at + 4] for at in range(0, len(names), 4)):
        mark = len(follower.messages)
        try:
            for name in some:
                await site.running.call("PUT", f"/v1/streams/{name}", {"source": camera.url(f"/{name}")})
            for name in some:
                await becomes_whole(follower, name, mark)
        finally:
            await asyncio.gather(*(site.running.call("DELETE", f"/v1/streams/{name}") for name in some))
    for name in names:
        keeps_the_promise(follower.messages, name)
