"""Whose doing it is when a segment is late: the store's, or this process's own. The clock is turned by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import pytest

from streamer.clock import NS_PER_MS, ManualClock
from streamer.errors import StoreError
from streamer.publishing.publish import Acknowledged, Publisher
from streamer.storage.records import Claim, ClaimRequest, StoreAway, UnitRecord, Written
from tests.publishing.test_publish import Told
from tests.stores import segment

MS = NS_PER_MS
BOUND_NS = 100 * MS


class HandStore:
    """Stands for the store: `on_append` says what happens to the clock, or what is raised, while it writes.

    `jump_us`: how far its own clock stands from the host's. It marks what it writes as late by that clock, as the
    script does.
    """

    shown = "by hand"

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.jump_us = 1_000_000_000
        self.on_append: list[Callable[[], asyncio.Future[None] | None]] = []
        self.written: list[UnitRecord] = []
        self.looks = 0
        self.requests = 0
        self.keeps = True
        self.on_look: Callable[[], object] = lambda: None

    async def time_us(self) -> int:
        self.requests += 1
        self.looks += 1
        self.on_look()
        return self._clock.now_ns() // 1000 + self.jump_us

    async def claim(self, requests: Sequence[ClaimRequest]) -> list[Claim | StoreError]:
        self.requests += 1
        self.keeps = True
        now_us = self._clock.now_ns() // 1000 + self.jump_us
        return [Claim(True, "owner", None, -1, now_us) for _ in requests]

    async def append(self, units: Sequence[UnitRecord], retention_ns: int) -> list[Written | StoreError]:
        self.requests += 1
        if self.on_append:
            happens = self.on_append.pop(0)()
            if happens is not None:
                await happens
        assert all(unit.owner for unit in units), "not claimed"
        now_us = self._clock.now_ns() // 1000 + self.jump_us
        if not self.keeps:
            return [Written("fenced", "", "5f3a", now_us, False) for _ in units]
        self.written += units
        return [
            Written("written", "1-0", "5f3a", now_us, unit.deadline_us is not None and now_us > unit.deadline_us)
            for unit in units
        ]

    async def stored_streams(self) -> list[str]:
        return []

    async def trim(self, streams: Iterable[str], retention_ns: int, max_memory_bytes: int, pause_s: float) -> int:
        return 0


class Scene:
    """A publisher on a store and a clock that are moved by hand."""

    def __init__(self) -> None:
        self.clock = ManualClock(now_ns=10**12)
        self.store = HandStore(self.clock)
        self.told = Told()
        self.publisher = Publisher(self.store, hooks=self.told, clock=self.clock)  # type: ignore[arg-type]
        self._seq = 0

    def publish(self, bound_ns: int = BOUND_NS) -> None:
        self.publisher.publish("door", [segment(seq=self._seq)], self.clock.now_ns() + bound_ns)
        self._seq += 1

    async def slowly(self, length_ns: int) -> None:
        """Time passes while the event loop runs: its timers ring between the steps."""
        for _ in range(length_ns // (10 * MS)):
            self.clock.advance(10 * MS)
            await asyncio.sleep(0.011)

    async def settled(self) -> list[Acknowledged]:
        assert await self.publisher.drain(10) == 0
        return self.told.written


@pytest.fixture(name="scene")
def scene_fixture() -> Scene:
    """A fresh one."""
    return Scene()


async def test_a_slow_store_is_to_blame(scene: Scene) -> None:
    """A round trip of 300 ms during which our loop runs makes a segment `store_late`, and none `late`."""
    scene.store.on_append = [lambda: asyncio.ensure_future(scene.slowly(300 * MS))]
    async with scene.publisher:
        scene.publish()
        (acknowledged,) = await scene.settled()
    assert (acknowledged.late, acknowledged.store_late, acknowledged.delivered_late) == (True, True, True)
    assert 250 * MS <= acknowledged.store_ns <= 300 * MS
    assert (scene.publisher.statistics.late, scene.publisher.statistics.store_late) == (0, 1)


async def test_our_own_stall_during_a_round_trip_is_ours(scene: Scene) -> None:
    """The same 300 ms in which our own loop stood still are the broken promise: `late`."""
    scene.store.on_append = [lambda: scene.clock.advance(300 * MS)]
    async with scene.publisher:
        scene.publish()
        (acknowledged,) = await scene.settled()
    assert (acknowledged.late, acknowledged.store_late) == (True, False)
    assert acknowledged.store_ns == 0
    assert (scene.publisher.statistics.late, scene.publisher.statistics.store_late) == (1, 0)


async def test_our_own_stall_before_sending_is_ours(scene: Scene) -> None:
    """A segment that lay here until its deadline had passed is `late`, though the store was well and it says so."""
    async with scene.publisher:
        scene.publish()
        scene.clock.advance(300 * MS)
        (acknowledged,) = await scene.settled()
    assert (acknowledged.late, acknowledged.store_late, acknowledged.delivered_late) == (True, False, True)


async def test_a_stall_takes_nothing_from_a_store_that_was_slow_beside_it(scene: Scene) -> None:
    """Where the store was slow for long enough by itself, a short stall of our own does not take the blame off it."""

    async def both() -> None:
        await scene.slowly(200 * MS)
        scene.clock.advance(60 * MS)

    scene.store.on_append = [lambda: asyncio.ensure_future(both())]
    async with scene.publisher:
        scene.publish()
        (acknowledged,) = await scene.settled()
    assert acknowledged.store_late
    assert 170 * MS <= acknowledged.store_ns <= 190 * MS


async def test_a_stall_beside_a_quick_store_is_ours_even_if_the_store_was_a_little_slow(scene: Scene) -> None:
    """Without its own stall of 250 ms the loop would have been in time, whatever the store's 50 ms: `late`."""

    async def both() -> None:
        await scene.slowly(50 * MS)
        scene.clock.advance(250 * MS)

    scene.store.on_append = [lambda: asyncio.ensure_future(both())]
    async with scene.publisher:
        scene.publish()
        (acknowledged,) = await scene.settled()
    assert (acknowledged.late, acknowledged.store_late) == (True, False)


@pytest.mark.parametrize(("stall_ms", "ours"), [(40, False), (120, True)])
async def test_a_short_stall_at_a_stores_return_is_the_stores(scene: Scene, stall_ms: int, ours: bool) -> None:
    """A store that answers only shortly before a deadline leaves nothing of what is kept free for our loop's own short
    stalls: one of less than that is not what made it late, one of more is."""

    async def shortly_before() -> None:
        await scene.slowly(90 * MS)
        scene.clock.advance(stall_ms * MS)

    scene.store.on_append = [lambda: asyncio.ensure_future(shortly_before())]
    async with scene.publisher:
        scene.publish()
        (acknowledged,) = await scene.settled()
    assert (acknowledged.late, acknowledged.store_late) == (True, not ours)


async def test_our_stalls_in_an_outage_are_not_to_blame_for_it(scene: Scene) -> None:
    """While the store does not answer, a busy machine keeps our loop from running now and then: what is handed over
    shortly before its deadline and came late for the store is `store_late` all the same."""

    async def busy() -> None:
        for _ in range(5):
            scene.clock.advance(60 * MS)
            await asyncio.sleep(0.03)
            await scene.slowly(60 * MS)

    async def fails() -> None:
        await busy()
        raise StoreAway("no answer")

    for happens in (busy, fails):
        scene.store.on_append = [lambda happens=happens: asyncio.ensure_future(happens())]  # type: ignore[misc]
        scene.told.written.clear()
        async with scene.publisher:
            scene.publish(bound_ns=25 * MS)
            (acknowledged,) = await scene.settled()
        assert (acknowledged.late, acknowledged.store_late) == (True, True), happens


async def test_a_slow_store_is_to_blame_for_what_was_handed_over_in_good_time(scene: Scene) -> None:
    """Where round trips are known to be quick, a segment that was left three times their length is the store's when a
    slow one makes it late; of one that was left less than that, nobody can say so."""
    async with scene.publisher:
        scene.store.on_append = [lambda: scene.clock.advance(4 * MS) for _ in range(10)]
        for _ in range(10):
            scene.publish()
            await scene.settled()
        scene.store.on_append = [lambda: asyncio.ensure_future(scene.slowly(300 * MS))]
        scene.publish(bound_ns=12 * MS)
        scene.publish(bound_ns=3 * MS)
        *_, first, second = await scene.settled()
    assert (first.late, first.store_late) == (True, True)
    assert (second.late, second.store_late) == (True, False)


async def test_a_store_that_lost_what_it_had_is_to_blame_until_that_is_written_again(scene: Scene) -> None:
    """A store that comes back empty refuses what follows; all that it takes to write again is its doing, though no
    round trip was slow."""

    def loses() -> None:
        scene.store.keeps = False
        scene.clock.advance(10 * MS)

    async with scene.publisher:
        scene.publish()
        await scene.settled()
        scene.store.on_append = [loses, lambda: scene.clock.advance(15 * MS), lambda: scene.clock.advance(1 * MS)]
        scene.publish(bound_ns=12 * MS)
        last = (await scene.settled())[-1]
        assert (last.late, last.store_late) == (True, True)
        scene.publish(bound_ns=30 * MS)
        scene.clock.advance(50 * MS)
        last = (await scene.settled())[-1]
    assert (last.late, last.store_late) == (True, False)


async def test_a_fault_of_our_own_is_not_the_stores(scene: Scene) -> None:
    """What comes late because something in here raised is `late`."""
    faults = iter([True, False])

    def breaks() -> None:
        if next(faults):
            scene.clock.advance(300 * MS)
            raise RuntimeError("a fault in here")

    scene.store.on_append = [breaks, breaks]
    async with scene.publisher:
        scene.publish()
        (acknowledged,) = await scene.settled()
    assert (acknowledged.late, acknowledged.store_late) == (True, False)


async def test_an_outage_is_the_stores_until_what_waited_is_written(scene: Scene) -> None:
    """What was handed over before, during and right after an outage, and came late for it, is `store_late`; what comes
    when all of that is written is measured by itself again."""

    def away() -> None:
        raise StoreAway("gone")

    scene.store.on_append = [
        away,
        lambda: asyncio.ensure_future(scene.slowly(150 * MS)),
        lambda: asyncio.ensure_future(scene.slowly(20 * MS)),
    ]
    async with scene.publisher:
        scene.publish()
        while scene.publisher.outage() is None:
            await asyncio.sleep(0)
        scene.clock.advance(200 * MS)
        scene.publish()
        assert all(a.store_late for a in await scene.settled())
        assert len(scene.told.written) == 2
        scene.publish(bound_ns=30 * MS)
        scene.clock.advance(50 * MS)
        await scene.settled()
    last = scene.told.written[-1]
    assert (last.late, last.store_late) == (True, False)
    assert scene.publisher.outage() is None


async def test_what_queues_behind_an_outage_is_the_stores(scene: Scene) -> None:
    """What is handed over when the store is back, and has to wait for what waited already, is `store_late` too."""

    def away() -> None:
        raise StoreAway("gone")

    trips = [lambda: asyncio.ensure_future(scene.slowly(20 * MS)) for _ in range(3)]
    scene.store.on_append = [away, *trips]
    async with scene.publisher:
        for _ in range(300):
            scene.publish()
        while scene.publisher.outage() is None:
            await asyncio.sleep(0)
        while scene.publisher.outage() is not None:
            await asyncio.sleep(0)
        assert scene.publisher.waiting == 300 - 128
        scene.publish(bound_ns=30 * MS)
        last = (await scene.settled())[-1]
    assert (last.late, last.store_late) == (True, True)


async def test_a_full_queue_of_our_own_is_ours(scene: Scene) -> None:
    """More than can be sent in time, in round trips of usual length: what is late for that is `late`."""
    async with scene.publisher:
        for _ in range(1200):
            scene.publish()
        scene.store.on_append = [lambda: asyncio.ensure_future(scene.slowly(20 * MS)) for _ in range(10)]
        await scene.settled()
    late = [acknowledged for acknowledged in scene.told.written if acknowledged.late]
    assert late
    assert not any(acknowledged.store_late for acknowledged in late)
    assert len(scene.told.written) == 1200


async def test_after_an_outage_the_stores_clock_is_looked_at_anew(scene: Scene) -> None:
    """A store that comes back with another clock (another server took over) calls nothing late that is not."""

    def away() -> None:
        scene.store.jump_us += 3_600_000_000
        raise StoreAway("gone")

    async with scene.publisher:
        scene.publish()
        await scene.settled()
        scene.store.on_append = [away]
        scene.publish()
        await scene.settled()
        scene.publish()
        await scene.settled()
    assert [acknowledged.delivered_late for acknowledged in scene.told.written] == [False, False, False]
    assert scene.store.looks == 2


@pytest.mark.parametrize("jump_us", [3_600_000_000, -3_600_000_000])
async def test_a_store_whose_clock_jumps_costs_one_round_trip(scene: Scene, jump_us: int) -> None:
    """What was under way at the jump may be marked wrongly in its JSON, but is counted by our own clock; from the next
    round trip on the marks are right again, in both directions."""

    def jump() -> None:
        scene.store.jump_us += jump_us

    async with scene.publisher:
        scene.publish()
        await scene.settled()
        scene.store.on_append = [jump]
        scene.publish()
        await scene.settled()
        scene.publish()
        await scene.settled()
        scene.publish()
        scene.clock.advance(2 * BOUND_NS)
        await scene.settled()
    assert [a.late for a in scene.told.written] == [False, False, False, True]
    marks = [a.delivered_late for a in scene.told.written]
    assert marks[0] is False
    assert marks[1] is (jump_us > 0)
    assert marks[2:] == [False, True]
    assert scene.publisher.statistics.late == 1


async def test_an_acknowledgement_names_the_place(scene: Scene) -> None:
    """The cursor is what the store gave, as messages carry it."""
    async with scene.publisher:
        scene.publish()
        (acknowledged,) = await scene.settled()
    assert acknowledged.cursor == "1-0@5f3a"


async def test_a_stream_that_is_opened_anew_in_mid_round_is_claimed_before_it_is_written(scene: Scene) -> None:
    """Closed and opened again between its claim and the sending, a stream is another claim's."""

    def anew() -> None:
        if scene.store.looks == 1:
            scene.publisher.close("yard")
            scene.publisher.open("yard")
            scene.publisher.publish("yard", [segment("yard")])

    scene.store.on_look = anew
    async with scene.publisher:
        scene.publisher.open("yard")
        await scene.settled()
    assert [(unit.stream, unit.owner) for unit in scene.store.written] == [("yard", "owner")]
    assert scene.publisher.statistics.outages == 0
