"""Does every segment come by its deadline when there is far too much to do, and is what can be done shared fairly?

The engine, the scheduler, the dispatcher's threads, the accounts, the publisher and the store are the real ones; the
windows are cut from a real clip that was decoded before, so that the engine is what is overloaded. First its capacity
is measured: segments a second with all their work done, with never too many under way. Then windows come at fixed
rates, in parts and multiples of that, whatever becomes of those before. What came of them is read from the store's
feed.

Beside it, in the same run, stand a queue without end and one that keeps each stream's newest window.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click

from streamer.answering import MAX_WINDOWS
from streamer.bench.arrivals import ClosedLoop, Media, OpenLoop, name_of
from streamer.bench.assembled import Assembled, Hooks, Parts, assembled
from streamer.bench.baselines import DropOldest, UnboundedFifo
from streamer.bench.conditions import conditions
from streamer.bench.tally import Tally
from streamer.bench.witness import MachineStalls, machine_stalls
from streamer.clock import NS_PER_S
from streamer.demo.reel import reel
from streamer.engine import Engine, load
from streamer.media import WorkCosts
from streamer.scheduling.schedule import SchedulePolicy, Scheduler

AT = (0.5, 1.0, 2.0, 4.0)
"""The loads measured unless others are asked for, in parts of the capacity."""

# Streams and windows under way while capacity is measured: enough that the engine is never short of work.
_STREAMS, _UNDER_WAY = 16, 2 * MAX_WINDOWS
_CAPACITY_S = 10.0
# Not counted for shares and rates: until windows are full and the ladder stands where the load has it.
_SETTLE_S, _SETTLE_PART = 5.0, 0.34
# The load whose figures stand for the whole; the baselines run at that and more, and for no longer than this: one of
# them keeps all that it can't do in memory.
_MAIN, _BASELINE_S = 2.0, 10.0
_AFTER_S = 1.0
_FAULTS = 5

Making = Callable[[SchedulePolicy, WorkCosts], Scheduler]


@dataclass(frozen=True, slots=True)
class Offered:
    """What is asked for: `at` in parts of capacity; `streams`: how many are taken for the capacity (None: measured)."""

    clip: Path
    at: Sequence[float] = AT
    seconds: float = 15.0
    capacity_s: float = _CAPACITY_S
    streams: int | None = None
    bound_ns: int = NS_PER_S
    baselines: bool = True


@dataclass(slots=True)
class Run:
    """One load. `late` leaves out, as the service does, what was late for want of the store (`store_late`) or of the
    whole process (`frozen_late`) or of a CPU that the machine's host took away (`machine_late`, None: nobody may look),
    which stand apart.

    `goodput`: segments a second that were answered in time with labels, in parts of the capacity; `fairness`: the
    largest over the smallest part of a stream's segments that was (None: a stream had none); `answered`: the fewest and
    the most of a stream; `fairness_of_turns`: the same give or take one answer of each, because a stream's first and
    last turn may fall just out of the time that counts, which of few answers makes much; `busy`: the part of the time
    in which the engine was at work.
    """

    at: float
    streams: int
    seconds: float
    offered_per_second: float = 0.0
    late: int = 0
    missing: int = 0
    duplicate: int = 0
    frozen_late: int = 0
    store_late: int = 0
    machine_late: int | None = 0
    goodput: float = 0.0
    fairness: float | None = None
    fairness_of_turns: float = 1.0
    answered: tuple[int, int] = (0, 0)
    statuses: dict[str, int] = field(default_factory=dict)
    latency_ms: dict[str, int] = field(default_factory=dict)
    busy: float = 0.0
    wasted: int = 0
    batch_windows: float = 0.0
    levels: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def keeps_the_promise(self) -> bool:
        """Nothing late, missing or twice."""
        return not (self.late or self.missing or self.duplicate)


def run(offered: Offered, as_json: bool) -> None:
    """Measure and print. Exit code 1 where a segment was late, missing or there twice."""
    result = asyncio.run(measure(offered))
    result |= {"command": "streamer " + " ".join(sys.argv[1:]), **conditions()}
    if as_json:
        click.echo(json.dumps(result))
    if not result["holds"]:
        raise SystemExit(1)


async def measure(offered: Offered) -> dict[str, object]:
    """All loads and baselines, one after the other; tells of each on standard error."""
    engine = await asyncio.to_thread(load, "cpu", None)
    costs = await asyncio.to_thread(engine.warm_up, MAX_WINDOWS)
    media = await asyncio.to_thread(Media, offered.clip, engine.geometry)
    async with machine_stalls() as stalls:
        return await _measure(_Bench(engine, costs, media, offered, stalls))


async def _measure(bench: _Bench) -> dict[str, object]:
    engine, offered = bench.engine, bench.offered
    if offered.streams is None:
        capacity = await bench.capacity()
    else:
        capacity = offered.streams * NS_PER_S / engine.geometry.hop_ns
    click.echo(f"capacity: {capacity:.1f} segments a second with all work done", err=True)
    runs = [await bench.load(at, capacity) for at in offered.at]
    main = min(runs, key=lambda entry: (abs(entry.at - _MAIN), entry.at))
    queues: dict[str, Making] = {"fifo": UnboundedFifo, "drop_oldest": DropOldest} if offered.baselines else {}
    loads = [at for at in offered.at if at >= main.at]
    baselines = {name: [await bench.load(at, capacity, name, queues[name]) for at in loads] for name in queues}
    return {
        "late": main.late,
        "missing": main.missing,
        "duplicate": main.duplicate,
        "goodput": main.goodput,
        "fairness": main.fairness,
        "holds": all(entry.keeps_the_promise for entry in runs),
        "capacity_per_second": round(capacity, 1),
        "runs": [asdict(entry) for entry in runs],
        "baselines": {name: [asdict(entry) for entry in entries] for name, entries in baselines.items()},
        "bound_ms": offered.bound_ns // 1_000_000,
        "costs": asdict(bench.costs),
        "input": {"clip": offered.clip.name, "bytes": offered.clip.stat().st_size},
    }


@dataclass(frozen=True, slots=True)
class _Bench:
    engine: Engine
    costs: WorkCosts
    media: Media
    offered: Offered
    stalls: MachineStalls

    async def capacity(self) -> float:
        """Segments a second with all work done, by the store's clock."""
        tally = Tally(settled_seq=4)
        seconds = self.offered.capacity_s
        # The bound is so wide that the ladder has no reason to move.
        bound_ns = 60 * NS_PER_S
        async with assembled(self._parts(Scheduler, bound_ns), tally) as whole:
            _open(whole, _STREAMS)
            loop = ClosedLoop(self.media, _STREAMS, seconds, bound_ns, _UNDER_WAY)
            await loop.run(whole.accept, lambda: whole.dispatcher.unanswered)
            await whole.settle(seconds)
        assert set(tally.counted) == {"ok"}, f"not all work was done: {tally.counted}"
        return tally.counted.total() / (tally.last_ms - tally.first_ms) * 1000

    async def load(self, at: float, capacity: float, name: str = "streamer", making: Making = Scheduler) -> Run:
        """Windows at `at` times the capacity."""
        seconds = self.offered.seconds if making is Scheduler else min(self.offered.seconds, _BASELINE_S)
        hop_s = self.media.hop_ns / NS_PER_S
        loop = OpenLoop(self.media, max(1, round(at * capacity * hop_s)), seconds, self.offered.bound_ns)
        settle_s = min(_SETTLE_S, _SETTLE_PART * seconds)
        tally = Tally(settled_seq=int(settle_s / hop_s))
        parts = self._parts(making, self.offered.bound_ns)
        async with assembled(parts, tally) as whole:
            _open(whole, loop.streams)
            await loop.run(whole.accept)
            await whole.settle(self.offered.bound_ns / NS_PER_S + _AFTER_S)
            levels = [parts.scheduler.ladder.level(name_of(number)) for number in range(loop.streams)]
            statistics = whole.dispatcher.statistics
        entry = Run(at, loop.streams, seconds, offered_per_second=round(loop.streams / hop_s, 1))
        await self.stalls.refresh()
        self._judge(entry, loop, tally, capacity, whole.hooks)
        entry.busy = round(statistics.busy_ns / NS_PER_S / seconds, 3)
        entry.wasted = statistics.wasted
        entry.batch_windows = round((statistics.computed + statistics.wasted) / max(1, statistics.batches), 2)
        entry.levels = {str(level): levels.count(level) for level in sorted(set(levels))}
        _tell(name, entry)
        return entry

    def _judge(self, entry: Run, loop: OpenLoop, tally: Tally, capacity: float, hooks: Hooks) -> None:
        machine = {key for key, times in hooks.unexcused.items() if self.stalls.explains(*times)}
        excused = hooks.frozen | hooks.store_late | machine
        entry.late = len(tally.overdue - excused)
        entry.frozen_late = len(tally.overdue & hooks.frozen)
        entry.store_late = len(tally.overdue & hooks.store_late)
        entry.machine_late = len(tally.overdue & machine) if self.stalls.watched else None
        entry.duplicate = tally.duplicate
        entry.missing = sum(max(0, loop.windows - tally.seen[name_of(number)]) for number in range(loop.streams))
        answered = tally.answered(excused)
        counts = [answered[name_of(number)] for number in range(loop.streams)]
        entry.answered = (min(counts), max(counts))
        entry.fairness = round(max(counts) / min(counts), 3) if min(counts) else None
        entry.fairness_of_turns = round(max(1.0, (max(counts) - 1) / (min(counts) + 1)), 3)
        measured_s = (loop.windows - tally.settled_seq) * self.media.hop_ns / NS_PER_S
        entry.goodput = round(sum(counts) / measured_s / capacity, 3)
        entry.statuses, entry.latency_ms = dict(tally.counted), tally.latency_ms()
        entry.faults = [*hooks.told, *tally.faults[:_FAULTS]]

    def _parts(self, making: Making, bound_ns: int) -> Parts:
        scheduler = making(SchedulePolicy(max_windows=MAX_WINDOWS), self.costs)
        return Parts(self.engine, self.costs, scheduler, bound_ns)


def _open(whole: Assembled, streams: int) -> None:
    for number in range(streams):
        whole.open(name_of(number))


def _tell(name: str, entry: Run) -> None:
    click.echo(
        f"{name:11} {entry.at:g} x ({entry.streams} streams): late {entry.late} (and {entry.store_late} by the store, "
        f"{entry.frozen_late} frozen, {entry.machine_late} by the machine), missing {entry.missing}, "
        f"duplicate {entry.duplicate}, goodput {entry.goodput:.2f} of capacity, fairness {entry.fairness} "
        f"({entry.answered[0]} to {entry.answered[1]} answers a stream), "
        f"{entry.statuses}, p50 {entry.latency_ms.get('p50')} ms, p99 {entry.latency_ms.get('p99')} ms, "
        f"engine {entry.busy:.0%} busy",
        err=True,
    )


def default_clip() -> Path:
    """The demo's clip.

    Raises:
        MediaError: it can't be had.
    """
    return reel().path
