"""One track of a WebRTC peer, taken from aiortc before it is decoded.

aiortc decodes every frame on a thread a track, behind queues without a bound, and tells neither when a frame arrived
nor what the sender reports say. This receiver takes the place of its `RTCRtpReceiver`: packets are put in order and
joined to frames, and leave at once. Written against aiortc 1.16.0 (`rtcrtpreceiver.py`, `rtcdtlstransport.py`,
`rtcpeerconnection.py`); what it relies on there is held by tests/sources/test_rtc_receiver.py.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiortc import RTCRtpReceiver, RTCRtpTransceiver
from aiortc.codecs import depayload
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpReceiveParameters
from aiortc.rtcrtpreceiver import RemoteStreamTrack, StreamStatistics
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    AnyRtcpPacket,
    RtcpByePacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSrPacket,
    RtpPacket,
    pack_remb_fci,
)

from streamer.sources.rtc_clock import Axis, TrackClock
from streamer.sources.rtc_order import Coded, Fragment, Sequencer

log = logging.getLogger(__name__)

_MS = 1_000_000
_S = 1_000_000_000
# What is missing is waited for: a repetition of a picture's packet takes a round trip, Opus is only ever out of order.
_PATIENCE_NS = {"video": 150 * _MS, "audio": 60 * _MS}
_MOST_HELD = {"video": 512, "audio": 32}
# Another sender of the same track (its encoder began anew) is heard once this one has been silent for so long.
_SILENT_NS = 1 * _S
# What a publisher is asked to send no more than: pictures end up at 224 pixels, and 480p30 looks well at half of it.
_MOST_BITS_A_SECOND = 2_500_000
# Where a transceiver keeps its receiver.
_PLACE = "_RTCRtpTransceiver__receiver"


@dataclass(frozen=True, slots=True)
class TrackEvents:
    """Who hears of what comes; all on the loop's thread.

    frame: kind, frame, nanoseconds on the peer's axis, the sender's wall time. heard: a packet of that many bytes.
    moved: the track's time begins anew. bye: it is over, by its sender's word (True) or because the transport is.
    """

    frame: Callable[[str, Coded, int, int | None], None]
    heard: Callable[[int, int], None]
    moved: Callable[[str], None]
    bye: Callable[[str, bool], None]


class TrackReceiver:
    """Stands where aiortc has an `RTCRtpReceiver`, for one track of one peer. The loop's alone.

    Args:
        now_ns: the clock that arrivals are told on.
    """

    def __init__(self, replaced: RTCRtpReceiver, axis: Axis, events: TrackEvents, now_ns: Callable[[], int]) -> None:
        hidden = vars(replaced)
        self.kind: str = hidden["_RTCRtpReceiver__kind"]
        self.lost = 0
        """Packets that never came."""
        self._enabled = True
        self._track: RemoteStreamTrack | None = replaced._track
        self._transport: RTCDtlsTransport = replaced.transport
        self._axis = axis
        self._events = events
        self._now_ns = now_ns
        self._codecs: Mapping[int, RTCRtpCodecParameters] = {}
        self._own_ssrc: int = hidden["_RTCRtpReceiver__rtcp_ssrc"]
        self._is_receiving = False
        self._heard_ns = 0
        self._begin(None)

    def _begin(self, ssrc: int | None) -> None:
        rate = 90_000 if self.kind == "video" else 48_000
        self._ssrc = ssrc
        self._sequencer = Sequencer(
            joins=self.kind == "video", patience_ns=_PATIENCE_NS[self.kind], most=_MOST_HELD[self.kind]
        )
        self._clock = TrackClock(rate, self._axis)
        self._statistics = StreamStatistics(rate)
        self._report: tuple[int, float] | None = None  # of the newest sender report: its time's middle, when it came

    # -- what aiortc's peer connection and transport ask of a receiver ---------------------------------------------

    @property
    def track(self) -> RemoteStreamTrack | None:
        """aiortc's own track; nothing ever comes out of it."""
        return self._track

    @property
    def transport(self) -> RTCDtlsTransport:
        """What it receives on."""
        return self._transport

    def setTransport(self, transport: RTCDtlsTransport) -> None:
        """Receive on that one."""
        self._transport = transport

    def _set_rtcp_ssrc(self, ssrc: int) -> None:
        self._own_ssrc = ssrc

    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        """Begin."""
        if not self._is_receiving:
            self._is_receiving = True
            self._codecs = {codec.payloadType: codec for codec in parameters.codecs if codec.payloadType}
            self._transport._register_rtp_receiver(self, parameters)

    async def stop(self) -> None:
        """End for good."""
        if self._is_receiving:
            self._is_receiving = False
            self._transport._unregister_rtp_receiver(self)

    def _handle_disconnect(self) -> None:
        self._events.bye(self.kind, False)

    async def _handle_rtcp_packet(self, packet: AnyRtcpPacket) -> None:
        self._events.heard(self._now_ns(), 0)
        if isinstance(packet, RtcpByePacket):
            self._events.bye(self.kind, True)
        elif isinstance(packet, RtcpSrPacket) and packet.ssrc == self._ssrc:
            ntp = packet.sender_info.ntp_timestamp
            self._report = ((ntp >> 16) & 0xFFFFFFFF, time.monotonic())
            self._clock.report(ntp, packet.sender_info.rtp_timestamp)

    async def _handle_rtp_packet(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        codec = self._codecs.get(packet.payload_type)
        if codec is None or not self._enabled:
            return
        now_ns = self._now_ns()
        if packet.ssrc != self._ssrc and not self._turns_to(packet.ssrc, now_ns):
            return
        self._heard_ns = now_ns
        self._events.heard(now_ns, len(packet.payload))
        self._statistics.add(packet)
        try:
            data = depayload(codec, packet.payload) if packet.payload else b""
        except ValueError:
            data = b""  # no payload of this codec: a hole in a picture, which the decoder sees
        sequencer = self._sequencer
        fragment = Fragment(packet.sequence_number, packet.timestamp, bool(packet.marker), data, now_ns)
        for coded in sequencer.feed(fragment):
            pts_ns, wall_ns = self._clock.place(coded.timestamp)
            self._events.frame(self.kind, coded, pts_ns, wall_ns)
        self.lost = sequencer.lost
        if self.kind == "video" and (missing := sequencer.missing(now_ns)):
            await self._send(_repeat(self._own_ssrc, packet.ssrc, missing))

    # -- what the peer asks ----------------------------------------------------------------------------------------

    async def ask_key_frame(self) -> None:
        """Send a picture loss indication (RFC 4585 section 6.3.1)."""
        if self._ssrc is not None:
            await self._send(RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=self._own_ssrc, media_ssrc=self._ssrc))

    async def report(self) -> None:
        """Send a receiver report (RFC 3550 section 6.4.2), and how much the sender may send at the most."""
        statistics, newest = self._statistics, self._statistics.max_seq
        if self._ssrc is None or newest is None:
            return
        last, since = 0, 0
        if self._report is not None:
            last, since = self._report[0], min(int((time.monotonic() - self._report[1]) * 65536), 0xFFFFFFFF)
        info = RtcpReceiverInfo(
            ssrc=self._ssrc,
            fraction_lost=statistics.fraction_lost,
            packets_lost=statistics.packets_lost,
            highest_sequence=statistics.cycles + newest,
            jitter=statistics.jitter,
            lsr=last,
            dlsr=since,
        )
        await self._send(RtcpRrPacket(ssrc=self._own_ssrc, reports=[info]))
        if self.kind == "video":
            most = pack_remb_fci(_MOST_BITS_A_SECOND, [self._ssrc])
            await self._send(RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=self._own_ssrc, media_ssrc=0, fci=most))

    def _turns_to(self, ssrc: int, now_ns: int) -> bool:
        if self._ssrc is not None:
            if now_ns - self._heard_ns < _SILENT_NS:
                return False
            self._events.moved(self.kind)
        self._begin(ssrc)
        return True

    async def _send(self, packet: AnyRtcpPacket) -> None:
        try:
            await self._transport._send_rtp(bytes(packet))
        except (ConnectionError, OSError, asyncio.InvalidStateError) as error:
            log.debug("a report could not be sent: %s", error)


def _repeat(own_ssrc: int, ssrc: int, missing: list[int]) -> AnyRtcpPacket:
    packet = RtcpRtpfbPacket(fmt=RTCP_RTPFB_NACK, ssrc=own_ssrc, media_ssrc=ssrc)
    packet.lost = sorted(missing)
    return packet


def take_over(
    transceiver: RTCRtpTransceiver, axis: Axis, events: TrackEvents, now_ns: Callable[[], int]
) -> TrackReceiver:
    """Put a `TrackReceiver` in the place of the receiver that `transceiver` came with, which has not begun; it."""
    receiver = TrackReceiver(transceiver.receiver, axis, events, now_ns)
    setattr(transceiver, _PLACE, receiver)
    return receiver
