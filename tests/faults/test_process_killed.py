"""SIGKILL of each process in turn: what is there already stays as it is, and what follows goes on from there."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.cameras import ToolkitCamera
from tests.conftest import eventually
from tests.e2e.running import Running, service
from tests.e2e.tap import KeyframeTap
from tests.e2e.watching import Message, following, keeps_the_promise
from tests.faults.books import (
    account_of,
    following_to_the_end,
    labels_again,
    nothing_wrong,
    of_stream,
    report,
    still_labelled,
    stored,
)
from tests.processes import ended, still_running, with_word
from tests.stores import Valkey, valkey_fixture

__all__ = ["valkey_fixture"]

StartCamera = Callable[[Path], ToolkitCamera]


def child(running: Running, word: str) -> psutil.Process:
    """The one child process with `word` in its command line."""
    (found,) = with_word(running.children, word)
    return found


def gaps(messages: list[Message]) -> list[Message]:
    return [message for message in messages if message["type"] == "gap"]


async def test_the_service_is_killed_and_another_goes_on(
    valkey: Valkey, looping_clip: Path, toolkit_camera: StartCamera
) -> None:
    """Killed in mid-stream, it leaves no process behind. A new one on the same store goes on in a new epoch that names
    the last segment of the old one; in the store, and so for a subscriber who resumes, nothing is twice or missing."""
    camera = toolkit_camera(looping_clip)
    arguments = ("--source", f"door={camera.url}", "--redis", valkey.url)
    async with service(*arguments) as first, following_to_the_end(first) as follower:
        await follower.until_segments("door", 6)
        children = first.children
        assert await first.stop(signal.SIGKILL) == -signal.SIGKILL
        killed_s = time.monotonic()
        await eventually(lambda: not still_running(children), 10, "ended")
        place = [m["cursor"] for m in follower.messages if "cursor" in m][-1]
        before = of_stream(await stored(valkey.url), "door")
        async with service(*arguments) as second:
            after = await second.first(4, "segment", f"?since={place}")
            report("labels after the service was killed", killed_s)
            said = await second.first(1, "stream", f"?since={place}")
    messages = await stored(valkey.url)
    turns = [turn for turn in of_stream(messages, "door", "stream") if turn["epoch"] not in (None, before[0]["epoch"])]
    old = {"epoch": before[-1]["epoch"], "last_seq": before[-1]["seq"]}
    assert said[0]["previous"] == turns[0]["previous"] == old
    assert after[-1]["epoch"] == turns[0]["epoch"] > old["epoch"]
    nothing_wrong(account_of(messages))
    # With what it had seen before, the subscriber has each segment of the store once.
    seen = [(m["epoch"], m["seq"]) for m in [*follower.segments("door"), *after]]
    assert seen == [(m["epoch"], m["seq"]) for m in of_stream(messages, "door")][: len(seen)]


async def test_the_hub_is_killed(looping_clip: Path, toolkit_camera: StartCamera) -> None:
    """It is replaced on the same port, and serves again within 5 s; no label is lost or late for it, and a
    subscriber who resumes has every message once and in order."""
    camera = toolkit_camera(looping_clip)
    async with service("--source", f"door={camera.url}") as running:
        seen = (await running.first(3, "segment"))[-1]
        hub = child(running, "streamer.hub")
        os.kill(hub.pid, signal.SIGKILL)
        killed_s = time.monotonic()
        await eventually(lambda: ended(hub), 5)
        more = await running.first(3, "segment", f"?since={seen['cursor']}", within_s=5.0)
        report("a subscriber is served after the hub was killed", killed_s)
        assert [m["seq"] for m in more] == [seen["seq"] + 1 + place for place in range(3)]
        assert {m["epoch"] for m in more} == {seen["epoch"]}
        metrics = await (await running.session.get(running.page + "/metrics")).text()
        assert "streamer_hub_restarts_total 1.0" in metrics
        page = await running.get("/v1/segments/door?limit=500")
    still_labelled(page["segments"])
    assert [m["seq"] for m in page["segments"]] == list(range(len(page["segments"])))


async def test_the_embedded_store_is_killed(looping_clip: Path, toolkit_camera: StartCamera) -> None:
    """It comes back at the same place, empty. The stream goes on in its epoch, labels are there within 2 s, and a
    subscriber is told of the break and gets no segment twice or out of order."""
    camera = toolkit_camera(looping_clip)
    async with service("--source", f"door={camera.url}") as running, following(running) as follower:
        await follower.until_segments("door", 4)
        mark, store = len(follower.messages), child(running, "valkey")
        os.kill(store.pid, signal.SIGKILL)
        killed_s = time.monotonic()
        told = await eventually(lambda: gaps(follower.messages[mark:]), 5, "told of the break")
        await labels_again(follower, "door", told[0]["at_s"])
        report("labels after the embedded store was killed", killed_s)
        assert time.monotonic() - killed_s < 2.5  # within 2 s of its return, which takes a moment
        await follower.until_segments("door", 4, since=mark)
        segments = follower.segments("door")
        assert len({m["epoch"] for m in segments}) == 1
        seqs = [m["seq"] for m in segments]
        assert seqs == sorted(set(seqs))
        # What was acknowledged but not read by the hub when the store died went with it.
        assert len(set(range(seqs[0], seqs[-1])) - set(seqs)) <= 2
        status, ready = await running.call("GET", "/readyz")
        assert status == 200, ready
        assert not [line for line in running.log if "Traceback" in line]


async def test_a_reader_process_is_killed(valkey: Valkey, looping_clip: Path, toolkit_camera: StartCamera) -> None:
    """The streams that it read connect again through another, in epochs that name the last segment before; labels are
    there within 2 s of the camera's first keyframe, and nothing is late, missing or twice."""
    camera = toolkit_camera(looping_clip)
    async with KeyframeTap(camera.port) as tap:
        sources = [word for name in ("door", "yard") for word in ("--source", f"{name}={tap.url(camera.url)}")]
        async with service(*sources, "--redis", valkey.url) as running, following(running) as follower:
            for name in ("door", "yard"):
                await follower.until_segments(name, 3)
            mark = len(follower.messages)
            reader = child(running, "streamer.sources.worker")
            tap.keyframes_s.clear()
            os.kill(reader.pid, signal.SIGKILL)
            killed_s = time.monotonic()
            for name in ("door", "yard"):
                lost = await follower.until_turn(name, "reconnecting", since=mark)
                assert "process" in lost["reason"]
                await follower.until_turn(name, "live", since=mark)
                await labels_again(follower, name, lost["at_s"])
                keeps_the_promise(follower.messages, name)
            report("labels after a reader process was killed", killed_s)
            assert time.monotonic() - tap.keyframes_s[0] < 2.0
            assert child(running, "streamer.sources.worker").pid != reader.pid
            metrics = await (await running.session.get(running.page + "/metrics")).text()
            assert "streamer_reader_deaths_total 1.0" in metrics
    nothing_wrong(account_of(await stored(valkey.url)))
