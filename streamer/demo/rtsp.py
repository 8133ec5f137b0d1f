"""A small RTSP server (RFC 2326) that loops a clip to each of its clients, with RTP over the same TCP connection.

Why not a package's: the best one found starts each track's clock by itself, so its sender reports place the sound up
to 40 ms off the picture, and it spends a thread a session and four times the CPU. Here all tracks share one clock,
loops and reports included.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import re
import secrets
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from streamer.demo.clip import Clip, Track, Unit

_REPORT_EVERY_S = 5.0
_NTP_UNIX_S = 2_208_988_800
_MAX_REQUEST = 16 * 1024
_LATE_S = 1.0
_SEND_BUFFER = 256 * 1024  # what waits here for a slow client grows old: left alone, the system would hold megabytes
_METHODS = "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, SET_PARAMETER, TEARDOWN"
_STATUS = {
    200: "OK",
    404: "Not Found",
    455: "Method Not Valid in This State",
    461: "Unsupported Transport",
    501: "Not Implemented",
}
PATH = "/live"

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Sender:
    """What RTP keeps of one track of one session (RFC 3550): random starts, and the counts that reports tell."""

    track: Track
    channel: int
    ssrc: int = field(default_factory=lambda: secrets.randbits(32))
    first_ticks: int = field(default_factory=lambda: secrets.randbits(31))
    sequence: int = field(default_factory=lambda: secrets.randbits(16))
    packets: int = 0
    octets: int = 0

    def frames(self, unit: Unit, loop_ticks: int) -> Iterator[bytes]:
        """A unit's RTP packets, each in its interleaved frame; the last one bears the marker."""
        ticks = (self.first_ticks + loop_ticks + unit.ticks) & 0xFFFFFFFF
        for left, payload in zip(range(len(unit.payloads) - 1, -1, -1), unit.payloads, strict=True):
            kind = self.track.payload_type | (0x80 if left == 0 else 0)
            yield struct.pack(
                "!BBHBBHII", 0x24, self.channel, 12 + len(payload), 0x80, kind, self.sequence, ticks, self.ssrc
            )
            yield payload
            self.sequence = (self.sequence + 1) & 0xFFFF
            self.packets += 1
            self.octets += len(payload)

    def report(self, media_s: float, wall_s: float) -> bytes:
        """A sender report: what the track's clock says at this time of the wall's."""
        ntp = round((wall_s + _NTP_UNIX_S) * 2**32) & 0xFFFFFFFFFFFFFFFF
        ticks = (self.first_ticks + round(media_s * self.track.clock_rate)) & 0xFFFFFFFF
        body = struct.pack("!BBHIQIII", 0x80, 200, 6, self.ssrc, ntp, ticks, self.packets, self.octets & 0xFFFFFFFF)
        return struct.pack("!BBH", 0x24, self.channel + 1, len(body)) + body


class Session:
    """One client's connection: answers its requests and, between PLAY and the end, sends the clip round and round."""

    def __init__(self, clip: Clip, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clip = clip
        self.reader = reader
        self.writer = writer
        self.id = secrets.token_hex(8)
        self.senders: dict[int, _Sender] = {}
        self.playing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve until the client goes or says TEARDOWN."""
        try:
            while (request := await self._request()) is not None:
                method, url, headers = request
                if method == "TEARDOWN":
                    self._answer(headers, 200)
                    break
                self._handle(method, url, headers)
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            log.debug("a client of the local camera left: %s", error)
        finally:
            if self.playing is not None:
                self.playing.cancel()
                await asyncio.gather(self.playing, return_exceptions=True)
            self.writer.close()

    async def _request(self) -> tuple[str, str, dict[str, str]] | None:
        """The next request; what the client sends between them on the channels (receiver reports) is passed over."""
        while (first := await self.reader.read(1)) == b"$":
            _, size = struct.unpack("!BH", await self.reader.readexactly(3))
            await self.reader.readexactly(size)
        if not first:
            return None
        head = first + await self.reader.readuntil(b"\r\n\r\n")
        line, *rest = head.decode("utf-8", "replace").strip().split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (text.partition(":") for text in rest)}
        await self.reader.readexactly(min(int(headers.get("content-length", "0")), _MAX_REQUEST))
        method, url, _ = [*line.split(" "), "", ""][:3]
        return method, url, headers

    def _handle(self, method: str, url: str, headers: dict[str, str]) -> None:
        path = urlsplit(url).path.rstrip("/")
        if method == "OPTIONS":
            self._answer(headers, 200, Public=_METHODS)
        elif method == "DESCRIBE":
            if path != PATH:
                return self._answer(headers, 404)
            description = {"Content-Base": f"{url.partition('?')[0].rstrip('/')}/", "Content-Type": "application/sdp"}
            self._answer(headers, 200, self.clip.sdp(), **description)
        elif method == "SETUP":
            self._set_up(path, headers)
        elif method == "PLAY":
            if not self.senders or self.playing is not None:
                return self._answer(headers, 455)
            self._answer(headers, 200, Session=self.id, Range="npt=0-", **{"RTP-Info": self._rtp_info(url)})
            self.playing = asyncio.create_task(self._play())
        elif method in ("GET_PARAMETER", "SET_PARAMETER"):
            self._answer(headers, 200, Session=self.id)
        else:
            self._answer(headers, 501)

    def _set_up(self, path: str, headers: dict[str, str]) -> None:
        track = re.fullmatch(rf"{PATH}/track(\d+)", path)
        if track is None or int(track[1]) >= len(self.clip.tracks):
            return self._answer(headers, 404)
        transport = headers.get("transport", "")
        channels = re.search(r"interleaved=(\d{1,3})-(\d{1,3})", transport)
        if "TCP" not in transport or channels is None or not int(channels[1]) + 1 == int(channels[2]) <= 255:
            return self._answer(headers, 461)
        self.senders[int(track[1])] = _Sender(self.clip.tracks[int(track[1])], int(channels[1]))
        reply = f"RTP/AVP/TCP;unicast;interleaved={channels[1]}-{channels[2]}"
        self._answer(headers, 200, Session=self.id, Transport=reply)

    def _rtp_info(self, url: str) -> str:
        base = url.partition("?")[0].rstrip("/")
        starts = [(f"{base}/track{index}", sender) for index, sender in self.senders.items()]
        return ",".join(f"url={track};seq={of.sequence};rtptime={of.first_ticks}" for track, of in starts)

    def _answer(self, request: dict[str, str], status: int, body: str = "", **headers: str) -> None:
        lines = [f"RTSP/1.0 {status} {_STATUS[status]}", f"CSeq: {request.get('cseq', '0')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body:
            lines.append(f"Content-Length: {len(body.encode())}")
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())

    async def _play(self) -> None:
        """Send every unit when it is due. A client that doesn't read misses pictures, as with a camera: what is late by
        over a second is left out, up to a keyframe that isn't."""
        clock = asyncio.get_running_loop().time
        start_s, report_s, skipping = clock(), 0.0, False
        wall_offset_s = time.time() - start_s
        with_picture = any(sender.track.kind == "video" for sender in self.senders.values())
        with contextlib.suppress(OSError):  # the client has gone: `run` sees it too, and cleans up
            for past_s, unit, sender in self._rounds():
                due_s = past_s + float(self.clip.due_s(unit))
                ahead_s = start_s + due_s - clock()
                if ahead_s > 0:
                    await asyncio.sleep(ahead_s)
                late = ahead_s < -_LATE_S
                skipping = late or (skipping and with_picture and not unit.keyframe)
                if skipping:
                    await asyncio.sleep(0)  # others have their turn while a long delay is made good
                    continue
                if due_s >= report_s:
                    report_s = due_s + _REPORT_EVERY_S
                    self._report(due_s, start_s + due_s + wall_offset_s)
                self.writer.write(b"".join(sender.frames(unit, round(past_s * sender.track.clock_rate))))
                await self.writer.drain()

    def _rounds(self) -> Iterator[tuple[float, Unit, _Sender]]:
        """The units of the tracks that were set up, for ever, each with the time that the rounds before it took."""
        for turn in itertools.count():
            past_s = float(self.clip.length_s * turn)
            for unit in self.clip.units:
                if (sender := self.senders.get(unit.track)) is not None:
                    yield past_s, unit, sender

    def _report(self, media_s: float, wall_s: float) -> None:
        self.writer.writelines(sender.report(media_s, wall_s) for sender in self.senders.values())


async def serve(clip: Clip, host: str, port: int) -> asyncio.Server:
    """Listen on `host:port` (0: any) and play `clip` at the path `/live`. Raises OSError where the port is taken."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        await Session(clip, reader, writer).run()

    return await asyncio.start_server(connected, host, port, limit=_MAX_REQUEST)
