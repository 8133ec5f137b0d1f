"""A live source: keeps a reader on it, moves through its states, passes its events on."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from streamer.channel import Channel
from streamer.clock import Clock
from streamer.footage import Footage
from streamer.media import Effort, EpochStart, SourceEvent, SourceStats, StateChange
from streamer.sources.assembly import Target
from streamer.sources.faults import Fault
from streamer.sources.inputs import Opener
from streamer.sources.machine import Action, Machine, Policy
from streamer.sources.reader import Owner, Reader, ReaderSettings
from streamer.sources.sdp_fragment import Trickle

_S = 1_000_000_000
# How long a source that is stopped waits for its reader; a reader that is blocked ends by its own timeout.
_STOP_S = 0.5
# Readers given up on that have not ended yet; with so many, no further is started.
_ABANDONED = 3
_RECALL_S = 5.0


def droppable(event: SourceEvent) -> bool:
    """Whether a full channel may drop `event`: media yes, states and epochs never."""
    return not isinstance(event, StateChange | EpochStart)


class AnyReader(Protocol):
    """A reader, wherever it runs: `Reader` on a thread here, or one in a process of the pool."""

    @property
    def is_alive(self) -> bool: ...

    @property
    def is_busy(self) -> bool: ...

    def start(self) -> None: ...

    def tell(self, trickle: Trickle) -> None: ...

    def keep(self, on: bool) -> None: ...

    def recall(self, begin_ns: int, end_ns: int, answer: Callable[[Footage | None], None]) -> None: ...

    def stop(self) -> None: ...


MakeReader = Callable[[ReaderSettings, Owner, Callable[[], None]], AnyReader]


class LiveSource:
    """One source, for as long as `run` runs.

    Readers report from their threads, time passes on the loop: the machine and the order of events in the channel are
    guarded by one lock, held for microseconds.

    Args:
        chance: draws the jitter of retries, in [0, 1).
    """

    def __init__(
        self,
        name: str,
        opener: Opener,
        target: Target,
        clock: Clock,
        policy: Policy,
        chance: Callable[[], float] = random.random,
        make_reader: MakeReader = Reader,
    ) -> None:
        self.stats = SourceStats()
        self._settings = ReaderSettings(name, opener, target, clock, self.stats)
        self._clock = clock
        self._policy = policy
        self._chance = chance
        self._make_reader = make_reader
        self._lock = threading.Lock()
        self._machine = self._new_machine()
        self._channel: Channel[SourceEvent] | None = None
        self._reader: AnyReader | None = None
        self._abandoned: list[AnyReader] = []
        self._epochs = 0
        self._effort: Effort = "all"
        self._keeps = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()

    def _new_machine(self) -> Machine:
        return Machine(self._policy, self._clock.now_ns(), self._chance)

    @property
    def effort(self) -> Effort:
        """How many pictures are decoded now."""
        return self._effort

    def ease(self, effort: Effort) -> None:
        """Decode as many pictures as `effort` says, from the next packet on and across reconnects, until told
        otherwise. Any thread.

        `keyframes`: key frames alone. `none`: no picture; where no sound comes, key frames. Back at `all` pictures come
        again from the next key frame on. States, epochs and how far the track is said to be read stay as they are; the
        pictures left out are counted as `eased`.
        """
        self._effort = effort

    def keep(self, on: bool) -> None:
        """Keep the last seconds of pictures, encoded and in memory alone, for `footage`, or drop them at once. It holds
        across reconnects; what a connection brought goes with it."""
        with self._lock:
            if on != self._keeps:
                self._keeps = on
                if self._reader is not None:
                    self._reader.keep(on)

    async def footage(self, begin_ns: int, end_ns: int) -> Footage | None:
        """What is kept of the time between (wall time as its segments have it), from a key frame on; None where nothing
        is, or where it does not come in time."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Footage | None] = loop.create_future()
        with self._lock:
            reader = self._reader
        if reader is None:
            return None
        reader.recall(begin_ns, end_ns, lambda found: _answer(loop, future, found))
        try:
            async with asyncio.timeout(_RECALL_S):
                return await future
        except TimeoutError:
            return None

    async def run(self, channel: Channel[SourceEvent]) -> None:
        """Deliver events into `channel` until the media end (files) or the task is cancelled."""
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        with self._lock:
            self._channel = channel
            self._machine = self._new_machine()
            self._tell(self._machine.start(self._clock.now_ns()))
        try:
            while (due_ns := self._advance()) is not None:
                await self._sleep_until(due_ns)
        finally:
            await self._stop()

    def _advance(self) -> int | None:
        """Do what is due; when to come back, None: never."""
        with self._lock:
            now_ns = self._clock.now_ns()
            if self._machine.state == "live" and self._reader is not None and self._reader.is_busy:
                self._machine.media(now_ns)
            change, action = self._machine.tick(now_ns)
            self._tell(change)
            if action is Action.ABANDON:
                self._abandon()
            elif action is Action.CONNECT:
                self._connect(now_ns)
            return self._machine.next_ns

    async def _sleep_until(self, due_ns: int) -> None:
        try:
            async with asyncio.timeout(max(0.0, (due_ns - self._clock.now_ns()) / _S)):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _stop(self) -> None:
        with self._lock:
            reader = self._reader
            self._abandon()
            self._channel = None
        deadline = asyncio.get_running_loop().time() + _STOP_S
        while reader is not None and reader.is_alive and asyncio.get_running_loop().time() < deadline:
            self._wake.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._wake.wait()
            except TimeoutError:
                break
        self._abandoned = [reader for reader in self._abandoned if reader.is_alive]

    def _connect(self, now_ns: int) -> None:
        self._abandoned = [reader for reader in self._abandoned if reader.is_alive]
        if len(self._abandoned) >= _ABANDONED:
            self._tell(self._machine.lost(now_ns, "earlier attempts to connect still hang"))
            return
        self._reader = self._make_reader(self._settings, self, self._wake_loop)
        self._reader.keep(self._keeps)
        self._reader.start()

    def _abandon(self) -> None:
        if self._reader is not None:
            self._reader.stop()
            self._abandoned.append(self._reader)
            self._reader = None

    def _wake_loop(self) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake.set)

    def _tell(self, event: SourceEvent | None) -> None:
        if event is None or self._channel is None:
            return
        if not self._channel.offer(event):
            self.stats.drop("overflow")

    # -- from the reader's thread --------------------------------------------------------------------------------

    def deliver(self, reader: object, events: list[SourceEvent], packets: int = 1) -> bool:
        """Packets arrived and brought `events`; False: this reader was given up."""
        with self._lock:
            if reader is not self._reader:
                return False
            if events or self._machine.state in ("live", "stalled"):
                change = self._machine.media(self._clock.now_ns(), packets)
                if change is not None:
                    self._tell(change)
                    self._wake_loop()
            else:
                self._machine.heard(self._clock.now_ns())
            for event in events:
                self._tell(self._named(event) if isinstance(event, EpochStart) else event)
            return True

    def _named(self, start: EpochStart) -> EpochStart:
        if start.reason == "start" and self._epochs:
            self.stats.reconnects += 1
            start = replace(start, reason="reconnect")
        self._epochs += 1
        return start

    def answered(self, reader: object, answer: str) -> None:
        """Nobody connects to this source, so nobody is answered."""

    def over(self, reader: object, fault: Fault | None) -> None:
        """The reader ended: by `fault`, or with its media."""
        with self._lock:
            if reader is not self._reader:
                return
            self._reader = None
            now_ns = self._clock.now_ns()
            if fault is None:
                change = self._machine.finished(now_ns)
            elif fault.permanent:
                change = self._machine.refused(now_ns, fault.text)
            else:
                change = self._machine.lost(now_ns, fault.text)
            self._tell(change)
        self._wake_loop()


def _answer(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Footage | None], found: Footage | None) -> None:
    def settle() -> None:
        if not future.done():
            future.set_result(found)

    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)
