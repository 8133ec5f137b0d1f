"""A leak is told from noise, and noise from a leak."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from streamer.bench.slopes import Slope, slope, student


def wandering(rng: np.random.Generator, count: int, memory: float) -> NDArray[np.float64]:
    """Noise of which each sample remembers `memory` of the one before; standard deviation 1."""
    values = np.zeros(count)
    for index in range(1, count):
        values[index] = memory * values[index - 1] + math.sqrt(1 - memory**2) * rng.normal()
    return values


def fitted(values: NDArray[np.float64], lives: list[int] | None = None) -> Slope:
    found = slope(list(range(len(values))), list(values), lives)
    assert found is not None
    return found


def test_a_straight_line_is_found_exactly() -> None:
    """Two units a second are 7,200 an hour, 198 over 100 samples, without any doubt."""
    found = fitted(2.0 * np.arange(100.0) + 5.0)
    assert found.per_hour == pytest.approx(7200.0)
    assert found.low == pytest.approx(7200.0) and found.high == pytest.approx(7200.0)
    assert found.growth == pytest.approx(198.0) and found.samples == 100
    assert found.grows(100.0) and not found.grows(200.0)


def test_a_figure_that_never_changes_has_no_slope() -> None:
    """A constant is flat, with an interval of no width."""
    found = fitted(np.full(60, 17.0))
    assert (found.per_hour, found.low, found.high, found.growth) == (0.0, 0.0, 0.0, 0.0)
    assert not found.grows(0.0)


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_the_interval_holds_what_it_promises(memory: float) -> None:
    """Of 400 flat figures with noise, remembered or not, at most one in eight is called a slope either way (one in
    twenty is promised for endless samples); the usual interval calls more than a third of the remembering ones so."""
    rng = np.random.default_rng(3)
    runs = [wandering(rng, 300, memory) for _ in range(400)]
    wrong = sum(not found.low <= 0.0 <= found.high for found in map(fitted, runs))
    assert wrong <= 50
    if memory == 0.9:
        assert sum(naively_sloped(values) for values in runs) > 133


def naively_sloped(values: NDArray[np.float64]) -> bool:
    """Whether the interval for independent samples leaves 0 out."""
    x = np.arange(len(values)) - (len(values) - 1) / 2
    gradient = float(x @ values) / float(x @ x)
    rest = values - values.mean() - gradient * x
    error = math.sqrt(float(rest @ rest) / (len(x) - 2) / float(x @ x))
    return abs(gradient) > 1.97 * error


@pytest.mark.parametrize(("leak", "noise", "memory"), [(0.1, 2.0, 0.5), (0.25, 3.0, 0.8), (0.5, 1.0, 0.9)])
def test_a_leak_is_caught_through_noise(leak: float, noise: float, memory: float) -> None:
    """A figure that grows by `leak` a second for two minutes, under noise that remembers, grows in 95 of 100 runs."""
    rng = np.random.default_rng(4)
    runs = [leak * np.arange(120.0) + noise * wandering(rng, 120, memory) for _ in range(100)]
    assert sum(fitted(values).grows(leak * 60) for values in runs) >= 95


def test_several_lives_share_a_slope() -> None:
    """A process that is replaced begins at another level: that is no slope, and what all of them grow by is."""
    flat = np.concatenate([np.full(50, 30.0), np.full(50, 10.0), np.full(50, 60.0)])
    lives = [1] * 50 + [2] * 50 + [3] * 50
    assert fitted(flat).growth > 10.0, "without the lives it would be one"
    assert fitted(flat, lives).per_hour == pytest.approx(0.0)
    growing = flat + np.tile(0.2 * np.arange(50.0), 3)
    found = fitted(growing, lives)
    assert found.per_hour == pytest.approx(720.0)
    # What it comes to is counted over one life, not over all of them.
    assert found.growth == pytest.approx(0.2 * 49)


@pytest.mark.parametrize(
    ("times", "values"), [([], []), ([1.0], [2.0]), ([1.0, 2.0], [1.0, 5.0]), ([3.0] * 5, [1.0] * 5)]
)
def test_too_few_samples_have_no_slope(times: list[float], values: list[float]) -> None:
    """Nothing, one or two samples, or several of one moment, are not fitted."""
    assert slope(times, values) is None


@pytest.mark.parametrize(("freedom", "expected"), [(3, 3.182), (5, 2.571), (10, 2.228), (30, 2.042), (1000, 1.962)])
def test_the_quantiles_of_students_t(freedom: float, expected: float) -> None:
    """They are those of the tables within 1 %."""
    assert student(0.975, freedom) == pytest.approx(expected, rel=0.01)
