"""Windows of all streams through the engine, by deadline: each gets exactly one answer, in time.

Two threads, and no event loop: one runs the engine, batch after batch; the other, the guard, sheds what the engine has
not answered when its time is up, so that neither a hung batch nor a busy loop can make a label late. All decisions are
`Scheduler`'s, under one lock that is never held while anything is computed or told.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol

from streamer.answer import Answer, BatchFacts, shed
from streamer.clock import Clock
from streamer.media import Scores, Window
from streamer.messages import Reason, Status
from streamer.scheduling.schedule import Batch, Scheduler, ScheduleStatistics
from streamer.turns import ask_for_short_turns

log = logging.getLogger(__name__)

# Kept free before a deadline for the threads to wake, beside what publishing was measured to take. On a machine that
# others use too, a thread waits for 50 ms now and then; less than that is not told from what it does by itself.
_MARGIN_NS = 50_000_000
_S = 1_000_000_000
# How often the guard looks while anything is unanswered: what publishing takes, and so every deadline, moves.
_LOOK_S = 0.02
# How often the engine's thread looks again at windows that could not make it: what is expected of batches fades.
_RETRY_S = 0.1
# An engine that fails at once must not spin.
_PAUSE_S = 0.05


class Engine(Protocol):
    """Scores windows; blocking, called from one thread."""

    def run(self, windows: Sequence[Window]) -> list[Scores]: ...


class Dispatcher:
    """`with Dispatcher(...) as dispatcher: dispatcher.submit(window)`. Methods may be called from any thread.

    Args:
        reserve: nanoseconds that publishing takes in all but very few cases, as measured of late; any thread.
        on_answer: gets every answer, on a thread of the dispatcher's; must neither block nor raise.
    """

    def __init__(
        self,
        engine: Engine,
        scheduler: Scheduler,
        clock: Clock,
        reserve: Callable[[], int],
        on_answer: Callable[[Answer], None],
    ) -> None:
        self._engine = engine
        self._scheduler = scheduler
        self._clock = clock
        self._reserve = reserve
        self._on_answer = on_answer
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._watch = threading.Condition(self._lock)
        self._stopping = False
        self._threads = [
            # Daemons: a hung engine must not keep the process from ending.
            threading.Thread(target=self._compute, name="engine", daemon=True),
            threading.Thread(target=self._guard, name="guard", daemon=True),
        ]
        self.engine_failures = 0

    def __enter__(self) -> Dispatcher:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop; what is still open is shed as `draining`. A batch under way is waited for a moment only."""
        with self._lock:
            self._stopping = True
            self._work.notify_all()
            self._watch.notify_all()
        for thread in self._threads:
            thread.join(timeout=1.0)
        self.shed_all("draining")

    @property
    def waiting(self) -> int:
        """Windows queued for compute."""
        return len(self._scheduler)

    @property
    def unanswered(self) -> int:
        """Windows queued or in a batch."""
        return self._scheduler.unanswered

    @property
    def statistics(self) -> ScheduleStatistics:
        """Counts since the start."""
        return self._scheduler.statistics

    @property
    def reserve_ns(self) -> int:
        """What is kept free before every deadline."""
        return self._reserve() + _MARGIN_NS

    def submit(self, window: Window) -> None:
        """Accept a closed window; it will be answered."""
        with self._lock:
            self._scheduler.submit(window)
            self._work.notify()
            if self._scheduler.unanswered == 1:
                self._watch.notify()

    # -- the ladder ---------------------------------------------------------------------------------------------------

    def put(self, stream: str, weight: float) -> None:
        """`stream` is served from now on, with this weight among the others."""
        with self._lock:
            self._scheduler.ladder.put(stream, weight)

    def listen(self, listens: bool) -> int:
        """Whether some stream listens to speech; gives how much of that is to be left out now (see `Ladder`)."""
        with self._lock:
            return self._scheduler.ladder.listen(listens)

    def govern(self, busy: float, *, strained: bool) -> dict[str, int]:
        """Move the ladder: `busy` is the part of the time since the last call in which the engine was at work,
        `strained` whether something else than the engine can't keep up. Returns every stream's level."""
        with self._lock:
            now_ns = self._clock.now_ns()
            if strained:
                self._scheduler.ladder.strain(now_ns)
            else:
                self._scheduler.ladder.tick(now_ns, busy)
            return self._scheduler.ladder.levels

    def stretch(self) -> float:
        """By how much longer than on an idle machine batches take now, usually."""
        with self._lock:
            times = self._scheduler.times
            return times.stretch(times.costs.call_ns + times.costs.picture_ns, self._clock.now_ns(), 0.5)

    # -- ends of windows ----------------------------------------------------------------------------------------------

    def forget(self, stream: str) -> None:
        """Drop what is known of `stream`; its windows without an answer are shed."""
        with self._lock:
            windows = self._scheduler.forget(stream)
        self._shed(windows, "draining")

    def shed_all(self, reason: Reason) -> None:
        """Answer everything that is still open without labels."""
        with self._lock:
            windows = self._scheduler.forget_waiting()
        self._shed(windows, reason)

    def _shed(self, windows: list[Window], reason: Reason) -> None:
        for window in windows:
            self._on_answer(shed(window, reason, self._clock.now_ns()))

    # -- the engine's thread ------------------------------------------------------------------------------------------

    def _compute(self) -> None:
        while (batch := self._next_batch()) is not None:
            try:
                results = self._engine.run(batch.offered)
            except Exception as error:  # noqa: BLE001 - logged in there
                # Whatever the engine raises, its windows still get their one answer and the service goes on.
                self._failed(batch, error)
            else:
                self._completed(batch, results)

    def _next_batch(self) -> Batch | None:
        with self._lock:
            while not self._stopping:
                self._scheduler.reserve_ns = self.reserve_ns
                batch = self._scheduler.next_batch(self._clock.now_ns())
                if batch is not None:
                    return batch
                self._work.wait(_RETRY_S if len(self._scheduler) else None)
        return None

    def _completed(self, batch: Batch, results: list[Scores]) -> None:
        with self._lock:
            self._scheduler.reserve_ns = self.reserve_ns
            now_ns = self._clock.now_ns()
            in_time = self._scheduler.completed(now_ns)
        facts = BatchFacts(batch.number, len(batch.entries), batch.work.pictures, batch.work.patches, batch.expected_ns)
        for entry, scores, answered in zip(batch.entries, results, in_time, strict=True):
            if answered:
                status: Status = "degraded" if entry.degraded else "ok"
                self._on_answer(
                    Answer(entry.window, status, None, scores, batch.started_ns, now_ns, entry.degraded, facts)
                )

    def _failed(self, batch: Batch, error: Exception) -> None:
        log.error("the engine failed on a batch of %d windows", len(batch.entries), exc_info=error)
        with self._lock:
            self.engine_failures += 1
            # The text is all that tells a device's want of memory from its other errors.
            memory = isinstance(error, MemoryError) or "out of memory" in str(error).lower()
            lost = self._scheduler.failed(self._clock.now_ns(), memory=memory)
        self._shed(lost, "engine")
        with self._lock:
            if not self._stopping:
                self._work.wait(_PAUSE_S)

    # -- the guard's thread -------------------------------------------------------------------------------------------

    def _guard(self) -> None:
        ask_for_short_turns()
        while True:
            with self._lock:
                if self._stopping:
                    return
                self._scheduler.reserve_ns = self.reserve_ns
                now_ns = self._clock.now_ns()
                reason: Reason = "engine" if self._scheduler.hangs(now_ns) else "overload"
                expired = self._scheduler.expire(now_ns)
                due_ns = self._scheduler.next_expiry_ns
                if not expired:
                    self._watch.wait(None if due_ns is None else min(max((due_ns - now_ns) / _S, 0.0005), _LOOK_S))
            self._shed(expired, reason)
