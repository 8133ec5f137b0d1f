"""How much is left out of each stream's work when not all of it can be done in time. Pure: time is an argument.

A ladder of steps, climbed within tenths of a second when windows could not all be answered in time, a part of the
streams at once and the least weighty first; and descended a few streams at a time after calm has lasted. A descent
that turns out to have been too early makes the next one wait twice as long (until the load falls), so that the ladder
does not swing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

STEPS = ("frames", "keyframes", "video")
"""What is left out at level 1, 2 and 3, each on top of the ones before: every second picture isn't encoded; pictures
between key frames aren't decoded; no picture is decoded (a camera without sound keeps one picture a window), and what
sound a window that was shed leaves to the next one stays out of that (`sound`)."""
DEAFEST = 4
"""Before anything of that is left out, and until all of it is done again, listening to speech is, in so many steps for
all streams at once."""

# Descents after the first, in the time that calm had to last for it.
_STRIDES = 4
# How much longer a climb is given to tell while all can still be answered.
_PATIENCE = 8
# How much of a newly measured part of busy time counts: ticks come twice a second, and work comes in beats of a second.
_NEW = 0.25
# The part of the engine's time that must be less busy than when a descent failed, for the load to have fallen.
_FALLEN = 0.1
_MS = 1_000_000
_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class LadderPolicy:
    """`climb_every_ns`: between two climbs, so that the one before can show what it did. `climb_part`: how large a part
    of the streams a climb takes. `hold_ns`, `longest_hold_ns`: how long calm must last before a descent, at first and
    at most. `relapse_ns`: a climb within this of a descent means that it was too early. `spare`: the part of the
    engine's time that must be idle for a descent."""

    climb_every_ns: int = 100 * _MS
    climb_part: float = 0.25
    hold_ns: int = 4 * _S
    longest_hold_ns: int = 64 * _S
    relapse_ns: int = 8 * _S
    descend_part: float = 0.125
    spare: float = 0.15


@dataclass(slots=True)
class _Rung:
    weight: float
    level: int = 0
    changed_ns: int = 0


@dataclass(slots=True)
class Ladder:
    """The level of every stream: 0 (nothing is left out) to `len(STEPS)`; and, where some stream `listens` to speech,
    how `deaf` all are: 0 (all is listened to) to `DEAFEST` (nothing)."""

    policy: LadderPolicy = field(default_factory=LadderPolicy)
    listens: bool = False
    deaf: int = 0
    climbs: int = 0
    descents: int = 0
    _rungs: dict[str, _Rung] = field(default_factory=dict)
    _climbed_ns: int = -(1 << 62)
    _descended_ns: int = -(1 << 62)
    _calm_from_ns: int = -(1 << 62)
    _hold_ns: int = 0
    _busy: float | None = None
    # How busy the engine was when a descent began that turned out to be too early.
    _busy_at_descent: float = 0.0
    _failed_at: float = 0.0

    def put(self, stream: str, weight: float) -> None:
        """Take `stream` in, or give it another weight; a new one starts where the others mostly are."""
        rung = self._rungs.get(stream)
        if rung is not None:
            rung.weight = weight
            return
        levels = sorted(rung.level for rung in self._rungs.values())
        self._rungs[stream] = _Rung(weight, levels[len(levels) // 2] if levels else 0)

    def remove(self, stream: str) -> None:
        """Forget `stream`."""
        self._rungs.pop(stream, None)

    def level(self, stream: str) -> int:
        """How far up `stream` is; 0 for one that is not known."""
        rung = self._rungs.get(stream)
        return 0 if rung is None else rung.level

    def weight(self, stream: str) -> float:
        """The weight of `stream`; 1 for one that is not known."""
        rung = self._rungs.get(stream)
        return 1.0 if rung is None else rung.weight

    def listen(self, listens: bool) -> int:
        """Whether some stream listens to speech; gives how much of that is to be left out."""
        self.listens = listens
        if not listens:
            self.deaf = 0
        return self.deaf

    @property
    def levels(self) -> dict[str, int]:
        """The level of every stream."""
        return {name: rung.level for name, rung in self._rungs.items()}

    @property
    def is_exhausted(self) -> bool:
        """Whether there is nothing left to leave out."""
        return all(rung.level == len(STEPS) for rung in self._rungs.values())

    @property
    def moves(self) -> int:
        """How many times it was climbed or descended."""
        return self.climbs + self.descents

    def strain(self, now_ns: int, *, urgent: bool = True) -> bool:
        """Not all can be answered in time as it is, or (not `urgent`) only just: climb, unless a climb has only just
        begun to tell. Says whether it did."""
        self.disturb(now_ns)
        if now_ns - self._climbed_ns < self.policy.climb_every_ns * (1 if urgent else _PATIENCE):
            return False
        hears = self.listens and self.deaf < DEAFEST
        free = [rung for rung in self._rungs.values() if rung.level < len(STEPS)]
        if not (free or hears):
            return False
        if now_ns - self._descended_ns < self.policy.relapse_ns and self._climbed_ns <= self._descended_ns:
            self._hold_ns = min(2 * max(self._hold_ns, self.policy.hold_ns), self.policy.longest_hold_ns)
            self._failed_at = self._busy_at_descent
        self._climbed_ns = now_ns
        self.climbs += 1
        if hears:
            self.deaf += 1
            return True
        # The lowest first, so that nobody loses a second thing before everybody has lost a first; among those the
        # least weighty; among those the ones left alone the longest.
        free.sort(key=lambda rung: (rung.level, rung.weight, rung.changed_ns))
        for rung in free[: max(1, round(self.policy.climb_part * len(self._rungs)))]:
            rung.level += 1
            rung.changed_ns = now_ns
        return True

    def disturb(self, now_ns: int) -> None:
        """Something was not as it should be (a window was shed, say): no calm until now."""
        self._calm_from_ns = now_ns

    def tick(self, now_ns: int, busy: float) -> bool:
        """Time has passed (half a second), `busy` (0 to 1) of it at work: descend if calm has lasted. Says whether it
        did."""
        usual = self._busy = busy if self._busy is None else self._busy + _NEW * (busy - self._busy)
        if 1.0 - usual < self.policy.spare:
            self.disturb(now_ns)
        raised = [rung for rung in self._rungs.values() if rung.level]
        is_raised = bool(raised) or self.deaf > 0
        calm_ns, hold_ns = now_ns - self._calm_from_ns, self._hold(is_raised, usual, now_ns)
        if not is_raised or calm_ns < hold_ns or now_ns - self._descended_ns < hold_ns // _STRIDES:
            return False
        raised.sort(key=lambda rung: (-rung.level, -rung.weight, rung.changed_ns))
        for rung in raised[: max(1, round(self.policy.descend_part * len(self._rungs)))]:
            rung.level -= 1
            rung.changed_ns = now_ns
        if not raised:
            self.deaf -= 1
        self._descended_ns, self._busy_at_descent = now_ns, usual
        self.descents += 1
        return True

    def _hold(self, is_raised: bool, busy: float, now_ns: int) -> int:
        """How long calm must last now. Longer after descents that were too early, until the engine has clearly less to
        do than then, or all has been well for long with nothing left out."""
        well = not is_raised and now_ns - self._calm_from_ns >= self.policy.longest_hold_ns
        if well or busy < self._failed_at - _FALLEN:
            self._hold_ns, self._failed_at = 0, 0.0
        return max(self._hold_ns, self.policy.hold_ns)
