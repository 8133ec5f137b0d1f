"""What the receiver relies on in aiortc: a version that changes there fails here, and not in front of a user."""

from __future__ import annotations

import inspect
import time
from typing import Any

import aiortc
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtp import RtcpPacket, RtcpPsfbPacket, RtcpRrPacket, RtpPacket

from streamer.sources.rtc_clock import Axis
from streamer.sources.rtc_order import Coded
from streamer.sources.rtc_receiver import TrackEvents, TrackReceiver, take_over

# What aiortc's peer connection and transports call on a receiver.
CALLED = {
    "track",
    "transport",
    "setTransport",
    "receive",
    "stop",
    "_set_rtcp_ssrc",
    "_handle_disconnect",
    "_handle_rtcp_packet",
    "_handle_rtp_packet",
}


def silent() -> TrackEvents:
    return TrackEvents(*[lambda *_: None] * 4)


async def taken_over(kind: str, events: TrackEvents) -> tuple[TrackReceiver, RTCPeerConnection]:
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    transceiver = connection.addTransceiver(kind, direction="recvonly")
    receiver = take_over(transceiver, Axis(), events, time.monotonic_ns)
    assert transceiver.receiver is receiver and connection.getReceivers() == [receiver]
    return receiver, connection


def test_the_version_is_the_one_it_was_written_against() -> None:
    """Another minor version has to be read first: its receiver is replaced by ours."""
    assert aiortc.__version__.startswith("1.16.")


def test_all_that_is_called_on_a_receiver_is_there() -> None:
    """What aiortc's own receiver offers beyond that is for applications (statistics), and no application asks."""
    for name in CALLED:
        assert hasattr(RTCRtpReceiver, name), f"aiortc has no {name} any more"
        assert hasattr(TrackReceiver, name), name
    offered = {name for name, _ in inspect.getmembers(RTCRtpReceiver) if not name.startswith(("__", "_RTCRtpReceiver"))}
    for_applications = {"getCapabilities", "getStats", "getSynchronizationSources", "_run_rtcp"}
    assert offered - CALLED <= for_applications | {"_send_rtcp", "_send_rtcp_nack", "_send_rtcp_pli"}


def test_what_is_called_on_a_transport_is_there() -> None:
    """The receiver registers, and sends its reports, with these."""
    for name in ("_register_rtp_receiver", "_unregister_rtp_receiver", "_send_rtp"):
        assert callable(getattr(RTCDtlsTransport, name))


async def test_it_takes_the_place_of_a_receiver_and_keeps_what_it_was_told() -> None:
    """The kind, the transport and the sender's own number come from the receiver that was there."""
    receiver, connection = await taken_over("audio", silent())
    (transceiver,) = connection.getTransceivers()
    assert receiver.kind == "audio" and receiver.transport is transceiver.sender.transport
    assert receiver._own_ssrc == transceiver.sender._ssrc
    await connection.close()


async def test_frames_reports_and_requests_go_their_way() -> None:
    """Opus packets come out as they were sent; a report and a request name the sender; another sender of the same
    track is not mixed in."""
    frames: list[Coded] = []
    heard: list[int] = []
    events = TrackEvents(
        lambda kind, coded, pts, wall: frames.append(coded),
        lambda now, size: heard.append(size),
        *[lambda *_: None] * 2,
    )
    receiver, connection = await taken_over("audio", events)
    sent: list[bytes] = []

    class Transport:
        def _register_rtp_receiver(self, *_: object) -> None: ...

        def _unregister_rtp_receiver(self, *_: object) -> None: ...

        async def _send_rtp(self, data: bytes) -> None:
            sent.append(data)

    transport = receiver.transport
    receiver.setTransport(Transport())  # type: ignore[arg-type]
    codec = aiortc.rtcrtpparameters.RTCRtpCodecParameters("audio/opus", 48_000, 2, 111)
    await receiver.receive(aiortc.rtcrtpparameters.RTCRtpReceiveParameters(codecs=[codec]))
    for number in range(3):
        await receiver._handle_rtp_packet(_opus(number, ssrc=5), 0)
        await receiver._handle_rtp_packet(_opus(number + 900, ssrc=6), 0)
        await receiver._handle_rtp_packet(_opus(number, ssrc=5, payload_type=96), 0)
    assert [coded.data for coded in frames] == [b"\x00", b"\x01", b"\x02"] and heard == [1, 1, 1]
    await receiver.report()
    await receiver.ask_key_frame()
    parsed: list[Any] = [packet for data in sent for packet in RtcpPacket.parse(data)]
    assert isinstance(parsed[0], RtcpRrPacket) and parsed[0].reports[0].ssrc == 5
    assert isinstance(parsed[1], RtcpPsfbPacket) and parsed[1].media_ssrc == 5
    await receiver.stop()
    receiver.setTransport(transport)
    await connection.close()


def _opus(number: int, *, ssrc: int, payload_type: int = 111) -> RtpPacket:
    return RtpPacket(
        payload_type=payload_type,
        sequence_number=number,
        timestamp=number * 960,
        ssrc=ssrc,
        payload=bytes([number % 256]),
    )
