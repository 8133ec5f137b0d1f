"""What pretraining is worth to a task: its accuracy after learning from 5, 10, 25 and 100 % of the labels, with and
without each way of pretraining before it.

    python -m models.learning.pretrain.effect RECIPE FOLDER OUT [--groups ...] [--seeds ...]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.learning import layouts, metrics, plots
from models.learning.batch import Batch
from models.learning.cache import Sources
from models.learning.clips import Clip
from models.learning.errors import LearningError
from models.learning.learner import Learner
from models.learning.metrics import Floats
from models.learning.predict import predict
from models.learning.pretrain.loop import METHODS, pretrain
from models.learning.recipe import Recipe, find, read
from models.learning.sets import Data, Split, from_clips

NOTHING = "from nothing"
Told = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """fractions: of the labels. groups: left out in turn as test clips, the names of folds or speakers; none
    named: all. steps: of
    each training of the task, whatever the fraction, so that all learn for as long."""

    fractions: Sequence[float] = (0.05, 0.1, 0.25, 1.0)
    groups: Sequence[str] = ()
    seeds: Sequence[int] = (0, 1, 2)
    steps: int = 100


class Some:
    """Some clips of a set."""

    def __init__(self, split: Split, chosen: Sequence[int]) -> None:
        self.clips: Sequence[Clip] = [split.clips[one] for one in chosen]
        self._split, self._chosen = split, list(chosen)

    def __len__(self) -> int:
        return len(self._chosen)

    def targets(self) -> Tensor:
        """As Split."""
        return self._split.targets()[self._chosen]

    def batch(self, indices: Sequence[int], rng: np.random.Generator | None) -> Batch:
        """As Split."""
        return self._split.batch([self._chosen[one] for one in indices], rng)


def measure(recipe: Recipe, folder: Path, out: Path, plan: Plan, sources: Sources, told: Told) -> dict[str, object]:
    """The curve: by way and fraction the mean accuracy over seeds, groups and clips, its interval, and the interval of
    what it is better by than a start from nothing (both bootstrapped over seeds and clips, 95 %).

    Pretraining reads the clips for training without their labels, and never those of the test. LearningError for tasks
    other than classes.
    """
    if recipe.task != "classes":
        raise LearningError(f"{recipe.name}: the effect is measured on classes, not on {recipe.task}")
    found = layouts.read_clips(folder, recipe)
    right: dict[tuple[str, float], dict[int, list[Floats]]] = defaultdict(lambda: defaultdict(list))
    groups = plan.groups or sorted({clip.group for clip in found.clips})
    document: dict[str, object] = {}
    for place, seed in enumerate(plan.seeds):
        for group in groups:
            data = from_clips(recipe, layouts.leave_out(found, group, recipe.data.validation), sources)
            seeded = replace(recipe, train=replace(recipe.train, seed=seed))
            starts = {NOTHING: ""}
            for method in METHODS:
                done = pretrain(seeded, data, out / f"{method}-{group}-{seed}", method)
                starts[method] = str(done.checkpoint)
                told(f"seed {seed}, {group} left out: {method}, {done.seconds:.1f} s, held out {done.held_out:.4f}")
            for fraction in plan.fractions:
                few = replace(data, train=Some(data.train, labelled(data.train.targets(), fraction, seed)))
                for name, start in starts.items():
                    right[name, fraction][seed].append(_learn(replace(seeded, start=start), few, plan.steps))
        document = _document(right, replace(plan, groups=groups, seeds=plan.seeds[: place + 1]))
        # Each seed's end leaves what is known by then, for it takes long.
        (out / "effect.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
        (out / "effect.svg").write_text(curve(document), encoding="utf-8")
        told(f"seed {seed}: {out / 'effect.json'}")
    return document


def labelled(targets: Tensor, fraction: float, seed: int) -> list[int]:
    """Which clips have their labels: that fraction of each class, at least one, drawn by the seed."""
    rng = np.random.default_rng(seed)
    chosen = []
    for name in sorted(set(targets.tolist())):
        clips = rng.permutation(np.flatnonzero(targets.numpy() == name))
        chosen += [int(one) for one in clips[: max(1, round(fraction * len(clips)))]]
    return sorted(chosen)


def curve(document: Mapping[str, object]) -> str:
    """The curve as an SVG: accuracy over the percentage of labels, a line a way."""
    rows = document["rows"]
    assert isinstance(rows, list)
    series: dict[str, tuple[list[float], list[float]]] = {}
    for row in rows:
        x, y = series.setdefault(row["start"], ([], []))
        x.append(100 * row["labels"])
        y.append(row["accuracy"])
    return plots.lines(series, "labels, %", "accuracy")


def _learn(recipe: Recipe, data: Data, steps: int) -> Floats:
    """1 for each test clip that the task's network is right about."""
    learner = Learner(recipe, data, torch.device("cpu"))
    epochs = math.ceil(steps / learner.steps)
    for done in range(epochs * learner.steps):
        learner.step(done // learner.steps, done % learner.steps, done, epochs)
    said = predict(learner.kept, data.test)
    learner.close()
    hits: Floats = (said.raw.argmax(dim=1) == said.target).double().numpy()
    return hits


def _document(right: Mapping[tuple[str, float], Mapping[int, Sequence[Floats]]], plan: Plan) -> dict[str, object]:
    rows = []
    clips = 0
    for (name, fraction), by_seed in right.items():
        hits = [np.concatenate(by_seed[seed]) for seed in plan.seeds]
        nothing = [np.concatenate(right[NOTHING, fraction][seed]) for seed in plan.seeds]
        clips = len(hits[0])
        rows.append(
            {
                "start": name,
                "labels": fraction,
                "accuracy": float(np.mean(hits)),
                "interval": metrics.interval(hits),
                "better_by": float(np.mean(hits) - np.mean(nothing)),
                "better_interval": metrics.difference(hits, nothing),
            }
        )
    return {"test_clips": clips, "groups": list(plan.groups), "seeds": list(plan.seeds), "rows": rows}


def main(arguments: Sequence[str]) -> None:
    """Measures, and leaves effect.json and effect.svg in the folder OUT."""
    said = argparse.ArgumentParser(prog="effect", description=__doc__)
    said.add_argument("recipe")
    said.add_argument("folder", type=Path)
    said.add_argument("out", type=Path)
    said.add_argument("--groups", nargs="*", default=())
    said.add_argument("--seeds", nargs="*", type=int, default=(0, 1, 2))
    said.add_argument("--steps", type=int, default=100)
    given = said.parse_args(arguments)
    plan = Plan(groups=given.groups, seeds=given.seeds, steps=given.steps)
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        measure(read(find(given.recipe)), given.folder, given.out, plan, Sources.usual(), print)
    except LearningError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
