"""What a running service holds, sampled once a second: memory, descriptors, threads, tasks, and its queues."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass, field

from streamer.bench.processes import Samples, held, scrape
from streamer.bench.running import Started
from streamer.bench.slopes import Slope, slope
from streamer.bench.unrest import pause

_EVERY_S = 1.0
# A process that has just started is still filling what it keeps.
_SETTLED_S = 15.0
# How much each figure may have grown by the end of a run without being called a leak.
# Memory: each reader thread's arena of the allocator and the 2,048 newest messages in the hub (3 KB each, 6 MB) are
# bounded, but take minutes to fill. Descriptors and threads: the pool of connections to the store and that of threads
# for what blocks grow by one at a time. Tasks: two for each stream or subscriber that happens to be there.
ALLOWED = {"rss_mb": 10.0, "descriptors": 4.0, "threads": 3.0, "tasks": 6.0}
# Queues that have no capacity of their own in the metrics: the most that may wait for a stream. A window is open for no
# longer than the bound of 1 s, with one a half second, and one more may be cut when an epoch ends; the backlog of what
# the store has not acknowledged holds 2,048 units.
_A_STREAM = {"streamer_windows_waiting": 4, "streamer_windows_unanswered": 4, "streamer_publish_waiting": 2048}


@dataclass(slots=True)
class _Series:
    """The figures of a process, or of several together: when they were taken, of which processes, and each figure's
    values."""

    times_s: list[float] = field(default_factory=list)
    pids: list[tuple[int, ...]] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, at_s: float, pids: tuple[int, ...], figures: dict[str, float]) -> None:
        self.times_s.append(at_s)
        self.pids.append(pids)
        for name, value in figures.items():
            self.values.setdefault(name, []).append(value)

    def slopes(self, from_s: float) -> dict[str, Slope]:
        """The slopes from `from_s` on, without the beginning of each process."""
        first: dict[int, float] = {}
        kept = []
        for index, (at_s, pids) in enumerate(zip(self.times_s, self.pids, strict=True)):
            if at_s >= max(from_s, *(first.setdefault(pid, at_s) + _SETTLED_S for pid in pids)):
                kept.append(index)
        found = {}
        for name, values in self.values.items():
            if len(values) == len(self.times_s):
                times, lives = [self.times_s[i] for i in kept], [self.pids[i] for i in kept]
                fitted = slope(times, [values[i] for i in kept], lives)
                if fitted is not None:
                    found[name] = fitted
        return found


@dataclass(slots=True)
class Deepest:
    """The most that ever waited in a queue, and its bound (None: unknown)."""

    most: float = 0.0
    bound: float | None = None

    def see(self, depth: float, bound: float | None) -> None:
        self.most = max(self.most, depth)
        if bound is not None:
            self.bound = max(bound, self.bound or 0.0)

    @property
    def kept(self) -> bool:
        """Whether it stayed within its bound."""
        return self.bound is None or self.most <= self.bound


class Sampler:
    """Samples a service, its hub and its reader processes until told to end.

    `late`: segments that the service itself counted as late, by stream; `frozen_late`: those that it was late with
    because it was not given the time to run, told apart from its faults.
    """

    def __init__(self, service: Started) -> None:
        self.queues: dict[str, Deepest] = {}
        self.late: dict[str, float] = {}
        self.frozen_late: dict[str, float] = {}
        self.latest: Samples = {}
        self.unreachable = 0
        self._service = service
        self._series = {"service": _Series(), "hub": _Series(), "readers": _Series()}

    async def run(self, over: asyncio.Event) -> None:
        """A sample a second until `over`."""
        while not over.is_set():
            await self.sample()
            await pause(over, _EVERY_S)

    def slopes(self, from_s: float) -> dict[str, dict[str, Slope]]:
        """The slope of each figure of each process, of the samples from `from_s` (monotonic) on."""
        return {name: series.slopes(from_s) for name, series in self._series.items()}

    async def sample(self) -> None:
        """Take a sample now."""
        try:
            samples = await asyncio.to_thread(scrape, f"{self._service.page}/metrics")
        except OSError:
            self.unreachable += 1
            return
        tasks = samples.get(("streamer_tasks", ()))
        service = self._service
        self._hold("service", [service.pid], {} if tasks is None else {"tasks": tasks})
        self._hold("hub", [] if service.hub is None else [service.hub], {})
        self._hold("readers", service.readers, {})
        self._look(samples)

    def _hold(self, name: str, pids: list[int], more: dict[str, float]) -> None:
        now = [found for pid in pids if (found := held(pid)) is not None]
        if not now or len(now) < len(pids):
            return  # one of them has just ended
        figures = {figure: float(sum(asdict(found)[figure] for found in now)) for figure in asdict(now[0])}
        self._series[name].add(time.monotonic(), tuple(sorted(pids)), {**figures, **more})

    def _look(self, samples: Samples) -> None:
        self.latest = samples
        streams = sum(name == "streamer_stream_fps" for name, _ in samples)
        for (name, labels), value in samples.items():
            if name == "streamer_queue_depth":
                bound = samples.get(("streamer_queue_capacity", labels))
                peak = samples.get(("streamer_queue_peak", labels), value)
                self._queue(dict(labels)["queue"]).see(max(value, peak), bound)
            elif name in _A_STREAM:
                # A stream that is being removed has no series any more, while its last windows are still answered.
                self._queue(name.removeprefix("streamer_")).see(value, _A_STREAM[name] * (streams + 1))
            elif name in ("streamer_late_total", "streamer_frozen_late_total"):
                late = self.late if name == "streamer_late_total" else self.frozen_late
                stream = dict(labels)["stream"]
                late[stream] = max(value, late.get(stream, 0.0))

    def _queue(self, name: str) -> Deepest:
        return self.queues.setdefault(name, Deepest())

    def total(self, name: str) -> float | None:
        """A metric without labels as last seen; None where the service has none of that name."""
        return self.latest.get((name, ()))
