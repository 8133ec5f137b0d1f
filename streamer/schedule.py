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
from dataclasses import dataclass, field, replace

from streamer.batch_times import BatchTimes
from streamer.ladder import Ladder
from streamer.media import Picture, Window, Work, WorkCosts

Key = tuple[str, str, int]

_HIGH, _MIDDLE = 0.99, 0.5
# With more pictures than this in a window, every second one can be left out and its course still be seen.
_FEW_PICTURES = 2
# By how many answers for its weight a stream may have had less than the others when it comes back.
_CREDIT = 5.0
# A batch that has taken this many times what it should have, and this long, hangs.
_HANGS, _HANGS_NS = 5, 500_000_000


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
class _Encoded:
    """Which pictures and patches of a stream have been encoded, as far back as its windows reach."""

    pictures: set[int] = field(default_factory=set)
    patches: set[int] = field(default_factory=set)

    def missing(self, window: Window) -> Work:
        return Work(
            1,
            sum(picture.index not in self.pictures for picture in window.pictures),
            sum(patch.index not in self.patches for patch in window.patches),
        )

    def add(self, window: Window) -> None:
        self.pictures.update(picture.index for picture in window.pictures)
        self.patches.update(patch.index for patch in window.patches)

    def copy(self) -> _Encoded:
        return _Encoded(set(self.pictures), set(self.patches))

    def forget_before(self, window: Window) -> None:
        if window.pictures:
            oldest = window.pictures[0].index
            self.pictures = {index for index in self.pictures if index >= oldest}
        if window.patches:
            oldest = window.patches[0].index
            self.patches = {index for index in self.patches if index >= oldest}


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
        self.times = BatchTimes(costs)
        self.ladder = ladder or Ladder()
        self.reserve_ns = 0
        self.statistics = ScheduleStatistics()
        # By deadline, then by arrival: what waits for compute.
        self._waiting: list[tuple[int, int, Window]] = []
        # What has no outcome yet, waiting or in a batch.
        self._open: dict[Key, Window] = {}
        self._alone: set[Key] = set()
        self._encoded: dict[str, _Encoded] = {}
        self._had: dict[str, float] = {}
        self._virtual = 0.0
        self._arrivals = 0
        self._running: Batch | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def unanswered(self) -> int:
        """Windows without an outcome: waiting, or in a batch."""
        return len(self._open)

    @property
    def running(self) -> Batch | None:
        """The batch under way."""
        return self._running

    def submit(self, window: Window) -> None:
        """Accept a closed window: it will have exactly one outcome, from `completed`, `failed`, `expire` or
        `forget`."""
        self._open[_key(window)] = window
        insort(self._waiting, (window.deadline_ns, self._arrivals, window))
        self._arrivals += 1
        had = self._had.get(window.stream, self._virtual)
        self._had[window.stream] = max(had, self._virtual - _CREDIT / self.ladder.weight(window.stream))

    # -- what to compute -------------------------------------------------------------------------------------------

    def next_batch(self, now_ns: int) -> Batch | None:
        """The batch to start at `now_ns`; None: nothing that waits can make it any more, or nothing waits."""
        assert self._running is None, "one batch at a time"
        if not self._waiting:
            return None
        fits = self._all_fit(now_ns)
        if not fits and self.ladder.strain(now_ns):
            fits = self._all_fit(now_ns)
        entries = self._choose(now_ns, fair=not fits)
        if not entries:
            entries = self._probe(now_ns)
        return self._start(entries, now_ns) if entries else None

    def _all_fit(self, now_ns: int) -> bool:
        """Whether all that wait can be answered in time one after the other, by what batches usually take. Those that
        are lost whatever is left out of them (after a hiccup of the machine, say) don't count."""
        costs = self.times.costs
        end_ns = now_ns + self.reserve_ns
        stretch = self.times.stretch(costs.of(Work(1, 1, 1)), now_ns, _MIDDLE)
        shared = (costs.call_ns + costs.window_ns) * stretch
        lost_ns = end_ns + shared
        seen: dict[str, _Encoded] = {}
        for deadline_ns, _, window in self._waiting:
            if deadline_ns < lost_ns:
                continue
            new = self._seen(seen, window).missing(self._eased(window)[0])
            seen[window.stream].add(window)
            end_ns += int(shared + (costs.picture_ns * new.pictures + costs.patch_ns * new.patches) * stretch)
            if end_ns > deadline_ns:
                return False
        return True

    def _seen(self, seen: dict[str, _Encoded], window: Window) -> _Encoded:
        found = seen.get(window.stream)
        if found is None:
            found = seen[window.stream] = self._encoded.get(window.stream, _Encoded()).copy()
        return found

    def _choose(self, now_ns: int, *, fair: bool) -> list[Entry]:
        """Windows that make it together: the earliest deadlines, or those of the streams that have had least."""
        chosen: list[Entry] = []
        work, earliest_ns = Work(), 1 << 62
        seen: dict[str, _Encoded] = {}
        had = dict(self._had)
        for window in list(self._in_turn(had) if fair else (window for _, _, window in self._waiting)):
            if len(chosen) == self._max_windows or (chosen and _key(window) in self._alone):
                break
            offered, degraded = self._eased(window)
            more = work + self._seen(seen, window).missing(offered)
            by_ns = min(earliest_ns, window.deadline_ns)
            if now_ns + self.times.expect(more, now_ns, _HIGH) + self.reserve_ns > by_ns:
                # Of windows that can't make it by themselves the next one may; one that is too much for the batch
                # waits for the next batch, and nobody overtakes it.
                if chosen and not fair:
                    break
                continue
            chosen.append(Entry(window, offered, degraded))
            work, earliest_ns = more, by_ns
            seen[window.stream].add(offered)
            if _key(window) in self._alone:
                break
        return chosen

    def _in_turn(self, had: dict[str, float]) -> Iterator[Window]:
        """What waits, as streams take turns by what they have had for their weight, each its earliest first."""
        queues: dict[str, list[Window]] = {}
        for _, _, window in reversed(self._waiting):
            queues.setdefault(window.stream, []).append(window)
        turns = [(had[stream], queue[-1].deadline_ns, stream) for stream, queue in queues.items()]
        heapq.heapify(turns)
        while turns:
            _, _, stream = heapq.heappop(turns)
            queue = queues[stream]
            yield queue.pop()
            had[stream] += 1.0 / self.ladder.weight(stream)
            if queue:
                heapq.heappush(turns, (had[stream], queue[-1].deadline_ns, stream))

    def _probe(self, now_ns: int) -> list[Entry]:
        """Where by the high quantile none can make it any more, the one with the most time left is tried all the same
        if it could on an idle machine: an engine that stands idle learns of no better times, and would shed for ever
        after one slow batch. (A result that comes too late is thrown away.)"""
        window = self._waiting[-1][2]
        offered, degraded = self._eased(window)
        work = self._encoded.get(window.stream, _Encoded()).missing(offered)
        if now_ns + self.times.costs.of(work) + self.reserve_ns > window.deadline_ns:
            return []
        return [Entry(window, offered, degraded)]

    def _eased(self, window: Window) -> tuple[Window, tuple[str, ...]]:
        """The window as its stream's level on the ladder has it computed, and all that was left out of it."""
        level = self.ladder.level(window.stream)
        if level == 0 or not window.pictures:
            return window, window.degraded
        if level >= 3 and window.patches:
            return replace(window, pictures=()), _also(window.degraded, "video")
        pictures = window.pictures[-1:] if level >= 3 else _thinned(window.pictures)
        if len(pictures) == len(window.pictures):
            return window, window.degraded
        return replace(window, pictures=pictures), _also(window.degraded, "frames")

    def _start(self, entries: list[Entry], now_ns: int) -> Batch:
        work = Work()
        for entry in entries:
            encoded = self._encoded.setdefault(entry.window.stream, _Encoded())
            encoded.forget_before(entry.window)
            work += encoded.missing(entry.offered)
            encoded.add(entry.offered)
            self._virtual = max(self._virtual, self._had[entry.window.stream])
            self._had[entry.window.stream] += 1.0 / self.ladder.weight(entry.window.stream)
        started = {_key(entry.window) for entry in entries}
        self._waiting = [waiting for waiting in self._waiting if _key(waiting[2]) not in started]
        self.statistics.batches += 1
        expected_ns = self.times.expect(work, now_ns, _HIGH)
        self._running = Batch(self.statistics.batches, tuple(entries), work, now_ns, expected_ns)
        return self._running

    # -- outcomes ----------------------------------------------------------------------------------------------------

    def completed(self, now_ns: int) -> list[bool]:
        """The batch under way has ended: which of its entries are in time. The others have had their outcome."""
        batch = self._ended(now_ns)
        self.times.record(batch.work, now_ns - batch.started_ns, now_ns)
        in_time = [
            now_ns + self.reserve_ns <= entry.window.deadline_ns and self._close(entry.window)
            for entry in batch.entries
        ]
        self.statistics.computed += sum(in_time)
        self.statistics.wasted += len(in_time) - sum(in_time)
        return in_time

    def failed(self, now_ns: int, *, memory: bool) -> list[Window]:
        """The engine failed on the batch under way: the windows to shed for it.

        Where there were several, each is tried once more by itself, so that one that can't be computed does not take
        its neighbours with it. `memory`: there was not enough of it; batches are smaller from now on.
        """
        batch = self._ended(now_ns)
        for entry in batch.entries:
            # Whatever was encoded is not known.
            self._encoded.pop(entry.window.stream, None)
        if memory:
            self._max_windows = max(1, min(self._max_windows, len(batch.entries)) // 2)
        lost = []
        for entry in batch.entries:
            key = _key(entry.window)
            if len(batch.entries) == 1 or key in self._alone:
                if self._close(entry.window):
                    lost.append(entry.window)
            elif key in self._open:
                self._alone.add(key)
                insort(self._waiting, (entry.window.deadline_ns, self._arrivals, entry.window))
                self._arrivals += 1
        return lost

    def _ended(self, now_ns: int) -> Batch:
        batch, self._running = self._running, None
        assert batch is not None, "no batch is under way"
        self.statistics.busy_ns += now_ns - batch.started_ns
        return batch

    def expire(self, now_ns: int) -> list[Window]:
        """The windows whose time is up, without an outcome until now: to be shed."""
        over_ns = now_ns + self.reserve_ns
        expired = [window for window in self._open.values() if window.deadline_ns <= over_ns]
        for window in expired:
            self._close(window)
        if expired:
            self._waiting = [waiting for waiting in self._waiting if waiting[0] > over_ns]
            self.statistics.shed += len(expired)
        return expired

    def hangs(self, now_ns: int) -> bool:
        """Whether the batch under way takes so long that the engine must be taken for dead."""
        batch = self._running
        return batch is not None and now_ns - batch.started_ns > max(_HANGS * batch.expected_ns, _HANGS_NS)

    @property
    def next_expiry_ns(self) -> int | None:
        """When the next window's time is up; None while all have had their outcome."""
        return min(window.deadline_ns for window in self._open.values()) - self.reserve_ns if self._open else None

    def forget(self, stream: str) -> list[Window]:
        """Remove a stream; returns its windows without an outcome, for the caller to answer."""
        self._encoded.pop(stream, None)
        self._had.pop(stream, None)
        self.ladder.remove(stream)
        return self._withdraw([window for window in self._open.values() if window.stream == stream])

    def forget_waiting(self) -> list[Window]:
        """All windows without an outcome, for the caller to answer."""
        return self._withdraw(list(self._open.values()))

    def _withdraw(self, windows: list[Window]) -> list[Window]:
        gone = {_key(window) for window in windows}
        self._waiting = [waiting for waiting in self._waiting if _key(waiting[2]) not in gone]
        for window in windows:
            self._close(window)
        return windows

    def _close(self, window: Window) -> bool:
        key = _key(window)
        self._alone.discard(key)
        return self._open.pop(key, None) is not None


def _key(window: Window) -> Key:
    return window.stream, window.epoch, window.seq


def _thinned(pictures: tuple[Picture, ...]) -> tuple[Picture, ...]:
    """Every second picture, the same ones in every window that holds them."""
    if len(pictures) <= _FEW_PICTURES:
        return pictures
    return tuple(picture for picture in pictures if picture.index % 2 == 0)


def _also(degraded: tuple[str, ...], step: str) -> tuple[str, ...]:
    return degraded if step in degraded else (*degraded, step)
