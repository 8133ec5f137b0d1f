"""Keeps the work within what the machine can do: moves the degrade ladder, tells the sources, admits streams or not."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Mapping

from streamer.clock import NS_PER_S, Clock
from streamer.media import Geometry, WorkCosts
from streamer.pipeline import LiveStream
from streamer.scheduling.capacity import Use, engine_part, refusal
from streamer.scheduling.dispatch import Dispatcher

_EVERY_S = 0.5
# What admission looks back on.
_RECENT_NS = 10 * NS_PER_S
# The name under which a reader counts the pictures that it gave up because it was behind.
_BEHIND = "overload"


class Governor:
    """`run` is its whole life, on the main loop.

    Args:
        streams: the streams there are now.
        spent_s: CPU seconds that were spent on all of them so far.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        costs: WorkCosts,
        geometry: Geometry,
        clock: Clock,
        streams: Callable[[], Mapping[str, LiveStream]],
        spent_s: Callable[[], float] = time.process_time,
    ) -> None:
        self._dispatcher = dispatcher
        self._costs = costs
        self._geometry = geometry
        self._clock = clock
        self._streams = streams
        self._spent_s = spent_s
        self._behind: dict[str, int] = {}
        self._marks: deque[tuple[int, float, int]] = deque()
        self._busy = (clock.now_ns(), 0)

    async def run(self) -> None:
        """Look twice a second until cancelled."""
        while True:
            self.tick()
            await asyncio.sleep(_EVERY_S)

    def tick(self) -> None:
        """Measure, move the ladder, and have the sources follow."""
        streams = self._streams()
        levels = self._dispatcher.govern(self._busy_part(), strained=self._readers_are_behind(streams))
        for name, live in streams.items():
            live.ease(levels.get(name, 0))
        self._mark()

    def _busy_part(self) -> float:
        """The part of the time since the last look in which the engine was at work."""
        now_ns, busy_ns = self._clock.now_ns(), self._dispatcher.statistics.busy_ns
        then_ns, before_ns = self._busy
        self._busy = (now_ns, busy_ns)
        return (busy_ns - before_ns) / max(1, now_ns - then_ns)

    def _readers_are_behind(self, streams: Mapping[str, LiveStream]) -> bool:
        counts = {name: live.source.stats.drops.get(_BEHIND, 0) for name, live in streams.items()}
        behind = any(count > self._behind.get(name, 0) for name, count in counts.items())
        self._behind = counts
        return behind

    def _mark(self) -> None:
        now_ns = self._clock.now_ns()
        self._marks.append((now_ns, self._spent_s(), self._dispatcher.statistics.shed))
        while now_ns - self._marks[0][0] > _RECENT_NS:
            self._marks.popleft()

    def use(self) -> Use:
        """What the streams take now, over the last 10 s."""
        streams = self._streams()
        if not self._marks:
            self._mark()
        then_ns, spent_s, shed = self._marks[0]
        elapsed_s = (self._clock.now_ns() - then_ns) / NS_PER_S
        # Over less time than this, CPU time says more of what was just begun than of what streams take.
        settled = elapsed_s > _RECENT_NS / NS_PER_S / 2
        return Use(
            streams=len(streams),
            live=sum(live.state == "live" for live in streams.values()) if settled else 0,
            cores=(self._spent_s() - spent_s) / elapsed_s if settled else 0.0,
            degraded=sum(live.level > 0 for live in streams.values()),
            shed=self._dispatcher.statistics.shed - shed,
        )

    def refusal(self, frame_rate: int, *, looks: bool = False) -> str | None:
        """Why one stream more, of `frame_rate` pictures a second, in which people are looked for or not, can't be
        admitted; None: it can."""
        each = engine_part(self._costs, self._dispatcher.stretch(), self._geometry, frame_rate, looks=looks)
        return refusal(self.use(), each, usable_cores())


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
