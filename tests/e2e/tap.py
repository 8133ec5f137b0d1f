"""Looks into an RTSP connection on its way (RFC 2326, media interleaved on TCP): when did the camera send keyframes?"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Self
from urllib.parse import urlsplit, urlunsplit

_RTP_HEADER = 12
_IDR, _STAP_A, _FU_A = 5, 24, 28


class KeyframeTap:
    """Relays to the camera at `port`, whose first track is H.264; `keyframes_s` are the moments (monotonic) at which
    the first packet of each keyframe came from it."""

    def __init__(self, port: int) -> None:
        self.keyframes_s: list[float] = []
        self._target = port
        self._server: asyncio.Server | None = None

    def url(self, url: str) -> str:
        """The same URL through here."""
        assert self._server is not None
        return urlunsplit(urlsplit(url)._replace(netloc=f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"))

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()  # the camera is down
            return
        await asyncio.gather(
            _pass(reader, behind_writer, lambda _: None), _pass(behind_reader, writer, _Reading(self.keyframes_s).feed)
        )


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, look: Callable[[bytes], None]) -> None:
    with contextlib.suppress(OSError):  # a side that is gone ends the connection, as it would without us
        while data := await reader.read(65536):
            look(data)
            writer.write(data)
            await writer.drain()
    writer.close()


class _Reading:
    """One connection's bytes from the camera: RTSP answers and interleaved packets in turn."""

    def __init__(self, keyframes_s: list[float]) -> None:
        self._keyframes_s = keyframes_s
        self._held = b""

    def feed(self, data: bytes) -> None:
        now_s = time.monotonic()
        self._held += data
        while (length := self._length()) is not None and len(self._held) >= length:
            item, self._held = self._held[:length], self._held[length:]
            if item[:2] == b"$\x00" and _begins_keyframe(item[4:]):
                self._keyframes_s.append(now_s)

    def _length(self) -> int | None:
        """Of the item at the beginning; None while that can't be told."""
        if len(self._held) < 4:
            return None
        if self._held[:1] == b"$":
            return 4 + int.from_bytes(self._held[2:4], "big")
        end = self._held.find(b"\r\n\r\n")
        if end < 0:
            return None
        fields = dict(line.lower().split(b":", 1) for line in self._held[:end].split(b"\r\n")[1:] if b":" in line)
        return end + 4 + int(fields.get(b"content-length", b"0"))


def _begins_keyframe(packet: bytes) -> bool:
    """Whether an RTP packet of H.264 (RFC 6184) holds the beginning of an IDR slice."""
    payload = packet[_RTP_HEADER + 4 * (packet[0] & 15) :]
    kind = payload[0] & 31
    if kind == _FU_A:
        return bool(payload[1] & 0x80) and payload[1] & 31 == _IDR
    if kind == _STAP_A:
        place, kinds = 1, []
        while place + 2 < len(payload):
            kinds.append(payload[place + 2] & 31)
            place += 2 + int.from_bytes(payload[place : place + 2], "big")
        return _IDR in kinds
    return kind == _IDR
