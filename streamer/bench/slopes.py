"""Does a figure that was sampled over a run grow? A least-squares slope with an interval that noise can't fool.

What a process holds is sampled once a second, and one second's figure is much like the one before. The usual interval
of a slope takes samples for independent and would call any slow wave a trend. Here the number of samples is cut down to
what their correlation leaves of it: with r the lag-1 correlation of the residuals, n (1 - r) / (1 + r) of n samples
(Santer et al. 2000, Journal of Geophysical Research 105 (D6), section 4), in the standard error as well as in the
degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

_HOUR_S = 3600.0
# An interval from fewer independent samples would be a guess.
_FEWEST = 4.0


@dataclass(frozen=True, slots=True)
class Slope:
    """A least-squares slope: `per_hour`, its 95 % interval from `low` to `high`, and `growth`, what it comes to over
    the longest stretch that was fitted. Units are the figure's own."""

    per_hour: float
    low: float
    high: float
    growth: float
    samples: int

    def grows(self, allowance: float) -> bool:
        """Whether the figure grows beyond noise: the whole interval is above 0, and `growth` above what is allowed."""
        return self.low > 0.0 and self.growth > allowance


def slope(times_s: Sequence[float], values: Sequence[float], lives: Sequence[Hashable] | None = None) -> Slope | None:
    """The slope common to all `lives`, each with a level of its own; None where there are too few samples for one.

    Args:
        times_s: when each sample was taken, growing, in seconds.
        values: the samples.
        lives: which of several processes, one after the other in the same place, each sample is of (default: one).
    """
    groups = _groups(len(times_s), lives)
    x = np.asarray(times_s, np.float64)
    y = np.asarray(values, np.float64)
    span_s = max((float(x[group[-1]] - x[group[0]]) for group in groups), default=0.0)
    freedom = len(x) - len(groups) - 1
    if freedom < 1 or span_s <= 0.0:
        return None
    for group in groups:
        x[group] -= x[group].mean()
        y[group] -= y[group].mean()
    spread = float(x @ x)
    gradient = float(x @ y) / spread
    residuals = y - gradient * x
    independent = max(len(x) * _independence(residuals, groups), _FEWEST)
    freedom_left = max(independent - len(groups) - 1, 1.0)
    error = math.sqrt(float(residuals @ residuals) / freedom_left / spread)
    margin = student(0.975, freedom_left) * error
    low, high = gradient - margin, gradient + margin
    return Slope(gradient * _HOUR_S, low * _HOUR_S, high * _HOUR_S, gradient * span_s, len(x))


def _groups(count: int, lives: Sequence[Hashable] | None) -> list[NDArray[np.intp]]:
    found: dict[Hashable, list[int]] = {}
    for index in range(count):
        found.setdefault(None if lives is None else lives[index], []).append(index)
    return [np.asarray(indices, np.intp) for indices in found.values()]


def _independence(residuals: NDArray[np.float64], groups: list[NDArray[np.intp]]) -> float:
    """The part of the samples that is independent of those before: (1 - r) / (1 + r), at most 1."""
    total = float(residuals @ residuals)
    if total <= 0.0:
        return 1.0
    beside = sum(float(residuals[group[:-1]] @ residuals[group[1:]]) for group in groups)
    r = min(max(beside / total, 0.0), 0.999)
    return (1.0 - r) / (1.0 + r)


def student(quantile: float, freedom: float) -> float:
    """The quantile of Student's t for `freedom` degrees of freedom (1 or more), within 1 % from 3 degrees on.

    The expansion around the normal quantile: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    z = NormalDist().inv_cdf(quantile)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))
