"""Publishers over WebRTC (WHIP, RFC 9725) as the reader takes them: an input like a camera's, and what is said to it.

Nothing here imports aiortc: it costs a quarter of a second and 30 MB, which only a process with a publisher pays.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import av

from streamer.clock import Clock, HostClock
from streamer.config import IceServer
from streamer.media import SourceStats
from streamer.sources.faults import SourceFault
from streamer.sources.inputs import Arrived, Packet
from streamer.sources.rtc_queue import Bounds, FrameQueue, Received
from streamer.sources.sdp_fragment import Trickle
from streamer.sources.timeline import Alignment
from streamer.sources.tracks import Tracks

if TYPE_CHECKING:
    from streamer.sources.rtc_peer import Peer

# How soon a reader sees that it is not wanted any more, and how long a request for a key frame is not repeated.
_POLL_S = 0.1
_ASK_APART_NS = 500_000_000
_NS_BASE = Fraction(1, 1_000_000_000)
_DECODERS = {"H264": "h264", "VP8": "vp8", "opus": "opus"}


@dataclass(frozen=True, slots=True, repr=False)
class WhipOpener:
    """Answers one publisher's offer. Not to be logged: offers and ICE servers hold secrets."""

    offer: str
    video: bool
    audio: bool
    servers: tuple[IceServer, ...] = ()
    bounds: Bounds = field(default_factory=Bounds)

    @property
    def endless(self) -> bool:
        """A publisher that has no more to send has left, and another may come."""
        return True

    def open(self, stop: threading.Event) -> WhipInput:
        """Answer. Media come once the publisher has the answer, and connects.

        Raises:
            SourceFault: the offer can't be used.
        """
        from streamer.sources.rtc_peer import PeerSettings, open_peer

        clock = HostClock()
        settings = PeerSettings(self.offer, self.video, self.audio, self.servers, clock)
        peer, answer = open_peer(settings, FrameQueue(self.bounds))
        return WhipInput(peer, answer, clock)


@dataclass(frozen=True, slots=True)
class PublishedVideo:
    """The pictures of a publisher; RTP says nothing of their rate."""

    codec_context: av.VideoCodecContext
    index: int = 0
    time_base: Fraction = _NS_BASE
    guessed_rate: Fraction | None = None
    start_time: int | None = None


@dataclass(frozen=True, slots=True)
class PublishedAudio:
    """The sound of a publisher."""

    codec_context: av.AudioCodecContext
    index: int = 1
    time_base: Fraction = _NS_BASE
    start_time: int | None = None


class WhipInput:
    """One session with a publisher.

    answer: the SDP answer to its offer.
    """

    alignment: Alignment = "reports"
    delays_pictures = False

    def __init__(self, peer: Peer, answer: str, clock: Clock) -> None:
        self.answer = answer
        self.peer = peer
        self._clock = clock
        self._asked_ns = 0
        names = {
            track.kind: _DECODERS[track.codec.name if track.kind == "video" else "opus"] for track in peer.offer.tracks
        }
        video = PublishedVideo(cast("av.VideoCodecContext", _context(names["video"]))) if "video" in names else None
        audio = PublishedAudio(cast("av.AudioCodecContext", _context(names["audio"]))) if "audio" in names else None
        self.tracks = Tracks(video, audio)

    def packets(self, stop: threading.Event) -> Iterator[Packet | Arrived]:
        """Whole frames as they arrive.

        Raises:
            SourceFault: the session is over; the fault says why.
        """
        queue = self.peer.queue
        while not stop.is_set():
            frame = queue.get(_POLL_S)
            if frame is not None:
                yield _arrived(frame)
            elif queue.is_over:
                raise SourceFault(self.peer.why or "the publisher left", permanent=False)

    def tell(self, trickle: Trickle) -> None:
        """Try more addresses of the publisher's. Any thread."""
        from streamer.sources.rtc_peer import post_to_peer

        post_to_peer(self.peer, "trickle", trickle)

    def attend(self, stats: SourceStats, *, lacks_key_frame: bool) -> None:
        """Called with every packet: count into `stats` what did not come this far, and ask for a key frame where the
        decoder lacks one."""
        for reason, count in self.peer.queue.take_dropped().items():
            stats.drop(reason, count)
        now_ns = self._clock.now_ns()
        if lacks_key_frame and now_ns - self._asked_ns >= _ASK_APART_NS:
            from streamer.sources.rtc_peer import post_to_peer

            self._asked_ns = now_ns
            post_to_peer(self.peer, "ask")

    def close(self) -> None:
        """End the session."""
        from streamer.sources.rtc_peer import close_peer

        close_peer(self.peer)


def _context(name: str) -> av.codec.context.CodecContext:
    return av.CodecContext.create(name, "r")


def _arrived(frame: Received) -> Arrived:
    packet = cast("Packet", av.Packet(frame.data))
    packet.pts, packet.time_base = frame.pts_ns, _NS_BASE
    packet.is_keyframe = frame.is_key
    return Arrived(packet, 0 if frame.kind == "video" else 1, frame.arrived_ns, frame.wall_ns)
