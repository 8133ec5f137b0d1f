"""Streams are added, changed and removed one change at a time, and leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from streamer.answer import Answer
from streamer.channel import Channel
from streamer.clock import HostClock
from streamer.config import StreamConfig
from streamer.errors import AdmissionError, StoreError, StreamerError, UserError
from streamer.media import Effort, EpochStart, Scores, SourceEvent, SourceStats, StateChange, Window, WorkCosts
from streamer.messages import FeedMessage, Previous, Segment, StreamMessage
from streamer.observe.metrics import Metrics
from streamer.people.watch import PeopleSettings, PeopleWatch
from streamer.pipeline import Source, Surroundings
from streamer.registry import Registry, RegistryParts
from streamer.scheduling.dispatch import Dispatcher
from streamer.scheduling.schedule import SchedulePolicy, Scheduler
from streamer.sources.source import SourceSettings, open_source
from tests.builders import MS, S, scores
from tests.conftest import eventually
from tests.publishing.recorder import publishing
from tests.test_window import GEOMETRY


class LiveCamera:
    """Begins an epoch at once and then brings nothing."""

    def __init__(self) -> None:
        self.stats = SourceStats()
        self.running = False

    async def run(self, channel: Channel[SourceEvent]) -> None:
        self.running = True
        try:
            now_ns = HostClock().now_ns()
            channel.offer(EpochStart("start", now_ns, 0))
            channel.offer(StateChange("live", None, now_ns))
            await asyncio.Event().wait()
        finally:
            self.running = False

    def ease(self, effort: Effort) -> None:
        pass


@dataclass
class World:
    """Everything around a registry, recording what it is told. `last_waits` holds back the store's answers."""

    messages: list[FeedMessage] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    cameras: list[LiveCamera] = field(default_factory=list)
    entries: list[StreamConfig] = field(default_factory=list)
    finds_people: bool = True
    last_answers: asyncio.Event = field(default_factory=asyncio.Event)
    last_error: Exception | None = None
    asked_last: int = 0
    full: str | None = None
    typical_ns: int = MS

    # the publisher's and the outlet's side
    def open(self, stream: str) -> None:
        self.opened.append(stream)

    def close(self, stream: str) -> None:
        self.closed.append(stream)

    def publish(self, stream: str, messages: Sequence[FeedMessage], deadline_ns: int | None = None) -> None:
        self.messages += messages

    def answered(self, answer: Answer, segment: Segment, now_ns: int) -> None:
        pass

    # the store's
    async def last(self, name: str) -> Previous | None:
        self.asked_last += 1
        await self.last_answers.wait()
        if self.last_error is not None:
            raise self.last_error
        return Previous("written-before", 7)

    # the engine's
    def forget(self, stream: str) -> None:
        self.forgotten.append(stream)

    def run(self, windows: Sequence[Window]) -> list[Scores]:
        return [scores(0.9) for _ in windows]

    async def look(self, name: str, entry: StreamConfig) -> PeopleWatch | None:
        return PeopleWatch(name, PeopleSettings()) if entry.people != "off" and self.finds_people else None

    def open_source(self, name: str, entry: StreamConfig) -> Source:
        self.entries.append(entry)
        if "unusable" in entry.source:
            raise UserError(f"stream {name}: this can't be used")
        if entry.source == "whip":
            return open_source(name, entry, SourceSettings(64, 16_000, 2), HostClock())
        self.cameras.append(LiveCamera())
        return self.cameras[-1]

    def turns(self, stream: str) -> list[StreamMessage]:
        """What was said of a stream but that it is connecting."""
        said = [m for m in self.messages if isinstance(m, StreamMessage) and m.stream == stream]
        return [m for m in said if m.state != "connecting"]


@asynccontextmanager
async def registering() -> AsyncIterator[tuple[Registry, World]]:
    world, clock = World(), HostClock()
    world.last_answers.set()
    epochs = iter(f"epoch-{n}" for n in range(1000))
    scheduler = Scheduler(SchedulePolicy(), WorkCosts())
    with Dispatcher(world, scheduler, clock, lambda: MS, lambda answer: None) as dispatcher:
        around = Surroundings(
            clock=clock,
            geometry=GEOMETRY,
            dispatcher=dispatcher,
            publishing=publishing(world),  # type: ignore[arg-type]
            bound_ns=S,
            new_epoch=lambda: next(epochs),
            droppable=lambda event: not isinstance(event, StateChange | EpochStart),
        )
        registry = Registry(
            RegistryParts(
                around=around,
                publisher=world,  # type: ignore[arg-type]
                store=world,  # type: ignore[arg-type]
                metrics=Metrics(),
                forget=(world.forget,),
                open_source=world.open_source,
                refusal=lambda config: world.full,
                look=world.look,
            )
        )
        try:
            yield registry, world
        finally:
            world.last_answers.set()
            await registry.stop()


DOOR = StreamConfig(source="rtsp://10.0.0.7/main")
OTHER = StreamConfig(source="rtsp://10.0.0.8/main")


async def test_added_changed_and_removed() -> None:
    """A new entry is created, a different one takes its place under the epoch before, an equal one changes nothing,
    and a removed one is gone with all it held."""
    async with registering() as (registry, world):
        assert await registry.put("door", DOOR) == "created"
        await eventually(lambda: world.turns("door"))
        assert world.turns("door")[0].previous == Previous("written-before", 7)
        assert await registry.put("door", DOOR) == "changed" and len(world.cameras) == 1
        assert await registry.put("door", OTHER) == "changed"
        assert registry.config_of("door") == OTHER and registry.names == ["door"] and "door" in registry
        await eventually(lambda: len(world.turns("door")) == 3)
        began, ended, again = world.turns("door")
        assert (began.state, ended.state, again.state) == ("live", "ended", "live") and ended.reason == "changed"
        assert began.epoch is not None and again.epoch not in (None, began.epoch)
        assert again.previous == Previous(began.epoch, -1) and world.asked_last == 1
        assert [camera.running for camera in world.cameras] == [False, True]
        assert await registry.delete("door") and "door" not in registry and registry.status("door") is None
        await eventually(lambda: world.opened == world.closed == world.forgotten == ["door", "door"])
        assert world.turns("door")[-1].state == "ended" and not any(camera.running for camera in world.cameras)
        assert not await registry.delete("door")


async def test_an_entry_that_cannot_be_used_leaves_the_one_before_running() -> None:
    """A change to something unusable is refused, and what ran goes on untouched."""
    async with registering() as (registry, world):
        await registry.put("door", DOOR)
        await eventually(lambda: world.turns("door"))
        with pytest.raises(UserError, match="can't be used"):
            await registry.put("door", StreamConfig(source="unusable"))
        assert registry.config_of("door") == DOOR and len(world.turns("door")) == 1 and world.cameras[0].running
        with pytest.raises(UserError, match="can't be used"):
            await registry.put("lobby", StreamConfig(source="unusable"))
        assert registry.names == ["door"]


async def test_changes_to_one_stream_wait_for_each_other() -> None:
    """However additions and removals of one name interleave, never more than one camera of it runs, and the last word
    counts."""
    async with registering() as (registry, world):
        for turn in range(20):
            changes = [registry.put("door", DOOR), registry.delete("door"), registry.put("door", OTHER)]
            tasks = [asyncio.create_task(change) for change in changes[turn % 3 :] + changes[: turn % 3]]
            while not all(task.done() for task in tasks):
                await asyncio.sleep(0)
                assert sum(camera.running for camera in world.cameras) <= 1
            await asyncio.gather(*tasks)
            await registry.put("door", OTHER)
            assert registry.config_of("door") == OTHER
            await eventually(lambda: sum(camera.running for camera in world.cameras) == 1)
            assert len(world.opened) == len(world.closed) + 1


async def test_a_stream_whose_removal_others_wait_behind_stays_one() -> None:
    """An addition that waited for a removal, and one that came just after it, do not both begin the stream."""
    async with registering() as (registry, world):
        await registry.put("door", DOOR)
        world.last_answers.clear()
        removing = asyncio.create_task(registry.delete("door"))
        waiting = asyncio.create_task(registry.put("door", DOOR))
        await removing
        late = asyncio.create_task(registry.put("door", OTHER))
        await eventually(lambda: world.asked_last == 2)
        world.last_answers.set()
        assert await waiting == "created" and await late == "changed"
        assert world.opened == ["door"] * 3 and world.closed == ["door"] * 2
        assert sum(camera.running for camera in world.cameras) <= 1


async def test_a_stream_too_many_is_refused_with_the_figure() -> None:
    """Where there is no room, a new stream is refused with the reason; a change to one that runs is not."""
    async with registering() as (registry, world):
        await registry.put("door", DOOR)
        world.full = "13 streams would take 2.1 of 2 cores"
        with pytest.raises(AdmissionError, match=r"13 streams would take 2.1 of 2 cores.*admission: degrade"):
            await registry.put("lobby", DOOR)
        assert await registry.put("door", OTHER) == "changed"
        assert registry.names == ["door"] and registry.status("lobby") is None


async def test_a_stream_of_the_configuration_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was written down and has no room is shown as failed with the reason, and begins when there is room;
    removed while it waits, it is gone."""
    monkeypatch.setattr("streamer.registry._RETRY_S", 0.01)
    async with registering() as (registry, world):
        world.full = "the machine is full"
        await registry.put_or_keep("door", DOOR)
        await registry.put_or_keep("lobby", DOOR)
        assert [(s.name, s.state) for s in registry.statuses()] == [("door", "failed"), ("lobby", "failed")]
        assert "the machine is full" in (registry.statuses()[0].reason or "")
        assert await registry.delete("lobby")
        retrying = asyncio.create_task(registry.retry_forever())
        world.full = None
        await eventually(lambda: registry.names == ["door"])
        await eventually(lambda: [(s.name, s.state) for s in registry.statuses()] == [("door", "live")])
        retrying.cancel()


async def test_names_that_never_were_leave_nothing_behind() -> None:
    """Asking for a thousand unknown names to be removed, or unusable ones to be added, keeps no memory of them."""
    async with registering() as (registry, _):
        for number in range(500):
            assert not await registry.delete(f"nobody-{number}")
            with pytest.raises(UserError):
                await registry.put(f"broken-{number}", StreamConfig(source="unusable"))
        assert not registry._turns


async def test_nothing_begins_once_it_stops() -> None:
    """A stream whose taking in had begun when the service stops is refused, and so is any that comes later."""
    async with registering() as (registry, world):
        world.last_answers.clear()
        adding = asyncio.create_task(registry.put("door", DOOR))
        await eventually(lambda: world.asked_last == 1)
        await registry.stop()
        world.last_answers.set()
        with pytest.raises(StreamerError, match="stopping"):
            await adding
        with pytest.raises(StreamerError, match="stopping"):
            await registry.put("lobby", DOOR)
        assert registry.names == [] and world.opened == []


@pytest.mark.parametrize("error", [StoreError("the store is away"), TimeoutError()])
async def test_a_store_that_is_away_does_not_keep_a_camera_out(error: Exception) -> None:
    """When the store can't say what was written last, the stream begins and names no epoch before."""
    async with registering() as (registry, world):
        world.last_error = error
        assert await registry.put("door", DOOR) == "created"
        await eventually(lambda: world.turns("door"))
        assert world.turns("door")[0].previous is None


async def test_statuses_say_what_runs_and_no_password() -> None:
    """A status has the state, the epoch and the source without its password; all of them come by name."""
    async with registering() as (registry, world):
        await registry.put("yard", StreamConfig(source="rtsp://admin:hunter2@10.0.0.7/main", group="outside"))
        await registry.put("door", DOOR)
        await eventually(lambda: world.turns("yard") and world.turns("door"))
        door, yard = registry.statuses()
        assert (door.name, yard.name, yard.group) == ("door", "yard", "outside")
        assert "hunter2" not in repr(yard) and yard.source.endswith("10.0.0.7/main")
        assert (yard.state, yard.reconnects, yard.last_seq) == ("live", 0, None) and yard.epoch


async def test_a_removed_stream_is_freed_at_once() -> None:
    """Nothing of a stream waits for the garbage collector once it is removed: with its media it weighs megabytes."""
    async with registering() as (registry, world):
        await registry.put("door", DOOR)
        await eventually(lambda: world.turns("door"))
        live = weakref.ref(registry._entries["door"].live)
        gc.disable()
        try:
            await registry.delete("door")
            await eventually(lambda: live() is None, what="freed without the collector")
        finally:
            gc.enable()


async def test_many_streams_leave_no_threads_and_no_tasks() -> None:
    """After fifty streams came and went, as many tasks and threads are there as before."""
    async with registering() as (registry, _):
        await registry.put("first", DOOR)
        await registry.delete("first")
        tasks, threads = len(asyncio.all_tasks()), threading.active_count()
        await asyncio.gather(*(registry.put(f"s{n}", DOOR) for n in range(50)))
        assert len(registry.names) == 50
        await asyncio.gather(*(registry.delete(f"s{n}") for n in range(50)))
        await eventually(lambda: len(asyncio.all_tasks()) == tasks)
        assert threading.active_count() == threads


async def test_only_streams_that_wait_for_publishers_can_be_published() -> None:
    """A stream whose source is `whip` gives its source and says what it waits for; a camera's and none give nothing."""
    async with registering() as (registry, _):
        await registry.put("door", DOOR)
        await registry.put("lobby", StreamConfig(source="whip"))
        assert registry.published("lobby") is registry.live["lobby"].source
        assert registry.published("door") is None and registry.published("nowhere") is None
        await eventually(lambda: registry.live["lobby"].reason == "waits for a publisher")
        assert registry.live["lobby"].state == "connecting"


async def test_a_status_says_whether_pictures_may_be_shown_and_their_size() -> None:
    """`preview` is the entry's word, `picture` what was decoded last; neither before it is known."""
    async with registering() as (registry, world):
        await registry.put("door", DOOR)
        await registry.put("hall", StreamConfig(source="rtsp://10.0.0.9/main", preview=True))
        world.cameras[1].stats.picture = (854, 480)
        door, hall = registry.status("door"), registry.status("hall")
        assert door is not None and hall is not None
        assert (door.preview, door.picture) == (False, None) and (hall.preview, hall.picture) == (True, (854, 480))


async def test_where_people_cannot_be_found_the_stream_runs_without() -> None:
    """Its source makes no pictures for looking for them, and it keeps the entry that it was given."""
    entry = StreamConfig(source="rtsp://10.0.0.7/main", people="presence")
    async with registering() as (registry, world):
        world.finds_people = False
        assert await registry.put("door", entry) == "created"
        world.finds_people = True
        assert await registry.put("yard", entry) == "created"
        assert [opened.people for opened in world.entries] == ["off", "presence"]
        assert registry.config_of("door") == registry.config_of("yard") == entry


async def test_what_is_left_out_names_people_where_they_are_looked_for() -> None:
    """From the second step of the ladder on nobody is looked for, which is told of the streams that it concerns."""
    async with registering() as (registry, _):
        await registry.put("door", StreamConfig(source="rtsp://10.0.0.7/main", people="count"))
        await registry.put("yard", DOOR)
        for level, door, yard in (
            (1, ["frames"], ["frames"]),
            (2, ["frames", "people", "keyframes"], ["frames", "keyframes"]),
        ):
            for live in registry.live.values():
                live.ease(level)
            assert [status.degraded for status in registry.statuses()] == [door, yard]
