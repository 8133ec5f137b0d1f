"""Times in which the whole process did not run: stopped by a signal, in a suspended machine, or starved of CPU.

Nothing in the process can be in time then, so such times are told apart from all that it does slowly by itself. A
thread that ticks all the time finds them: its tick comes much too late, and the process has used next to no CPU time
meanwhile (where some thread of it worked it would have). A thread that waits while it holds the interpreter's lock, as
happens when a library is loaded from a slow disk, looks the same: no Python code runs then either.
"""

from __future__ import annotations

import abc
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streamer.clock import NS_PER_MS, NS_PER_S, Clock, HostClock

log = logging.getLogger(__name__)

TICK_NS = 20 * NS_PER_MS
# A tick that is later than this may be a freeze; less is what any loaded machine does.
_LATE_NS = 50 * NS_PER_MS
# A process that ran used more of that time than this.
_RAN_PART = 0.1
_KEPT = 256
_TELL_EVERY_NS = 10 * NS_PER_S
_WORTH_TELLING_NS = 250 * NS_PER_MS
_JOIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Freeze:
    """The process did not run in `[begin_ns, end_ns)` of the host's monotonic clock.

    It begins when the tick was due: up to one tick (20 ms) of it before that is left out, because the process may have
    run then.
    """

    begin_ns: int
    end_ns: int


class FreezeDetector:
    """Decides from its own ticks. Pure: the times are arguments."""

    def __init__(self, now_ns: int, cpu_ns: int) -> None:
        self._last_ns = now_ns
        self._cpu_ns = cpu_ns
        # What the process used in its last tick that was on time: as much it may have used before it froze.
        self._usual_ns = 0

    def is_overdue(self, now_ns: int) -> bool:
        """Whether the next tick is so late that the process may have been frozen."""
        return now_ns - self._last_ns - TICK_NS >= _LATE_NS

    def tick(self, now_ns: int, cpu_ns: int) -> Freeze | None:
        """Another tick; the freeze since the one before, if there was one.

        Args:
            now_ns: on the monotonic clock, never less than before.
            cpu_ns: CPU time of the whole process since its start.
        """
        due_ns, used_ns, usual_ns = self._last_ns + TICK_NS, cpu_ns - self._cpu_ns, self._usual_ns
        overdue = self.is_overdue(now_ns)
        self._last_ns, self._cpu_ns = now_ns, cpu_ns
        if not overdue:
            self._usual_ns = used_ns
            return None
        if used_ns - usual_ns >= (now_ns - due_ns) * _RAN_PART:
            return None
        return Freeze(due_ns, now_ns)


class Freezes(abc.ABC):
    """Somebody who knows when nothing ran."""

    @abc.abstractmethod
    def frozen_ns(self, from_ns: int, to_ns: int) -> int:
        """Nanoseconds within `[from_ns, to_ns)` of the monotonic clock in which that was so."""

    def explains(
        self, captured_ns: int, deadline_ns: int, done_ns: int, excused: Sequence[tuple[int, int]] = ()
    ) -> bool:
        """Whether what was captured, due and done then was late only because the process did not run: less that time
        it would have been in time; or its deadline passed in it, and what had piled up meanwhile was done within as
        long again. Time in `excused` (begin and end of each stretch, apart) does not count either."""
        over_ns, frozen_ns = done_ns - deadline_ns, self.frozen_ns(captured_ns, done_ns)
        # A freeze is seen up to a tick shorter than it was.
        other_ns = TICK_NS + sum(end_ns - begin_ns - self.frozen_ns(begin_ns, end_ns) for begin_ns, end_ns in excused)
        if over_ns <= 0 or not frozen_ns or over_ns > 2 * frozen_ns + other_ns:
            return False
        return over_ns <= frozen_ns + other_ns or self.frozen_ns(deadline_ns, deadline_ns + TICK_NS) > 0


class FreezeWatch(Freezes):
    """`with FreezeWatch() as freezes:` watches until the block is left. Any thread may ask.

    Its thread ticks 50 times a second; who needs such ticks too has itself called by it (`follow`).
    """

    def __init__(self, clock: Clock | None = None, cpu_ns: Callable[[], int] = time.process_time_ns) -> None:
        self._clock = clock or HostClock()
        self._cpu_ns = cpu_ns
        self._detector = FreezeDetector(self._clock.now_ns(), cpu_ns())
        self._recent: deque[Freeze] = deque(maxlen=_KEPT)
        self._followers: tuple[Callable[[], None], ...] = ()
        self._lock = threading.Lock()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._total_ns = 0
        self._told_total_ns, self._told_ns = 0, -_TELL_EVERY_NS
        self.count = 0

    def __enter__(self) -> FreezeWatch:
        # What was before is nobody's concern.
        self._detector = FreezeDetector(self._clock.now_ns(), self._cpu_ns())
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        if self._thread is not None:
            self._thread.join(_JOIN_S)
            self._thread = None

    @property
    def seconds(self) -> float:
        """Seconds that the process was frozen, all together."""
        return self._total_ns / NS_PER_S

    def frozen_ns(self, from_ns: int, to_ns: int) -> int:
        """Nanoseconds within `[from_ns, to_ns)` of the monotonic clock in which the process was frozen.

        Of the last 256 freezes only. A freeze that has just ended counts at once, before the watch's own tick.
        """
        with self._lock:
            if self._thread is not None:  # else it never ticks, and is always overdue
                self._tick(only_overdue=True)
            frozen_ns = 0
            for freeze in reversed(self._recent):
                if freeze.end_ns <= from_ns:
                    break
                frozen_ns += max(0, min(to_ns, freeze.end_ns) - max(from_ns, freeze.begin_ns))
            return frozen_ns

    def follow(self, follower: Callable[[], None]) -> Callable[[], None]:
        """Call `follower` at each tick, on the watch's thread; returns what ends that."""
        self._followers = (*self._followers, follower)
        return lambda: self._unfollow(follower)

    def _unfollow(self, follower: Callable[[], None]) -> None:
        self._followers = tuple(other for other in self._followers if other != follower)

    def tick(self) -> None:
        """Look at the clocks now (the watch's thread does this)."""
        with self._lock:
            self._tick(only_overdue=False)

    def _tick(self, *, only_overdue: bool) -> None:
        now_ns = self._clock.now_ns()
        if only_overdue and not self._detector.is_overdue(now_ns):
            return
        freeze = self._detector.tick(now_ns, self._cpu_ns())
        if freeze is not None:
            self._recent.append(freeze)
            self._total_ns += freeze.end_ns - freeze.begin_ns
            self.count += 1

    def _tell(self) -> None:
        now_ns = self._clock.now_ns()
        if self._total_ns - self._told_total_ns < _WORTH_TELLING_NS or now_ns - self._told_ns < _TELL_EVERY_NS:
            return
        log.warning("the process did not run: %.2f s in %d freezes since the start", self.seconds, self.count)
        self._told_total_ns, self._told_ns = self._total_ns, now_ns

    def _run(self) -> None:
        while not self._stopping:
            # Sleeping costs less than waiting for an event with a timeout, and nobody minds a tick more at the end.
            time.sleep(TICK_NS / NS_PER_S)
            self.tick()
            self._tell()
            for follower in self._followers:
                try:
                    follower()
                except Exception:  # A fault of one follower must not end the watch for all.
                    log.exception("a part of the watchdog failed and is left out from here")
                    self._unfollow(follower)
