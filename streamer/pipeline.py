"""One live stream, from its camera to the store: source -> windows -> dispatch -> account (decide -> publish).

Each stream is a TaskGroup of its own under a supervisor: whatever breaks in one ends there, is told, and starts
again; the others never
notice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from streamer.answer import shed
from streamer.channel import Channel, ChannelClosed, ChannelStatistics
from streamer.clock import Clock
from streamer.ledger import Ledger, Publishing
from streamer.media import (
    WORDS_REACH_NS,
    AudioChunk,
    Effort,
    EpochStart,
    Frame,
    Geometry,
    Progress,
    SaidWord,
    SourceEvent,
    SourceState,
    SourceStats,
    StateChange,
    Window,
)
from streamer.messages import Previous, Reason, StreamMessage
from streamer.people.watch import PeopleWatch
from streamer.scheduling.dispatch import Dispatcher
from streamer.scheduling.ladder import STEPS
from streamer.speech.heard import Hearing
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

    def ease(self, effort: Effort) -> None: ...


class Ear(Protocol):
    """Who listens to one stream. Nothing here waits."""

    @property
    def hearing(self) -> Hearing | None:
        """How it is listened to now; None: it is not, for want of what listens."""
        ...

    def begin(self, start: EpochStart) -> None: ...

    def feed(self, chunk: AudioChunk) -> None: ...

    def end(self) -> None: ...

    def words(self, start_ns: int, end_ns: int) -> tuple[SaidWord, ...]:
        """What was said in this stretch of the running epoch, as far as it has settled, oldest first."""
        ...


# What a source leaves out at each level of the degrade ladder, and the name of it.
_EFFORTS: tuple[tuple[Effort, tuple[str, ...]], ...] = (
    ("all", ()),
    ("all", ()),
    ("keyframes", ("keyframes", "people")),
    ("none", ("keyframes", "people", "video")),
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every stream shares."""

    clock: Clock
    geometry: Geometry
    dispatcher: Dispatcher
    publishing: Publishing
    bound_ns: int
    new_epoch: Callable[[], str]
    droppable: Callable[[SourceEvent], bool]


class LiveStream:
    """The life of one stream, from being added to being removed.

    Args:
        previous: the epoch before, where one is known, to be named by the first announcement.
        people: watches who is in the picture; None: nobody is looked for.
        ear: listens to what is said; None: nobody does.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        around: Surroundings,
        previous: Previous | None,
        people: PeopleWatch | None = None,
        ear: Ear | None = None,
    ) -> None:
        self.name = name
        self.source = source
        self.state: SourceState = "connecting"
        self.reason: str | None = None
        self.since_ns = around.clock.wall_ns()
        self.previous = previous
        self.epoch: str | None = None
        self.level = 0
        self.restarts = 0
        self.ledger = Ledger(name, around.publishing, people)
        self._looks = people is not None
        self._ear = ear
        self._around = around
        policy = WindowPolicy(around.bound_ns, int(around.bound_ns * _GRACE_PART))
        self._windower = Windower(name, around.geometry, policy)
        self._accepted_seq = -1
        self._channel: Channel[SourceEvent] = Channel(_CHANNEL_CAPACITY, around.droppable)
        self._task: asyncio.Task[None] | None = None
        # Until when (media time) windows hold what the source left out, a name.
        self._eased_until_ns: dict[str, int] = {}

    @property
    def queue(self) -> ChannelStatistics:
        """The media waiting to be cut into windows."""
        return self._channel.statistics

    @property
    def left_out(self) -> list[str]:
        """What is left out of its work where it stands on the ladder."""
        steps = list(STEPS[: self.level])
        if self._looks and "people" in _EFFORTS[self.level][1]:
            steps.insert(steps.index("keyframes"), "people")
        return [*steps, "speech"] if self._listens != "all" else steps

    @property
    def _listens(self) -> Literal["all", "late", "not"]:
        """How much of what is wanted of speech is done: `late` is without the words that settle before an utterance
        ends."""
        if self._ear is None:
            return "all"
        hearing = self._ear.hearing
        if hearing is None or hearing.shed:
            return "not"
        return "all" if hearing.partials else "late"

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin in the background; the first word of it is that it is connecting."""
        if self._around.geometry.reads_text and self._ear is None:
            log.warning(
                "stream %s: the model reads what is said, and nobody listens here: it labels without; `speech: true` "
                "in the stream's entry has it listened to",
                self.name,
            )
        if self._around.geometry.reads_people and not self._looks:
            log.warning(
                "stream %s: the model reads who is in the picture, and nobody looks for people here: it labels "
                "without; `people: presence` in the stream's entry has them looked for",
                self.name,
            )
        self._turn("connecting", None)
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
        await self._around.publishing.call(self.ledger.settle(timeout_s))
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
            if self._ear is not None and isinstance(event, AudioChunk) and self._windower.epoch is not None:
                self._ear.feed(event)
        elif isinstance(event, EpochStart):
            self._begin_epoch(event)
        elif isinstance(event, StateChange):
            self._cut()
            if self._ear is not None and event.state != "live":
                self._ear.end()
            if event.state not in ("live", "stalled"):
                self._end_epoch(tail=event.state == "ended")
            if event.state == "live" and self._windower.epoch is None:
                # Its epoch is about to begin and says so; nobody needs to hear it twice.
                pass
            elif (event.state, event.reason) != (self.state, self.reason):
                self._turn(event.state, event.reason)

    def _begin_epoch(self, start: EpochStart) -> None:
        self._end_epoch(tail=False)
        self.epoch = self._around.new_epoch()
        # Where a starved reader tells of a beginning too late for its first windows, the epoch begins later instead:
        # nothing was promised of what came before.
        oldest_ns = self._around.clock.now_ns() - self._windower.hop_ns
        if start.media_ns < oldest_ns:
            start = replace(start, media_ns=oldest_ns)
        self._windower.begin(self.epoch, start)
        if self._ear is not None:
            self._ear.begin(start)
        self._accepted_seq = -1
        self._turn("live", None if start.reason != "jump" else "media time jumped")

    def _end_epoch(self, *, tail: bool) -> None:
        if self._windower.epoch is None:
            return
        epoch = self._windower.epoch
        if self._ear is not None:
            self._ear.end()
        for window in self._windower.finish(self._around.clock.now_ns(), tail=tail):
            self._accept(window)
        self.previous = Previous(epoch, self._accepted_seq)
        self.epoch = None
        self._eased_until_ns = {}
        self._post(self.ledger.end_epoch)

    def _turn(self, state: SourceState, reason: str | None) -> None:
        if state != self.state:
            self.since_ns = self._around.clock.wall_ns()
        self.state, self.reason = state, reason
        message = StreamMessage(stream=self.name, state=state, reason=reason, epoch=self.epoch, previous=self.previous)
        self._post(self.ledger.say, message)

    # -- windows ---------------------------------------------------------------------------------------------------

    def ease(self, level: int) -> None:
        """Leave out of the source's work what `level` of the degrade ladder says."""
        if level != self.level:
            self.level = level
            self.source.ease(_EFFORTS[level][0])

    def _cut(self) -> None:
        for window in self._windower.poll(self._around.clock.now_ns()):
            self._accept(window)

    def _accept(self, window: Window) -> None:
        around = self._around
        window = self._marked(window)
        self._accepted_seq = window.seq
        self._post(self.ledger.expect, window)
        if self.state == "stalled" or not (window.pictures or window.patches or window.coverage.audio):
            # Without pictures because none were decoded is another matter than a camera that sends nothing.
            reason: Reason = "overload" if window.degraded and self.state != "stalled" else "no_media"
            self._post(self.ledger.answer, shed(window, reason, around.clock.now_ns()))
        else:
            around.dispatcher.submit(window)

    def _marked(self, window: Window) -> Window:
        """`window` with the names of what the source left out of it."""
        for step in _EFFORTS[self.level][1]:
            # A camera without sound keeps its key frames.
            if (step != "video" or not window.pictures) and (step != "people" or self._looks):
                self._eased_until_ns[step] = window.end_ns
        if self._ear is not None:
            window = self._heard(self._ear, window)
        steps = tuple(step for step, until_ns in self._eased_until_ns.items() if until_ns > window.start_ns)
        return replace(window, degraded=steps) if steps else window

    def _heard(self, ear: Ear, window: Window) -> Window:
        """`window` with the part of it in which speech was listened to: that of its sound, or nothing; and with the
        words that the network reads."""
        if self._around.geometry.reads_text:
            window = replace(window, words=ear.words(window.start_ns - WORDS_REACH_NS, window.end_ns))
        if not window.coverage.audio:
            return window
        listens = self._listens
        if listens != "all":
            self._eased_until_ns["speech"] = window.end_ns
        if listens == "not":
            return window
        return replace(window, coverage=replace(window.coverage, text=window.coverage.audio))

    def _post(self, action: Callable[..., object], *arguments: object) -> None:
        self._around.publishing.post(action, *arguments)
