"""Training: one loop for classes, labels, numbers and sequences, that goes on after a kill as if nothing had been.

All chance is drawn from (seed, epoch, step): the order of the clips, augmentation, dropout. So the state in a file
needs no generator, and a training that goes on makes the same losses, bit for bit on a CPU with the same number of
threads, as one that was never interrupted. On a GPU that holds as far as its libraries add in a fixed order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.learning import journal, keep, metrics, report, state
from models.learning.errors import LearningError
from models.learning.finish import finish
from models.learning.journal import CURVES, Journal
from models.learning.keep import Learned
from models.learning.learner import Learner
from models.learning.predict import predict
from models.learning.recipe import Recipe
from models.learning.report import Material
from models.learning.sets import Data
from models.learning.state import Position

_CAREFUL = 0.95  # of the time allowed is planned for


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training is: epoch and step of how many, from 1. loss: of the step, a clip. best: the best validation
    figure so far."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    best: float | None


@dataclass(frozen=True)
class Hooks:
    """What the caller wants to know and say.

    progress: called after every step. stop: asked after every step whether to end now; what was best is kept. resume:
    go on from the state in the folder, if there is one. save_every_s: between two states in an epoch; its end has one
    as well. device: as torch names it; "" for CUDA where there is one.
    """

    progress: Callable[[Progress], None] = lambda _: None
    stop: Callable[[], bool] = lambda: False
    resume: bool = False
    save_every_s: float = 60.0
    device: str = ""


@dataclass(frozen=True)
class Trained:
    """checkpoint, report: files. figures: by set ("validation", "test"), and "modalities": the main figure with each
    set of modalities. ended: "epochs", "patience", "minutes" or "stopped"."""

    checkpoint: Path
    report: Path
    figures: Mapping[str, Any]
    epochs: int
    seconds: float
    ended: str


def train(recipe: Recipe, data: Data, out: Path, hooks: Hooks | None = None) -> Trained:
    """Learns what the recipe says from the data.

    Leaves in `out`: NAME.safetensors (the best by its validation score, calibrated), report.html, curves.jsonl and
    TensorBoard's files, and state.safetensors, from which it can go on. LearningError where recipe and data don't fit,
    and where the loss is no number any more.
    """
    _check(recipe, data)
    run = _Run(recipe, data, out, hooks or Hooks())
    position = run.position
    with closing(run.learner), Journal(out, position.step, position.epoch) as run.journal, _repeatable():
        while not position.ended:
            for inside in range(position.inside, run.learner.steps):
                run.step(inside)
                if run.cut():
                    break
            if run.cut():
                position.ended = "minutes" if run.cut() == "minutes" else ""
                run.save()
                if position.best is None:
                    run.validate()
                break
            run.validate()
            run.next_epoch()
            run.save()
    figures, said = finish(recipe, data, run.checkpoint, run.device)
    curves = journal.read(out / CURVES)
    written = report.write(out / "report.html", Material(run.checkpoint, data, said, curves, position.seconds))
    ended = position.ended or run.cut()
    return Trained(run.checkpoint, written, figures, position.best_epoch, position.seconds, ended)


def judged_by(recipe: Recipe) -> tuple[str, bool]:
    """The validation's figure that says which epoch is best, and whether more is better: where something is done about
    rare classes, each class counts alike."""
    if recipe.task == "classes" and recipe.train.imbalance != "none":
        return "balanced_accuracy", True
    return metrics.main_figure(recipe.task)


def _repeatable() -> AbstractContextManager[None]:
    """cuDNN with algorithms that give the same each time; by itself it takes the fastest of its trials."""
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True
    )
    return flags


def chosen_device(name: str) -> torch.device:
    """The device of that name; CUDA where there is one for "". LearningError where this machine hasn't got it."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise LearningError(f"device: {name!r} is none; give cpu, cuda or cuda:N") from error
    there = {"cpu": 1, "cuda": torch.cuda.device_count()}.get(device.type, 0)
    if (device.index or 0) >= there:
        raise LearningError(f"device: this machine has no {name}; leave it out to take what there is")
    return device


class _Run:
    """A training under way: what the loop above calls."""

    journal: Journal

    def __init__(self, recipe: Recipe, data: Data, out: Path, hooks: Hooks) -> None:
        self.device = chosen_device(hooks.device)
        self.learner = Learner(recipe, data, self.device)
        self.position = state.load(out, recipe, data, self.learner) if hooks.resume else Position()
        self.checkpoint = out / f"{recipe.name}.safetensors"
        self._recipe = recipe
        self._data = data
        self._out = out
        self._hooks = hooks
        self._began = time.monotonic() - self.position.seconds
        self._saved = time.monotonic()
        self._stopped = ""

    @property
    def epochs(self) -> int:
        """How many the schedule is made for."""
        return self.position.planned or self._recipe.train.epochs

    def step(self, inside: int) -> None:
        """One optimiser step, written down, told, and from time to time saved."""
        at = self.position
        figures = self.learner.step(at.epoch, inside, at.step, self.epochs)
        at.inside, at.step = inside + 1, at.step + 1
        at.seconds = time.monotonic() - self._began
        self.journal.step(at.step, figures)
        best = None if at.best is None else abs(at.best[0])
        self._hooks.progress(Progress(at.epoch + 1, self.epochs, inside + 1, self.learner.steps, figures["loss"], best))
        limit = self._recipe.train.minutes * 60
        if self._hooks.stop():
            self._stopped = "stopped"
        elif 0 < limit <= at.seconds:
            self._stopped = "minutes"
        elif time.monotonic() - self._saved >= self._hooks.save_every_s and at.inside < self.learner.steps:
            self.save()

    def cut(self) -> str:
        """Why it ends before its time, "" where it doesn't."""
        return self._stopped

    def save(self) -> None:
        """Writes the state, and everything that was written down before it."""
        self.journal.flush()
        state.save(self._out, self._recipe, self._data, self.learner, self.position)
        self._saved = time.monotonic()

    def validate(self) -> None:
        """Scores the weights; the best so far are kept as the checkpoint."""
        at, task = self.position, self._recipe.task
        said = predict(self.learner.kept, self._data.validation)
        figures = said.figures(task, self.learner.calibration)
        name, more = judged_by(self._recipe)
        # Of the same figure, which small sets often give, the one with the smaller loss is better.
        score = (figures[name] if more else -figures[name], -figures.get("loss", 0.0))
        self.journal.epoch(at.epoch + 1, at.step, figures)
        better = at.best is None or score > at.best or self._recipe.train.keep == "last"
        if better:
            at.best, at.best_epoch, at.stale = score, at.epoch + 1, 0
            data, recipe = self._data, self._recipe
            learned = Learned(
                recipe,
                data.outline,
                data.names,
                data.vocabulary,
                self.learner.calibration,
                figures={"validation": figures},
                data=data.note,
            )
            keep.save_checkpoint(self.checkpoint, self.learner.kept, learned)
        else:
            at.stale += 1
        self.learner.balance.judge(better)

    def next_epoch(self) -> None:
        """Moves on, or ends."""
        at, recipe = self.position, self._recipe.train
        at.epoch, at.inside = at.epoch + 1, 0
        at.seconds = time.monotonic() - self._began
        if at.epoch == 1 and recipe.minutes > 0:
            # The schedule comes down within the time that there is; a cosine that is cut off at its height learns less.
            at.planned = max(1, min(recipe.epochs, int(_CAREFUL * recipe.minutes * 60 / at.seconds)))
        if at.epoch >= self.epochs:
            at.ended = "epochs"
        elif 0 < recipe.patience <= at.stale:
            at.ended = "patience"


def _check(recipe: Recipe, data: Data) -> None:
    """LearningError where nothing could be learned or judged."""
    if not len(data.train):
        raise LearningError("data: no clip is for training; look at the split of the manifest")
    if not len(data.validation):
        raise LearningError(
            "data: no clip is for validation, which says when to stop; set data.validation to a fraction like 0.1"
        )
    if recipe.train.epochs < 1 or recipe.train.batch < 1 or recipe.train.accumulate < 1:
        raise LearningError("train: epochs, batch and accumulate must be at least 1")
    if not 1 <= recipe.train.processes <= recipe.train.batch:
        raise LearningError("train.processes must be from 1 to train.batch: each computes a part of a batch")
    if recipe.data.window < 0:
        raise LearningError(f"data.window is {recipe.data.window:g}; write seconds, or 0 for the longest clip's")
    if data.outline.outputs < 1 or (recipe.task == "classes" and data.outline.outputs < 2):
        raise LearningError("data: there is one class or none; nothing can be told apart")
