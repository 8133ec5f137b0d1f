"""Compression: agreed on with those who ask for it, and with nobody else."""

from __future__ import annotations

import asyncio
import json
import zlib

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import CloseCode

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
from tests.stores import store_fixture, until, valkey_fixture

__all__ = ["publisher_fixture", "serving_fixture", "store_fixture", "valkey_fixture"]


def agreed(peer: ClientConnection) -> str | None:
    assert peer.response is not None
    return peer.response.headers.get("Sec-WebSocket-Extensions")


async def test_offering_it_is_not_asking_for_it(serving: Serving) -> None:
    """Browsers offer compression always: without the query's word for it, it is not agreed on."""
    async with connect(serving.url()) as peer:
        assert peer.request is not None
        assert "permessage-deflate" in peer.request.headers["Sec-WebSocket-Extensions"]
        assert agreed(peer) is None


async def test_asking_without_offering_it_gets_plain_frames(serving: Serving, publisher: Publisher) -> None:
    """A peer that could not unpack is sent nothing packed."""
    async with connect(serving.url("compression=deflate"), compression=None) as peer:
        assert agreed(peer) is None
        await receive(peer)
        await published(publisher, 0, 1)
        assert (await receive(peer))["seq"] == 0


@pytest.mark.parametrize("window_bits", [None, 15, 9])
async def test_who_asks_for_it_gets_the_same_messages(
    serving: Serving, publisher: Publisher, window_bits: int | None
) -> None:
    """Live and from the past, whatever window the subscriber has, the messages are those that others get."""
    offer = ClientPerMessageDeflateFactory(server_max_window_bits=window_bits, client_max_window_bits=True)
    packed = connect(serving.url("compression=deflate"), compression=None, extensions=[offer])
    async with connect(serving.url()) as plain, packed as peer:
        assert "server_no_context_takeover" in (agreed(peer) or "")
        first = await receive(plain)
        await receive(peer)
        await published(publisher, 0, 40)
        whole = await receive_until(plain, seq_is(39))
        assert await receive_until(peer, seq_is(39)) == whole
        query = f"compression=deflate&since={first['cursor']}"
        again = connect(serving.url(query), compression=None, extensions=[offer])
        async with again as late:
            await receive(late)
            assert await receive_until(late, seq_is(39)) == whole


async def test_one_that_fell_behind_gets_the_rest_compressed_too(serving: Serving, publisher: Publisher) -> None:
    """Its queue, the gap and what comes after are whole messages, in order."""
    async with not_reading(serving.url("compression=deflate")) as slow:
        assert agreed(slow)
        await published(publisher, 0, 6000)
        await until(lambda: serving.hub.report().dropped > 0)
        slow.transport.resume_reading()
        messages = await receive_until(slow, seq_is(5999))
    assert accounted(messages[1:]) == 6000
    assert "gap" in [message["type"] for message in messages]


async def test_a_packed_bomb_ends_its_own_connection(serving: Serving) -> None:
    """What a subscriber sends is unpacked no further than its messages may be long."""
    async with connect(serving.url("compression=deflate")) as peer:
        await receive(peer)
        deflate = zlib.compressobj(wbits=-15)
        bomb = deflate.compress(bytes(50_000_000)) + deflate.flush(zlib.Z_SYNC_FLUSH)
        frame = b"\xc2\xff" + len(bomb).to_bytes(8, "big") + bytes(4) + bomb
        peer.transport.write(frame)
        await asyncio.wait_for(peer.wait_closed(), 5)
        assert peer.close_code == CloseCode.MESSAGE_TOO_BIG
    async with connect(serving.url()) as peer:
        assert json.loads(await peer.recv())["type"] == "hello"


async def test_a_small_packed_bomb_ends_its_own_connection(serving: Serving) -> None:
    """The same where the frame itself is short enough."""
    async with connect(serving.url("compression=deflate")) as peer:
        await receive(peer)
        deflate = zlib.compressobj(wbits=-15)
        bomb = deflate.compress(bytes(2_000_000)) + deflate.flush(zlib.Z_SYNC_FLUSH)
        assert len(bomb) < 4096
        peer.transport.write(b"\xc2\xfe" + len(bomb).to_bytes(2, "big") + bytes(4) + bomb)
        await asyncio.wait_for(peer.wait_closed(), 5)
        assert peer.close_code == CloseCode.MESSAGE_TOO_BIG
