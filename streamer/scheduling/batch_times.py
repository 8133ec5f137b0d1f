"""What a batch costs, told before it is computed. Pure: time is an argument.

The work in a batch (windows, pictures, patches) gives its cost by a linear model that the engine measures once on an
idle machine; what batches really took of late, against that model, says by how much to stretch it.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from streamer.media import Work, WorkCosts

_REMEMBERED = 128
_FORGOTTEN_NS = 10_000_000_000
_FORGET_EVERY_NS = 250_000_000
# What is usual now: so many batches are enough to see a machine that has become slower within some of them, and one
# slow batch among them changes nothing.
_LATELY = 16
_LATELY_QUANTILE = 0.75
_SAYS = 4


@dataclass(slots=True)
class _Stretches:
    """By how much batches of about one size took longer than the model says: (end, factor), and the factors sorted."""

    times: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    ordered: list[float] = field(default_factory=list)

    def record(self, factor: float, now_ns: int) -> None:
        self.times.append((now_ns, factor))
        self.ordered = sorted(factor for _, factor in self.times)

    def forget(self, before_ns: int) -> None:
        if self.times[0][0] >= before_ns:
            return
        while self.times and self.times[0][0] < before_ns:
            self.times.popleft()
        self.ordered = sorted(factor for _, factor in self.times)


class BatchTimes:
    """How long batches take: the model, stretched by a quantile of what was seen of late.

    Asked for a high quantile, because a mean is late half the time. What is older than 10 s says nothing of now and is
    forgotten. Sizes are kept apart in powers of two of their modelled cost, because small batches and large ones
    stretch differently; a size not seen of late is taken from the nearest one that was, so that one slow batch can't
    put an end to its size for ever. No work is expected to take longer than more work: or else a window would be given
    up for want of work left out of it. Where nothing was seen of late, the last batch of all counts.
    """

    def __init__(self, costs: WorkCosts) -> None:
        self.costs = costs
        self._recent: dict[int, _Stretches] = {}
        # The first batch of all may be the slow one: until there are more, the model has a say.
        self._lately: deque[float] = deque([1.0] * _SAYS, maxlen=_LATELY)
        self._newest: tuple[int, float, int] | None = None
        self._forgot_ns = 0
        # The nearest size that was seen of late, a size: asked for far more often than anything changes.
        self._nearest: dict[int, _Stretches] = {}
        self.lately = 1.0
        """The factor that batches of whatever size usually are within now; 1 before anything was measured."""

    def record(self, work: Work, duration_ns: int, now_ns: int) -> None:
        """A batch with `work` in it took `duration_ns` and ended at `now_ns`."""
        modelled_ns = self.costs.of(work)
        size, factor = _size(modelled_ns), duration_ns / modelled_ns
        self._forget(now_ns)
        self._newest = (size, factor, now_ns)
        if size not in self._recent:
            self._recent[size] = _Stretches()
            self._nearest.clear()
        self._recent[size].record(factor, now_ns)
        self._lately.append(factor)
        self.lately = _quantile(sorted(self._lately), _LATELY_QUANTILE)

    def expect(self, work: Work, now_ns: int, quantile: float) -> int:
        """Nanoseconds that a batch with `work` stays under in `quantile` (0 to 1) of all cases, as far as seen."""
        modelled_ns = self.costs.of(work)
        return int(modelled_ns * self.stretch(modelled_ns, now_ns, quantile))

    def stretch(self, modelled_ns: int, now_ns: int, quantile: float) -> float:
        """The factor between what is modelled and what is taken; 1 before anything was measured."""
        if self._newest is None:
            return 1.0
        if now_ns - self._forgot_ns >= _FORGET_EVERY_NS:
            self._forget(now_ns)
        size = _size(modelled_ns)
        least = self._stretch_of(size, quantile) * modelled_ns
        for larger in range(size + 1, max(self._recent) + 1):
            least = min(least, self._stretch_of(larger, quantile) * (1 << (larger - 1)))
        return least / max(1, modelled_ns)

    def _stretch_of(self, size: int, quantile: float) -> float:
        nearest = self._nearest.get(size)
        if nearest is None:
            nearest = self._recent[min(self._recent, key=lambda seen: abs(seen - size))]
            self._nearest[size] = nearest
        return _quantile(nearest.ordered, quantile)

    def _forget(self, now_ns: int) -> None:
        self._forgot_ns = now_ns
        for size, stretches in list(self._recent.items()):
            stretches.forget(now_ns - _FORGOTTEN_NS)
            if not stretches.times:
                del self._recent[size]
                self._nearest.clear()
        if not self._recent and self._newest is not None:
            size, factor, ended_ns = self._newest
            self._recent[size] = _Stretches()
            self._recent[size].record(factor, ended_ns)


def _size(modelled_ns: int) -> int:
    return max(1, modelled_ns).bit_length()


def _quantile(ordered: list[float], quantile: float) -> float:
    return ordered[min(len(ordered) - 1, math.ceil(quantile * len(ordered)) - 1)]
