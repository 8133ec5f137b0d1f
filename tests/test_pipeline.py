"""One live stream's life, from what its source says to what is published, with time and media scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np

from streamer.channel import Channel
from streamer.clock import HostClock
from streamer.loop_thread import LoopThread
from streamer.media import (
    Effort,
    EpochStart,
    Frame,
    Progress,
    Scores,
    SourceEvent,
    SourceStats,
    StateChange,
    Window,
    WorkCosts,
)
from streamer.messages import Event, Previous, Segment, StreamMessage
from streamer.pipeline import LiveStream, Surroundings
from streamer.scheduling.dispatch import Dispatcher
from streamer.scheduling.schedule import SchedulePolicy, Scheduler
from tests.builders import MS, S, scores
from tests.conftest import eventually
from tests.publishing.recorder import Recorder, publishing
from tests.test_window import GEOMETRY


class ScriptedSource:
    """Plays what the test puts into `script`; an exception in it is raised."""

    def __init__(self) -> None:
        self.stats = SourceStats()
        self.script: asyncio.Queue[SourceEvent | Exception | None] = asyncio.Queue()
        self.efforts: list[Effort] = []

    async def run(self, channel: Channel[SourceEvent]) -> None:
        while (item := await self.script.get()) is not None:
            if isinstance(item, Exception):
                raise item
            channel.offer(item)

    def ease(self, effort: Effort) -> None:
        self.efforts.append(effort)

    def say(self, *events: SourceEvent | Exception | None) -> None:
        for event in events:
            self.script.put_nowait(event)


class DogEngine:
    def run(self, windows: Sequence[Window]) -> list[Scores]:
        return [scores(0.9, 0.01, share=(1.0, 0.0, 0.0)) for _ in windows]


@asynccontextmanager
async def stream(previous: Previous | None = None) -> AsyncIterator[tuple[LiveStream, ScriptedSource, Recorder]]:
    clock, recorder, source = HostClock(), Recorder(), ScriptedSource()
    epochs = iter(f"epoch-{n}" for n in range(100))
    with (
        LoopThread("publish") as loop,
        Dispatcher(
            DogEngine(),
            Scheduler(SchedulePolicy(), WorkCosts()),
            clock,
            lambda: MS,
            lambda answer: loop.post(live.ledger.answer, answer),
        ) as dispatcher,
    ):
        around = Surroundings(
            clock=clock,
            geometry=GEOMETRY,
            dispatcher=dispatcher,
            publishing=publishing(recorder, ["Dog", "Cat"], clock, post=loop.post, call=loop.call),
            bound_ns=S,
            new_epoch=lambda: next(epochs),
            droppable=lambda event: not isinstance(event, StateChange | EpochStart),
        )
        live = LiveStream("door", source, around, previous)
        live.start()
        try:
            yield live, source, recorder
        finally:
            await live.stop("test over")


def second_of_video(start_ns: int, count: int = 2) -> list[SourceEvent]:
    events: list[SourceEvent] = []
    for step in range(count):
        at = start_ns + step * 500 * MS
        events.append(Frame(at, 500 * MS, at, np.zeros((8, 8, 3), np.uint8)))
        events.append(Progress(at + 500 * MS, None, at + 500 * MS))
    return events


async def test_segments_follow_their_announcement_in_order() -> None:
    """A stream message announces the epoch, then come its segments from seq 0, labelled, with an event for what
    lasts."""
    async with stream(Previous("old", 41)) as (live, source, recorder):
        now = HostClock().now_ns()
        source.say(StateChange("connecting", None, now), EpochStart("start", now, 0), *second_of_video(now, 4))
        await eventually(lambda: len(recorder.segments) >= 4)
        announced = [m for m in recorder.messages if isinstance(m, StreamMessage) and m.epoch is not None]
        assert announced[0].state == "live" and announced[0].previous == Previous("old", 41)
        assert [s.seq for s in recorder.segments[:4]] == [0, 1, 2, 3]
        assert recorder.segments[3].labels[0].name == "Dog" and recorder.segments[3].labels[0].share.video == 1.0
        opened = [m for m in recorder.of(Event) if isinstance(m, Event)]
        assert [e.state for e in opened] == ["open"]
        assert live.state == "live" and live.epoch == "epoch-0"


async def test_a_beginning_that_is_told_late_promises_nothing_of_what_came_before() -> None:
    """Where the first media are already 3 s old when they are told of, no window is late from the start: the epoch
    begins later, at seq 0, and every segment is in time."""
    async with stream() as (_, source, recorder):
        now = HostClock().now_ns() - 3 * S
        source.say(EpochStart("start", now, 0), *second_of_video(now, 8))
        await eventually(lambda: len(recorder.segments) >= 2)
        assert [segment.seq for segment in recorder.segments[:2]] == [0, 1]
        assert all(segment.latency_ms.total < segment.bound_ms for segment in recorder.segments)


async def test_a_jump_begins_an_epoch_that_names_the_last_seq_before() -> None:
    """At a jump the open event closes, the next epoch is announced with the last seq of the one before, seq starts
    again."""
    async with stream() as (_, source, recorder):
        now = HostClock().now_ns() - 1300 * MS
        source.say(EpochStart("start", now, 0), *second_of_video(now, 2))
        await eventually(lambda: len(recorder.of(Event)) == 1)
        source.say(EpochStart("jump", now + 1300 * MS, 0), *second_of_video(now + 1300 * MS, 1))
        await eventually(lambda: any(s.epoch == "epoch-1" for s in recorder.segments))
        last = max(s.seq for s in recorder.segments if s.epoch == "epoch-0")
        announced = next(m for m in recorder.messages if isinstance(m, StreamMessage) and m.epoch == "epoch-1")
        assert announced.previous == Previous("epoch-0", last)
        place = recorder.messages.index(announced)
        assert any(isinstance(m, Event) and m.state == "close" for m in recorder.messages[:place])
        first = next(s for s in recorder.segments if s.epoch == "epoch-1")
        assert first.seq == 0 and recorder.messages.index(first) > place


async def test_a_stalled_stream_is_shed_as_no_media_and_a_lost_one_is_silent() -> None:
    """While stalled each hop is answered `shed, no_media`; while reconnecting nothing is published but the state."""
    async with stream() as (_, source, recorder):
        now = HostClock().now_ns() - 2 * S
        source.say(
            EpochStart("start", now, 0), *second_of_video(now, 2), StateChange("stalled", "no media for 1.5 s", now)
        )
        await eventually(lambda: len(recorder.segments) >= 7)
        stalled = next(m for m in recorder.messages if isinstance(m, StreamMessage) and m.state == "stalled")
        after = [m for m in recorder.messages[recorder.messages.index(stalled) :] if isinstance(m, Segment)]
        assert len(after) >= 2 and {(s.status, s.reason) for s in after} == {("shed", "no_media")}
        source.say(StateChange("reconnecting", "connection reset", now))
        await eventually(lambda: recorder.of(StreamMessage)[-1].state == "reconnecting")
        count = len(recorder.segments)
        await asyncio.sleep(0.7)
        assert len(recorder.segments) == count


async def test_stopping_answers_what_was_accepted_and_says_that_the_stream_ended() -> None:
    """Stopping loses no accepted window and its last word is `ended`."""
    async with stream() as (live, source, recorder):
        now = HostClock().now_ns() - 2 * S
        source.say(EpochStart("start", now, 0), *second_of_video(now, 4))
        await eventually(lambda: live.epoch is not None)
        await live.stop("removed")
        assert [s.seq for s in recorder.segments] == list(range(len(recorder.segments)))
        last = recorder.messages[-1]
        assert isinstance(last, StreamMessage) and (last.state, last.reason) == ("ended", "removed")


async def test_a_fault_in_one_source_is_told_and_survived(caplog: object) -> None:
    """An unexpected exception ends neither the stream nor the process: it is announced and the source runs again."""
    async with stream() as (live, source, recorder):
        source.say(RuntimeError("a bug"))
        await eventually(lambda: live.restarts == 1)
        assert live.state == "reconnecting"
        now = HostClock().now_ns()
        source.say(EpochStart("start", now, 0), *second_of_video(now, 1))
        await eventually(lambda: len(recorder.segments) >= 1)
        assert live.state == "live"


async def test_windows_name_what_the_source_left_out() -> None:
    """Eased to key frames and back, a stream tells its source, and every window that reaches into that time is
    `degraded` and names it; the ones after are not."""
    async with stream() as (live, source, recorder):
        now = HostClock().now_ns()
        source.say(EpochStart("start", now, 0), *second_of_video(now, 1))
        await eventually(lambda: len(recorder.segments) == 1)
        live.ease(2)
        source.say(*second_of_video(now + 500 * MS, 1))
        await eventually(lambda: len(recorder.segments) == 2)
        live.ease(0)
        source.say(*second_of_video(now + 1000 * MS, 5))
        await eventually(lambda: len(recorder.segments) >= 7)
        assert source.efforts == ["keyframes", "all"]
        told = [(segment.status, segment.degraded) for segment in recorder.segments[:7]]
        assert told[0] == ("ok", []) and told[1] == ("degraded", ["keyframes"])
        # The window of 2 s that ends 2 s later is the first that no longer reaches back.
        assert told[4] == ("degraded", ["keyframes"]) and told[5] == ("ok", [])


async def test_what_was_not_decoded_is_no_missing_media() -> None:
    """A window that is empty because key frames alone are decoded is shed for overload, not for want of media."""
    async with stream() as (live, source, recorder):
        live.ease(2)
        now = HostClock().now_ns() - S
        source.say(EpochStart("start", now, 0), Progress(now + 600 * MS, None, now))
        await eventually(lambda: len(recorder.segments) >= 1)
        assert (recorder.segments[0].status, recorder.segments[0].reason) == ("shed", "overload")
