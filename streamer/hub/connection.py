"""One subscriber's connection on websockets' own: it takes whole frames, made once for all subscribers."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import CloseCode, Frame
from websockets.protocol import OPEN, Event

from streamer.hub.fanout import Fanout
from streamer.hub.filters import Wanted
from streamer.hub.frames import PING_FRAME, WINDOW_BITS
from streamer.hub.subscriber import Subscriber

# The kernel's part of a subscriber's memory (it doubles the figure); left alone it grows to megabytes for a slow one.
_SEND_BUFFER = 128 * 1024
# Frames from a subscriber that are forgiven at once, and how many a second after that.
_FRAMES, _FRAMES_PER_S = 100.0, 10.0
_DISMISS_S = 1.0
_DEFLATE = ServerPerMessageDeflateFactory(
    server_no_context_takeover=True, client_no_context_takeover=True, server_max_window_bits=WINDOW_BITS
)


@dataclass(slots=True)
class Company:
    """What all connections of a hub share: `blocked` are those whose sockets take nothing now."""

    fanout: Fanout
    blocked: set[HubConnection] = field(default_factory=set)
    accepted: int = 0
    closed_flood: int = 0


class HubConnection(ServerConnection):
    """A subscriber's connection: knows whether its socket takes bytes, and ends when its peer talks too much.

    The library must be told to pause as soon as anything waits in the transport (`write_limit=0`): then what is not
    paused has nothing waiting, and the fan-out can write to its socket without asking the transport.
    """

    company: Company
    wanted: Wanted
    subscriber: Subscriber | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.company.accepted += 1
        self.number = self.company.accepted
        self.blocked_since_s = 0.0
        self.writable = asyncio.Event()
        self.writable.set()
        self._allowance, self._allowance_at_s = _FRAMES, self.loop.time()
        self._heard = True
        self.descriptor = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self.descriptor = sock.fileno()

    # --- sending -------------------------------------------------------------------------------------------------

    def offer_compression(self) -> None:
        """Agree to permessage-deflate in the handshake, where the peer's request has it too."""
        self.protocol.available_extensions = [_DEFLATE]

    @property
    def compressed(self) -> bool:
        """Whether compressed frames were agreed on."""
        return bool(self.protocol.extensions)

    @property
    def ready(self) -> bool:
        """Whether nothing waits before what is written now, and it would go somewhere."""
        return not self.paused and self.protocol.state is OPEN

    def take(self, data: bytes) -> bool:
        """Take whole frames; False, and nothing taken, while not ready."""
        if not self.ready:
            return False
        self.transport.write(data)
        return True

    def take_rest(self, data: bytes) -> None:
        """Take what the socket did not take of a frame written to it directly."""
        self.transport.write(data)

    async def deliver(self, data: bytes) -> bool:
        """Send whole frames as soon as the socket takes them; False where the connection ended first."""
        while not self.take(data):
            if self.protocol.state is not OPEN:
                return False
            await self.writable.wait()
        return True

    def ping_in_time(self) -> bool:
        """Send a ping; False if nothing has come since the one before. A blocked connection has its own deadline."""
        if not self.ready:
            return True
        if not self._heard:
            return False
        self._heard = False
        return self.take(PING_FRAME)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.blocked_since_s = self.loop.time()
        self.writable.clear()
        self.company.blocked.add(self)
        self._hold()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.company.blocked.discard(self)
        self.writable.set()
        if self.subscriber is not None:
            self.company.fanout.resume(self.subscriber)

    def _hold(self) -> None:
        """Have nobody write to the socket from outside: something waits in the transport, or the connection is over."""
        if self.subscriber is not None and not self.ready:
            self.company.fanout.hold(self.subscriber)

    # --- hearing -------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._heard = True
        super().data_received(data)
        self._hold()

    def eof_received(self) -> None:
        super().eof_received()
        self._hold()

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame) and not self._may_speak():
            return
        super().process_event(event)

    def _may_speak(self) -> bool:
        """Subscribers have nothing to say: a few frames are forgiven, a flood ends the connection."""
        now_s = self.loop.time()
        earned = (now_s - self._allowance_at_s) * _FRAMES_PER_S
        self._allowance, self._allowance_at_s = min(self._allowance + earned, _FRAMES) - 1.0, now_s
        if self._allowance < 0.0 and self.protocol.state is OPEN:
            self.company.closed_flood += 1
            self.dismiss(CloseCode.POLICY_VIOLATION, "subscribers have nothing to say")
        return self._allowance >= 0.0

    # --- parting -------------------------------------------------------------------------------------------------

    def part(self, code: CloseCode, reason: str) -> None:
        """Begin to close; the peer has its say, if it has one."""
        if self.protocol.state is OPEN:
            self.protocol.send_close(code, reason)
            self._hold()
            self.send_data()

    def dismiss(self, code: CloseCode, reason: str) -> None:
        """Say `code` and part, without waiting for a peer that may never answer."""
        if self.protocol.state is OPEN:
            self.protocol.fail(code, reason)
            self._hold()
            self.send_data()
            # What it still sends stays unread: reading on would have the peer see a reset before it sees the reason.
            self.transport.pause_reading()
        self.loop.call_later(_DISMISS_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self.company.blocked.discard(self)
        self.writable.set()
        super().connection_lost(exc)
        self._hold()  # the descriptor is closed after this
