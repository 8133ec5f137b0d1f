"""One live stream, from its camera to the store: source -> windows -> dispatch -> decide -> publish.

Each stream is a TaskGroup of its own under a supervisor: whatever breaks in one ends there, is told, and starts
again; the others never
notice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from streamer.answer import Answer, InOrder, segment_of, shed
from streamer.channel import Channel, ChannelClosed, ChannelStatistics
from streamer.clock import Clock
from streamer.decide import EventDetector, EventPolicy, labels_of
from streamer.dispatch import Dispatcher
from streamer.media import (
    AudioChunk,
    EpochStart,
    Frame,
    Geometry,
    Progress,
    SourceEvent,
    SourceState,
    SourceStats,
    StateChange,
    Window,
)
from streamer.messages import FeedMessage, Previous, Segment, StreamMessage
from streamer.window import Windower, WindowPolicy

log = logging.getLogger(__name__)

_S = 1_000_000_000
# Media waiting between the reader thread and the loop: about 3 s of it; past that the oldest goes.
_CHANNEL_CAPACITY = 128
# What part of the bound a window may wait for late media; the rest is for compute and publishing.
_GRACE_PART = 0.45


class Source(Protocol):
    """Where a stream's media come from."""

    stats: SourceStats

    async def run(self, channel: Channel[SourceEvent]) -> None: ...


class Outlet(Protocol):
    """Where units of messages go: in order a stream, never waiting, bounded by the outlet itself."""

    def publish(self, stream: str, messages: Sequence[FeedMessage], deadline_ns: int | None = None) -> None: ...

    def publish_ns(self, quantile: float) -> int: ...


class Watcher(Protocol):
    """Is told of every answer (metrics)."""

    def answered(self, answer: Answer, segment: Segment) -> None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every stream shares."""

    clock: Clock
    geometry: Geometry
    names: list[str]
    dispatcher: Dispatcher
    outlet: Outlet
    watcher: Watcher
    bound_ns: int
    new_epoch: Callable[[], str]
    droppable: Callable[[SourceEvent], bool]


class LiveStream:
    """The life of one stream, from being added to being removed.

    Args:
        previous: the epoch before, where one is known, to be named by the first announcement.
    """

    def __init__(self, name: str, source: Source, around: Surroundings, previous: Previous | None) -> None:
        self.name = name
        self.source = source
        self.state: SourceState = "connecting"
        self.reason: str | None = None
        self.since_ns = around.clock.wall_ns()
        self.previous = previous
        self.epoch: str | None = None
        self.last_segment: Segment | None = None
        self.restarts = 0
        self._around = around
        policy = WindowPolicy(around.bound_ns, int(around.bound_ns * _GRACE_PART))
        self._windower = Windower(name, around.geometry, policy)
        self._detector = EventDetector(name, around.names, EventPolicy())
        self._order = InOrder()
        self._accepted_seq = -1
        self._channel: Channel[SourceEvent] = Channel(_CHANNEL_CAPACITY, around.droppable)
        self._task: asyncio.Task[None] | None = None
        self._emptied = asyncio.Event()
        self._emptied.set()

    @property
    def queue(self) -> ChannelStatistics:
        """The media waiting to be cut into windows."""
        return self._channel.statistics

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin in the background; the first word of it is that it is connecting."""
        self._turn("connecting", None)
        self._flush()
        self._task = asyncio.create_task(self._run(), name=f"stream:{self.name}")

    async def stop(self, reason: str, timeout_s: float = 2.0) -> None:
        """End: what was accepted is answered (or shed after `timeout_s`) and published, then the stream is announced
        as ended."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._channel.drain()  # pictures are large, and nothing will be cut from these
        self._end_epoch(tail=False)
        self._turn("ended", reason)
        self._emptied.clear()
        self._flush()
        try:
            async with asyncio.timeout(timeout_s):
                await self._emptied.wait()
        except TimeoutError:
            for window in self._order.unanswered():
                self._order.answer(shed(window, "draining", self._around.clock.now_ns()))
            self._flush()
        self._around.dispatcher.forget(self.name)

    async def _run(self) -> None:
        try:
            await self._supervise()
        except asyncio.CancelledError as error:
            # Its traceback holds a frame of the task group that holds it in turn: a ring around all that this stream
            # has, media included, which would stay until the collector gets to it.
            raise error.with_traceback(None) from None

    async def _supervise(self) -> None:
        while True:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._feed(), name=f"source:{self.name}")
                    tasks.create_task(self._consume(), name=f"windows:{self.name}")
                return
            except* Exception:  # A fault of ours in one stream must neither end the others nor this one for good.
                log.exception("stream %s failed and starts again", self.name)
                self.restarts += 1
                self._end_epoch(tail=False)
                self._turn("reconnecting", "internal error, see the log")
                self._flush()
            self._channel = Channel(_CHANNEL_CAPACITY, self._around.droppable)
            await asyncio.sleep(1.0)

    async def _feed(self) -> None:
        try:
            await self.source.run(self._channel)
        finally:
            self._channel.close()

    async def _consume(self) -> None:
        while True:
            try:
                event = await self._next_event()
            except ChannelClosed:
                return
            if event is not None:
                self._take(event)
                for waiting in self._channel.drain():
                    self._take(waiting)
            self._cut()

    async def _next_event(self) -> SourceEvent | None:
        close_ns = self._windower.next_close_ns
        if close_ns is None:
            return await self._channel.get()
        wait_s = max(0.0, (close_ns - self._around.clock.now_ns()) / _S)
        try:
            async with asyncio.timeout(wait_s):
                return await self._channel.get()
        except TimeoutError:
            return None

    # -- what the source says ------------------------------------------------------------------------------------

    def _take(self, event: SourceEvent) -> None:
        if isinstance(event, Frame | AudioChunk | Progress):
            self._windower.feed(event)
        elif isinstance(event, EpochStart):
            self._begin_epoch(event)
        elif isinstance(event, StateChange):
            self._cut()
            if event.state not in ("live", "stalled"):
                self._end_epoch(tail=event.state == "ended")
            if event.state == "live" and self._windower.epoch is None:
                # Its epoch is about to begin and says so; nobody needs to hear it twice.
                pass
            elif (event.state, event.reason) != (self.state, self.reason):
                self._turn(event.state, event.reason)
            self._flush()

    def _begin_epoch(self, start: EpochStart) -> None:
        self._end_epoch(tail=False)
        self.epoch = self._around.new_epoch()
        self._windower.begin(self.epoch, start)
        self._accepted_seq = -1
        self._turn("live", None if start.reason != "jump" else "media time jumped")
        self._flush()

    def _end_epoch(self, *, tail: bool) -> None:
        if self._windower.epoch is None:
            return
        epoch = self._windower.epoch
        for window in self._windower.finish(self._around.clock.now_ns(), tail=tail):
            self._accept(window)
        self.previous = Previous(epoch, self._accepted_seq)
        self.epoch = None
        self._order.then(self._close_events)

    def _turn(self, state: SourceState, reason: str | None) -> None:
        if state != self.state:
            self.since_ns = self._around.clock.wall_ns()
        self.state, self.reason = state, reason
        message = StreamMessage(stream=self.name, state=state, reason=reason, epoch=self.epoch, previous=self.previous)
        self._order.then(lambda: self._say(message))

    def _close_events(self) -> None:
        events = self._detector.finish()
        if events:
            self._say(*events)

    def _say(self, *messages: FeedMessage, deadline_ns: int | None = None) -> None:
        self._around.outlet.publish(self.name, messages, deadline_ns)

    # -- windows and their answers -------------------------------------------------------------------------------

    def _cut(self) -> None:
        for window in self._windower.poll(self._around.clock.now_ns()):
            self._accept(window)
        self._flush()

    def _accept(self, window: Window) -> None:
        self._accepted_seq = window.seq
        self._order.expect(window)
        if self.state == "stalled" or not (window.pictures or window.patches or window.coverage.audio):
            self._order.answer(shed(window, "no_media", self._around.clock.now_ns()))
        else:
            self._around.dispatcher.submit(window)

    def answer(self, answer: Answer) -> None:
        """Take the answer of one of this stream's windows and publish what is next in order."""
        self._order.answer(answer)
        self._flush()

    def _flush(self) -> None:
        for ready in self._order.release():
            if isinstance(ready, Answer):
                self._publish(ready)
            else:
                ready()
        if not len(self._order):
            self._emptied.set()

    def _publish(self, answer: Answer) -> None:
        around, window = self._around, answer.window
        labels = [] if answer.scores is None else labels_of(around.names, answer.scores)
        segment = segment_of(answer, labels, around.bound_ns, around.clock.now_ns(), around.outlet.publish_ns(0.5))
        if answer.scores is not None:
            events = self._detector.update(window, answer.scores.scores)
        elif answer.reason == "no_media":
            events = self._detector.nothing_there(window)
        else:
            events = []
        self.last_segment = segment
        self._say(segment, *events, deadline_ns=window.deadline_ns)
        around.watcher.answered(answer, segment)
