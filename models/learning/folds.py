"""Cross-validation: parts of the groups are left out in turn, and each is told by a network that never saw it.

Groups (speaker, source, fold) stay whole; validation, which says when to stop and fits the calibration, is drawn from
what is not left out, so that the figures are of clips that nothing was chosen by.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.learning import keep, layouts, metrics
from models.learning.calibration import Calibration
from models.learning.clips import Clip, ClipSet
from models.learning.errors import LearningError
from models.learning.predict import Predicted, predict
from models.learning.recipe import Recipe
from models.learning.sets import Data
from models.learning.train import Hooks, train

Opened = Callable[[ClipSet], Data]
Began = Callable[[str, int, int], None]

_TASKS = ("classes", "labels", "numbers")
_FEW = 8  # groups: of fewer, an interval over groups says little, and clips are drawn instead
_DRAWS = 500
# Alone: the other figures of a task would take most of the time that an interval takes.
_STATISTICS: dict[str, Callable[[NDArray[Any], NDArray[Any]], float]] = {
    "accuracy": metrics.accuracy,
    "balanced_accuracy": metrics.balanced_accuracy,
    "mean_average_precision": metrics.mean_average_precision,
    "mae": metrics.mean_absolute_error,
}
_LONGEST = 40  # characters of groups in a fold's name


@dataclass(frozen=True)
class Fold:
    """name: of its groups. clips: those left out. scores: calibrated, `[N, outputs]`; raw: before, `[N, outputs]`;
    target: as Batch.target. figures: of this fold alone. seconds: of training."""

    name: str
    clips: Sequence[Clip]
    scores: NDArray[Any]
    raw: NDArray[Any]
    target: NDArray[Any]
    figures: Mapping[str, float]
    seconds: float


@dataclass(frozen=True)
class Summary:
    """All folds of one seed or several: `folds` has those of each seed, in order."""

    task: str
    seeds: Sequence[int]
    folds: Sequence[Sequence[Fold]]

    def document(self) -> dict[str, Any]:
        """As JSON has it: figures over all clips, their intervals, and each fold of each seed."""
        by_seed = [pooled(self.task, folds) for folds in self.folds]
        figures = {name: float(np.mean([one[name] for one in by_seed])) for name in by_seed[0]}
        main = metrics.main_figure(self.task)[0]
        wanted = [main, "balanced_accuracy"] if self.task == "classes" else [main]
        return {
            **figures,
            "intervals": {name: self._interval(name) for name in wanted},
            "mean_of_folds": float(np.mean([fold.figures[main] for folds in self.folds for fold in folds])),
            "clips": sum(len(fold.clips) for fold in self.folds[0]),
            "groups": len({clip.group for fold in self.folds[0] for clip in fold.clips}),
            "seeds": list(self.seeds),
            "by_seed": [one[main] for one in by_seed],
            "seconds": sum(fold.seconds for folds in self.folds for fold in folds),
            "folds": [
                {"seed": seed, "left_out": fold.name, "clips": len(fold.clips), **fold.figures}
                for seed, folds in zip(self.seeds, self.folds, strict=True)
                for fold in folds
            ],
        }

    def _interval(self, figure: str) -> tuple[float, float]:
        """Draws seeds, and the same units for all of them: whole groups where there are enough, for clips of one source
        are alike; else clips."""
        units = _units([clip for fold in self.folds[0] for clip in fold.clips])
        joined = [_joined(folds) for folds in self.folds]
        said = [scores.argmax(axis=1) if self.task == "classes" else scores for scores, _, _ in joined]
        statistic = _STATISTICS[figure]
        rng = np.random.default_rng(0)
        drawn = []
        for _ in range(_DRAWS):
            chosen = np.concatenate([units[place] for place in rng.integers(0, len(units), len(units))])
            seeds = rng.integers(0, len(joined), len(joined))
            drawn.append(np.mean([statistic(said[seed][chosen], joined[seed][2][chosen]) for seed in seeds]))
        low, high = np.quantile(drawn, [0.025, 0.975])
        return float(low), float(high)


def groups(clip_set: ClipSet) -> list[str]:
    """The groups of a set, sorted. LearningError where there aren't two."""
    found = sorted({clip.group for clip in clip_set.clips if clip.group})
    if len(found) < 2:
        raise LearningError(
            f"{clip_set.folder}: its clips have no groups to leave out in turn; write a manifest with a group for each"
        )
    return found


def parts(clip_set: ClipSet, count: int, seed: int = 0) -> list[list[str]]:
    """The groups dealt to `count` parts of about as many clips of each class, each group to one; which of many, the
    seed says. Where there are no more groups than that, each is a part. LearningError where count is below 2."""
    if count < 2:
        raise LearningError(f"{count} folds: at least 2 are needed, one to learn from and one to judge by")
    found = groups(clip_set)
    if len(found) <= count:
        return [[name] for name in found]
    members = {name: Counter(_kind(clip) for clip in clip_set.clips if clip.group == name) for name in found}
    total = Counter(_kind(clip) for clip in clip_set.clips)
    order = sorted(found, key=lambda name: (-members[name].total(), _hash(f"{seed} {name}")))
    dealt: list[list[str]] = [[] for _ in range(count)]
    have = [Counter[str]() for _ in range(count)]
    for name in order:
        fuller = [
            sum((has[kind] + clips / 2) * clips / total[kind] ** 2 for kind, clips in members[name].items())
            for has in have
        ]
        place = fuller.index(min(fuller))
        dealt[place].append(name)
        have[place] += members[name]
    return dealt


def without(clip_set: ClipSet, left_out: Sequence[str], validation: float) -> ClipSet:
    """The clips of those groups are for the test, all others for training and validation. LearningError where there is
    no such group, and where nothing is left."""
    known = {clip.group for clip in clip_set.clips}
    for name in left_out:
        if name not in known:
            raise LearningError(f"{clip_set.folder}: no group {name!r}; groups are {', '.join(sorted(known))}")
    if known <= set(left_out):
        raise LearningError(f"{clip_set.folder}: with {', '.join(left_out)} left out, nothing is left to learn from")
    marked = [replace(clip, split="test" if clip.group in left_out else "") for clip in clip_set.clips]
    return replace(clip_set, clips=layouts.fill_splits(marked, validation))


@dataclass(frozen=True)
class Trial:
    """What is judged: a recipe, on clips that have groups. opened: makes sets of them. out: the folder that each fold
    has a checkpoint and a report in. hooks: of every training."""

    recipe: Recipe
    found: ClipSet
    opened: Opened
    out: Path
    hooks: Hooks = field(default_factory=Hooks)

    def one(self, left_out: Sequence[str], seed: int, folder: str = "") -> Fold:
        """Trains with some groups left out, in a folder of that name, and judges by those."""
        recipe = replace(self.recipe, train=replace(self.recipe.train, seed=seed))
        data = self.opened(without(self.found, left_out, recipe.data.validation))
        trained = train(recipe, data, self.out / folder, self.hooks)
        loaded = keep.load_network(trained.checkpoint)
        said = predict(loaded.network, data.test)
        scores = loaded.calibration.apply(said.raw).numpy()
        raw = _uncalibrated(recipe.task, loaded.calibration, said)
        figures = metrics.figures(recipe.task, scores, said.target.numpy())
        return Fold(name_of(left_out), data.test.clips, scores, raw, said.target.numpy(), figures, trained.seconds)

    def cross(self, count: int, seeds: Sequence[int], began: Began = lambda *_: None) -> Summary:
        """Every fold of every seed; `began` is called with a fold's name, its number and of how many.

        A seed is also how groups are dealt, where there are more groups than folds. LearningError as training, and for
        sequences, which are not judged here. Ends early, with the seeds that are whole, where the hooks say stop.
        """
        judged(self.recipe)
        plans = [(seed, parts(self.found, count, seed)) for seed in seeds]
        total, number = sum(len(plan) for _, plan in plans), 0
        whole: list[list[Fold]] = []
        for seed, plan in plans:
            told: list[Fold] = []
            for left_out in plan:
                number += 1
                began(name_of(left_out), number, total)
                told.append(self.one(left_out, seed, f"seed-{seed}-fold-{len(told) + 1}"))
                if self.hooks.stop() and number < total:
                    return Summary(self.recipe.task, seeds[: len(whole)], whole)
            whole.append(told)
        return Summary(self.recipe.task, seeds, whole)


def judged(recipe: Recipe) -> None:
    """LearningError where a recipe's task is none that is judged here."""
    if recipe.task not in _TASKS:
        raise LearningError(f"groups are left out of {', '.join(_TASKS)}, not of a recipe of {recipe.task}")


def pooled(task: str, folds: Sequence[Fold]) -> dict[str, float]:
    """The figures over the clips of all folds; of classes and labels also `ece_uncalibrated`, what the calibration
    error was before the scale fitted to validation clips."""
    scores, raw, target = _joined(folds)
    figures = metrics.figures(task, scores, target)
    if task != "numbers":
        figures["ece_uncalibrated"] = metrics.figures(task, raw, target)["ece"]
    return figures


def name_of(left_out: Sequence[str]) -> str:
    """Groups in a few words."""
    name = ", ".join(left_out)
    return name if len(name) <= _LONGEST else f"{len(left_out)} groups ({name[: _LONGEST - 16]}...)"


def _joined(folds: Sequence[Fold]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Scores, uncalibrated scores and targets, in the order of the clips' names, so that seeds can be paired."""
    names = [clip.name for fold in folds for clip in fold.clips]
    order = np.argsort(np.array(names))
    scores = np.concatenate([fold.scores for fold in folds])[order]
    raw = np.concatenate([fold.raw for fold in folds])[order]
    return scores, raw, np.concatenate([fold.target for fold in folds])[order]


def _units(clips: Sequence[Clip]) -> list[NDArray[np.int64]]:
    """Places, in the order of names, of what is drawn together."""
    ordered = sorted(clips, key=lambda clip: clip.name)
    members: dict[str, list[int]] = {}
    for place, clip in enumerate(ordered):
        members.setdefault(clip.group, []).append(place)
    if len(members) < _FEW:
        return [np.array([place]) for place in range(len(ordered))]
    return [np.array(places) for places in members.values()]


def _uncalibrated(task: str, fitted: Calibration, said: Predicted) -> NDArray[Any]:
    plain = fitted if task == "numbers" else Calibration(task)
    return np.asarray(plain.apply(said.raw).numpy())


def _kind(clip: Clip) -> str:
    return str(clip.target[0]) if len(clip.target) == 1 and isinstance(clip.target[0], str) else ""


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
