"""An RTSP camera (RFC 2326) that misbehaves at the test's word: H.264 and AAC over TCP or UDP, in the test's own loop.

It sends a clip round and round to each client. What it sends can be changed at any time, for the clients it has too.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

from streamer.demo.clip import Clip, Unit

_NTP_UNIX_S = 2_208_988_800
_CHANCE = random.Random(3)


@dataclass
class Manners:
    """How the camera behaves; a fresh one is a good camera.

    speed: of the clip and its time stamps. mute: nothing is sent after PLAY. first_answer: what it says to the first
    request instead of RTSP. ticks: changes a packet's time stamp, given its track and what it should be. payload:
    changes what is in a packet, given its track. noise: bytes sent between the packets (TCP), after every picture.
    wall_shift_s: how far the clock in its sender reports is off. reports: whether it sends any.
    """

    speed: float = 1.0
    mute: bool = False
    first_answer: bytes = b""
    ticks: Callable[[int, int], int] = lambda _, ticks: ticks
    payload: Callable[[int, bytes], bytes] = lambda _, payload: payload
    noise: bytes = b""
    wall_shift_s: float = 0.0
    reports: bool = True
    report_every_s: float = 1.0


@dataclass
class _Track:
    """One track of one client: where its packets go, and what RTP counts (RFC 3550)."""

    index: int
    send: Callable[[bytes], None]
    send_report: Callable[[bytes], None]
    ssrc: int = field(default_factory=lambda: _CHANCE.getrandbits(32))
    first_ticks: int = field(default_factory=lambda: _CHANCE.getrandbits(31))
    sequence: int = field(default_factory=lambda: _CHANCE.getrandbits(16))
    packets: int = 0


class OddCamera:
    """`async with OddCamera(clip) as camera:` serves at `camera.url`.

    `keyframes_s`: when (monotonic) each key frame was begun to be sent, to whichever client. `clip` may be replaced:
    the next picture is the first of the new one. `connections`: how many were ever accepted.
    """

    def __init__(self, clip: Clip, port: int = 0) -> None:
        self.clip = clip
        self.manners = Manners()
        self.keyframes_s: list[float] = []
        self.connections = 0
        self.port = port
        self.sessions: set[_Session] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where to read it."""
        return f"rtsp://127.0.0.1:{self.port}/live"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, on the port it had."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Be gone: the port is closed, and so is every connection."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        await self.hang_up()

    async def hang_up(self) -> None:
        """Close every connection."""
        for session in tuple(self.sessions):
            session.writer.transport.abort()
        while self.sessions:
            await asyncio.sleep(0.005)

    def renew(self) -> None:
        """For the clients it has, begin anew as a camera does that restarts in mid-session: other synchronisation
        sources, sequence numbers and time stamps."""
        for session in self.sessions:
            session.renew()

    def say_bye(self) -> None:
        """Tell the clients over RTCP that its sources leave, and send nothing more."""
        for session in self.sessions:
            session.say_bye()

    def tear_down(self) -> None:
        """Ask the clients to end, as no camera should, and send nothing more."""
        for session in self.sessions:
            session.tear_down()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        session = _Session(self, reader, writer)
        self.sessions.add(session)
        try:
            await session.run()
        finally:
            self.sessions.discard(session)
            writer.close()


class _Session:
    """One client."""

    def __init__(self, camera: OddCamera, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.camera = camera
        self.reader = reader
        self.writer = writer
        self.tracks: dict[int, _Track] = {}
        self._sockets: list[socket.socket] = []
        self._playing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Until the client goes."""
        first = self.camera.manners.first_answer
        if first:
            self.writer.write(first)
        try:
            while (request := await self._request()) is not None:
                method, headers = request
                self._handle(method, headers)
                if method == "TEARDOWN":
                    return
        except (OSError, asyncio.IncompleteReadError):
            return  # it went without a word
        finally:
            if self._playing is not None:
                self._playing.cancel()
                await asyncio.gather(self._playing, return_exceptions=True)
            for sock in self._sockets:
                sock.close()

    async def _request(self) -> tuple[str, dict[str, str]] | None:
        while (first := await self.reader.read(1)) == b"$":
            _, size = struct.unpack("!BH", await self.reader.readexactly(3))
            await self.reader.readexactly(size)
        if not first:
            return None
        head = (first + await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        return head[0].split(" ")[0], {**headers, "line": head[0]}

    def _handle(self, method: str, headers: dict[str, str]) -> None:
        if method == "DESCRIBE":
            base = headers["line"].split(" ")[1].rstrip("/") + "/"
            return self._answer(
                headers, self.camera.clip.sdp(), **{"Content-Base": base, "Content-Type": "application/sdp"}
            )
        if method == "SETUP":
            index = int(re.search(r"track(\d)", headers["line"])[1])  # type: ignore[index]
            return self._answer(headers, Session="1", Transport=self._set_up(index, headers["transport"]))
        self._answer(headers, Session="1", Public="OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN")
        if method == "PLAY" and not self.camera.manners.mute:
            self._playing = asyncio.create_task(self._play())

    def _answer(self, request: dict[str, str], body: str = "", **headers: str) -> None:
        lines = ["RTSP/1.0 200 OK", f"CSeq: {request.get('cseq', '0')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += [f"Content-Length: {len(body)}"] if body else []
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())

    def _set_up(self, index: int, transport: str) -> str:
        ports = re.search(r"client_port=(\d+)-(\d+)", transport)
        if ports is None:
            channel = int(re.search(r"interleaved=(\d+)", transport)[1])  # type: ignore[index]
            self.tracks[index] = _Track(index, self._interleaver(channel), self._interleaver(channel + 1))
            return f"RTP/AVP/TCP;unicast;interleaved={channel}-{channel + 1}"
        senders = [self._datagrams(int(port)) for port in ports.groups()]
        self.tracks[index] = _Track(index, senders[0], senders[1])
        own = "-".join(str(sock.getsockname()[1]) for sock in self._sockets[-2:])
        return f"RTP/AVP;unicast;client_port={ports[1]}-{ports[2]};server_port={own}"

    def _interleaver(self, channel: int) -> Callable[[bytes], None]:
        return lambda packet: self.writer.write(struct.pack("!BBH", 0x24, channel, len(packet)) + packet)

    def _datagrams(self, port: int) -> Callable[[bytes], None]:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sock.connect((self.writer.get_extra_info("peername")[0], port))
        self._sockets.append(sock)

        def send(packet: bytes) -> None:
            with contextlib.suppress(ConnectionRefusedError):  # nobody listens there any more
                sock.send(packet)

        return send

    # -- what it sends -------------------------------------------------------------------------------------------

    async def _play(self) -> None:
        camera, clock = self.camera, time.monotonic
        due_s, report_s = clock(), 0.0
        for step_s, past_s, unit in self._rounds():
            due_s += step_s / camera.manners.speed
            await asyncio.sleep(max(0.0, due_s - clock()))
            track = self.tracks.get(unit.track)
            if track is None:
                continue
            if camera.manners.reports and clock() >= report_s:
                report_s = clock() + camera.manners.report_every_s
                self._report(past_s + float(camera.clip.due_s(unit)))
            if unit.keyframe:
                camera.keyframes_s.append(clock())
            self._send(track, unit, past_s)
            await self.writer.drain()

    def _rounds(self) -> Iterator[tuple[float, float, Unit]]:
        """For every unit: how long after the one before, how long the rounds before took, and itself."""
        past_s = before_s = 0.0
        for _ in itertools.count():
            clip = self.camera.clip
            for unit in clip.units:
                at_s = past_s + float(clip.due_s(unit))
                yield at_s - before_s, past_s, unit
                before_s = at_s
                if self.camera.clip is not clip:
                    past_s = at_s
                    break
            else:
                past_s += float(clip.length_s)

    def _send(self, track: _Track, unit: Unit, past_s: float) -> None:
        manners, kind = self.camera.manners, self.camera.clip.tracks[track.index]
        ticks = track.first_ticks + round(past_s * kind.clock_rate) + unit.ticks
        ticks = manners.ticks(track.index, ticks) & 0xFFFFFFFF
        for left, payload in zip(range(len(unit.payloads) - 1, -1, -1), unit.payloads, strict=True):
            marked = kind.payload_type | (0x80 if left == 0 else 0)
            head = struct.pack("!BBHII", 0x80, marked, track.sequence, ticks, track.ssrc)
            track.send(head + manners.payload(track.index, payload))
            track.sequence = (track.sequence + 1) & 0xFFFF
            track.packets += 1
        if manners.noise:
            self.writer.write(manners.noise)

    def _report(self, media_s: float) -> None:
        """Sender reports: what each track's clock says at this time of the camera's."""
        ntp = round((time.time() + self.camera.manners.wall_shift_s + _NTP_UNIX_S) * 2**32) & 0xFFFFFFFFFFFFFFFF
        for track in self.tracks.values():
            rate = self.camera.clip.tracks[track.index].clock_rate
            ticks = (track.first_ticks + round(media_s * rate)) & 0xFFFFFFFF
            track.send_report(struct.pack("!BBHIQIII", 0x80, 200, 6, track.ssrc, ntp, ticks, track.packets, 0))

    def renew(self) -> None:
        """Other SSRCs, sequence numbers and time stamps."""
        for track in self.tracks.values():
            fresh = _Track(track.index, track.send, track.send_report)
            track.ssrc, track.first_ticks, track.packets = fresh.ssrc, fresh.first_ticks, 0
            track.sequence = (track.sequence - 20_000) & 0xFFFF  # the worse half: it looks like the past

    def say_bye(self) -> None:
        """RTCP BYE of every track."""
        self._silence()
        for track in self.tracks.values():
            report = struct.pack("!BBHIQIII", 0x80, 200, 6, track.ssrc, 0, 0, track.packets, 0)
            track.send_report(report + struct.pack("!BBHI", 0x81, 203, 1, track.ssrc))

    def tear_down(self) -> None:
        """TEARDOWN from the wrong side."""
        self._silence()
        self.writer.write(f"TEARDOWN {self.camera.url} RTSP/1.0\r\nCSeq: 1\r\nSession: 1\r\n\r\n".encode())

    def _silence(self) -> None:
        if self._playing is not None:
            self._playing.cancel()
