"""What a checkpoint said of clips, as arrays: the figures of any choice of them, and how sure one can be of those.

Beside scoring, this is what is kept of each run of a comparison: with it, clips can be resampled in pairs later.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.learning import metrics
from models.learning.calibration import Calibration
from models.learning.errors import LearningError
from models.learning.predict import Predicted
from models.learning.recipe import Recipe

_FAULTLESS = 0.025  # half of what lies outside a 95 % interval
SECONDS = ("offset",)  # numbers that are seconds without saying so in their name (which ends in _s or _ms else)


@dataclass(frozen=True)
class Answers:
    """names: of the outputs. clips: N of them. scores: calibrated, float `[N, L]`, and target as Batch's, both empty
    for sequences, of which there are the `edits` that each would need and its true `lengths`, int `[N]`."""

    task: str
    names: tuple[str, ...]
    clips: tuple[str, ...]
    scores: NDArray[Any]
    target: NDArray[Any]
    edits: NDArray[Any]
    lengths: NDArray[Any]

    def __len__(self) -> int:
        return len(self.clips)

    def figures(self, picks: NDArray[np.int64] | None = None) -> dict[str, float]:
        """All figures of the task (metrics.figures; `word_error` for sequences), over all clips or those picked."""
        chosen = np.arange(len(self)) if picks is None else picks
        if self.task == "sequence":
            edits, lengths = self.edits[chosen], self.lengths[chosen]
            return {
                "word_error": float(edits.sum() / max(1, lengths.sum())),
                "sentences_right": float((edits == 0).mean()),
            }
        found = metrics.figures(self.task, self.scores[chosen], self.target[chosen])
        if self.task == "numbers":
            scale = milliseconds(self.names)
            if scale is not None:
                found["mae_ms"] = scale * found["mae"]
        return found

    def main(self) -> tuple[str, bool]:
        """The figure that it is judged by, and whether lower is better."""
        if self.task == "numbers" and milliseconds(self.names) is not None:
            return "mae_ms", True
        name, more_is_better = metrics.main_figure(self.task)
        return name, not more_is_better

    def main_figure(self, picks: NDArray[np.int64]) -> float:
        """That figure over the clips picked; quick, for resampling."""
        if self.task == "classes":
            return float((self.scores[picks].argmax(axis=1) == self.target[picks]).mean())
        return self.figures(picks)[self.main()[0]]

    def intervals(self, names: Sequence[str], seed: int, draws: int = 500) -> dict[str, tuple[float, float]]:
        """The 95 % interval of each of these figures, over clips drawn with replacement (percentile bootstrap). Where
        all is right no draw can be wrong: the interval of a share is then reckoned (see `_faultless`)."""
        rng = np.random.default_rng(seed)
        drawn = [self.figures(rng.integers(0, len(self), len(self))) for _ in range(draws)]
        found = {}
        for name in names:
            low, high = np.quantile([each[name] for each in drawn], [0.025, 0.975])
            found[name] = (float(low), float(high))
        return found | {name: span for name, span in self._faultless().items() if name in names}

    def _faultless(self) -> dict[str, tuple[float, float]]:
        """Of the shares without a fault among n: down to where n of n right have a chance of 2.5 % (Clopper and
        Pearson, "The use of confidence or fiducial limits", 1934)."""
        if self.task == "classes" and bool((self.scores.argmax(axis=1) == self.target).all()):
            low = _FAULTLESS ** (1 / len(self))
            return {name: (low, 1.0) for name in ("accuracy", "balanced_accuracy", "f1")}
        if self.task == "sequence" and not self.edits.any():
            words = max(1, int(self.lengths.sum()))
            return {
                "word_error": (0.0, 1 - _FAULTLESS ** (1 / words)),
                "sentences_right": (_FAULTLESS ** (1 / len(self)), 1.0),
            }
        return {}

    def per_name(self) -> dict[str, dict[str, float]]:
        """Classes: of each that occurs, n, recall, precision (0 where nobody is told so) and f1. Labels: n and average
        precision. Numbers: mean error and its mean absolute. Nothing for sequences."""
        if self.task == "classes":
            return self._per_class()
        if self.task == "labels":
            return {
                name: {
                    "n": int((self.target[:, at] > 0.5).sum()),
                    "average_precision": metrics.average_precision(self.scores[:, at], self.target[:, at]),
                }
                for at, name in enumerate(self.names)
                if (self.target[:, at] > 0.5).any()
            }
        if self.task == "numbers":
            error = self.scores - self.target
            return {
                name: {"n": len(self), "bias": float(error[:, at].mean()), "mae": float(np.abs(error[:, at]).mean())}
                for at, name in enumerate(self.names)
            }
        return {}

    def _per_class(self) -> dict[str, dict[str, float]]:
        table = metrics.confusion(self.scores.argmax(axis=1), self.target, len(self.names))
        found = {}
        for at, name in enumerate(self.names):
            true, said, hits = int(table[at].sum()), int(table[:, at].sum()), int(table[at, at])
            if true:
                found[name] = {
                    "n": true,
                    "recall": hits / true,
                    "precision": hits / said if said else 0.0,
                    "f1": 2 * hits / (true + said),
                }
        return found

    def save(self, path: Path) -> None:
        """Written whole or not at all; `.npz` without pickle."""
        about = json.dumps({"task": self.task, "names": self.names, "clips": self.clips})
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez_compressed(
                file,
                about=np.frombuffer(about.encode(), np.uint8),
                scores=self.scores,
                target=self.target,
                edits=self.edits,
                lengths=self.lengths,
            )
        os.replace(partial, path)


def milliseconds(names: Sequence[str]) -> float | None:
    """What a number of these names is multiplied by to be milliseconds; None where they aren't all times."""
    units = {
        1.0 if name.endswith("_ms") else 1000.0 if name.endswith("_s") or name in SECONDS else None for name in names
    }
    return units.pop() if len(units) == 1 else None


def of(predicted: Predicted, recipe: Recipe, names: Sequence[str], calibration: Calibration) -> Answers:
    """What a network said, calibrated."""
    nothing = np.zeros(0)
    if recipe.task == "sequence":
        pairs = list(zip(predicted.said, predicted.true, strict=True))
        edits = np.array([metrics.edits(said, true) for said, true in pairs], dtype=np.int64)
        lengths = np.array([len(true) for _, true in pairs], dtype=np.int64)
        return Answers(recipe.task, tuple(names), tuple(predicted.clips), nothing, nothing, edits, lengths)
    if recipe.task == "numbers" and not names:
        names = (recipe.data.target,)
    scores = calibration.apply(predicted.raw).double().numpy()
    return Answers(
        recipe.task, tuple(names), tuple(predicted.clips), scores, predicted.target.numpy(), nothing, nothing
    )


def load(path: Path) -> Answers:
    """What `save` wrote. LearningError where it can't be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(bytes(file["about"]))
            arrays = (file["scores"], file["target"], file["edits"], file["lengths"])
            return Answers(about["task"], tuple(about["names"]), tuple(about["clips"]), *arrays)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise LearningError(f"{path}: damaged; remove it and it is made again ({error})") from error
