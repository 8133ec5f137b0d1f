"""One publisher's peer connection, on a loop that all peers of a process share; whole frames go into a bounded queue.

Packets are decrypted and put together in Python, which would hold up a loop that has deadlines: this one is in a reader
process. Nothing waits on it: what arrives is in the queue before the next datagram is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeVar, cast

from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.rtcicetransport import RTCIceGatherer
from aiortc.sdp import candidate_from_sdp

from streamer.clock import Clock
from streamer.config import IceServer, mask_url
from streamer.loop_thread import LoopThread
from streamer.sources.faults import SourceFault
from streamer.sources.rtc_clock import Axis
from streamer.sources.rtc_offer import Offer, answered_codec, read_offer
from streamer.sources.rtc_order import Coded
from streamer.sources.rtc_queue import FrameQueue, Received
from streamer.sources.rtc_receiver import TrackEvents, TrackReceiver, take_over
from streamer.sources.rtc_watch import KeyFrameRequests, Limits, Watch
from streamer.sources.sdp_fragment import Trickle

log = logging.getLogger(__name__)

Result = TypeVar("Result")
_TICK_S = 0.25
_TICKS_A_REPORT = 4
# Finding this machine's addresses takes milliseconds, and asking STUN servers for them up to 5 s.
_ANSWER_S = 8.0
_CLOSE_S = 3.0
# After a loss pictures are left out until a key frame comes, which is asked for; after so long they are let through,
# for some senders have none (intra refresh).
_HEALS_WITHIN_NS = 2_000_000_000


class RtcLoop:
    """The loop of this process's peers: its thread begins with the first and stays."""

    _instance: LoopThread | None = None
    _lock = threading.Lock()

    @classmethod
    def get(cls) -> LoopThread:
        """The thread, running."""
        with cls._lock:
            if cls._instance is None:
                cls._instance = LoopThread("rtc").__enter__()
            return cls._instance

    @classmethod
    def call(cls, work: Coroutine[Any, Any, Result], timeout_s: float) -> Result:
        """Run `work` there and wait for it, from any other thread.

        Raises:
            TimeoutError: it took longer, and was cancelled.
        """
        future = asyncio.run_coroutine_threadsafe(work, cls.get().loop)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise


@dataclass(frozen=True, slots=True, repr=False)
class PeerSettings:
    """What a peer is made of; no part of it is for logs: offers and ICE servers hold secrets."""

    offer: str
    video: bool
    audio: bool
    servers: tuple[IceServer, ...]
    clock: Clock
    limits: Limits = field(default_factory=Limits)


class Peer:
    """The connection with one publisher. Everything but `queue` and `why` belongs to the loop."""

    def __init__(self, settings: PeerSettings, queue: FrameQueue) -> None:
        self.queue = queue
        self.why: str | None = None
        """Why it ended, None while it has not."""
        self.offer: Offer = read_offer(settings.offer, video=settings.video, audio=settings.audio)
        self.receivers: list[TrackReceiver] = []
        self.asked = 0
        """Key frames asked for."""
        self._settings = settings
        self._watch = Watch(settings.limits)
        self._requests = KeyFrameRequests(settings.limits.ask_ns)
        self._broken_since_ns: int | None = None  # pictures that come refer to what got lost
        self._byes: set[str] = set()
        self._is_connected = False
        self._ticking: asyncio.Task[None] | None = None
        servers = _servers(settings.servers)
        # None would ask a public STUN server.
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self._connection.on("connectionstatechange", self._state_changed)

    async def answer(self) -> str:
        """Take the offer; the SDP answer, with all candidates in it."""
        axis, now_ns = Axis(), self._settings.clock.now_ns
        events = TrackEvents(self._frame, self._watch.heard, self._watch.moved, self._bye)
        tracks = self.offer.tracks
        transceivers = [self._connection.addTransceiver(track.kind, direction="recvonly") for track in tracks]
        for transceiver in transceivers:
            self.receivers.append(take_over(transceiver, axis, events, now_ns))
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(self.offer.text, "offer"))
        except ValueError as error:
            raise SourceFault(f"the SDP offer can't be used: {error}", permanent=True) from error
        for transceiver, track in zip(transceivers, tracks, strict=True):
            transceiver._codecs = [answered_codec(track.codec)]
        await self._connection.setLocalDescription(await self._connection.createAnswer())
        self._ticking = asyncio.create_task(self._tick_forever(), name="rtc:watch")
        return self.offer.complete(self._connection.localDescription.sdp)

    async def trickle(self, trickle: Trickle) -> None:
        """Try these addresses of the publisher's too."""
        # All media of a bundle share the transport of its first; others have candidates of their own, but the same ones
        # reach them, because checks between the wrong two fail.
        for transport in {receiver.transport.transport for receiver in self.receivers}:
            for text in trickle.candidates:
                with contextlib.suppress(ValueError):  # all have been told, or this one can't be used
                    await transport.addRemoteCandidate(candidate_from_sdp(text.removeprefix("candidate:")))
            if trickle.is_last:
                await transport.addRemoteCandidate(None)

    def ask_key_frame(self) -> None:
        """Ask the publisher for a key frame, now or as soon as the last request is old enough."""
        self._requests.want()
        self._ask_if_due()

    async def close(self) -> None:
        """End the session and free all it held."""
        self._end("the session was ended")
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        await self._connection.close()

    # -- what happens ----------------------------------------------------------------------------------------------

    def _frame(self, kind: str, coded: Coded, pts_ns: int, wall_ns: int | None) -> None:
        self._watch.frame(kind, pts_ns, coded.arrived_ns)
        is_key = kind == "audio" or is_key_frame(self._codec(kind), coded.data)
        if kind == "video" and not self._may_pass(coded, is_key):
            return
        track = cast(Literal["video", "audio"], kind)
        frame = Received(track, coded.data, pts_ns, wall_ns, coded.arrived_ns, is_key)
        if self.queue.put(frame):
            self.ask_key_frame()

    def _may_pass(self, coded: Coded, is_key: bool) -> bool:
        """Whether to decode a picture: after a loss those that refer to it are wrong, up to the next key frame."""
        now_ns = coded.arrived_ns
        if is_key:
            self._requests.came()
            self._broken_since_ns = None
            return True
        if coded.follows_loss and self._broken_since_ns is None:
            self._broken_since_ns = now_ns
        if self._broken_since_ns is None or now_ns - self._broken_since_ns > _HEALS_WITHIN_NS:
            return True
        self.queue.count("corrupt")
        self.ask_key_frame()
        return False

    def _codec(self, kind: str) -> str:
        return next(track.codec.name for track in self.offer.tracks if track.kind == kind)

    def _bye(self, kind: str, by_sender: bool) -> None:
        if not by_sender:
            gone = self.receivers[0].transport.transport._connection._closing
            self._end("the publisher vanished: it answers no more" if gone else "the publisher left")
            return
        self._byes.add(kind)
        if self._byes >= {track.kind for track in self.offer.tracks}:
            self._end("the publisher left")

    def _state_changed(self) -> None:
        state = self._connection.connectionState
        if state == "connected":
            self._is_connected = True
        elif state == "failed":
            text = "the publisher vanished: it answers no more" if self._is_connected else _NO_WAY
            self._end(text)
        elif state == "closed":
            self._end("the publisher left")

    def _end(self, why: str) -> None:
        if self.why is None:
            self.why = why
        self.queue.close()

    # -- what time brings ------------------------------------------------------------------------------------------

    async def _tick_forever(self) -> None:
        ticks = 0
        while self.why is None:
            await asyncio.sleep(_TICK_S)
            now_ns = self._settings.clock.now_ns()
            why = self._watch.verdict(now_ns, self.queue.waits_ns(now_ns))
            if why is not None:
                self._end(why)
            self._ask_if_due()
            ticks += 1
            if self._is_connected and ticks % _TICKS_A_REPORT == 0:
                for receiver in self.receivers:
                    await receiver.report()

    def _ask_if_due(self) -> None:
        if not self._is_connected or not self._requests.is_due(self._settings.clock.now_ns()):
            return
        for receiver in self.receivers:
            if receiver.kind == "video":
                self.asked += 1
                asyncio.ensure_future(receiver.ask_key_frame())  # noqa: RUF006 - it ends within this turn of the loop


_NO_WAY = "no way was found between the publisher and this machine; a firewall may be between them"


def open_peer(settings: PeerSettings, queue: FrameQueue) -> tuple[Peer, str]:
    """A peer that has answered, and its answer; from any thread but the loop's.

    Raises:
        SourceFault: the offer can't be used, or nothing could be answered in time.
    """

    async def opened() -> tuple[Peer, str]:
        peer = Peer(settings, queue)
        try:
            return peer, await peer.answer()
        except BaseException:
            await peer.close()
            raise

    try:
        return RtcLoop.call(opened(), _ANSWER_S)
    except TimeoutError:
        raise SourceFault("the ICE servers did not answer in time; correct ice_servers", permanent=False) from None


def close_peer(peer: Peer) -> None:
    """End it, from any thread but the loop's."""
    try:
        RtcLoop.call(peer.close(), _CLOSE_S)
    except TimeoutError:
        log.warning("a WebRTC session did not close in time")


def post_to_peer(peer: Peer, action: Literal["trickle", "ask"], trickle: Trickle | None = None) -> None:
    """Have a peer try candidates, or ask for a key frame, soon; from any thread."""
    thread = RtcLoop.get()
    if action == "ask":
        thread.post(peer.ask_key_frame)
    elif trickle is not None:
        thread.post(partial(_begin, peer.trickle(trickle)))


def _begin(work: Coroutine[Any, Any, None]) -> None:
    asyncio.ensure_future(work)  # noqa: RUF006 - it waits for nothing


def is_key_frame(codec: str, data: bytes) -> bool:
    """Whether decoding can begin with this frame: H.264 with an IDR slice or a parameter set (ITU-T H.264 table 7-1),
    VP8 with the bit of its first byte (RFC 6386 section 9.1)."""
    if codec == "VP8":
        return bool(data) and not data[0] & 1
    at = data.find(b"\x00\x00\x01")
    while 0 <= at < len(data) - 3:
        if data[at + 3] & 0x1F in (5, 7):
            return True
        if data[at + 3] & 0x1F == 1:
            return False
        at = data.find(b"\x00\x00\x01", at + 3)
    return False


def _servers(servers: tuple[IceServer, ...]) -> list[RTCIceServer]:
    """Those that aiortc can use; it takes one STUN and one TURN server, the first of each."""
    usable = []
    for server in servers:
        for url in server.urls:
            one = RTCIceServer(urls=url, username=server.username, credential=server.credential)
            try:
                RTCIceGatherer(iceServers=[one])
            except ValueError:
                log.warning("the ICE server %s can't be used here: a name or IPv4 address, then a port", mask_url(url))
            else:
                usable.append(one)
    return usable
