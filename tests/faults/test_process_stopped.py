"""Processes that are stopped for a while (SIGSTOP), and the orderly end (SIGTERM) when there is much to do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.cameras import ToolkitCamera
from tests.conftest import eventually
from tests.e2e.running import Running, service
from tests.e2e.watching import following
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
from tests.faults.test_process_killed import child
from tests.processes import still_running
from tests.stores import Valkey, valkey_fixture

__all__ = ["valkey_fixture"]

StartCamera = Callable[[Path], ToolkitCamera]


async def metric(running: Running, name: str) -> float:
    """The sum over the series of one metric."""
    text = await (await running.session.get(running.page + "/metrics")).text()
    values = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
    assert values, f"no metric {name}"
    return sum(map(float, values))


async def test_the_service_is_frozen(valkey: Valkey, looping_clip: Path, toolkit_camera: StartCamera) -> None:
    """Stopped for two seconds, it says for how long it was frozen and counts nothing of it as late; the stream goes on,
    each segment stands in the store once, in order and without a hole, and labels are there within 2 s."""
    camera = toolkit_camera(looping_clip)
    arguments = ("--source", f"door={camera.url}", "--redis", valkey.url)
    async with service(*arguments) as running, following(running) as follower:
        await follower.until_segments("door", 2)
        running.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(2.0)
        running.process.send_signal(signal.SIGCONT)
        thawed_s = time.monotonic()
        took_s = await labels_again(follower, "door", thawed_s)
        report("labels after the service was frozen", thawed_s)
        assert took_s < 2.0
        mark = len(follower.messages)
        later = await follower.until_segments("door", 4, since=mark)
        still_labelled(later)
        assert all(m["latency_ms"]["total"] <= m["bound_ms"] for m in later[-2:])
        assert 1.0 < await metric(running, "streamer_frozen_seconds_total") < 3.5
        assert await metric(running, "streamer_freezes_total") >= 1
        assert await metric(running, "streamer_late_total") == 0
    account = account_of(await stored(valkey.url))
    assert (account.missing, account.duplicate) == (0, 0), account.faults


async def test_the_hub_and_then_a_reader_are_frozen(looping_clip: Path, toolkit_camera: StartCamera) -> None:
    """A hub that stops for two seconds holds nobody up: its subscriber then has every segment, once and in order. While
    a reader process is stopped its stream is answered for in time, and labels are there within 2 s of its return."""
    camera = toolkit_camera(looping_clip)
    async with service("--source", f"door={camera.url}") as running, following(running) as follower:
        await follower.until_segments("door", 2)
        for word in ("streamer.hub", "streamer.sources.worker"):
            process = child(running, word)
            os.kill(process.pid, signal.SIGSTOP)
            await asyncio.sleep(2.0)
            os.kill(process.pid, signal.SIGCONT)
            thawed_s = time.monotonic()
            took_s = await labels_again(follower, "door", thawed_s)
            report(f"labels after {word} was frozen", thawed_s)
            assert took_s < 2.0
            assert child(running, word).pid == process.pid
        mark = len(follower.messages)
        await follower.until_segments("door", 3, since=mark)
        nothing_wrong(account_of(follower.messages, whole=False))
        reasons = {m["reason"] for m in follower.segments("door")}
        assert reasons <= {None, "no_media", "overload"}


async def test_an_end_under_load(valkey: Valkey, looping_clip: Path, toolkit_camera: StartCamera) -> None:
    """Told to end while six streams are under way and others are being added, it ends within 5 s with code 0; every
    window that was accepted is answered, the end of each stream announced with its last segment, and no process is
    left."""
    camera = toolkit_camera(looping_clip)
    sources = [argument for number in range(6) for argument in ("--source", f"door-{number}={camera.url}")]
    async with service(*sources, "--redis", valkey.url) as running, following_to_the_end(running) as follower:
        for number in range(6):
            await follower.until_segments(f"door-{number}", 2)
        children = running.children

        async def guests() -> None:
            with contextlib.suppress(OSError):
                for number in range(1000):
                    await running.call("PUT", f"/v1/streams/guest-{number % 3}", {"source": camera.url})
                    await running.call("DELETE", f"/v1/streams/guest-{number % 3}")

        adding = asyncio.create_task(guests())
        await eventually(lambda: follower.turns("guest-2"), 40)
        began_s = time.monotonic()
        assert await running.stop() == 0
        report("the end under load", began_s)
        assert time.monotonic() - began_s < 5.0
        adding.cancel()
        await asyncio.gather(adding, return_exceptions=True)
        assert not still_running(children)
    messages = await stored(valkey.url)
    nothing_wrong(account_of(messages))
    for number in range(6):
        assert of_stream(messages, f"door-{number}", "stream")[-1]["state"] == "ended"
    assert {m["reason"] for m in messages if m["type"] == "segment"} <= {None, "overload", "draining"}


async def test_an_end_while_the_store_hangs(valkey: Valkey, looping_clip: Path, toolkit_camera: StartCamera) -> None:
    """Where nothing can be stored any more it still ends within 5 s with code 0, says what was not stored, and what is
    in the store is whole."""
    camera = toolkit_camera(looping_clip)
    async with service("--source", f"door={camera.url}", "--redis", valkey.url) as running:
        await running.first(4, "segment")
        valkey.freeze()
        try:
            async with asyncio.timeout(10):
                while (await running.call("GET", "/readyz"))[0] != 503:
                    await asyncio.sleep(0.05)
            began_s = time.monotonic()
            assert await running.stop() == 0
            report("the end while the store hangs", began_s)
            assert time.monotonic() - began_s < 5.0
        finally:
            valkey.thaw()
        assert any("has not acknowledged" in line for line in running.log)
        assert not any("Traceback" in line for line in running.log)
    nothing_wrong(account_of(await stored(valkey.url)))
