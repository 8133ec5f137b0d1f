"""The hub over real sockets and a real store: past then live without hole or repeat, and nobody pays for another."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Opcode

from streamer.cursor import Cursor, EntryId, parse_cursor
from streamer.errors import StreamerError, UserError
from streamer.hub import Hub
from streamer.hub_process import HubProcess
from streamer.hub_settings import HubSettings
from streamer.messages import StreamMessage
from streamer.publish import Publisher
from streamer.store import Store
from tests.stores import Valkey, event, segment, store_fixture, until, valkey_fixture

__all__ = ["store_fixture", "valkey_fixture"]


class Serving:
    """A hub in this process, so that its insides can be looked at."""

    def __init__(self, settings: HubSettings) -> None:
        self.hub = Hub(settings)
        self._stop = asyncio.Event()
        self._started = asyncio.Event()

    async def __aenter__(self) -> Serving:
        self._task = asyncio.create_task(self.hub.serve_until(self._stop, self._started))
        await asyncio.wait([self._task, asyncio.create_task(self._started.wait())], return_when="FIRST_COMPLETED")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        self._stop.set()
        await self._task

    def url(self, query: str = "") -> str:
        return f"ws://127.0.0.1:{self.hub.port}/v1/subscribe{'?' + query if query else ''}"


@pytest_asyncio.fixture(name="serving")
async def serving_fixture(valkey: Valkey) -> AsyncIterator[Serving]:
    """A hub on the fresh store, on a port of its own."""
    async with Serving(HubSettings(redis_url=valkey.url, port=0, stalled_s=1.0)) as serving:
        yield serving


@pytest_asyncio.fixture(name="publisher")
async def publisher_fixture(store: Store) -> AsyncIterator[Publisher]:
    """A publisher into the fresh store."""
    async with Publisher(store) as publisher:
        yield publisher


async def receive(peer: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(10):
        message: dict[str, Any] = json.loads(await peer.recv())
        return message


async def receive_until(peer: ClientConnection, last: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    found = [await receive(peer)]
    while not last(found[-1]):
        found.append(await receive(peer))
    return found


def seq_is(seq: int) -> Callable[[dict[str, Any]], bool]:
    return lambda message: message.get("seq") == seq


async def published(publisher: Publisher, first: int, last: int, stream: str = "door") -> None:
    for seq in range(first, last):
        publisher.publish(stream, [segment(stream, seq)])
        if publisher.waiting > 1000:
            await publisher.drain(10)
    assert await publisher.drain(10) == 0


def is_place(cursor: str) -> bool:
    return len(cursor.partition("@")[2]) == 8


async def test_hello_comes_first_and_then_what_is_published(serving: Serving, publisher: Publisher) -> None:
    """`hello` names version, streams and the place; each message after it has type, stream and a cursor."""
    async with connect(serving.url()) as peer:
        hello = await receive(peer)
        assert (hello["type"], hello["version"], hello["streams"]) == ("hello", 1, [])
        assert is_place(hello["cursor"])
        announcement = StreamMessage(stream="door", state="live", epoch="e1")
        publisher.publish("door", [announcement, segment(), event()])
        messages = [await receive(peer) for _ in range(3)]
        assert [message["type"] for message in messages] == ["stream", "segment", "event"]
        assert [list(message)[:2] for message in messages] == [["type", "cursor"]] * 3
    async with connect(serving.url()) as peer:
        hello = await receive(peer)
        assert hello["streams"] == ["door"]
        assert hello["cursor"] == messages[-1]["cursor"]


async def test_a_filter_selects_messages_and_never_edits_them(serving: Serving, publisher: Publisher) -> None:
    """Who asks for a label of some streams gets whole segments with it, and all state messages of these streams."""
    async with connect(serving.url("stream=front-*&label=Dog&min_score=0.5")) as peer, connect(serving.url()) as all_:
        await receive(peer)
        await receive(all_)
        dog, cat = (("Dog", 0.9), ("Rain", 0.1)), (("Cat", 0.9), ("Dog", 0.3))
        publisher.publish("back", [segment("back", 0, labels=dog), StreamMessage(stream="back", state="live")])
        assert await publisher.drain(5) == 0
        publisher.publish("front-1", [segment("front-1", 0, labels=cat)])
        publisher.publish("front-1", [segment("front-1", 1, labels=dog)])
        publisher.publish("front-1", [event("front-1", "Cat"), event("front-1", "Dog")])
        publisher.publish("front-1", [StreamMessage(stream="front-1", state="stalled")])
        selected = await receive_until(peer, lambda message: message["type"] == "stream")
        whole = await receive_until(all_, lambda message: message.get("state") == "stalled")
        assert [message["type"] for message in selected] == ["segment", "event", "stream"]
        assert all(message in whole for message in selected)
        assert len(whole) == 7


async def test_resuming_while_publishing_goes_on_leaves_no_hole_and_no_repeat(
    serving: Serving, publisher: Publisher
) -> None:
    """Subscribers that come with cursors of all ages, in mid-stream, each get exactly what came after theirs."""
    total = 4000
    async with connect(serving.url()) as peer:
        await receive(peer)
        reading = asyncio.create_task(receive_until(peer, seq_is(1499)))
        await published(publisher, 0, 1500)
        cursors = {m["seq"]: m["cursor"] for m in await reading}

    async def resumed(after: int, pause_s: float) -> list[int]:
        await asyncio.sleep(pause_s)
        async with connect(serving.url(f"since={cursors[after]}")) as late:
            assert (await receive(late))["type"] == "hello"
            return [message["seq"] for message in await receive_until(late, seq_is(total - 1))]

    async def publishing() -> None:
        for seq in range(1500, total):
            publisher.publish("door", [segment(seq=seq)])
            if seq % 20 == 0:
                await asyncio.sleep(0.002)

    afters = [0, 3, 700, 1200, 1499]
    tasks = [asyncio.create_task(resumed(after, number * 0.03)) for number, after in enumerate(afters * 2)]
    await publishing()
    for after, task in zip(afters * 2, tasks, strict=True):
        assert await task == list(range(after + 1, total))


async def test_a_cursor_resumes_after_what_memory_holds_and_before(serving: Serving, publisher: Publisher) -> None:
    """Whether the past is in the hub's memory or only in the store makes no difference."""
    await published(publisher, 0, 6000)
    place = (await Store.range_feed(publisher._store, EntryId(0, 0), count=11)).entries
    cursor = f"{place[10][0]}@{await publisher._store.identity()}"
    await until(lambda: serving.hub._tail.last >= place[10][0] and len(serving.hub._tail._recent) < 3000)
    async with connect(serving.url(f"since={cursor}")) as peer:
        await receive(peer)
        assert [m["seq"] for m in await receive_until(peer, seq_is(5999))] == list(range(11, 6000))


async def test_a_past_that_the_store_cannot_give_now_is_given_when_it_can(
    serving: Serving, publisher: Publisher, valkey: Valkey
) -> None:
    """Who comes for the past while the store is frozen stays connected, and gets all of it afterwards."""
    await published(publisher, 0, 4000)
    first = (await publisher._store.range_feed(EntryId(0, 0), count=1)).entries[0][0]
    cursor = Cursor(first, await publisher._store.identity())
    await until(lambda: serving.hub._tail.after(first) is None)
    await until(lambda: serving.hub._tail._latest.get("door") == ("e1", 3999))
    valkey.freeze()
    async with connect(serving.url(f"since={cursor}")) as peer:
        await receive(peer)
        await asyncio.sleep(2.5)  # longer than a store is waited for
        valkey.thaw()
        assert [m["seq"] for m in await receive_until(peer, seq_is(3999))] == list(range(1, 4000))


async def test_a_cursor_of_another_store_is_a_gap_and_then_all_there_is(serving: Serving, publisher: Publisher) -> None:
    """`gap` says that what came after is not there, its count unknown; then the past of this store, then the live."""
    await published(publisher, 0, 20)
    async with connect(serving.url("since=1795406830712-0@5f3a")) as peer:
        await receive(peer)
        gap = await receive(peer)
        assert gap == {"type": "gap", "first": "1795406830712-0@5f3a", "last": None, "count": None}
        assert [m["seq"] for m in await receive_until(peer, seq_is(19))] == list(range(20))


async def test_a_cursor_from_the_future_is_a_gap_and_then_the_live(serving: Serving, publisher: Publisher) -> None:
    """A place that this store never reached (it went back in time) does not make a subscriber wait for ever."""
    await published(publisher, 0, 3)
    store = await publisher._store.identity()
    async with connect(serving.url(f"since=99999999999999-0@{store}")) as peer:
        await receive(peer)
        assert (await receive(peer))["type"] == "gap"
        await published(publisher, 3, 4)
        assert (await receive(peer))["seq"] == 3


async def test_a_trimmed_cursor_is_a_gap_and_then_what_is_left(valkey: Valkey, publisher: Publisher) -> None:
    """What retention took is told with where it ends; nothing that is left is missing, in memory or in the store."""
    await published(publisher, 0, 3000)
    page = await publisher._store.range_feed(EntryId(0, 0), count=600)
    await valkey.run("XTRIM", "streamer:feed", "MAXLEN", 2500)
    async with Serving(HubSettings(redis_url=valkey.url, port=0)) as serving:
        for since in (EntryId(0, 0), page.entries[0][0], page.entries[498][0], page.entries[500][0]):
            async with connect(serving.url(f"since={Cursor(since, page.store)}")) as peer:
                await receive(peer)
                messages = await receive_until(peer, seq_is(2999))
                gaps = [message for message in messages if message["type"] == "gap"]
                left = [message["seq"] for message in messages if message["type"] == "segment"]
                assert left == list(range(501 if since == page.entries[500][0] else 500, 3000))
                if since < page.entries[499][0]:
                    assert [(gap["first"], gap["count"]) for gap in gaps] == [(str(Cursor(since, page.store)), None)]
                    assert parse_cursor(gaps[0]["last"]).id.next() == page.entries[500][0]
                else:
                    assert gaps == []


async def test_a_slow_subscriber_is_told_what_it_missed_and_nobody_else_notices(
    serving: Serving, publisher: Publisher
) -> None:
    """One that reads nothing for a while gets a gap that accounts for every message; the others get all of them."""
    async with connect(serving.url()) as quick, contextlib.AsyncExitStack() as stack:
        slow = await stack.enter_async_context(_not_reading(serving.url()))
        await receive(quick)
        reading = asyncio.create_task(receive_until(quick, seq_is(3999)))
        await published(publisher, 0, 4000)
        assert [m["seq"] for m in await reading] == list(range(4000))
        await until(lambda: len(serving.hub.blocked) == 1)
        slow.transport.resume_reading()
        await until(lambda: not serving.hub.blocked)
        messages = await receive_until(slow, seq_is(3999))
        assert messages[0]["type"] == "hello"
        assert _accounted(messages[1:]) == 4000
        assert sum(message["type"] == "gap" for message in messages) == 1


async def test_one_who_reads_nothing_is_sent_away(serving: Serving, publisher: Publisher) -> None:
    """A socket that took nothing for the time allowed is closed with 1013, and what it held is freed."""
    async with contextlib.AsyncExitStack() as stack:
        slow = await stack.enter_async_context(_not_reading(serving.url()))
        await published(publisher, 0, 4000)
        await until(lambda: serving.hub.clients == 0)
        slow.transport.resume_reading()
        with pytest.raises(ConnectionClosed):
            while True:
                await receive(slow)
    assert serving.hub.closed_slow == 1
    assert not serving.hub.blocked
    assert serving.hub._fanout._groups == {}


async def test_the_store_may_go_away_and_come_back(serving: Serving, valkey: Valkey, publisher: Publisher) -> None:
    """Subscribers stay through a kill and an empty restart; they are told of the break and get what comes after."""
    async with connect(serving.url()) as peer:
        await receive(peer)
        await published(publisher, 0, 10)
        before = await receive_until(peer, seq_is(9))
        await valkey.kill()
        publisher.publish("door", [segment(seq=10)])
        await until(lambda: publisher.outage() is not None)
        await valkey.start()
        assert await publisher.drain(10) == 0
        gap, after = await receive(peer), await receive(peer)
        assert gap == {"type": "gap", "first": before[-1]["cursor"], "last": None, "count": None}
        assert after["seq"] == 10
        assert after["cursor"].partition("@")[2] != before[-1]["cursor"].partition("@")[2]
        assert serving.hub.report().outages >= 1


async def test_a_segment_that_had_to_be_written_again_is_not_sent_again(
    serving: Serving, valkey: Valkey, store: Store
) -> None:
    """If the store loses its contents between writing and answering, the segment is in the new contents too: those who
    got it do not get it again, and those who come later do."""
    async with connect(serving.url()) as peer:
        await receive(peer)
        async with Publisher(store) as publisher:
            await published(publisher, 0, 3)
            before = await receive_until(peer, seq_is(2))
        await valkey.run("FLUSHALL")
        async with Publisher(store) as publisher:
            await published(publisher, 2, 5)
        assert (await receive(peer))["type"] == "gap"
        assert [message["seq"] for message in await receive_until(peer, seq_is(4))] == [3, 4]
    async with connect(serving.url(f"since={before[1]['cursor']}")) as peer:
        await receive(peer)
        assert (await receive(peer))["type"] == "gap"
        assert [message["seq"] for message in await receive_until(peer, seq_is(4))] == [2, 3, 4]


async def test_a_frozen_store_holds_messages_back_and_loses_none(
    serving: Serving, valkey: Valkey, publisher: Publisher
) -> None:
    """After SIGSTOP and SIGCONT the subscriber goes on where it was, without a gap."""
    async with connect(serving.url()) as peer:
        await receive(peer)
        await published(publisher, 0, 5)
        valkey.freeze()
        for seq in range(5, 10):
            publisher.publish("door", [segment(seq=seq)])
        await asyncio.sleep(0.2)
        valkey.thaw()
        assert [m["seq"] for m in await receive_until(peer, seq_is(9))] == list(range(10))


async def test_what_others_write_into_the_feed_harms_nobody(
    serving: Serving, valkey: Valkey, publisher: Publisher
) -> None:
    """Entries that are no messages are left out and counted."""
    async with connect(serving.url()) as peer:
        await receive(peer)
        await valkey.run("XADD", "streamer:feed", "*", "json", "garbage")
        await valkey.run("XADD", "streamer:feed", "*", "other", "field")
        await published(publisher, 0, 1)
        assert (await receive(peer))["seq"] == 0
    assert serving.hub._tail.unreadable == 1


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 404),
        ("/v1/subscribe?since=nowhere", 400),
        ("/v1/subscribe?min_score=1.5", 400),
        ("/v1/subscribe?x=1", 400),
    ],
)
async def test_a_wrong_request_gets_its_problem(serving: Serving, path: str, status: int) -> None:
    """Refusals are HTTP errors with a problem document that says what is wrong."""
    with pytest.raises(InvalidStatus) as caught:
        await connect(f"ws://127.0.0.1:{serving.hub.port}{path}")
    response = caught.value.response
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = json.loads(response.body or b"")
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]


async def test_origin_and_token_are_asked_for(valkey: Valkey) -> None:
    """A foreign page gets 403, a missing token 401, too many subscribers 503."""
    settings = HubSettings(redis_url=valkey.url, port=0, page_port=8080, tokens=["right"], max_clients=1)
    async with Serving(settings) as serving:
        right = {"Authorization": "Bearer right"}
        assert await _status(serving.url(), {**right, "Origin": "http://evil.example"}) == 403
        assert await _status(serving.url(), {}) == 401
        async with connect(serving.url(), additional_headers={**right, "Origin": "http://127.0.0.1:8080"}) as peer:
            await receive(peer)
            assert await _status(serving.url(), right) == 503
        await until(lambda: serving.hub.clients == 0)
        async with connect(serving.url("access_token=right")) as peer:
            await receive(peer)


async def test_a_subscriber_that_floods_is_sent_away(serving: Serving, publisher: Publisher) -> None:
    """A few messages are ignored; a flood of them, or of pings, ends with 1008, and the others notice nothing."""
    async with connect(serving.url()) as calm:
        await receive(calm)
        async with connect(serving.url()) as chatty:
            await receive(chatty)
            for _ in range(20):
                await chatty.send("hello?")
            await published(publisher, 0, 1)
            assert (await receive(chatty))["seq"] == 0
        for opcode in (Opcode.TEXT, Opcode.PING):
            async with connect(serving.url()) as flooding:
                await receive(flooding)
                with contextlib.suppress(ConnectionClosed):
                    for _ in range(2000):
                        await (flooding.send("x") if opcode is Opcode.TEXT else flooding.ping())
                await asyncio.wait_for(flooding.wait_closed(), 5)
                assert flooding.close_code == 1008
        assert serving.hub.closed_flood == 2
        assert (await receive(calm))["seq"] == 0


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x81\xfe\x20\x00mask" + b"x" * 8192, 1009),
        (b"\x81\x05hello", 1002),
        (b"\x83\x80mask", 1002),
        (b"\xc1\x80mask", 1002),
        (b"\x81\x82mask\xff\xff", 1007),
    ],
    ids=["too large", "unmasked", "reserved opcode", "compressed without agreement", "not UTF-8"],
)
async def test_hostile_frames_end_their_own_connection_only(
    serving: Serving, publisher: Publisher, sent: bytes, code: int
) -> None:
    """Each breach of the protocol is answered with its close code; another subscriber goes on."""
    async with connect(serving.url()) as calm:
        await receive(calm)
        async with connect(serving.url()) as hostile:
            await receive(hostile)
            hostile.transport.write(sent)
            await asyncio.wait_for(hostile.wait_closed(), 5)
            assert hostile.close_code == code
        await published(publisher, 0, 1)
        assert (await receive(calm))["seq"] == 0


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00" * 100,
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST /v1/subscribe HTTP/1.1\r\n\r\n",
        b"G" * 100_000,
        b"\x16\x03\x01\x02",
    ],
)
async def test_what_is_no_handshake_is_shut_out(serving: Serving, sent: bytes) -> None:
    """Garbage, other methods, endless lines and TLS on the port end in an error answer or a closed connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", serving.hub.port)
    with contextlib.suppress(ConnectionError):
        writer.write(sent)
        await writer.drain()
        writer.write_eof()
        async with asyncio.timeout(8):
            answer = await reader.read()
            assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    writer.close()
    async with connect(serving.url()) as peer:
        await receive(peer)


async def test_one_that_vanishes_is_noticed(valkey: Valkey) -> None:
    """A peer that answers no ping (its machine is gone) is given up after two ping periods."""
    async with Serving(HubSettings(redis_url=valkey.url, port=0, ping_s=0.1)) as serving, _not_reading(serving.url()):
        assert serving.hub.clients == 1
        await until(lambda: serving.hub.clients == 0)


async def test_stopping_says_goodbye_after_the_last_message(valkey: Valkey, publisher: Publisher) -> None:
    """What is in the feed at the stop is still sent; then the connection is closed with 1001."""
    async with Serving(HubSettings(redis_url=valkey.url, port=0)) as serving, connect(serving.url()) as peer:
        await receive(peer)
        await published(publisher, 0, 300)
        stopping = asyncio.create_task(serving.stop())
        assert [m["seq"] for m in await receive_until(peer, seq_is(299))] == list(range(300))
        await stopping
        with pytest.raises(ConnectionClosed):
            await receive(peer)
        assert peer.close_code == 1001


async def test_a_hub_process_that_is_killed_is_replaced_on_its_port(valkey: Valkey, publisher: Publisher) -> None:
    """Port and past survive: a subscriber reconnects with its cursor and misses nothing."""
    async with HubProcess(HubSettings(redis_url=valkey.url, port=0)) as hub:
        url = f"ws://127.0.0.1:{hub.port}/v1/subscribe"
        async with connect(url) as peer:
            await receive(peer)
            await published(publisher, 0, 5)
            cursor = (await receive_until(peer, seq_is(2)))[-1]["cursor"]
            assert hub.pid is not None
            os.kill(hub.pid, signal.SIGKILL)
            await asyncio.wait_for(peer.wait_closed(), 5)
        await published(publisher, 5, 8)
        async with connect(f"{url}?since={cursor}", open_timeout=15) as peer:
            await receive(peer)
            assert [m["seq"] for m in await receive_until(peer, seq_is(7))] == [3, 4, 5, 6, 7]
        assert hub.restarts == 1
        await until(lambda: hub.report is not None and hub.report.sent >= 5)
        last = hub.pid
    assert last is not None
    with pytest.raises(ProcessLookupError):
        os.kill(last, 0)


async def test_a_hub_process_that_hangs_is_replaced(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that reports nothing any more (SIGSTOP) is killed, and another serves."""
    monkeypatch.setattr("streamer.hub_process._SILENT_S", 2.5)
    async with HubProcess(HubSettings(redis_url=valkey.url, port=0)) as hub:
        assert hub.pid is not None
        os.kill(hub.pid, signal.SIGSTOP)
        await until(lambda: hub.restarts == 1 and hub.report is not None, 20)
        async with connect(f"ws://127.0.0.1:{hub.port}/v1/subscribe") as peer:
            await receive(peer)


async def test_a_hub_process_that_cannot_start_says_so_at_once() -> None:
    """Settings that the hub refuses end the start, not the patience."""
    with pytest.raises(StreamerError, match="did not come up"):
        await asyncio.wait_for(HubProcess(HubSettings(redis_url="nonsense://", port=0)).start(), 10)


async def test_a_hub_process_ends_with_its_parent(valkey: Valkey) -> None:
    """When standard input closes, because who started it is gone, the hub ends by itself."""
    settings = json.dumps({"redis_url": valkey.url, "port": 0}).encode()
    process = await asyncio.create_subprocess_exec(
        *[os.sys.executable, "-m", "streamer.hub"],  # type: ignore[attr-defined]
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(settings + b"\n")
    assert json.loads(await asyncio.wait_for(process.stdout.readline(), 10))["clients"] == 0
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 5) == 0


async def test_a_port_that_is_taken_is_a_clear_error(valkey: Valkey) -> None:
    """The error names the address and the option."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"127.0.0.1:{port}.*--ws"):
            await HubProcess(HubSettings(redis_url=valkey.url, port=port)).start()


@contextlib.asynccontextmanager
async def _not_reading(url: str) -> AsyncIterator[ClientConnection]:
    """A subscriber whose socket is small and not read (until its transport is told to)."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    host, port = url.split("/")[2].split(":")
    await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
    async with connect(url, sock=raw, max_queue=None, ping_interval=None, close_timeout=0.1) as peer:
        peer.transport.pause_reading()
        yield peer


async def _status(url: str, headers: dict[str, str]) -> int:
    try:
        async with connect(url, additional_headers=headers):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


def _accounted(messages: list[dict[str, Any]]) -> int:
    """How many segments these messages account for, checking that none is out of place."""
    expected = 0
    for message in messages:
        if message["type"] == "gap":
            expected += message["count"]
        else:
            assert message["seq"] == expected
            expected += 1
    return expected
