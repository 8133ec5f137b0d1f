"""A machine, cameras and a clock that are made up, around the real scheduler: minutes of service in a second.

It drives the scheduler as the dispatcher's threads do: `submit` when a window closes, `next_batch` when the engine is
free (again a tenth of a second later where nothing could make it), `completed` or `failed` when a batch's simulated
time is over, `expire` when the guard wakes (at the next expiry, or after 20 ms), and the ladder twice a second. The
books it keeps are its own: what was encoded, what was answered and when.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from streamer.media import Coverage, Patch, Picture, Window, Work, WorkCosts
from streamer.scheduling.ladder import Ladder
from streamer.scheduling.schedule import Batch, SchedulePolicy, Scheduler
from tests.builders import MS, S

COSTS = WorkCosts()
HOP_NS, WINDOW_NS = 500 * MS, 2 * S
PATCH_HOP_NS, PATCH_NS = 480 * MS, 975 * MS
# As the dispatcher has them.
RETRY_NS, PAUSE_NS, LOOK_NS, SHORTEST_LOOK_NS = 100 * MS, 50 * MS, 20 * MS, MS // 2
GOVERN_NS = 500 * MS
_GRACE_PART = 0.45
_RGB = np.zeros((1, 1, 3), np.uint8)
_SAMPLES = np.zeros(1, np.float32)


@dataclass(frozen=True, slots=True)
class Camera:
    """One stream. `jitter_ms`: how long after its end a window closes, at most, without a stall. `stall_every`: every
    so many hops the network stands still for 0.5 s around a key frame (0: never)."""

    name: str
    phase_ms: int = 0
    weight: float = 1.0
    pictures_a_second: int = 2
    sound: bool = True
    jitter_ms: int = 20
    stall_every: int = 0
    from_s: float = 0.0
    until_s: float = 1e6

    def cost_a_hop_ns(self, level: int = 0) -> float:
        """What each hop costs by the model on the average, by itself, at a level of the ladder."""
        frames = self.pictures_a_second / 2
        pictures = (frames, frames / 2, 0.5, 0.0 if self.sound else 0.5)[level]
        sound_ns = COSTS.patch_ns * HOP_NS / PATCH_HOP_NS if self.sound else 0.0
        return COSTS.of(Work(1)) + COSTS.picture_ns * pictures + sound_ns


@dataclass(frozen=True, slots=True)
class Machine:
    """How long batches really take: as modelled, times `factor`, times up to 1 + `noise`; `slow` gives stretches
    (from_s, to_s, factor) that multiply it. `hang`: the first batch after so many seconds takes so many. `fails`:
    batches that end in (from_s, to_s) fail, for want of memory or not. `poison`: batches with windows of this stream
    fail. `memory`: the most windows there is memory for. `freezes`: from when (seconds) and for how long (milliseconds)
    nothing of the process runs, by the order of time and apart."""

    factor: float = 1.0
    noise: float = 0.0
    slow: tuple[tuple[float, float, float], ...] = ()
    hang: tuple[float, float] | None = None
    fails: tuple[tuple[float, float, bool], ...] = ()
    poison: str | None = None
    memory: int = 1000
    freezes: tuple[tuple[float, int], ...] = ()

    def thawed_ns(self, at_ns: int) -> int:
        """When what was to happen at `at_ns` can."""
        for from_s, for_ms in self.freezes:
            if from_s * S <= at_ns < from_s * S + for_ms * MS:
                return int(from_s * S) + for_ms * MS
        return at_ns

    def frozen_ns(self, from_ns: int, to_ns: int) -> int:
        """How long nothing runs of what begins at `from_ns` and would be done at `to_ns`."""
        total_ns = 0
        for from_s, for_ms in self.freezes:
            if from_ns <= from_s * S < to_ns + total_ns:
                total_ns += for_ms * MS
        return total_ns


@dataclass(frozen=True, slots=True)
class Scenario:
    """All that happens. `reserve_ms`: (from_s, milliseconds) of what is kept free before a deadline, from then on.
    `leaving`: streams are forgotten at their end as a removed stream is, with what they have waiting."""

    cameras: tuple[Camera, ...]
    seconds: float = 20.0
    bound_ms: int = 1000
    machine: Machine = Machine()
    reserve_ms: tuple[tuple[float, int], ...] = ((0.0, 40),)
    max_windows: int = 4
    leaving: bool = False
    seed: int = 0

    def reserve_ns(self, now_ns: int) -> int:
        """The reserve as of `now_ns`."""
        found = self.reserve_ms[0][1]
        for from_s, reserve_ms in self.reserve_ms:
            if from_s * S <= now_ns:
                found = reserve_ms
        return found * MS

    def load(self, level: int = 0) -> float:
        """The part of the engine's time that all cameras take by the model, each window in a batch by itself."""
        return sum(camera.cost_a_hop_ns(level) for camera in self.cameras) / HOP_NS * self.machine.factor


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a window got, and when."""

    window: Window
    at_ns: int
    status: str
    reason: str | None = None


@dataclass(slots=True)
class _Capture:
    """A camera at work: the pictures that it took, with their indices."""

    camera: Camera
    seq: int = 0
    pictures: dict[int, int] = field(default_factory=dict)
    seen_to_ns: int = 0
    next_picture: int = 0


@dataclass(slots=True)
class Trace:
    """What happened. `faults`: everything that must never be, in words."""

    scenario: Scenario
    scheduler: Scheduler
    outcomes: dict[tuple[str, int], list[Outcome]] = field(default_factory=lambda: defaultdict(list))
    submitted: list[Window] = field(default_factory=list)
    levels: list[tuple[int, dict[str, int]]] = field(default_factory=list)
    moves: list[tuple[int, int]] = field(default_factory=list)
    deepest: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)

    def of(self, status: str, from_s: float = 0.0, to_s: float = 1e9) -> list[Outcome]:
        """The outcomes of windows whose end lies in the time given."""
        return [
            found[0]
            for found in self.outcomes.values()
            if found[0].status == status and from_s * S <= found[0].window.end_ns < to_s * S
        ]

    def shares(self, from_s: float = 0.0, to_s: float = 1e9) -> dict[str, float]:
        """The part of each stream's windows that was answered with labels."""
        every: Counter[str] = Counter()
        answered: Counter[str] = Counter()
        for found in self.outcomes.values():
            window = found[0].window
            if from_s * S <= window.end_ns < to_s * S:
                every[window.stream] += 1
                answered[window.stream] += found[0].status != "shed"
        return {name: answered[name] / count for name, count in every.items()}

    def answers(self, from_s: float = 0.0, to_s: float = 1e9) -> Counter[str]:
        """How many windows of each stream were answered with labels."""
        found = Counter({camera.name: 0 for camera in self.scenario.cameras})
        for status in ("ok", "degraded"):
            found.update(outcome.window.stream for outcome in self.of(status, from_s, to_s))
        return found

    def moves_in(self, from_s: float, to_s: float) -> int:
        """How many times the ladder moved."""
        return sum(count for at_ns, count in self.moves if from_s * S <= at_ns < to_s * S)

    def top(self, from_s: float, to_s: float) -> int:
        """The highest level of any stream."""
        return max((max(levels.values(), default=0) for _, levels in self._within(from_s, to_s)), default=0)

    def height(self, from_s: float, to_s: float) -> float:
        """The highest mean level of the streams."""
        heights = [sum(levels.values()) / max(1, len(levels)) for _, levels in self._within(from_s, to_s)]
        return max(heights, default=0.0)

    def _within(self, from_s: float, to_s: float) -> list[tuple[int, dict[str, int]]]:
        return [(at_ns, levels) for at_ns, levels in self.levels if from_s * S <= at_ns < to_s * S]


class Simulation:
    """`Simulation(scenario).run()`."""

    def __init__(self, scenario: Scenario, scheduler: Scheduler | None = None) -> None:
        self.scenario = scenario
        self.scheduler = scheduler or Scheduler(SchedulePolicy(max_windows=scenario.max_windows), COSTS, Ladder())
        self.trace = Trace(scenario, self.scheduler)
        self._chance = random.Random(scenario.seed)
        self._now_ns = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._free = True
        self._engine_looks = 0
        self._guard_looks = 0
        # When the guard looked the time before, and last.
        self._looks_ns = (0, 0)
        self._guard_sleeps = False
        self._hung = False
        self._busy_ns = 0
        self._moved = 0
        self._unanswered: dict[tuple[str, int], Window] = {}
        # What the engine holds by the simulation's own books.
        self._encoded: dict[str, tuple[set[int], set[int]]] = defaultdict(lambda: (set(), set()))

    def run(self) -> Trace:
        """Let it all happen, and two seconds more."""
        for camera in self.scenario.cameras:
            self._at(int(camera.from_s * S), self._comes, camera)
        self._at(0, self._look)
        self._at(GOVERN_NS, self._govern)
        end_ns = int(self.scenario.seconds * S) + 2 * self.scenario.bound_ms * MS + S
        while self._events and self._events[0][0] <= end_ns:
            at_ns, _, action = heapq.heappop(self._events)
            self._now_ns = max(self._now_ns, self.scenario.machine.thawed_ns(at_ns))
            action()
        self._settle()
        return self.trace

    def _at(self, at_ns: int, action: Callable[..., None], *arguments: object) -> None:
        heapq.heappush(self._events, (at_ns, next(self._order), lambda: action(*arguments)))

    def _fault(self, text: str) -> None:
        self.trace.faults.append(f"{self._now_ns / S:.4f} s: {text}")

    # -- cameras -------------------------------------------------------------------------------------------------------

    def _comes(self, camera: Camera) -> None:
        self.scheduler.ladder.put(camera.name, camera.weight)
        capture = _Capture(camera, seen_to_ns=self._now_ns)
        self._capture_hop(capture, self._now_ns + camera.phase_ms * MS)

    def _capture_hop(self, capture: _Capture, began_ns: int) -> None:
        """Have the next window close when its time has come."""
        camera = capture.camera
        end_ns = began_ns + (capture.seq + 1) * HOP_NS
        if end_ns > min(camera.until_s, self.scenario.seconds) * S:
            if self.scenario.leaving:
                self._at(end_ns, self._leaves, camera.name)
            return
        late_ns = self._chance.randrange(camera.jitter_ms * MS + 1)
        if camera.stall_every and capture.seq % camera.stall_every == camera.stall_every - 1:
            late_ns += 500 * MS
        grace_ns = int(self.scenario.bound_ms * MS * _GRACE_PART)
        self._at(end_ns + min(late_ns, grace_ns), self._closes, capture, began_ns, end_ns)

    def _closes(self, capture: _Capture, began_ns: int, end_ns: int) -> None:
        camera = capture.camera
        level = self.scheduler.ladder.level(camera.name)
        window = self._window(capture, began_ns, end_ns, level)
        capture.seq += 1
        self._capture_hop(capture, began_ns)
        self.trace.submitted.append(window)
        self._unanswered[window.stream, window.seq] = window
        if not (window.pictures or window.patches):
            # The pipeline answers these itself.
            self._outcome(window, "shed", "nothing in it")
            return
        self.scheduler.submit(window)
        depth = sum(name == camera.name for name, _ in self._unanswered)
        self.trace.deepest[camera.name] = max(self.trace.deepest[camera.name], depth)
        self._wake_engine()
        if self._guard_sleeps:
            self._look()

    def _window(self, capture: _Capture, began_ns: int, end_ns: int, level: int) -> Window:
        camera, start_ns = capture.camera, max(end_ns - WINDOW_NS, began_ns)
        period_ns = S // camera.pictures_a_second
        for number in range(-(-capture.seen_to_ns // period_ns), -(-end_ns // period_ns)):
            # What the source leaves out at a level: all but key frames (one a second), then these too.
            if level < 2 or (number % camera.pictures_a_second == 0 and (level < 3 or not camera.sound)):
                capture.pictures[capture.next_picture] = number * period_ns
                capture.next_picture += 1
        capture.seen_to_ns = max(end_ns, capture.seen_to_ns)
        capture.pictures = {index: at_ns for index, at_ns in capture.pictures.items() if at_ns >= start_ns}
        first = -(-(start_ns - began_ns) // PATCH_HOP_NS)
        last = (end_ns - PATCH_NS - began_ns) // PATCH_HOP_NS
        return Window(
            stream=camera.name,
            epoch="e",
            seq=capture.seq,
            start_ns=end_ns - WINDOW_NS,
            end_ns=end_ns,
            closed_ns=self._now_ns,
            deadline_ns=end_ns + self.scenario.bound_ms * MS,
            wall_offset_ns=0,
            pictures=tuple(Picture(index, at_ns, _RGB) for index, at_ns in capture.pictures.items() if at_ns < end_ns),
            patches=tuple(Patch(index, 0, _SAMPLES) for index in range(first, last + 1) if camera.sound),
            coverage=Coverage(1.0, 1.0),
            degraded=("keyframes", "video")[: level - 1] if level >= 2 else (),
        )

    def _leaves(self, name: str) -> None:
        for window in self.scheduler.forget(name):
            self._outcome(window, "shed", "draining")
        self._encoded.pop(name, None)

    # -- the engine ----------------------------------------------------------------------------------------------------

    def _wake_engine(self) -> None:
        if self._free:
            self._engine_looks += 1
            self._next_batch()

    def _retry(self, looks: int) -> None:
        if self._free and looks == self._engine_looks:
            self._wake_engine()

    def _next_batch(self) -> None:
        self._take_reserve()
        waiting = len(self.scheduler)
        batch = self.scheduler.next_batch(self._now_ns)
        self._follow_ladder()
        if batch is None:
            if waiting:
                self._check_idle()
                self._at(self._now_ns + RETRY_NS, self._retry, self._engine_looks)
            return
        self._free = False
        self._check_batch(batch)
        self.trace.batches.append(batch)
        ends_ns = self._now_ns + self._duration_ns(batch)
        self._at(ends_ns + self.scenario.machine.frozen_ns(self._now_ns, ends_ns), self._ends, batch)

    def _duration_ns(self, batch: Batch) -> int:
        machine, now_s = self.scenario.machine, self._now_ns / S
        if machine.hang is not None and not self._hung and now_s >= machine.hang[0]:
            self._hung = True
            return int(machine.hang[1] * S)
        factor = machine.factor * (1 + machine.noise * self._chance.random())
        for from_s, to_s, slower in machine.slow:
            if from_s <= now_s < to_s:
                factor *= slower
        return int(COSTS.of(batch.work) * factor)

    def _ends(self, batch: Batch) -> None:
        self._free = True
        self._take_reserve()
        self._busy_ns += self._now_ns - batch.started_ns
        failure = self._failure(batch)
        if failure is not None:
            for window in self.scheduler.failed(self._now_ns, memory=failure):
                self._outcome(window, "shed", "engine")
            for entry in batch.entries:
                self._encoded.pop(entry.window.stream, None)
            self._free = False
            self._at(self._now_ns + PAUSE_NS, self._paused)
            return
        for entry, in_time in zip(batch.entries, self.scheduler.completed(self._now_ns), strict=True):
            if in_time:
                self._outcome(entry.window, "degraded" if entry.degraded else "ok", None)
        self._wake_engine()

    def _paused(self) -> None:
        self._free = True
        self._wake_engine()

    def _failure(self, batch: Batch) -> bool | None:
        """None: the batch succeeds; else whether it is for want of memory."""
        machine = self.scenario.machine
        if len(batch.entries) > machine.memory:
            return True
        if any(entry.window.stream == machine.poison for entry in batch.entries):
            return False
        return next((memory for a, b, memory in machine.fails if a * S <= self._now_ns < b * S), None)

    # -- the guard and the ladder --------------------------------------------------------------------------------------

    def _take_reserve(self) -> None:
        self.scheduler.reserve_ns = self.scenario.reserve_ns(self._now_ns)

    def _look(self, looks: int | None = None) -> None:
        if looks is not None and looks != self._guard_looks:
            return
        self._take_reserve()
        self._looks_ns = (self._looks_ns[1], self._now_ns)
        reason = "engine" if self.scheduler.hangs(self._now_ns) else "overload"
        while expired := self.scheduler.expire(self._now_ns):
            for window in expired:
                self._outcome(window, "shed", reason)
        self._guard_looks += 1
        due_ns = self.scheduler.next_expiry_ns
        self._guard_sleeps = due_ns is None
        if due_ns is not None:
            wait_ns = min(max(due_ns - self._now_ns, SHORTEST_LOOK_NS), LOOK_NS)
            self._at(self._now_ns + wait_ns, self._look, self._guard_looks)

    def _govern(self) -> None:
        self.scheduler.ladder.tick(self._now_ns, self._busy_ns / GOVERN_NS)
        self._busy_ns = 0
        self._follow_ladder()
        self.trace.levels.append((self._now_ns, self.scheduler.ladder.levels))
        self._at(self._now_ns + GOVERN_NS, self._govern)

    def _follow_ladder(self) -> None:
        ladder = self.scheduler.ladder
        moved = ladder.climbs + ladder.descents
        if moved != self._moved:
            self.trace.moves.append((self._now_ns, moved - self._moved))
            self._moved = moved

    # -- what must hold at every moment --------------------------------------------------------------------------------

    def _check_batch(self, batch: Batch) -> None:
        """The work that the scheduler counts is what the engine will do, and by its own expectation it ends in time."""
        work = Work()
        for entry in batch.entries:
            work += self._missing(entry.offered, add=True)
        if work != batch.work:
            self._fault(f"batch {batch.number} is said to be {batch.work} and is {work}")
        # By the scheduler's own expectation; or, where that lets nothing start, by what is usual or on an idle machine.
        hoped_ns = int(COSTS.of(work) * min(1.0, self.scheduler.times.lately))
        soonest_ns = self._now_ns + self.scheduler.reserve_ns + min(batch.expected_ns, hoped_ns)
        if any(entry.window.deadline_ns < soonest_ns for entry in batch.entries):
            self._fault(f"batch {batch.number} can't be in time")
        if len(batch.entries) > self.scenario.max_windows:
            self._fault(f"batch {batch.number} has {len(batch.entries)} windows")

    def _missing(self, window: Window, *, add: bool = False) -> Work:
        pictures, patches = self._encoded[window.stream]
        new = {picture.index for picture in window.pictures} - pictures
        sound = {patch.index for patch in window.patches} - patches
        if add:
            pictures |= new
            patches |= sound
        return Work(1, len(new), len(sound))

    def _check_idle(self) -> None:
        """The engine idles: then nothing that waits could be answered in time, by the scheduler's own expectation."""
        times, over_ns = self.scheduler.times, self._now_ns + self.scheduler.reserve_ns
        for window in self._unanswered.values():
            need_ns = times.expect(self._missing(window), self._now_ns, 0.99)
            if over_ns + need_ns <= window.deadline_ns:
                self._fault(f"the engine idles though {window.stream} {window.seq} could be answered")

    def _outcome(self, window: Window, status: str, reason: str | None) -> None:
        found = self.trace.outcomes[window.stream, window.seq]
        found.append(Outcome(window, self._now_ns, status, reason))
        self._unanswered.pop((window.stream, window.seq), None)
        if len(found) > 1:
            self._fault(f"{window.stream} {window.seq} has {len(found)} outcomes: {found}")
        over_ns = window.deadline_ns - self.scenario.reserve_ns(self._now_ns)
        if status != "shed" and self._now_ns > over_ns:
            self._fault(f"labels of {window.stream} {window.seq} are {(self._now_ns - over_ns) / MS:.1f} ms late")
        if status == "shed":
            # A reserve that grows is seen when the guard looks next; a window may have closed when all was over.
            before_ns = window.deadline_ns - self.scenario.reserve_ns(min(self._now_ns - LOOK_NS, self._looks_ns[0]))
            latest_ns = max(over_ns, before_ns, window.closed_ns + LOOK_NS) + SHORTEST_LOOK_NS
            latest_ns = self.scenario.machine.thawed_ns(latest_ns)
            if self._now_ns > latest_ns:
                self._fault(f"{window.stream} {window.seq} is shed {(self._now_ns - latest_ns) / MS:.1f} ms late")
            if reason == "overload" and self._now_ns < over_ns:
                self._fault(f"{window.stream} {window.seq} is shed {(over_ns - self._now_ns) / MS:.1f} ms too early")

    def _settle(self) -> None:
        for window in self.trace.submitted:
            if (window.stream, window.seq) not in self.trace.outcomes:
                self._fault(f"{window.stream} {window.seq} has no outcome")
        bound_ns = self.scenario.bound_ms * MS
        for name, deepest in self.trace.deepest.items():
            if deepest > bound_ns / HOP_NS + 2:
                self._fault(f"{deepest} windows of {name} were without an outcome at once")
        if self.scheduler.unanswered or len(self.scheduler):
            self._fault(f"{self.scheduler.unanswered} windows are open at the end, {len(self.scheduler)} wait")
