"""Windows of all streams through the engine, by deadline: each gets exactly one answer, in time.

The engine runs on a thread of its own, so the event loop never waits for compute; a guard sheds whatever the engine
has not answered
when its time is up, so that a hung batch can't make a late label.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from streamer.answer import Answer, shed
from streamer.clock import Clock
from streamer.media import Scores, Window
from streamer.messages import Reason
from streamer.schedule import Batch, Scheduler

log = logging.getLogger(__name__)

# Kept free before a deadline for the event loop and the store, beside what publishing was measured to take.
_MARGIN_NS = 30_000_000
_S = 1_000_000_000


class Engine(Protocol):
    """Scores windows; blocking, called from one thread."""

    def run(self, windows: Sequence[Window]) -> list[Scores]: ...


class Dispatcher:
    """Takes closed windows, gives each to `on_answer` exactly once, on the event loop, before its deadline less the
    publishing time.

    Args:
        expect_publish: nanoseconds that publishing takes in all but few cases, as measured of late.
        on_answer: gets every answer; must not raise.
    """

    def __init__(
        self,
        engine: Engine,
        scheduler: Scheduler,
        clock: Clock,
        expect_publish: Callable[[], int],
        on_answer: Callable[[Answer], None],
    ) -> None:
        self._engine = engine
        self._scheduler = scheduler
        self._clock = clock
        self._expect_publish = expect_publish
        self._on_answer = on_answer
        self._open: dict[tuple[str, str, int], Window] = {}
        self._deadlines: list[tuple[int, tuple[str, str, int]]] = []
        self._queued = asyncio.Event()
        self._guarded = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self.engine_failures = 0
        self.busy_ns = 0

    @property
    def waiting(self) -> int:
        """Windows queued for compute."""
        return len(self._scheduler)

    @property
    def unanswered(self) -> int:
        """Windows queued or in a batch."""
        return len(self._open)

    def submit(self, window: Window) -> None:
        """Accept a closed window; it will be answered."""
        key = (window.stream, window.epoch, window.seq)
        self._open[key] = window
        heapq.heappush(self._deadlines, (window.deadline_ns, key))
        self._scheduler.submit(window)
        self._queued.set()
        self._guarded.set()

    def forget(self, stream: str) -> None:
        """Drop what is known of `stream`; windows still waiting are shed."""
        for window in self._scheduler.forget(stream):
            self._settle(shed(window, "draining", self._clock.now_ns()))

    def shed_all(self, reason: Reason) -> None:
        """Answer everything that is still open without labels."""
        self._scheduler.forget_waiting()
        for window in list(self._open.values()):
            self._settle(shed(window, reason, self._clock.now_ns()))

    async def run(self) -> None:
        """Compute and guard until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._compute(), name="dispatch")
                tasks.create_task(self._guard(), name="deadline-guard")
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _compute(self) -> None:
        while True:
            self._scheduler.expect_publish(self._reserve_ns())
            batch, missed = self._scheduler.next_batch(self._clock.now_ns())
            for window in missed:
                self._settle(shed(window, "overload", self._clock.now_ns()))
            if batch is not None:
                await self._run(batch)
            elif not len(self._scheduler):
                self._queued.clear()
                await self._queued.wait()

    async def _run(self, batch: Batch) -> None:
        started_ns = self._clock.now_ns()
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._thread, self._engine.run, batch.windows)
        except Exception:  # Whatever the engine raises, its windows still get their one answer and the service goes on.
            log.exception("the engine failed on a batch of %d windows", len(batch.windows))
            self.engine_failures += 1
            for window in batch.windows:
                self._settle(shed(window, "engine", self._clock.now_ns()))
            # An engine that fails at once must not spin.
            await asyncio.sleep(0.05)
            return
        finished_ns = self._clock.now_ns()
        self._scheduler.completed(batch, finished_ns - started_ns, finished_ns)
        self.busy_ns += finished_ns - started_ns
        for window, scores in zip(batch.windows, results, strict=True):
            self._settle(Answer(window, "ok", None, scores, started_ns, finished_ns))

    async def _guard(self) -> None:
        while True:
            self._guarded.clear()
            wait_s = self._shed_expired()
            try:
                async with asyncio.timeout(wait_s):
                    await self._guarded.wait()
            except TimeoutError:
                continue

    def _shed_expired(self) -> float | None:
        """Shed what is past its time; seconds until the next is, None where nothing is open."""
        now_ns, reserve_ns = self._clock.now_ns(), self._reserve_ns()
        while self._deadlines:
            deadline_ns, key = self._deadlines[0]
            window = self._open.get(key)
            if window is not None and now_ns < deadline_ns - reserve_ns:
                return (deadline_ns - reserve_ns - now_ns) / _S
            heapq.heappop(self._deadlines)
            if window is not None:
                self._settle(shed(window, "overload", now_ns))
        return None

    def _reserve_ns(self) -> int:
        return self._expect_publish() + _MARGIN_NS

    def _settle(self, answer: Answer) -> None:
        window = answer.window
        if self._open.pop((window.stream, window.epoch, window.seq), None) is not None:
            self._on_answer(answer)
