"""Whatever callers send to a running service: each gets its clear answer, and streams and subscribers never notice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.cameras import ToolkitCamera
from tests.conftest import eventually
from tests.e2e.watching import Site, running_site, unnoticed

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(looping_clip: Path) -> AsyncIterator[Site]:
    """Whatever all the tests here send, the stream that is there is labelled on, and a subscriber misses nothing."""
    async with running_site(looping_clip) as site, unnoticed(site):
        yield site


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def nothing_stays(site: Site) -> AsyncIterator[None]:
    """After each test there is the one stream as before, and no fault of the service's own in its log."""
    said = len(site.running.log)
    yield
    assert [s["name"] for s in (await site.running.get("/v1/streams"))["streams"]] == ["steady"]
    log = "".join(site.running.log[said:])
    assert "Traceback" not in log and "hunter2" not in log


async def put(site: Site, name: str, body: bytes) -> tuple[int, str, str]:
    """Status, content type and text of the answer to a PUT with exactly this body."""
    address = f"{site.running.page}/v1/streams/{name}"
    async with site.running.session.put(address, data=body, headers={"Content-Type": "application/json"}) as answer:
        return answer.status, answer.content_type, await answer.text()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"source": "rtsp://10.0.0.7/main"', "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[" * 30_000, "object"),
        (b'{"source":' * 5_000, "source"),
        (b"[]", "object"),
        (b'"rtsp://10.0.0.7/main"', "object"),
        (b"{}", "source"),
        (b'{"source": null}', "source"),
        (b'{"source": 7}', "source"),
        (b'{"source": {"source": "rtsp://10.0.0.7/"}}', "source"),
        (b'{"source": ""}', "source"),
        (b'{"source": "rtsp://10.0.0.7/main", "audio": "yes"}', "audio"),
        (b'{"source": "rtsp://10.0.0.7/main", "weight": -1}', "weight"),
        (b'{"source": "rtsp://10.0.0.7/main", "weight": 1e999}', "wrong"),
        (b'{"source": "rtsp://10.0.0.7/main", "weight": NaN}', "not JSON"),
        (b'{"source": "rtsp://10.0.0.7/main", "sauce": 1}', "sauce"),
        (b'{"source": "rtsp://10.0.0.7/main", "video": false, "audio": false}', "turn one on"),
        (b'{"source": "rtsp://10.0.0.7/main", "frames_per_second": 7}', "frames_per_second 7"),
        (b'{"source": "rtsp://10.0.0.7/main", "frames_per_second": 100000000000000000000}', "frames_per_second"),
        (b'{"source": "file:/etc/passwd"}', "configuration file only"),
        (b'{"source": "FILE:///etc/passwd"}', "configuration file only"),
        (b'{"source": "device:/dev/video0"}', "configuration file only"),
        (b'{"source": "/etc/passwd"}', "no source"),
        (b'{"source": "http://127.0.0.1:6379/"}', "no source"),
        (b'{"source": "concat:a|b"}', "no source"),
        (b'{"source": "rtsp://admin:hunter2@/main"}', "host"),
        (b'{"source": "rtsp://admin:hunter2@10.0.0.7:99999/main"}', "host and port"),
        (b'{"source": "rtsp://10.0.0.7/main\\r\\nX-Evil: 1"}', "control characters"),
        (b'{"source": "rtsp://admin:hunter2@169.254.169.254/latest/meta-data"}', "link-local"),
        (b'{"source": "rtsp://2852039166/"}', "link-local"),
        (b'{"source": "rtsp://0xa9fea9fe/"}', "link-local"),
        (b'{"source": "rtsp://[fe80::1]/"}', "link-local"),
        (b'{"source": "rtsp://[::ffff:169.254.169.254]/"}', "link-local"),
        (b'{"source": "rtsp://metadata.google.internal/"}', "link-local"),
    ],
)
async def test_an_entry_that_cannot_be_used(site: Site, body: bytes, words: str) -> None:
    """Each wrong entry is a 400 that says in one short text what is wrong, without the password that was in it."""
    status, content_type, text = await put(site, "guest", body)
    assert (status, content_type) == (400, "application/problem+json")
    detail = json.loads(text)["detail"]
    assert words in detail and len(detail) < 400 and "hunter2" not in detail


@pytest.mark.parametrize(
    "name", ["UPPER", "a" * 65, "-dash", "a%20b", "a%00b", "%2e%2e%2fetc", "caf%C3%A9", "a;b", "%F0%9F%8E%A5", "a.b"]
)
async def test_names_that_are_none(site: Site, name: str) -> None:
    """A name outside of the rule is refused, saying the rule or that there is nothing of that name."""
    status, content_type, text = await put(site, name, b'{"source": "rtsp://127.0.0.1:1/main"}')
    assert status in (400, 404) and content_type == "application/problem+json" and json.loads(text)["detail"]


async def test_bodies_without_end(site: Site) -> None:
    """A body over the limit is a 413, announced or not, and costs no more memory than the limit."""
    before_mb = site.running.rss_mb()
    assert (await put(site, "guest", b" " * 20_000_000))[0] == 413

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(400):
            yield b" " * 50_000

    refused = 0
    for _ in range(5):
        with contextlib.suppress(OSError):  # it may hang up while we still send
            async with site.running.session.put(f"{site.running.page}/v1/streams/guest", data=endless()) as answer:
                refused = answer.status
    assert refused == 413
    assert site.running.rss_mb() - before_mb < 20


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/streams/" + "x" * 5000),
        ("GET", "/v1/segments/steady?since=yesterday"),
        ("GET", "/v1/segments/steady?limit=-1"),
        ("GET", "/v1/segments/steady?limit=99999999999999999999"),
        ("GET", "/v1/segments/steady?since=0-0@%00"),
        ("GET", "/v1/segments/steady?cursor=1"),
        ("GET", "/v1/segments/%2A"),
        ("POST", "/v1/streams"),
        ("DELETE", "/v1/streams/nobody"),
        ("PATCH", "/v1/streams/steady"),
        ("GET", "/../../etc/passwd"),
        ("GET", "/page/..%2f..%2fconfig.py"),
        ("GET", "//etc/passwd"),
    ],
)
async def test_requests_for_what_is_not_there(site: Site, method: str, path: str) -> None:
    """What does not exist or can't be asked is a 4xx problem with its words."""
    async with site.running.session.request(method, site.running.page + path) as answer:
        assert 400 <= answer.status < 500
        assert answer.content_type == "application/problem+json" and (await answer.json(content_type=None))["detail"]


async def test_what_is_no_http(site: Site) -> None:
    """Noise, endless headers and connections that say nothing are shut out while others are served."""
    port = urlsplit(site.running.page).port
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
    for noise in (
        os.urandom(4096),
        b"BREW / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000,
        b"PUT /v1/streams/a HTTP/9.9\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(OSError):
            writer.write(noise)
            writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), 15)
            assert not answer or answer.split()[1].startswith(b"4")
        writer.close()
    assert (await site.running.call("GET", "/v1/streams"))[0] == 200
    for _, writer in silent:
        writer.close()


# -- the websocket ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?since=yesterday", 400),
        ("?since=1-1", 400),
        ("?since=" + "9" * 40 + "-0@aaaaaaaa", 400),
        ("?min_score=high", 400),
        ("?min_score=nan", 400),
        ("?colour=red", 400),
        ("?stream=", 400),
        ("?stream=%FF", 400),
        ("?" + "&".join(["stream=a"] * 200), 400),
        ("?label=" + "x" * 3000, 400),
        ("/../../etc", 404),
    ],
)
async def test_a_subscription_that_cannot_be_had(site: Site, query: str, status: int) -> None:
    """A wrong query is refused before the connection becomes a websocket, with a problem that names it."""
    with pytest.raises(InvalidStatus) as refusal:
        async with connect(site.running.websocket + query):
            pass
    response = refusal.value.response
    assert response.status_code == status and json.loads(response.body or b"")["detail"]


async def test_a_cursor_of_another_store_is_a_gap_and_then_the_rest(site: Site) -> None:
    """A well-formed cursor that this store never gave is told as a gap; what there is follows."""
    async with subscribed(site, "?since=1-1@00000000&stream=steady") as peer, asyncio.timeout(10):
        kinds = [json.loads(await peer.recv())["type"] for _ in range(6)]
    assert kinds[0] == "gap" and "segment" in kinds


@contextlib.asynccontextmanager
async def subscribed(site: Site, query: str = "") -> AsyncIterator[ClientConnection]:
    """A subscriber that has been greeted; ended without a farewell, which could wait behind what it did not read."""
    async with connect(site.running.websocket + query, close_timeout=0.1) as peer:
        assert json.loads(await asyncio.wait_for(peer.recv(), 10))["type"] == "hello"
        yield peer
        peer.transport.abort()


async def large(peer: ClientConnection) -> None:
    await peer.send("x" * 1_000_000)


async def large_in_pieces(peer: ClientConnection) -> None:
    await peer.send(b"x" * 1000 for _ in range(20))


async def not_text(peer: ClientConnection) -> None:
    peer.transport.write(b"\x81\x82mask\xff\xff")


async def garbage(peer: ClientConnection) -> None:
    peer.transport.write(os.urandom(2000) + b"\xff" * 100)


async def flood(peer: ClientConnection) -> None:
    while True:
        await peer.send(os.urandom(64))
        await asyncio.sleep(0)  # a send that finds room does not wait: what comes in would never be read


async def flood_of_pings(peer: ClientConnection) -> None:
    while True:
        await peer.ping()
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("offend", "codes"),
    [
        (large, {1009}),
        (large_in_pieces, {1009}),
        (not_text, {1007}),
        (garbage, {1002, 1007, 1008, 1009}),
        (flood, {1008}),
        (flood_of_pings, {1008}),
    ],
)
async def test_a_subscriber_that_offends(
    site: Site, offend: Callable[[ClientConnection], object], codes: set[int]
) -> None:
    """Frames too large, not text, against the protocol or far too many end their own connection with its close code."""
    async with subscribed(site) as peer:
        with contextlib.suppress(ConnectionClosed, ConnectionError):
            async with asyncio.timeout(10):
                await offend(peer)  # type: ignore[misc]
        await asyncio.wait_for(peer.wait_closed(), 10)
        assert peer.close_code in codes


async def test_a_few_words_are_forgiven(site: Site) -> None:
    """Text and binary frames from a subscriber, some of them, change nothing: it goes on to get its segments."""
    async with subscribed(site, "?stream=steady") as peer:
        for word in ("hello?", b"\x00\x01\x02", "{}", ""):
            await peer.send(word)
        async with asyncio.timeout(10):
            while json.loads(await peer.recv())["type"] != "segment":
                pass


async def test_many_who_read_nothing(site: Site) -> None:
    """Forty subscribers that never read a byte cost the others nothing."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(40):
            peer = await stack.enter_async_context(subscribed(site))
            peer.transport.pause_reading()  # type: ignore[attr-defined]
        mark = len(site.follower.messages)
        await site.follower.until_segments("steady", 4, since=mark)


# -- many at once ----------------------------------------------------------------------------------------------------


async def test_many_hands_on_the_same_streams(site: Site, toolkit_camera: Callable[[Path], ToolkitCamera]) -> None:
    """Sixty additions, changes and removals of three names all at once leave none running that was removed."""
    camera = toolkit_camera(site.clip)
    main = psutil.Process(site.running.process.pid)
    # Threads that the event loop keeps for whatever would block it stay: these are as many.
    threads = main.num_threads() + (os.cpu_count() or 1) + 4

    async def change(number: int) -> int:
        name = f"/v1/streams/shared-{number % 3}"
        if number % 4 == 3:
            return (await site.running.call("DELETE", name))[0]
        return (await site.running.call("PUT", name, {"source": camera.url, "audio": number % 2 == 0}))[0]

    statuses = await asyncio.gather(*(change(number) for number in range(60)))
    # 503: somebody else removed it before its status could be told.
    assert set(statuses) <= {200, 201, 204, 404, 503} and 201 in statuses
    names = {s["name"] for s in (await site.running.get("/v1/streams"))["streams"]}
    for name in names - {"steady"}:
        assert (await site.running.call("DELETE", f"/v1/streams/{name}"))[0] == 204
    await eventually(lambda: main.num_threads() <= threads, 15, f"{threads} threads again")
