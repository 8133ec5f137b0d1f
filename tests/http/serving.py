"""A server in front of a fake service, and what it is asked with."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from yarl import URL

from streamer.http.openapi import PROBLEM_TYPE
from streamer.http.server import Server, ServerConfig
from streamer.messages import CoverageBody, Label, LatencyBody, Segment, Share
from streamer.observe.metrics import Metrics
from streamer.status import Trace, TraceBatch, TraceStage
from tests.fake_control import FakeControl

ENTRY = {"source": "rtsp://user:hunter22@127.0.0.1:8554/main", "group": "front"}


def segment(seq: int) -> Segment:
    """A stored segment with its cursor."""
    return Segment(
        stream="door",
        epoch="0192f1c6",
        seq=seq,
        cursor=f"{1000 + seq}-0@5f3a",
        start="2026-11-23T04:07:08.500Z",
        end="2026-11-23T04:07:10.500Z",
        status="ok",
        labels=[Label("Dog", 0.93, Share(0.44, 0.56, 0.0))],
        coverage=CoverageBody(1.0, 0.98, 0.0),
        latency_ms=LatencyBody(212.4, 31.0, 60.2, 118.0, 3.2),
        bound_ms=1000,
    )


def trace(seq: int, epoch: str = "0192f1c6") -> Trace:
    """A stored segment's way: 31 ms until it was closed, 60 in the queue, 118 computing, 3 to the store."""
    spans = {"ingest": 31, "queue": 60, "compute": 118, "order": 0, "send": 1, "store": 2}
    stages: list[TraceStage] = []
    for name, milliseconds in spans.items():
        at_ns = stages[-1].start_ns + stages[-1].duration_ns if stages else 0
        stages.append(TraceStage(name, at_ns, milliseconds * 1_000_000))  # type: ignore[arg-type]
    return Trace(
        stream="door", epoch=epoch, seq=seq, start="2026-11-23T04:07:08.500Z", end=f"2026-11-23T04:07:{10 + seq}.500Z",
        captured_ns=10**15, bound_ns=10**9, pictures=4, patches=3, coverage=CoverageBody(1.0, 0.98, 0.0),
        status="degraded", reason=None, degraded=["frames"], batch=TraceBatch(881, 4, 3, 2, 120_000_000),
        state="stored", stages=stages, total_ns=212_000_000, cursor=f"{1000 + seq}-0@5f3a",
    )  # fmt: skip


class Client:
    """Asks one server."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session, self.base = session, base

    async def ask(self, method: str, path: str, **more: Any) -> tuple[aiohttp.ClientResponse, Any]:
        """The response and its body, read as JSON where it is; an error must be a problem that names its status."""
        async with self._session.request(method, URL(self.base + path, encoded=True), **more) as response:
            body: Any = await response.read()
            if "json" in response.content_type and body:
                body = json.loads(body)
            if response.status >= 400 and method != "HEAD":
                assert response.content_type == PROBLEM_TYPE
                assert body["status"] == response.status and body["title"] and body["detail"]
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            return response, body


@asynccontextmanager
async def serving(control: FakeControl, **settings: Any) -> AsyncIterator[Client]:
    """A server in front of `control` and a client of it."""
    server = Server(control, Metrics(), ServerConfig(port=0, **settings))
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Client(session, f"http://127.0.0.1:{server.port}")
    finally:
        await server.stop()
