"""The governor moves the ladder by what it measures, has sources follow, and says when there is no room."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from streamer.clock import ManualClock
from streamer.governor import Governor
from streamer.media import SourceStats, WorkCosts
from streamer.scheduling.dispatch import Dispatcher
from streamer.scheduling.schedule import SchedulePolicy, Scheduler
from tests.builders import MS, S, scores, window
from tests.test_window import GEOMETRY


@dataclass
class Stream:
    """What the governor needs of a live stream."""

    stats: SourceStats = field(default_factory=SourceStats)
    state: str = "live"
    level: int = 0

    @property
    def source(self) -> Stream:
        return self

    def ease(self, level: int) -> None:
        self.level = level


class World:
    def __init__(self, count: int, picture_ns: int = 5 * MS) -> None:
        self.clock = ManualClock()
        costs = WorkCosts(call_ns=MS, window_ns=MS, picture_ns=picture_ns, patch_ns=2 * MS)
        self.scheduler = Scheduler(SchedulePolicy(), costs)
        self.streams: dict[str, Any] = {f"s{index}": Stream() for index in range(count)}
        self.dispatcher = Dispatcher(self, self.scheduler, self.clock, lambda: 0, lambda answer: None)
        for name in self.streams:
            self.dispatcher.put(name, 1.0)
        self.governor = Governor(self.dispatcher, costs, GEOMETRY, self.clock, lambda: self.streams)

    def run(self, windows: Any) -> list[Any]:
        return [scores(0.9) for _ in windows]

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds * 2)):
            self.clock.advance(S // 2)
            self.governor.tick()

    @property
    def levels(self) -> list[int]:
        return [stream.level for stream in self.streams.values()]


@pytest.fixture
def world() -> Iterator[World]:
    yield World(8)


def test_readers_that_give_up_pictures_make_the_ladder_climb_and_calm_brings_it_back(world: World) -> None:
    """While a reader drops pictures because it is behind, levels rise over all streams; without it they fall to 0."""
    world.pass_time(2)
    assert world.levels == [0] * 8
    for _ in range(10):
        world.streams["s3"].stats.drop("overload", 5)
        world.pass_time(0.5)
    assert min(world.levels) >= 1 and max(world.levels) <= 3
    world.pass_time(240)
    assert world.levels == [0] * 8


def test_windows_that_do_not_all_fit_make_it_climb_too(world: World) -> None:
    """More windows than can be computed in time raise levels the moment a batch is chosen."""
    now = world.clock.now_ns()
    for index, name in enumerate(world.streams):
        for seq in range(8):
            pictures = tuple(range(seq * 40, seq * 40 + 40))
            world.scheduler.submit(window(name, seq, end_ns=now + index, pictures=pictures))
    assert world.scheduler.next_batch(now) is not None
    world.governor.tick()
    assert max(world.levels) == 1


def test_room_for_one_stream_more_is_measured(world: World) -> None:
    """With streams that take a tenth of the engine each there is room for a ninth; with ones that take a third there is
    not, and the refusal has the figure."""
    world.pass_time(10)
    assert world.governor.refusal(2) is None
    full = World(8, picture_ns=60 * MS)
    full.pass_time(10)
    refusal = full.governor.refusal(2)
    assert refusal is not None and "9 streams would take" in refusal and "%" in refusal


def test_no_stream_is_let_in_while_the_others_are_degraded(world: World) -> None:
    """As long as one stream is answered with less work, another one is refused and told so."""
    world.streams["s3"].stats.drop("overload", 5)
    world.pass_time(0.5)
    refusal = world.governor.refusal(2)
    assert refusal is not None and "with less of it" in refusal
