"""The HTTP side over real sockets, in front of a fake service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from streamer.config import StreamConfig
from streamer.errors import AdmissionError, StoreError, UserError
from streamer.http import answers
from streamer.http.openapi import MAX_BODY
from streamer.http.server import Server, ServerConfig
from streamer.observe.metrics import Metrics
from tests.fake_control import FakeControl
from tests.http.serving import ENTRY, Client, serving, trace


async def test_health_and_readiness(client: Client, control: FakeControl) -> None:
    """Live whenever it answers; ready only when every part is, and then it says what lacks."""
    assert (await client.ask("GET", "/healthz"))[1] == b"ok\n"
    response, body = await client.ask("GET", "/readyz")
    assert response.status == 200 and body == {"ready": True, "checks": {"models": "ok", "store": "ok"}}
    control.checks["store"] = "away for 3 s"
    response, body = await client.ask("GET", "/readyz")
    assert response.status == 503 and body["ready"] is False
    assert body["checks"]["store"] == "away for 3 s" and body["detail"] == "store: away for 3 s"


async def test_a_stream_is_added_changed_and_removed(client: Client, control: FakeControl) -> None:
    """201, 200, 204, and then 404; the service got exactly the entry that was sent."""
    response, body = await client.ask("PUT", "/v1/streams/yard", json=ENTRY)
    assert response.status == 201 and response.headers["Location"] == "/v1/streams/yard" and body["name"] == "yard"
    assert control.entries["yard"] == StreamConfig(source=ENTRY["source"], group="front")
    response, _ = await client.ask("PUT", "/v1/streams/yard", json={"source": "rtsp://127.0.0.1/other"})
    assert response.status == 200 and control.entries["yard"].source == "rtsp://127.0.0.1/other"
    response, body = await client.ask("DELETE", "/v1/streams/yard")
    assert response.status == 204 and body == b""
    for method in ("GET", "DELETE"):
        assert (await client.ask(method, "/v1/streams/yard"))[0].status == 404


async def test_a_stream_that_cannot_be_served_is_a_conflict(client: Client, control: FakeControl) -> None:
    """What would break the promise to those that are there answers 409, with the figure."""
    control.broken = AdmissionError("yard would need 1.2 of 1.0: remove a stream, or set `admission: degrade`")
    response, problem = await client.ask("PUT", "/v1/streams/yard", json=ENTRY)
    assert response.status == 409 and "1.2 of 1.0" in problem["detail"] and "Retry-After" not in response.headers
    assert "yard" not in control.entries


async def test_what_is_left_out_of_a_stream_is_told(client: Client, control: FakeControl) -> None:
    """A stream's level on the degrade ladder, what is left out for it, and its weight are in its state."""
    _, body = await client.ask("GET", "/v1/streams/door")
    assert (body["level"], body["degraded"], body["weight"]) == (0, [], 1.0)
    control.levels["door"] = (2, ["frames", "keyframes"])
    _, body = await client.ask("GET", "/v1/streams/door")
    assert (body["level"], body["degraded"]) == (2, ["frames", "keyframes"])


async def test_a_trace_is_found(client: Client, control: FakeControl) -> None:
    """One segment's way, of the newest epoch or of the one that is named; its stages add up."""
    control.ways["door"] = [trace(2, "b"), trace(2, "a"), trace(1, "a")]
    _, body = await client.ask("GET", "/v1/streams/door/trace/2")
    assert (body["seq"], body["epoch"], body["batch"]["number"]) == (2, "b", 881)
    assert sum(stage["duration_ns"] for stage in body["stages"]) == body["total_ns"]
    _, body = await client.ask("GET", "/v1/streams/door/trace/2?epoch=a")
    assert body["epoch"] == "a"


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("door/trace/7", 404, "no trace of segment 7: they go from segment 1 of epoch a (2026-11-23T04:07:11.500Z) to"),
        ("door/trace/2?epoch=c", 404, "no trace of segment 2 of epoch c"),
        ("door/trace/-1", 400, "no segment's number"),
        ("door/trace/last", 400, "no segment's number"),
        ("door/trace/9999999999999999999999", 400, "no segment's number"),
        ("door/trace/2?epoc=a", 400, "unknown parameter 'epoc'"),
        ("door/traces?limit=241", 400, "from 1 to 240"),
        ("door/traces?since=1", 400, "unknown parameter"),
        ("nobody/trace/1", 404, "no stream 'nobody'"),
        ("nobody/traces", 404, "no stream 'nobody'"),
    ],
)
async def test_a_trace_that_is_not_there_says_why(
    client: Client, control: FakeControl, path: str, status: int, words: str
) -> None:
    """Unknown and too old segments are told how far back the traces go; numbers that are none are refused."""
    control.ways["door"] = [trace(2, "b"), trace(1, "a")]
    response, problem = await client.ask("GET", f"/v1/streams/{path}")
    assert response.status == status and words in problem["detail"]


async def test_a_stream_without_any_trace_says_so(client: Client) -> None:
    """Before its first segment there is nothing to reach back to."""
    response, problem = await client.ask("GET", "/v1/streams/door/trace/0")
    assert response.status == 404 and "it has none yet" in problem["detail"]
    assert (await client.ask("GET", "/v1/streams/door/traces"))[1] == {"traces": []}


async def test_recent_traces_come_newest_first(client: Client, control: FakeControl) -> None:
    """As many as are asked for."""
    control.ways["door"] = [trace(2), trace(1), trace(0)]
    _, body = await client.ask("GET", "/v1/streams/door/traces?limit=2")
    assert [way["seq"] for way in body["traces"]] == [2, 1]


async def test_a_password_appears_nowhere(client: Client) -> None:
    """Neither the list nor a stream nor an error shows what was in the source."""
    answers = [
        await client.ask("PUT", "/v1/streams/yard", json=ENTRY),
        await client.ask("GET", "/v1/streams"),
        await client.ask("GET", "/v1/streams/yard"),
        await client.ask("PUT", "/v1/streams/yard", json={"source": "ftp://user:hunter22@host/"}),
        await client.ask("PUT", "/v1/streams/yard", json={"source": "rtsp://user:hunter22/@host:x/"}),
    ]
    assert all("hunter22" not in json.dumps(body) for _, body in answers)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "Expected `object`"),
        (b'{"source": "file:/etc/passwd"}', "configuration file only"),
        (b'{"source": "rtsp://169.254.169.254/x"}', "link-local"),
        (b'{"source": "rtsp://127.0.0.1/x", "wait": 1}', "unknown field `wait`"),
    ],
)
async def test_bad_entries_get_their_error(client: Client, control: FakeControl, body: bytes, words: str) -> None:
    """A body that is no entry answers 400, says what is wrong, and changes nothing."""
    response, problem = await client.ask("PUT", "/v1/streams/yard", data=body)
    assert response.status == 400 and words in problem["detail"]
    assert list(control.entries) == ["door"]


async def test_a_name_that_leads_to_a_forbidden_address_is_refused(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host name can't smuggle in what its address would not be allowed."""

    async def resolve(*_: Any, **__: Any) -> list[Any]:
        return [(2, 1, 6, "", ("169.254.169.254", 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve, raising=False)
    # The client's own look-ups would go the same way, so it asks by address.
    response, problem = await client.ask("PUT", "/v1/streams/yard", json={"source": "rtsp://camera.example/x"})
    assert response.status == 400 and "leads to a link-local" in problem["detail"]


@pytest.mark.parametrize("name", ["Door", "-x", "a" * 65, "a.b", "a%20b", "%C3%A9", "%00", "..%2f..", "a%0Ab"])
async def test_names_that_are_none(client: Client, control: FakeControl, name: str) -> None:
    """What can't name a stream is refused when added and unknown when asked for."""
    response, _ = await client.ask("PUT", f"/v1/streams/{name}", json=ENTRY)
    assert response.status in (400, 404) and list(control.entries) == ["door"]
    assert (await client.ask("GET", f"/v1/streams/{name}"))[0].status == 404


async def test_a_body_over_the_limit_is_refused(client: Client, control: FakeControl) -> None:
    """One byte over the limit answers 413, whether its length is told beforehand or not."""

    async def drip() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY // 1024 + 2):
            yield b"x" * 1024

    for data in (b"x" * (MAX_BODY + 1), drip()):
        response, _ = await client.ask("PUT", "/v1/streams/yard", data=data)
        assert response.status == 413
    assert list(control.entries) == ["door"]


async def test_a_body_that_never_comes_is_given_up(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that stops in the middle of a body gets 408 and holds nothing."""
    monkeypatch.setattr(answers, "_BODY_TIMEOUT_S", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(client.base.rsplit(":", 1)[1]))
    writer.write(b"PUT /v1/streams/yard HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    assert b"408" in await asyncio.wait_for(reader.readline(), 5)
    writer.close()


async def test_unknown_places_and_methods(client: Client) -> None:
    """404 and 405 are problems like any other, and 405 says what would be taken."""
    assert (await client.ask("GET", "/v1/nothing"))[0].status == 404
    assert (await client.ask("GET", "/page/../config.py"))[0].status == 404
    assert (await client.ask("GET", "/page/%2e%2e%2fconfig.py"))[0].status == 404
    response, _ = await client.ask("POST", "/v1/streams")
    assert response.status == 405 and "GET" in response.headers["Allow"]


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
async def test_what_is_no_http_gets_a_problem_too(client: Client, sent: bytes) -> None:
    """Garbage on the socket is answered 400 by a problem that repeats none of it, and the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(client.base.rsplit(":", 1)[1]))
    writer.write(sent)
    head, _, body = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.") and b" 400 " in head.split(b"\r\n")[0]
    assert b"application/problem+json" in head and b"nosniff" in head
    problem = json.loads(body)
    assert problem["status"] == 400 and "no HTTP request" in problem["detail"] and b"aaa" not in body


async def test_head_answers_where_get_does(client: Client) -> None:
    """Probes that ask with HEAD get the same status and no body."""
    response, body = await client.ask("HEAD", "/healthz")
    assert response.status == 200 and body == b""


async def test_past_segments(client: Client, control: FakeControl) -> None:
    """The stored JSON is passed on as it is, with the cursor that goes on."""
    _, body = await client.ask("GET", "/v1/segments/door?limit=2")
    assert [entry["seq"] for entry in body["segments"]] == [0, 1] and body["next"] == "1002-0@5f3a"
    _, body = await client.ask("GET", "/v1/segments/door")
    assert len(body["segments"]) == 3 and body["next"] is None
    assert control.asked == [("door", None, None, 2), ("door", None, None, 100)]


@pytest.mark.parametrize(
    ("since", "given"),
    [
        ("2026-11-23T04:07:08Z", "2026-11-23T04:07:08Z"),
        ("2026-11-23t04:07:08.5z", "2026-11-23T04:07:08.5Z"),
        ("2026-11-23T04:07:08+01:00", "2026-11-23T04:07:08+01:00"),
        ("2026-11-23T04:07:08%2B01:00", "2026-11-23T04:07:08+01:00"),
        ("1795406830712-0@5f3a", "1795406830712-0@5f3a"),
    ],
)
async def test_since_is_a_time_or_a_cursor(client: Client, control: FakeControl, since: str, given: str) -> None:
    """Both forms reach the store as it takes them; a plus sign that was not escaped is understood."""
    response, _ = await client.ask("GET", f"/v1/segments/door?since={since}&until={since}")
    assert response.status == 200 and control.asked == [("door", given, given, 100)]


@pytest.mark.parametrize(
    "query",
    [
        "since=yesterday", "since=2026-13-01T00:00:00Z", "since=2026-11-23", "since=1795406830712-0", "since=x@y",
        "since=", "until=now", "limit=0", "limit=-1", "limit=x", "limit=", "limit=1001", "limit=%D9%A3",
        "sinc=2026-11-23T04:07:08Z",
        "since=" + "9" * 5000, "since=99999999999999999999999-0@5f3a",
    ],
)  # fmt: skip
async def test_bad_ranges_are_refused(client: Client, control: FakeControl, query: str) -> None:
    """What is neither a time nor a cursor nor a number in range answers 400 before the store is asked."""
    response, _ = await client.ask("GET", f"/v1/segments/door?{query}")
    assert response.status == 400 and control.asked == []


async def test_segments_of_nobody(client: Client) -> None:
    """A stream that never was is told from one without segments."""
    assert (await client.ask("GET", "/v1/segments/nobody"))[0].status == 404


async def test_errors_of_the_service_become_answers(client: Client, control: FakeControl) -> None:
    """The user's mistakes are 400, what is away is 503, and a fault of ours is 500 without its text."""
    control.broken = UserError("since: a cursor of no store")
    assert (await client.ask("GET", "/v1/segments/door"))[0].status == 400
    control.broken = StoreError("redis://u:hunter22@h is away")
    response, problem = await client.ask("GET", "/v1/segments/door")
    assert response.status == 503 and response.headers["Retry-After"] == "1" and "hunter22" not in problem["detail"]
    control.broken = KeyError("hunter22")
    response, problem = await client.ask("PUT", "/v1/streams/x", json=ENTRY)
    assert response.status == 500 and "hunter22" not in problem["detail"]
    assert (await client.ask("GET", "/v1/streams"))[0].status == 200


async def test_labels(client: Client, control: FakeControl) -> None:
    """The names that can appear, with what can raise them; not before the models are there."""
    _, body = await client.ask("GET", "/v1/labels")
    assert {"name": "Dog", "modalities": ["video", "audio"]} in body["labels"]
    control.checks["models"] = "loading"
    assert (await client.ask("GET", "/v1/labels"))[0].status == 503


async def test_info_tells_where_the_websocket_is(control: FakeControl) -> None:
    """The page finds the websocket by it, and its policy allows that and nothing else outside."""
    async with serving(control, websocket_port=9321, bound_ms=700) as client:
        _, info = await client.ask("GET", "/v1/info")
        assert (info["websocket_port"], info["websocket_path"], info["bound_ms"]) == (9321, "/v1/subscribe", 700)
        response, page = await client.ask("GET", "/")
        assert response.content_type == "text/html" and b"<title>streamer" in page
        policy = response.headers["Content-Security-Policy"]
        assert "ws://127.0.0.1:9321" in policy and "unsafe" not in policy and "*" not in policy


async def test_metrics_are_served(client: Client) -> None:
    """Prometheus gets its format with its content type."""
    response, body = await client.ask("GET", "/metrics")
    assert response.content_type == "text/plain" and b"streamer_build_info" in body


async def test_an_address_in_use_is_one_clear_error(control: FakeControl) -> None:
    """Two services on one port: the second says which address and what to do."""
    async with serving(control) as client:
        port = int(client.base.rsplit(":", 1)[1])
        with pytest.raises(UserError, match=f"can't listen on 127.0.0.1:{port}"):
            await Server(control, Metrics(), ServerConfig(port=port)).start()


async def test_stopping_is_quick_and_may_be_repeated(control: FakeControl) -> None:
    """An idle connection that is kept open holds nothing up."""
    server = Server(control, Metrics(), ServerConfig(port=0))
    await server.start()
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    async with asyncio.timeout(3):
        await server.stop()
        await server.stop()
    writer.close()
