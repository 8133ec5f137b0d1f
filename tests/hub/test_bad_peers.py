"""Subscribers that read too slowly, talk too much, breach the protocol or are gone: nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode

from streamer.hub.settings import HubSettings
from streamer.publishing.publish import Publisher
from tests.hub.serving import (
    Serving,
    accounted,
    not_reading,
    published,
    publisher_fixture,
    receive,
    receive_until,
    seq_is,
    serving_fixture,
)
from tests.stores import Valkey, store_fixture, until, valkey_fixture

__all__ = ["publisher_fixture", "serving_fixture", "store_fixture", "valkey_fixture"]


async def test_a_slow_subscriber_is_told_what_it_missed_and_nobody_else_notices(
    serving: Serving, publisher: Publisher
) -> None:
    """One that reads nothing for a while gets a gap that accounts for every message; the others get all of them."""
    async with connect(serving.url()) as quick, contextlib.AsyncExitStack() as stack:
        slow = await stack.enter_async_context(not_reading(serving.url()))
        await receive(quick)
        reading = asyncio.create_task(receive_until(quick, seq_is(3999)))
        await published(publisher, 0, 4000)
        assert [m["seq"] for m in await reading] == list(range(4000))
        await until(lambda: serving.hub.blocked == 1)
        slow.transport.resume_reading()
        await until(lambda: not serving.hub.blocked)
        messages = await receive_until(slow, seq_is(3999))
        assert messages[0]["type"] == "hello"
        assert accounted(messages[1:]) == 4000
        assert sum(message["type"] == "gap" for message in messages) == 1


async def test_one_who_reads_nothing_is_sent_away(serving: Serving, publisher: Publisher) -> None:
    """A socket that took nothing for the time allowed is closed with 1013, and what it held is freed."""
    async with contextlib.AsyncExitStack() as stack:
        slow = await stack.enter_async_context(not_reading(serving.url()))
        await published(publisher, 0, 4000)
        await until(lambda: serving.hub.clients == 0)
        slow.transport.resume_reading()
        with pytest.raises(ConnectionClosed):
            while True:
                await receive(slow)
    assert serving.hub.report().closed_slow == 1
    assert not serving.hub.blocked
    assert serving.hub._fanout._groups == {}


async def test_one_who_reads_a_byte_now_and_then_is_sent_away(serving: Serving, publisher: Publisher) -> None:
    """A byte at a time is no way to keep a place: the connection is ended, what waited for it was bounded and is freed,
    and one beside it gets every message meanwhile."""
    async with connect(serving.url()) as quick, contextlib.AsyncExitStack() as stack:
        await receive(quick)
        trickle = await stack.enter_async_context(not_reading(serving.url()))
        raw = trickle.transport.get_extra_info("socket")
        reading = asyncio.create_task(receive_until(quick, seq_is(3999)))
        await published(publisher, 0, 4000)
        slow = next(c for c in serving.hub._peers if c.paused)
        assert slow.subscriber is not None and slow.subscriber.waiting <= 1024
        taken = 0
        while serving.hub.clients == 2:
            with contextlib.suppress(BlockingIOError):
                taken += len(os.read(raw.fileno(), 1))
            await asyncio.sleep(0.02)
        assert 10 < taken < 10_000
        assert [m["seq"] for m in await reading] == list(range(4000))
    assert serving.hub.report().closed_slow == 1
    assert not serving.hub.blocked


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
        assert serving.hub.report().closed_flood == 2
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
    async with Serving(HubSettings(redis_url=valkey.url, port=0, ping_s=0.1)) as serving, not_reading(serving.url()):
        assert serving.hub.clients == 1
        await until(lambda: serving.hub.clients == 0)
