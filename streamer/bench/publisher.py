"""A WebRTC publisher: sends a file's H.264 or VP8 and Opus as they are, by WHIP (RFC 9725), and nothing is encoded.

It is aiortc's sender, not the service's receiver: what it says, and when, is of somebody else's making.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import aiohttp
import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtcpPacket, RtcpSrPacket, is_rtcp

from streamer.errors import MediaError

_NS_BASE = Fraction(1, 1_000_000_000)
_NS = 1_000_000_000
_PAUSE_S = 0.01
# Both tracks begin so much after the first is asked for a packet.
_BEGIN_S = 0.05
_CLIPS = 8

Answering = Callable[[str], Awaitable[str]]


@dataclass
class Sending:
    """How to send.

    late_s: by kind, how much later than they should packets of a track leave. drops: says of an RTP packet whether to
    lose it. speed: media seconds a second, of which the time stamps know nothing. rate: how many times as many pictures
    a second as the file has, with time stamps that say so. obeys: a request for a key frame is answered with the file's
    first picture, and those after it.
    """

    late_s: dict[str, float] = field(default_factory=dict)
    drops: Callable[[bytes], bool] = lambda packet: False
    speed: float = 1.0
    rate: float = 1.0
    obeys: bool = False
    kinds: tuple[str, ...] = ("video", "audio")
    codecs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Coded:
    """One track of a file: its packets with the nanosecond of each, and after how long it begins again."""

    packets: tuple[tuple[int, bytes], ...]
    length_ns: int


@lru_cache(maxsize=2 * _CLIPS)
def coded(path: Path, kind: str) -> Coded:
    """The packets of a file's track `kind` (`video` or `audio`), H.264 with start codes.

    Raises:
        MediaError: it has no such track.
        av.error.FFmpegError: it can't be read.
    """
    with av.open(str(path)) as container:
        stream = next((stream for stream in container.streams if stream.type == kind), None)
        if stream is None or stream.time_base is None:
            raise MediaError(f"{path} has no {kind}; publish a clip with picture and sound")
        base = stream.time_base
        packets = [packet for packet in container.demux(stream) if packet.size]
        if stream.codec_context.name == "h264" and (stream.codec_context.extradata or b"")[:1] == b"\x01":
            filter_ = av.BitStreamFilterContext("h264_mp4toannexb", stream)
            packets = [out for packet in packets for out in filter_.filter(packet)]
        found = tuple((int((packet.pts or 0) * base * _NS), bytes(packet)) for packet in packets)
        return Coded(found, int((container.duration or 0) * 1000))


class _Begun:
    """When both tracks began, on the wall clock."""

    def __init__(self) -> None:
        self.at_s: float | None = None


class FileTrack(MediaStreamTrack):
    """One track of a file, coded as it is there, over and over."""

    def __init__(self, path: Path, kind: str, sending: Sending, begun: _Begun) -> None:
        super().__init__()
        self.kind = kind
        self.paused = False
        self.sent = 0
        """Frames handed to the sender."""
        self.behind_s = 0.0
        """How late the latest of them was, because this process did not keep up."""
        self._sending = sending
        self._begun = begun
        self._coded = coded(path, kind)
        self._from = 0  # where the file began anew, among the frames sent

    def show_first(self) -> None:
        """Go on with the file's first picture."""
        self._from = self.sent

    async def recv(self) -> av.Packet[Any]:
        """The next packet, when it is due."""
        if self.readyState != "live":
            raise MediaStreamError
        if self._begun.at_s is None:
            self._begun.at_s = time.time() + _BEGIN_S
        packets, sending = self._coded.packets, self._sending
        rounds, index = divmod(self.sent, len(packets))
        pts_ns = packets[index][0] + rounds * self._coded.length_ns
        if self.kind == "video":
            pts_ns = int(pts_ns / sending.rate)
        due_s = self._begun.at_s + pts_ns / _NS / sending.speed + sending.late_s.get(self.kind, 0.0)
        now_s = time.time()
        self.behind_s = max(self.behind_s, now_s - due_s)
        await asyncio.sleep(max(0.0, due_s - now_s))
        while self.paused:  # noqa: ASYNC110 - a plain flag, so that anybody may set it between two packets
            await asyncio.sleep(_PAUSE_S)
        packet = av.Packet(packets[(self.sent - self._from) % len(packets)][1])
        self.sent += 1
        packet.pts, packet.time_base = pts_ns, _NS_BASE
        return packet


class Publisher:
    """One publisher: its connection, its tracks, and what it was asked."""

    def __init__(self, media: Path, sending: Sending) -> None:
        # None would ask a public STUN server.
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.sending = sending
        self.asked = 0
        """Key frames it was asked for."""
        self.dropped = 0
        self.location: str | None = None
        self.offered_ms: int | None = None
        """When its offer was sent to the endpoint, Unix time."""
        begun = _Begun()
        self.tracks = [FileTrack(media, kind, sending, begun) for kind in sending.kinds]
        for track in self.tracks:
            self._hear_requests(self.pc.addTrack(track), track)
        for transceiver in self.pc.getTransceivers():
            transceiver.direction = "sendonly"
            known = RTCRtpSender.getCapabilities(transceiver.kind).codecs
            wanted = [codec for codec in known if codec.name in sending.codecs]
            if wanted:
                transceiver.setCodecPreferences(wanted)

    def _hear_requests(self, sender: Any, track: FileTrack) -> None:
        before = sender._send_keyframe

        def asked() -> None:
            self.asked += 1
            before()
            if self.sending.obeys:
                track.show_first()

        sender._send_keyframe = asked

    async def offer(self) -> str:
        """The SDP offer, with all candidates in it."""
        await self.pc.setLocalDescription(await self.pc.createOffer())
        return str(self.pc.localDescription.sdp)

    async def accept(self, answer: str) -> None:
        """Connect by `answer`; media follow."""
        await self.pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        for transceiver in self.pc.getTransceivers():
            self._wrap(transceiver.sender)

    def _wrap(self, sender: Any) -> None:
        transport = sender.transport
        if getattr(transport, "is_wrapped", False):
            return
        transport.is_wrapped = True
        send = transport._send_rtp
        late = {t.sender._ssrc: self.sending.late_s.get(t.kind, 0.0) for t in self.pc.getTransceivers()}

        async def altered(data: bytes) -> None:
            if is_rtcp(data):
                await send(b"".join(bytes(_with_right_time(packet, late)) for packet in RtcpPacket.parse(data)))
            elif self.sending.drops(data):
                self.dropped += 1
            else:
                await send(data)

        transport._send_rtp = altered

    async def close(self) -> None:
        """Leave politely: RTCP BYE, DTLS close."""
        await self.pc.close()


def _with_right_time(packet: Any, late: dict[int, float]) -> Any:
    """aiortc reports when a packet left; what was held back on purpose was captured that much earlier."""
    if isinstance(packet, RtcpSrPacket):
        packet.sender_info.ntp_timestamp -= int(late.get(packet.ssrc, 0.0) * (1 << 32))
    return packet


@contextlib.asynccontextmanager
async def publishing(
    to: str | Answering, media: Path, *, token: str | None = None, sending: Sending | None = None
) -> AsyncIterator[Publisher]:
    """Publish `media` to a WHIP endpoint's URL, or to whatever answers an offer; left politely at the end.

    Raises:
        aiohttp.ClientResponseError: the endpoint refused.
    """
    publisher = Publisher(media, sending or Sending())
    try:
        offer = await publisher.offer()
        answer = await (to(offer) if callable(to) else _post(to, offer, token, publisher))
        await publisher.accept(answer)
        yield publisher
    finally:
        await publisher.close()


async def _post(url: str, offer: str, token: str | None, publisher: Publisher) -> str:
    headers = {"Content-Type": "application/sdp"} | ({"Authorization": f"Bearer {token}"} if token else {})
    publisher.offered_ms = time.time_ns() // 1_000_000
    async with aiohttp.ClientSession() as http, http.post(url, data=offer, headers=headers) as response:
        response.raise_for_status()
        publisher.location = response.headers["Location"]
        return await response.text()
