"""How good answers are: figures of each task, and how sure one can be of them. Arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

_BINS = 15
_SMALLEST = 1e-7  # probabilities are kept this far from 0 where their logarithm is taken


def figures(task: str, scores: Floats, target: NDArray[Any]) -> dict[str, float]:
    """The usual figures of a task.

    classes: probabilities `[N, C]`, int `[N]` -> accuracy, balanced_accuracy, f1 (macro), ece, loss (nats).
    labels: probabilities `[N, L]`, 0 or 1 `[N, L]` -> mean_average_precision, f1 (macro, at 1/2), ece, loss.
    numbers: `[N, K]`, `[N, K]` -> mae, r2 (means over the numbers).
    """
    if task == "classes":
        said = scores.argmax(axis=1)
        true = scores[np.arange(len(target)), target]
        return {
            "accuracy": accuracy(said, target),
            "balanced_accuracy": balanced_accuracy(said, target),
            "f1": macro_f1(one_hot(said, scores.shape[1]), one_hot(target, scores.shape[1])),
            "ece": class_calibration_error(scores, target),
            "loss": float(-np.log(np.maximum(true, _SMALLEST)).mean()),
        }
    if task == "labels":
        toward = np.where(target > 0.5, scores, 1 - scores)
        return {
            "mean_average_precision": mean_average_precision(scores, target),
            "f1": macro_f1(scores > 0.5, target > 0.5),
            "ece": calibration_error(scores.ravel(), (target > 0.5).ravel()),
            "loss": float(-np.log(np.maximum(toward, _SMALLEST)).mean()),
        }
    return {"mae": mean_absolute_error(scores, target), "r2": r_squared(scores, target)}


def main_figure(task: str) -> tuple[str, bool]:
    """The figure by which a task is judged, and whether more is better."""
    return {
        "classes": ("accuracy", True),
        "labels": ("mean_average_precision", True),
        "numbers": ("mae", False),
        "sequence": ("word_error", False),
    }[task]


def one_hot(classes: Integers, outputs: int) -> NDArray[np.bool_]:
    """int `[N]` -> bool `[N, C]`."""
    made: NDArray[np.bool_] = classes[:, None] == np.arange(outputs)[None, :]
    return made


def accuracy(said: Integers, target: Integers) -> float:
    """The share that is right; int `[N]` each."""
    return float((said == target).mean())


def balanced_accuracy(said: Integers, target: Integers) -> float:
    """The mean over the classes that occur of the share of each that is right."""
    return float(np.mean([(said[target == name] == name).mean() for name in np.unique(target)]))


def f1_scores(said: NDArray[np.bool_], target: NDArray[np.bool_]) -> Floats:
    """F1 of each name, float64 `[L]` from bool `[N, L]`: harmonic mean of precision and recall; NaN for a name that
    neither occurs nor is said."""
    hits = (said & target).sum(axis=0)
    both = said.sum(axis=0) + target.sum(axis=0)
    return np.where(both > 0, 2 * hits / np.maximum(both, 1), np.nan)


def macro_f1(said: NDArray[np.bool_], target: NDArray[np.bool_]) -> float:
    """The mean F1 over the names that occur or are said."""
    each = f1_scores(said, target)
    return float(np.nanmean(each)) if np.isfinite(each).any() else 0.0


def average_precision(scores: Floats, target: NDArray[Any]) -> float:
    """The area under precision over recall, stepwise: the mean, over the clips that have the label, of the precision
    among all clips with a score at least theirs. NaN where no clip has it."""
    order = np.argsort(-scores, kind="stable")
    ranked, true = scores[order], target[order] > 0.5
    if not true.any():
        return float("nan")
    # Clips of the same score come together or not at all: each counts with the last of its group.
    last = np.searchsorted(-ranked, -ranked, side="right") - 1
    precision = np.cumsum(true)[last] / (last + 1)
    return float(precision[true].mean())


def mean_average_precision(scores: Floats, target: NDArray[Any]) -> float:
    """The mean over the labels that occur; `[N, L]` each."""
    each = [average_precision(scores[:, label], target[:, label]) for label in range(scores.shape[1])]
    known = [value for value in each if np.isfinite(value)]
    return float(np.mean(known)) if known else 0.0


def mean_absolute_error(said: Floats, target: Floats) -> float:
    """The mean distance, in the target's unit."""
    return float(np.abs(said - target).mean())


def r_squared(said: Floats, target: Floats) -> float:
    """The share of the variance that is explained, the mean over columns `[N, K]`; 0 says no more than the mean
    does. A column that doesn't vary counts as 0."""
    left = ((target - said) ** 2).sum(axis=0)
    whole = ((target - target.mean(axis=0)) ** 2).sum(axis=0)
    return float(np.where(whole > 0, 1 - left / np.where(whole > 0, whole, 1), 0.0).mean())


def edits(said: Sequence[object], target: Sequence[object]) -> int:
    """The fewest insertions, deletions and replacements that make one of the other (Levenshtein, 1966)."""
    row = list(range(len(target) + 1))
    for place, one in enumerate(said, 1):
        above, row[0] = row[0], place
        for index, other in enumerate(target, 1):
            above, row[index] = row[index], min(row[index] + 1, row[index - 1] + 1, above + (one != other))
    return row[-1]


def word_error(said: Sequence[Sequence[object]], target: Sequence[Sequence[object]]) -> float:
    """Edits of all sequences together, a symbol that should be there."""
    wrong = sum(edits(one, other) for one, other in zip(said, target, strict=True))
    return wrong / max(1, sum(len(other) for other in target))


def calibration_error(confidence: Floats, right: NDArray[np.bool_], bins: int = _BINS) -> float:
    """Expected calibration error (Guo et al., "On calibration of modern neural networks", 2017): the mean distance of
    confidence and share that is right, over bins of equal width, weighted by how many fall into each."""
    means, shares, weights = reliability(confidence, right, bins)
    return float((weights * np.abs(means - shares)).sum())


def class_calibration_error(scores: Floats, target: Integers, bins: int = _BINS) -> float:
    """That of the likeliest class; probabilities `[N, C]`, int `[N]`."""
    return calibration_error(scores.max(axis=1), scores.argmax(axis=1) == target, bins)


def reliability(confidence: Floats, right: NDArray[np.bool_], bins: int = _BINS) -> tuple[Floats, Floats, Floats]:
    """Mean confidence, share that is right, and share of all, of each bin that isn't empty: float64 `[<= bins]`."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    filled = count > 0
    mean = np.bincount(place, weights=confidence, minlength=bins)[filled] / count[filled]
    share = np.bincount(place, weights=right.astype(float), minlength=bins)[filled] / count[filled]
    return mean, share, count[filled] / max(1, len(confidence))


def confusion(said: Integers, target: Integers, outputs: int) -> Integers:
    """How many clips of each class (row) were said to be each (column): int `[C, C]`."""
    return np.bincount(target * outputs + said, minlength=outputs * outputs).reshape(outputs, outputs)


def interval(values: Sequence[Floats], level: float = 0.95, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """A bootstrap confidence interval of the mean (Efron & Tibshirani, 1993), over seeds and clips.

    values: for every seed one figure a clip, `[N]` (1 where it was right, its error, ...), the clips in the same order.
    Each draw takes seeds with replacement and, for all of them, the same clips with replacement.
    """
    return _interval(np.stack(values), level, draws, seed)


def difference(
    one: Sequence[Floats], other: Sequence[Floats], level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """The interval of the mean of `one` - `other`, paired: both are judged on the same seeds and clips of each draw,
    so what makes a clip hard for both doesn't widen it. Where it leaves out 0, one is better."""
    return _interval(np.stack(one) - np.stack(other), level, draws, seed)


def statistic_interval(
    statistic: Callable[[Integers], float], clips: int, level: float = 0.95, draws: int = 500, seed: int = 0
) -> tuple[float, float]:
    """The interval of a figure that is no mean over clips (F1, word error): `statistic` gets the indices drawn."""
    rng = np.random.default_rng(seed)
    drawn = [statistic(rng.integers(0, clips, clips)) for _ in range(draws)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _interval(table: Floats, level: float, draws: int, seed: int) -> tuple[float, float]:
    """table `[seeds, N]`."""
    rng = np.random.default_rng(seed)
    seeds, clips = table.shape
    means = np.empty(draws)
    for draw in range(draws):
        chosen = table[rng.integers(0, seeds, seeds)].mean(axis=0)
        means[draw] = chosen[rng.integers(0, clips, clips)].mean()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
