"""Which windows are computed next, with how much of their work, and which can't be any more. Pure: time is an argument.

Earliest deadline first over all streams, as long as all that wait can be answered in time. Whether a batch can make it
is decided *before* computing, from batch times measured as they happen: it starts only when now + batch time +
publishing time is before the earliest deadline in it. When not all can make it, the ladder leaves work out, and what is
still too much is shared fairly: the stream that has had the least for its weight comes first.

Waiting up to the deadline is allowed, and to shed a window that could have been answered is a fault: windows are shed
in one place only, when their time is up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from streamer.media import Window, Work, WorkCosts
from streamer.scheduling.batch_times import BatchTimes
from streamer.scheduling.ladder import Ladder
from streamer.scheduling.lanes import Item, Lanes

_HIGH = 0.99
# For how long after there was not enough for all it is noted down who has had what.
_SHORT_NS = 2_000_000_000
# How long after a batch it is taken for possible that the next one would be as quick as on an idle machine.
_IDLE_NS = 1_000_000_000
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


@dataclass(slots=True)
class ScheduleStatistics:
    """Counts since the start. `wasted`: windows computed for nothing, because their time was up before the batch
    ended. `looks`: pictures in which people were looked for."""

    batches: int = 0
    computed: int = 0
    wasted: int = 0
    shed: int = 0
    busy_ns: int = 0
    looks: int = 0


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
        self._lanes = Lanes(costs, self.ladder)
        self._short_ns = self._ended_ns = -(1 << 62)
        # Since when there has been, whenever anything was to be computed, something that waited for too long.
        self._lost_from_ns: int | None = None
        self._running: Batch | None = None
        self._computing: tuple[Item, ...] = ()
        # Whether the batch under way was charged to its streams.
        self._charged = False
        # What has been in a batch and has no outcome yet.
        self._taken: list[Item] = []

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def unanswered(self) -> int:
        """Windows without an outcome: waiting, or in a batch."""
        return len(self._lanes) + len(self._taken)

    @property
    def running(self) -> Batch | None:
        """The batch under way."""
        return self._running

    def submit(self, window: Window) -> None:
        """Accept a closed window: it will have exactly one outcome, from `completed`, `failed`, `expire` or
        `forget`."""
        self._lanes.add(window)

    # -- what to compute -------------------------------------------------------------------------------------------

    def next_batch(self, now_ns: int) -> Batch | None:
        """The batch to start at `now_ns`; None: nothing that waits can make it any more, or nothing waits."""
        assert self._running is None, "one batch at a time"
        if not len(self._lanes):
            return None
        if self._max_windows < self._policy.max_windows and now_ns >= self._grow_ns:
            self._max_windows, self._grow_ns = 2 * self._max_windows, now_ns + _GROW_NS
        self._lanes.follow_ladder()
        fits, tight = self._all_fit(now_ns)
        if tight and self.ladder.strain(now_ns, urgent=not fits):
            self._lanes.follow_ladder()
            fits, _ = self._all_fit(now_ns)
        if not fits:
            self._short_ns = now_ns
        items = self._choose(now_ns, self._at_most, fair=not fits) or self._try(now_ns, fair=not fits)
        # What is had while there is enough for all takes nothing from anybody: nobody has to wait for it afterwards.
        self._charged = now_ns - self._short_ns <= _SHORT_NS
        if self._charged:
            self._lanes.charge(items)
        return self._start(items, now_ns) if items else None

    def _all_fit(self, now_ns: int) -> tuple[bool, bool]:
        """Whether all that wait can be answered in time one after the other, by what batches take of late; and whether
        that is not so by a margin: the ladder is climbed before it is too late. Those that are lost because they had to
        wait don't count (it was a hiccup of the machine), unless there are such ones all the time."""
        stretch, call_ns = self.times.lately, self.times.costs.call_ns
        begin_ns = now_ns + self.reserve_ns + call_ns * stretch
        end_ns, share_ns, tight = begin_ns, call_ns * stretch / self._max_windows, False
        lost: Window | None = None
        for item in self._lanes:
            need_ns, deadline_ns = item.cost_ns * stretch, item.window.deadline_ns
            if begin_ns + need_ns > deadline_ns:
                lost = item.window
                continue
            end_ns += need_ns + share_ns
            if end_ns > deadline_ns:
                return False, True
            tight = tight or end_ns + item.margin_ns > deadline_ns
        short = self._is_short(lost, now_ns)
        return not short, short or tight

    def _is_short(self, lost: Window | None, now_ns: int) -> bool:
        if lost is None:
            self._lost_from_ns = None
            return False
        if self._lost_from_ns is None:
            self._lost_from_ns = now_ns
        return now_ns - self._lost_from_ns > lost.deadline_ns - lost.end_ns

    def _choose(self, now_ns: int, expect: Callable[[int, int], float], *, fair: bool) -> list[Item]:
        """Windows that make it together by what `expect` says (of modelled nanoseconds, now): the earliest deadlines,
        or those of the streams that have had least."""
        chosen: list[Item] = []
        over_ns, call_ns = now_ns + self.reserve_ns, self.times.costs.call_ns
        modelled_ns, earliest_ns, longest_ns, misses = call_ns, 1 << 62, 1 << 62, 0
        for item in self._lanes.in_turn() if fair else self._lanes:
            if chosen and item.alone:
                break
            if over_ns + expect(call_ns + item.cost_ns, now_ns) > item.window.deadline_ns:
                self._lanes.skip(item)
                continue
            need_ns = expect(modelled_ns + item.cost_ns, now_ns)
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

    def _at_most(self, modelled_ns: int, now_ns: int) -> float:
        return modelled_ns * self.times.stretch(modelled_ns, now_ns, _HIGH)

    def _try(self, now_ns: int, *, fair: bool) -> list[Item]:
        """Where by the high quantile none can make it any more, those that could by what batches usually take of late
        are tried all the same: or else one slow batch would shed for seconds. And from time to time those that could on
        an idle machine: an engine that stands idle learns of no better times. (A result that comes too late is thrown
        away.)"""
        usual = self._choose(now_ns, lambda modelled_ns, _: modelled_ns * self.times.lately, fair=fair)
        if usual or now_ns - self._ended_ns < _IDLE_NS:
            return usual
        return self._choose(now_ns, lambda modelled_ns, _: modelled_ns, fair=fair)

    def _start(self, items: list[Item], now_ns: int) -> Batch:
        work, entries = Work(), []
        for item, offer in zip(items, self._lanes.take(items), strict=True):
            work += offer.work
            entries.append(Entry(item.window, offer.window, offer.degraded))
        self.statistics.batches += 1
        expected_ns = self.times.expect(work, now_ns, _HIGH)
        self._computing = tuple(items)
        self._taken += items
        self._running = Batch(self.statistics.batches, tuple(entries), work, now_ns, expected_ns)
        return self._running

    # -- outcomes ----------------------------------------------------------------------------------------------------

    def completed(self, now_ns: int) -> list[bool]:
        """The batch under way has ended: which of its entries are in time. The others have had their outcome, or will
        have it from `expire`."""
        batch, items = self._ended(now_ns)
        self.times.record(batch.work, now_ns - batch.started_ns, now_ns)
        self.statistics.looks += batch.work.looks
        over_ns = now_ns + self.reserve_ns
        in_time = [item.is_open and over_ns <= item.window.deadline_ns for item in items]
        self._close([item for item, answered in zip(items, in_time, strict=True) if answered])
        if self._charged:
            # A process that stood still, say, must not cost those their turn that happened to be in the batch.
            self._lanes.refund([item for item, answered in zip(items, in_time, strict=True) if not answered])
        self.statistics.computed += sum(in_time)
        self.statistics.wasted += len(in_time) - sum(in_time)
        return in_time

    def failed(self, now_ns: int, *, memory: bool) -> list[Window]:
        """The engine failed on the batch under way: the windows to shed for it.

        Where there were several, each is tried once more by itself, so that one that can't be computed does not take
        its neighbours with it. `memory`: there was not enough of it; batches are smaller for a minute.
        """
        _, items = self._ended(now_ns)
        self._lanes.lose(items)
        if memory:
            self._max_windows = max(1, min(self._max_windows, len(items)) // 2)
            self._grow_ns = now_ns + _GROW_NS
        lost = [item for item in items if item.is_open and (len(items) == 1 or item.alone)]
        self._close(lost)
        for item in items:
            if item.is_open:
                self._taken.remove(item)
                item.alone = True
                self._lanes.put(item)
        return [item.window for item in lost]

    def _ended(self, now_ns: int) -> tuple[Batch, tuple[Item, ...]]:
        batch, items = self._running, self._computing
        assert batch is not None, "no batch is under way"
        self._running, self._computing, self._ended_ns = None, (), now_ns
        self.statistics.busy_ns += now_ns - batch.started_ns
        return batch, items

    def expire(self, now_ns: int) -> list[Window]:
        """The windows whose time is up, without an outcome until now: to be shed."""
        over_ns = now_ns + self.reserve_ns
        expired = [item for item in self._taken if item.window.deadline_ns <= over_ns]
        expired += self._lanes.expired(over_ns)
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
        if (earliest_ns := self._lanes.earliest_ns) is not None:
            deadlines.append(earliest_ns)
        return min(deadlines) - self.reserve_ns if deadlines else None

    def forget(self, stream: str) -> list[Window]:
        """Remove a stream; returns its windows without an outcome, for the caller to answer."""
        self.ladder.remove(stream)
        lane = self._lanes.remove(stream)
        return self._withdraw([item for item in self._unanswered() if item.lane is lane])

    def forget_waiting(self) -> list[Window]:
        """All windows without an outcome, for the caller to answer."""
        return self._withdraw(list(self._unanswered()))

    def _unanswered(self) -> Iterator[Item]:
        yield from self._taken
        yield from self._lanes

    def _withdraw(self, items: list[Item]) -> list[Window]:
        """`items` are not to be computed any more, or not for anybody: they have their outcome."""
        self._close(items)
        self._lanes.clear(items)
        return [item.window for item in items]

    def _close(self, items: list[Item]) -> None:
        for item in items:
            item.is_open = False
        self._taken = [item for item in self._taken if item.is_open]
