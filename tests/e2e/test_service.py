"""The whole service on real parts: a camera over RTSP in, labelled segments out, changes while it runs, an orderly
end."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis.asyncio as redis
from websockets.exceptions import InvalidStatus

from streamer.storage.store import EmbeddedStore
from tests.cameras import ToolkitCamera
from tests.conftest import eventually
from tests.e2e.running import Running, service
from tests.processes import still_running

StartCamera = Callable[[Path], ToolkitCamera]


async def state_of(running: Running, name: str) -> str:
    return str((await running.get(f"/v1/streams/{name}"))["state"])


async def becomes(running: Running, name: str, state: str, within_s: float = 15.0) -> dict[str, object]:
    """Wait until stream `name` is in `state`; its status then."""
    async with asyncio.timeout(within_s):
        while (status := await running.get(f"/v1/streams/{name}"))["state"] != state:
            await asyncio.sleep(0.05)
    return dict(status)


async def test_every_hop_of_a_live_camera_is_answered_in_order_and_in_time(
    looping_clip: Path, toolkit_camera: StartCamera
) -> None:
    """Twelve segments come in order without holes, each `ok`, in time, half a second apart, and stand in the store
    too."""
    camera = toolkit_camera(looping_clip)
    async with EmbeddedStore() as store, service("--source", f"door={camera.url}", "--redis", store.url) as running:
        segments = await running.first(12, "segment")
        assert [s["seq"] for s in segments] == list(range(segments[0]["seq"], segments[0]["seq"] + 12))
        assert {s["status"] for s in segments} == {"ok"} and {s["stream"] for s in segments} == {"door"}
        assert all(s["latency_ms"]["total"] <= s["bound_ms"] == 1000 for s in segments)
        assert segments[-1]["coverage"]["video"] > 0.95 and segments[-1]["coverage"]["audio"] > 0.95
        for segment in segments:
            assert segment["cursor"] and all(0.05 <= label["score"] <= 1 for label in segment["labels"])
            scores = [label["score"] for label in segment["labels"]]
            assert scores == sorted(scores, reverse=True) and len(scores) <= 20
            for label in segment["labels"]:
                assert sum(label["share"].values()) == pytest.approx(1.0, abs=1e-3)
        client = redis.Redis.from_url(store.url)
        entries = await client.xrange("streamer:segments:door")
        kept = [json.loads(fields[b"json"]) for _, fields in entries]
        assert {s["seq"] for s in segments} <= {s["seq"] for s in kept}
        await client.aclose()


async def test_the_past_is_served_from_a_cursor_inclusively(looping_clip: Path, toolkit_camera: StartCamera) -> None:
    """`GET /v1/segments` gives the past from a cursor on, that one included, in pages without hole or repeat."""
    camera = toolkit_camera(looping_clip)
    async with service("--source", f"door={camera.url}") as running:
        segments = await running.first(8, "segment")
        page = await running.get(f"/v1/segments/door?since={segments[2]['cursor']}&limit=3")
        assert [s["seq"] for s in page["segments"]] == [s["seq"] for s in segments[2:5]]
        rest = await running.get(f"/v1/segments/door?since={page['next']}&limit=3")
        assert [s["seq"] for s in rest["segments"]] == [s["seq"] for s in segments[5:8]]


async def test_streams_come_and_go_while_the_others_go_on(looping_clip: Path, toolkit_camera: StartCamera) -> None:
    """A stream is added, changed and removed by the API; the one beside it keeps its epoch and misses no hop."""
    camera = toolkit_camera(looping_clip)
    async with service("--source", f"steady={camera.url}") as running:
        before = (await running.first(1, "segment", "?stream=steady"))[0]
        assert (await running.call("PUT", "/v1/streams/guest", {"source": camera.url}))[0] == 201
        guest = await running.first(3, "segment", f"?stream=guest&since={before['cursor']}")
        assert [s["seq"] for s in guest] == [0, 1, 2]
        assert (await running.call("PUT", "/v1/streams/guest", {"source": camera.url, "audio": False}))[0] == 200
        mute = await running.first(4, "segment", "?stream=guest")
        assert mute[-1]["epoch"] != guest[0]["epoch"] and mute[-1]["coverage"]["audio"] == 0.0
        assert (await running.call("DELETE", "/v1/streams/guest"))[0] == 204
        assert (await running.call("GET", "/v1/streams/guest"))[0] == 404
        after = (await running.first(1, "segment", "?stream=steady"))[0]
        assert after["epoch"] == before["epoch"] and after["seq"] > before["seq"]
        page = await running.get(f"/v1/segments/steady?since={before['cursor']}&limit=500")
        seqs = [s["seq"] for s in page["segments"]]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
        metrics = await (await running.session.get(running.page + "/metrics")).text()
        assert 'stream="steady"' in metrics and 'stream="guest"' not in metrics


async def test_changing_the_file_changes_only_what_changed(
    looping_clip: Path, toolkit_camera: StartCamera, tmp_path: Path
) -> None:
    """A stream added to the file appears, one taken out goes, the one left alone keeps its epoch; a mistake changes
    nothing."""
    camera = toolkit_camera(looping_clip)
    config = tmp_path / "cameras.yaml"
    config.write_text(json.dumps({"streams": {"a": {"source": camera.url}, "b": {"source": camera.url}}}))
    async with service(config=config) as running:
        await becomes(running, "a", "live")
        epoch = (await running.get("/v1/streams/a"))["epoch"]
        config.write_text(json.dumps({"streams": {"a": {"source": camera.url}, "c": {"source": camera.url}}}))
        async with asyncio.timeout(15):
            while {s["name"] for s in (await running.get("/v1/streams"))["streams"]} != {"a", "c"}:
                await asyncio.sleep(0.1)
        config.write_text("streams: {a: {sauce: 1}}")
        await eventually(lambda: "stays in force" in "".join(running.log), 10)
        await becomes(running, "c", "live")
        status = await running.get("/v1/streams/a")
        assert status["epoch"] == epoch and status["state"] == "live"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_orderly_end(looping_clip: Path, toolkit_camera: StartCamera, number: int) -> None:
    """On a signal: no hole before the end, the stream's end announced, a close frame, exit code 0, within 5 s, no
    child left."""
    camera = toolkit_camera(looping_clip)
    async with EmbeddedStore() as store, service("--source", f"door={camera.url}", "--redis", store.url) as running:
        got: list[dict[str, object]] = []

        async def follow() -> None:
            async for message in running.messages("?stream=door"):
                got.append(message)

        follower = asyncio.create_task(follow())
        await eventually(lambda: sum(m["type"] == "segment" for m in got) >= 4, 20)
        children = running.children
        began = time.monotonic()
        assert await running.stop(number) == 0
        assert time.monotonic() - began < 5.0
        # The iteration ends without an exception only after a close frame.
        await asyncio.wait_for(follower, 5)
        seqs = [m["seq"] for m in got if m["type"] == "segment"]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))  # type: ignore[call-overload,operator,index]
        assert got[-1]["type"] == "stream" and got[-1]["state"] == "ended"
        assert not still_running(children)


async def test_a_camera_that_dies_comes_back(looping_clip: Path, toolkit_camera: StartCamera) -> None:
    """A killed camera is `reconnecting`; when it is there again labels flow within 2 s, in an epoch that names the
    one before."""
    camera = toolkit_camera(looping_clip)
    async with service("--source", f"door={camera.url}") as running:
        first = (await running.first(3, "segment"))[-1]
        camera.kill()
        await becomes(running, "door", "reconnecting")
        began = time.monotonic()
        camera.start()
        announced = await running.first(1, "stream", f"?stream=door&since={first['cursor']}")
        assert announced
        async with asyncio.timeout(15):
            async for message in running.messages("?stream=door"):
                if message["type"] == "segment" and message["epoch"] != first["epoch"]:
                    break
        assert message["seq"] == 0 or message["epoch"] != first["epoch"]
        # Starting the server takes part of this; the bound is for what comes after its first picture.
        assert time.monotonic() - began < 6.0
        status = await running.get("/v1/streams/door")
        assert status["reconnects"] >= 1 and status["state"] == "live"


async def test_one_bad_stream_leaves_the_others_alone(looping_clip: Path, toolkit_camera: StartCamera) -> None:
    """A path that is not there fails with its reason and without its password; its neighbour never notices."""
    camera = toolkit_camera(looping_clip)
    missing = camera.url.replace("rtsp://", "rtsp://admin:hunter2@").replace(looping_clip.name, "nothing.mp4")
    async with service("--source", f"good={camera.url}", "--source", f"bad={missing}") as running:
        status = await becomes(running, "bad", "failed")
        assert status["reason"] and "hunter2" not in json.dumps(status)
        segments = await running.first(3, "segment", "?stream=good")
        assert {s["status"] for s in segments} == {"ok"}
        everything = "".join(running.log) + await (await running.session.get(running.page + "/metrics")).text()
        assert "hunter2" not in everything


async def test_a_store_that_is_gone_for_a_while_loses_nothing(looping_clip: Path, toolkit_camera: StartCamera) -> None:
    """While the store is frozen `/readyz` says so; afterwards every segment stands in it once, in order, the late
    ones marked."""
    camera = toolkit_camera(looping_clip)
    async with EmbeddedStore() as store, service("--source", f"door={camera.url}", "--redis", store.url) as running:
        await running.first(3, "segment")
        import os

        assert store.pid is not None
        os.kill(store.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(10):
                while (await running.call("GET", "/readyz"))[0] != 503:
                    await asyncio.sleep(0.1)
            await asyncio.sleep(2.5)
        finally:
            os.kill(store.pid, signal.SIGCONT)
        async with asyncio.timeout(10):
            while (await running.call("GET", "/readyz"))[0] != 200:
                await asyncio.sleep(0.1)
        await running.first(2, "segment")
        page = await running.get("/v1/segments/door?limit=1000")
        seqs = [s["seq"] for s in page["segments"]]
        assert seqs == list(range(len(seqs)))
        assert any(s["delivered_late"] for s in page["segments"]) and not page["segments"][-1]["delivered_late"]


async def test_with_tokens_nobody_is_served_without_one(
    looping_clip: Path, toolkit_camera: StartCamera, tmp_path: Path
) -> None:
    """Where tokens are set, API and websocket refuse those who show none; with one, as header or in the query, both
    serve."""
    camera = toolkit_camera(looping_clip)
    config = tmp_path / "locked.yaml"
    config.write_text(json.dumps({"streams": {"door": {"source": camera.url}}, "tokens": ["s3cret-token"]}))
    async with service(config=config) as running:
        assert (await running.call("GET", "/healthz"))[0] == 200
        assert (await running.call("GET", "/v1/streams"))[0] == 401
        with pytest.raises(InvalidStatus) as refused:
            await running.first(1, "hello")
        assert refused.value.response.status_code == 401
        assert await running.first(1, "segment", "?access_token=s3cret-token")
        bearer = {"Authorization": "Bearer s3cret-token"}
        async with running.session.get(running.page + "/v1/streams", headers=bearer) as answer:
            assert answer.status == 200
        assert "s3cret-token" not in "".join(running.log)
