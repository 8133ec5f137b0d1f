"""Which windows are computed next, with how much of their work, and which can't be any more. Pure: time is an argument.

Earliest deadline first over all streams, as long as all that wait can be answered in time. Whether a batch can make it
is decided *before* computing, from batch times measured as they happen: it starts only when now + batch time +
publishing time is before the earliest deadline in it. When not all can make it, the ladder leaves work out, and what is
still too much is shared fairly: the stream that has had the least for its weight comes first, so that none starves
(virtual time of start-time fair queueing, Goyal, Vin and Cheng 1996).

Waiting up to the deadline is allowed, and to shed a window that could have been answered is a fault: windows are shed
in one place only, when their time is up.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from streamer.batch_times import BatchTimes
from streamer.easing import Encoded, Offer
from streamer.ladder import Ladder
from streamer.media import Window, Work, WorkCosts

_HIGH = 0.99
# By how many answers for its weight a stream may have had less than the others when it comes back.
_CREDIT = 5.0
# A batch that has taken this many times what it should have, and this long, hangs.
_HANGS, _HANGS_NS = 5, 500_000_000
# A batch of several windows takes no more of the latency bound than one in so many: what closes meanwhile waits for it.
_BATCH_PART = 4
# How many streams in their turn may find no room in a batch before it is taken for full.
_MISSES = 16
# After a want of memory, batches may grow again when this has passed without another.
_GROW_NS = 60_000_000_000


@dataclass(frozen=True, slots=True)
class SchedulePolicy:
    """`max_windows`: the most windows in one batch."""

    max_windows: int = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """A window in a batch: as it was accepted, as it is computed (perhaps with less in it), and what was left out."""

    window: Window
    offered: Window
    degraded: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows to compute together. `work` is what is new in them; `expected_ns` what that should take at most."""

    number: int
    entries: tuple[Entry, ...]
    work: Work
    started_ns: int
    expected_ns: int

    @property
    def offered(self) -> list[Window]:
        """The windows as the engine gets them."""
        return [entry.offered for entry in self.entries]


@dataclass(slots=True, eq=False)
class _Lane:
    """One stream: what waits of it in order, what of it was encoded, and what it has had for its weight."""

    name: str
    level: int
    had: float
    encoded: Encoded = field(default_factory=Encoded)
    waiting: list[_Item] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Item:
    """A window without an outcome. `cost_ns`: what is new in it by the model, if those of its stream before it are
    computed first (save those that were `skipped`: it was too late for them when they were last looked at)."""

    window: Window
    lane: _Lane
    order: int
    cost_ns: int = 0
    alone: bool = False
    skipped: bool = False
    chosen: bool = False
    is_open: bool = True


@dataclass(slots=True)
class ScheduleStatistics:
    """Counts since the start. `wasted`: windows computed for nothing, because their time was up before the batch
    ended."""

    batches: int = 0
    computed: int = 0
    wasted: int = 0
    shed: int = 0
    busy_ns: int = 0


class Scheduler:
    """Windows from their acceptance to their one outcome. Bounded: none stays past its deadline, and a stream closes
    one a hop.

    `reserve_ns` is the time to keep free before a deadline for what comes after compute; whoever calls keeps it up to
    date.
    """

    def __init__(self, policy: SchedulePolicy, costs: WorkCosts, ladder: Ladder | None = None) -> None:
        self._policy = policy
        self._max_windows = policy.max_windows
        self._grow_ns = 0
        self.times = BatchTimes(costs)
        self.ladder = ladder or Ladder()
        self.reserve_ns = 0
        self.statistics = ScheduleStatistics()
        # By deadline, then by arrival: what waits for compute.
        self._waiting: list[tuple[int, int, _Item]] = []
        self._lanes: dict[str, _Lane] = {}
        self._virtual = 0.0
        self._arrivals = 0
        self._ladder_moves = 0
        self._running: Batch | None = None
        self._computing: tuple[_Item, ...] = ()
        # What has been in a batch and has no outcome yet.
        self._taken: list[_Item] = []

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def unanswered(self) -> int:
        """Windows without an outcome: waiting, or in a batch."""
        return len(self._waiting) + len(self._taken)

    @property
    def running(self) -> Batch | None:
        """The batch under way."""
        return self._running

    def submit(self, window: Window) -> None:
        """Accept a closed window: it will have exactly one outcome, from `completed`, `failed`, `expire` or
        `forget`."""
        name = window.stream
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = _Lane(name, self.ladder.level(name), self._virtual)
        lane.had = max(lane.had, self._virtual - _CREDIT / self.ladder.weight(name))
        self._wait(_Item(window, lane, self._arrivals))

    def _wait(self, item: _Item) -> None:
        item.order = self._arrivals
        self._arrivals += 1
        insort(self._waiting, (item.window.deadline_ns, item.order, item))
        insort(item.lane.waiting, item, key=lambda other: other.window.deadline_ns)
        self._reckon(item.lane)

    def _reckon(self, lane: _Lane) -> None:
        """What its windows cost now, one after the other."""
        encoded = lane.encoded if len(lane.waiting) == 1 else lane.encoded.copy()
        for item in lane.waiting:
            offer = encoded.offer(item.window, lane.level)
            item.cost_ns = self._cost_ns(offer.work)
            if not item.skipped and len(lane.waiting) > 1:
                encoded.add(offer.window)

    def _cost_ns(self, work: Work) -> int:
        return self.times.costs.of(work) - self.times.costs.call_ns

    # -- what to compute -------------------------------------------------------------------------------------------

    def next_batch(self, now_ns: int) -> Batch | None:
        """The batch to start at `now_ns`; None: nothing that waits can make it any more, or nothing waits."""
        assert self._running is None, "one batch at a time"
        if not self._waiting:
            return None
        if self._max_windows < self._policy.max_windows and now_ns >= self._grow_ns:
            self._max_windows, self._grow_ns = 2 * self._max_windows, now_ns + _GROW_NS
        self._follow_ladder()
        fits = self._all_fit(now_ns)
        if not fits and self.ladder.strain(now_ns):
            self._follow_ladder()
            fits = self._all_fit(now_ns)
        items = self._choose(now_ns, fair=not fits) or self._probe(now_ns)
        if not fits:
            self._charge(items)
        return self._start(items, now_ns) if items else None

    def _charge(self, items: list[_Item]) -> None:
        """Note down that their streams have had so much more. What is had while there is enough for all takes nothing
        from anybody, and nobody has to wait for it afterwards."""
        for item in items:
            lane = item.lane
            self._virtual = max(self._virtual, lane.had)
            lane.had += 1.0 / self.ladder.weight(lane.name)

    def _follow_ladder(self) -> None:
        if self.ladder.moves == self._ladder_moves:
            return
        self._ladder_moves = self.ladder.moves
        levels = self.ladder.levels
        for lane in self._lanes.values():
            level = levels.get(lane.name, 0)
            if level != lane.level:
                lane.level = level
                self._reckon(lane)

    def _all_fit(self, now_ns: int) -> bool:
        """Whether all that wait can be answered in time one after the other, by what batches take of late. Those that
        are lost by themselves (after a hiccup of the machine, say) don't count."""
        stretch, call_ns = self.times.lately, self.times.costs.call_ns
        begin_ns = now_ns + self.reserve_ns + call_ns * stretch
        end_ns, share_ns = begin_ns, call_ns * stretch / self._max_windows
        for deadline_ns, _, item in self._waiting:
            need_ns = item.cost_ns * stretch
            if begin_ns + need_ns <= deadline_ns:
                end_ns += need_ns + share_ns
                if end_ns > deadline_ns:
                    return False
        return True

    def _choose(self, now_ns: int, *, fair: bool) -> list[_Item]:
        """Windows that make it together: the earliest deadlines, or those of the streams that have had least."""
        chosen: list[_Item] = []
        over_ns, call_ns = now_ns + self.reserve_ns, self.times.costs.call_ns
        modelled_ns, earliest_ns, longest_ns, misses = call_ns, 1 << 62, 1 << 62, 0
        for item in self._in_turn() if fair else [item for _, _, item in self._waiting]:
            if chosen and item.alone:
                break
            if over_ns + self._expect_ns(call_ns + item.cost_ns, now_ns) > item.window.deadline_ns:
                self._skip(item)
                continue
            need_ns = self._expect_ns(modelled_ns + item.cost_ns, now_ns)
            by_ns = min(earliest_ns, item.window.deadline_ns)
            if over_ns + need_ns > by_ns or (chosen and need_ns > longest_ns):
                # What is too much for this batch waits for the next, and nobody overtakes it, unless in turns.
                misses += 1
                if not fair or need_ns > longest_ns or misses > _MISSES:
                    break
                continue
            item.chosen, item.skipped = True, False
            chosen.append(item)
            modelled_ns, earliest_ns = modelled_ns + item.cost_ns, by_ns
            longest_ns = min(longest_ns, (item.window.deadline_ns - item.window.end_ns) // _BATCH_PART)
            if item.alone or len(chosen) == self._max_windows:
                break
        return chosen

    def _expect_ns(self, modelled_ns: int, now_ns: int) -> float:
        return modelled_ns * self.times.stretch(modelled_ns, now_ns, _HIGH)

    def _skip(self, item: _Item) -> None:
        """It can't make it by itself: what its stream has after it must be encoded without it."""
        if not item.skipped:
            item.skipped = True
            self._reckon(item.lane)

    def _in_turn(self) -> Iterator[_Item]:
        """What waits, as streams take turns by what they have had for their weight, each its earliest first."""
        turns = [(lane.had, lane.waiting[0].order, 0, lane) for lane in self._lanes.values() if lane.waiting]
        heapq.heapify(turns)
        while turns:
            had, _, place, lane = heapq.heappop(turns)
            item = lane.waiting[place]
            yield item
            if item.chosen:
                had += 1.0 / self.ladder.weight(lane.name)
            # A window never overtakes an earlier one of its stream that can still make it.
            if place + 1 < len(lane.waiting) and (item.chosen or item.skipped):
                heapq.heappush(turns, (had, lane.waiting[place + 1].order, place + 1, lane))

    def _probe(self, now_ns: int) -> list[_Item]:
        """Where by the high quantile none can make it any more, the one with the most time left is tried all the same
        if it could on an idle machine: an engine that stands idle learns of no better times, and would shed for ever
        after one slow batch. (A result that comes too late is thrown away.)"""
        start_ns = now_ns + self.reserve_ns + self.times.costs.call_ns
        for deadline_ns, _, item in reversed(self._waiting):
            if start_ns + item.cost_ns <= deadline_ns:
                return [item]
        return []

    def _start(self, items: list[_Item], now_ns: int) -> Batch:
        work, entries = Work(), []
        for item in items:
            offer = self._take(item)
            work += offer.work
            entries.append(Entry(item.window, offer.window, offer.degraded))
        chosen = set(map(id, items))
        self._waiting = [waiting for waiting in self._waiting if id(waiting[2]) not in chosen]
        for lane in {item.lane for item in items}:
            self._reckon(lane)
        self.statistics.batches += 1
        expected_ns = self.times.expect(work, now_ns, _HIGH)
        self._computing = tuple(items)
        self._taken += items
        self._running = Batch(self.statistics.batches, tuple(entries), work, now_ns, expected_ns)
        return self._running

    def _take(self, item: _Item) -> Offer:
        lane = item.lane
        lane.encoded.forget_before(lane.waiting[0].window)
        lane.waiting.remove(item)
        offer = lane.encoded.offer(item.window, lane.level)
        lane.encoded.add(offer.window)
        return offer

    # -- outcomes ----------------------------------------------------------------------------------------------------

    def completed(self, now_ns: int) -> list[bool]:
        """The batch under way has ended: which of its entries are in time. The others have had their outcome, or will
        have it from `expire`."""
        batch, items = self._ended(now_ns)
        self.times.record(batch.work, now_ns - batch.started_ns, now_ns)
        over_ns = now_ns + self.reserve_ns
        in_time = [item.is_open and over_ns <= item.window.deadline_ns for item in items]
        self._close([item for item, answered in zip(items, in_time, strict=True) if answered])
        self.statistics.computed += sum(in_time)
        self.statistics.wasted += len(in_time) - sum(in_time)
        return in_time

    def failed(self, now_ns: int, *, memory: bool) -> list[Window]:
        """The engine failed on the batch under way: the windows to shed for it.

        Where there were several, each is tried once more by itself, so that one that can't be computed does not take
        its neighbours with it. `memory`: there was not enough of it; batches are smaller for a minute.
        """
        _, items = self._ended(now_ns)
        for lane in {item.lane for item in items}:
            # Whatever was encoded is not known.
            lane.encoded = Encoded()
            self._reckon(lane)
        if memory:
            self._max_windows = max(1, min(self._max_windows, len(items)) // 2)
            self._grow_ns = now_ns + _GROW_NS
        lost = [item for item in items if item.is_open and (len(items) == 1 or item.alone)]
        self._close(lost)
        for item in items:
            if item.is_open:
                self._taken.remove(item)
                item.alone, item.chosen = True, False
                self._wait(item)
        return [item.window for item in lost]

    def _ended(self, now_ns: int) -> tuple[Batch, tuple[_Item, ...]]:
        batch, items = self._running, self._computing
        assert batch is not None, "no batch is under way"
        self._running, self._computing = None, ()
        self.statistics.busy_ns += now_ns - batch.started_ns
        return batch, items

    def expire(self, now_ns: int) -> list[Window]:
        """The windows whose time is up, without an outcome until now: to be shed."""
        over_ns = now_ns + self.reserve_ns
        expired = [item for item in self._taken if item.window.deadline_ns <= over_ns]
        for deadline_ns, _, item in self._waiting:
            if deadline_ns > over_ns:
                break
            expired.append(item)
        if expired:
            self._withdraw(expired)
            self.statistics.shed += len(expired)
            self.ladder.disturb(now_ns)
        return [item.window for item in expired]

    def hangs(self, now_ns: int) -> bool:
        """Whether the batch under way takes so long that the engine must be taken for dead."""
        batch = self._running
        return batch is not None and now_ns - batch.started_ns > max(_HANGS * batch.expected_ns, _HANGS_NS)

    @property
    def next_expiry_ns(self) -> int | None:
        """When the next window's time is up; None while all have had their outcome."""
        deadlines = [item.window.deadline_ns for item in self._taken]
        if self._waiting:
            deadlines.append(self._waiting[0][0])
        return min(deadlines) - self.reserve_ns if deadlines else None

    def forget(self, stream: str) -> list[Window]:
        """Remove a stream; returns its windows without an outcome, for the caller to answer."""
        self.ladder.remove(stream)
        lane = self._lanes.pop(stream, None)
        return self._withdraw([item for item in self._unanswered() if item.lane is lane])

    def forget_waiting(self) -> list[Window]:
        """All windows without an outcome, for the caller to answer."""
        return self._withdraw(list(self._unanswered()))

    def _unanswered(self) -> Iterator[_Item]:
        yield from self._taken
        for _, _, item in self._waiting:
            yield item

    def _withdraw(self, items: list[_Item]) -> list[Window]:
        """`items` are not to be computed any more, or not for anybody: they have their outcome."""
        self._close(items)
        self._waiting = [waiting for waiting in self._waiting if waiting[2].is_open]
        for lane in {item.lane for item in items}:
            lane.waiting = [item for item in lane.waiting if item.is_open]
            self._reckon(lane)
        return [item.window for item in items]

    def _close(self, items: list[_Item]) -> None:
        for item in items:
            item.is_open = False
        self._taken = [item for item in self._taken if item.is_open]
