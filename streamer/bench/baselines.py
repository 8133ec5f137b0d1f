"""What people would do without deadlines: queues in the scheduler's place, for the benchmark to measure beside it.

Both compute every window with all its work, in batches as large as the scheduler's. They are allowed to be late: that
is what they show.
"""

from __future__ import annotations

from collections import deque

from streamer.media import Window, Work, WorkCosts
from streamer.scheduling.easing import Encoded
from streamer.scheduling.schedule import Batch, Entry, SchedulePolicy, Scheduler

# An expiry far away, so that the guard looks from time to time: something may have been dropped.
_SOME_TIME_NS = 1 << 62


class UnboundedFifo(Scheduler):
    """First come, first served, for ever."""

    def __init__(self, policy: SchedulePolicy, costs: WorkCosts) -> None:
        super().__init__(policy, costs)
        self._most = policy.max_windows
        self._queue: deque[Window] = deque()
        self._dropped: list[Window] = []
        self._batch: Batch | None = None
        self._tokens: dict[str, Encoded] = {}

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def unanswered(self) -> int:
        """Windows without an outcome."""
        return len(self._queue) + len(self._dropped) + (len(self._batch.entries) if self._batch else 0)

    def submit(self, window: Window) -> None:
        """To the end of the queue."""
        self._queue.append(window)

    def next_batch(self, now_ns: int) -> Batch | None:
        """The oldest ones, however old they are."""
        if not self._queue:
            return None
        entries: list[Entry] = []
        work = Work()
        while self._queue and len(entries) < self._most:
            window = self._queue.popleft()
            encoded = self._tokens.setdefault(window.stream, Encoded())
            encoded.forget_before(window)
            work += encoded.offer(window, level=0).work
            encoded.add(window)
            entries.append(Entry(window, window, ()))
        self.statistics.batches += 1
        self._batch = Batch(self.statistics.batches, tuple(entries), work, now_ns, self.times.costs.of(work))
        return self._batch

    def completed(self, now_ns: int) -> list[bool]:
        """All of them are answered, in time or not."""
        batch, self._batch = self._batch, None
        assert batch is not None
        self.times.record(batch.work, now_ns - batch.started_ns, now_ns)
        self.statistics.busy_ns += now_ns - batch.started_ns
        self.statistics.computed += len(batch.entries)
        return [True] * len(batch.entries)

    def failed(self, now_ns: int, *, memory: bool) -> list[Window]:
        """What was in the batch is lost."""
        batch, self._batch = self._batch, None
        assert batch is not None
        return batch.offered

    def expire(self, now_ns: int) -> list[Window]:
        """What was dropped to make room; nothing for being late."""
        dropped, self._dropped = self._dropped, []
        self.statistics.shed += len(dropped)
        return dropped

    def hangs(self, now_ns: int) -> bool:
        """Nobody looks."""
        return False

    @property
    def next_expiry_ns(self) -> int | None:
        """Nothing expires; but what was dropped is told soon."""
        return _SOME_TIME_NS if self.unanswered else None

    def forget_waiting(self) -> list[Window]:
        """What waits, for the caller to answer."""
        waiting = [*self._queue, *self._dropped]
        self._queue.clear()
        self._dropped.clear()
        return waiting


class DropOldest(UnboundedFifo):
    """A stream's newest window takes the place of the one that waits: nobody has more than one in the queue."""

    def submit(self, window: Window) -> None:
        """In the place of its stream's older one, where there is one."""
        for place, older in enumerate(self._queue):
            if older.stream == window.stream:
                self._dropped.append(older)
                self._queue[place] = window
                return
        self._queue.append(window)
