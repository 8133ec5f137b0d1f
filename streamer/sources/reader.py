"""One connection, read on a thread of its own: packets -> media time -> events for the source that owns it."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from av.error import FFmpegError

from streamer.clock import Clock
from streamer.footage import Footage
from streamer.media import Effort, EpochStart, SourceEvent, SourceStats
from streamer.sources.assembly import Assembly, Target
from streamer.sources.faults import Fault, SourceFault, explain
from streamer.sources.inputs import Conversation, Input, Opener, Stamper
from streamer.sources.pace import Pace
from streamer.sources.ring import PacketRing
from streamer.sources.sdp_fragment import Trickle
from streamer.sources.timeline import Epoch, Placed, Timeline

log = logging.getLogger(__name__)

# Readers step back by this much: where the cores don't suffice, pictures are given up, and not the answers.
_NICE = 5

_MS = 1_000_000
_S = 1_000_000_000
# A camera whose clock is off by more than this has none.
_SANE_WALL_NS = 86_400 * _S


class Owner(Protocol):
    """Who a reader reports to; every call comes on the reader's thread. False: the reader is not wanted any more.
    effort: how many pictures are to be decoded, asked at every packet."""

    @property
    def effort(self) -> Effort: ...

    def deliver(self, reader: object, events: list[SourceEvent], packets: int = 1) -> bool: ...

    def answered(self, reader: object, answer: str) -> None: ...

    def over(self, reader: object, fault: Fault | None) -> None: ...


@dataclass(frozen=True, slots=True)
class ReaderSettings:
    """What every reader of one source is made of."""

    name: str
    opener: Opener
    target: Target
    clock: Clock
    stats: SourceStats


class Reader:
    """Opens a connection, reads until it ends or `stop` is called, and frees everything on its own thread."""

    def __init__(self, settings: ReaderSettings, owner: Owner, ended: Callable[[], None]) -> None:
        self._settings = settings
        self._owner = owner
        self._ended = ended
        self._stop = threading.Event()
        self._pace = Pace()
        self._ring = PacketRing(settings.stats)
        self._is_over = False
        self._conversation: Conversation | None = None
        self.is_busy = False
        """Whether it is at work on media that came; only while it is not can the camera be silent."""
        # A daemon: one that hangs in a name lookup must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"reader:{settings.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def tell(self, trickle: Trickle) -> None:
        """Pass on what the sender, who was answered already, has to add."""
        if self._conversation is not None:
            self._conversation.tell(trickle)

    def keep(self, on: bool) -> None:
        """Whether the last seconds of encoded pictures are kept for `recall`; off at first."""
        self._ring.switch(on)

    def recall(self, begin_ns: int, end_ns: int, answer: Callable[[Footage | None], None]) -> None:
        """Have `answer` told what is kept of the time between (wall time), None where nothing is."""
        answer(self.kept(begin_ns, end_ns))

    def kept(self, begin_ns: int, end_ns: int) -> Footage | None:
        """What is kept of the time between (wall time), None where nothing is. Any thread."""
        return self._ring.between(begin_ns, end_ns)

    def stop(self) -> None:
        """Ask it to end; it does with the next packet, or when its read times out."""
        self._stop.set()

    @property
    def is_alive(self) -> bool:
        """Whether it still reads; once it does not, its thread has nothing left to do but to end."""
        return self._thread.is_alive() and not self._is_over

    def _run(self) -> None:
        fault: Fault | None
        _yield_to_others()
        try:
            fault = self._read()
        except (FFmpegError, SourceFault, OSError) as error:
            fault = explain(error)
        except Exception:  # The thread's border: a fault of ours must show in the log and end as a lost connection.
            log.exception("reader of %s failed", self._settings.name)
            fault = Fault("internal error, see the log", False)
        self._ring.close()
        self._owner.over(self, fault)
        self._is_over = True
        self._ended()

    def _read(self) -> Fault | None:
        settings = self._settings
        source = settings.opener.open(self._stop)
        try:
            if self._stop.is_set():
                return None
            if isinstance(source, Conversation):
                self._conversation = source
                self._owner.answered(self, source.answer)
            self._pump(source)
        finally:
            self._conversation = None
            source.close()
        return Fault("the camera ended the stream", False) if settings.opener.endless else None

    def _pump(self, source: Input) -> None:
        clock, stats = self._settings.clock, self._settings.stats
        timeline = Timeline(source.alignment)
        assembly = Assembly(source.tracks, self._settings.target, stats, ring=self._ring)
        stamper = Stamper(source.tracks, delays_pictures=source.delays_pictures)
        asked_ns = clock.now_ns()
        for packet in source.packets(self._stop):
            self.is_busy = True
            now_ns = clock.now_ns()
            self._pace.read(asked_ns, now_ns)
            stamp = stamper.stamp(packet, now_ns, fresh=self._pace.is_fresh, reports=timeline.asks_reports)
            stats.packets[stamp.track] += 1
            stats.bytes += stamp.payload.size
            events = self._events(timeline.feed(stamp), assembly, now_ns)
            if self._conversation is not None:
                self._conversation.attend(stats, lacks_key_frame=assembly.lacks_key_frame)
            if assembly.interval_ns:
                stats.fps = _S / assembly.interval_ns
            if not self._owner.deliver(self, events):
                return
            self.is_busy = False
            asked_ns = clock.now_ns()
        now_ns = clock.now_ns()
        events = self._events(timeline.flush(), assembly, now_ns)
        self._owner.deliver(self, events + assembly.flush(now_ns))

    def _events(self, placed: list[Placed], assembly: Assembly, now_ns: int) -> list[SourceEvent]:
        events: list[SourceEvent] = []
        stats, pace = self._settings.stats, self._pace
        assembly.ease(self._owner.effort, pace.allows)
        for item in placed:
            if item.epoch is not None:
                events.append(self._begin(item.epoch))
                assembly.restart(item.epoch.media_ns)
                pace.restart()
            if item.preroll:
                stats.drop("preroll")
            pace.place(item.media_ns)
            stats.lag_ms += ((now_ns - item.media_ns) / _MS - stats.lag_ms) / 16
            events += assembly.feed(item.stamp, item.media_ns, item.order_ns)
        return events

    def _begin(self, epoch: Epoch) -> EpochStart:
        clock = self._settings.clock
        wall_offset_ns = clock.wall_ns() - clock.now_ns()
        camera_ns = epoch.wall_offset_ns
        if camera_ns is not None and abs(camera_ns - wall_offset_ns) < _SANE_WALL_NS:
            wall_offset_ns = camera_ns
        self._ring.begin(wall_offset_ns)
        return EpochStart("jump" if epoch.jump else "start", epoch.media_ns, wall_offset_ns)


def _yield_to_others() -> None:
    """Lower this thread's priority below the event loop's and the engine's (Linux keeps one for each thread)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox may forbid it, and nothing depends on it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
