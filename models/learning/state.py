"""The state of a training that runs, in one file that is written whole: what a kill leaves is what it goes on from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch

from models.learning import optimiser, tensors
from models.learning.errors import LearningError
from models.learning.keep import state as named
from models.learning.learner import Learner
from models.learning.recipe import Recipe, as_document
from models.learning.sets import Data

FILE = "state.safetensors"
_FORMAT = "streamer-training"
_VERSION = "1"
_WHAT = "state of a training"
_OVER = ("epochs", "patience")  # reasons to end after which nothing is left to do


@dataclass
class Position:
    """Where a training is.

    epoch, inside: the next step's epoch and its number in it, from 0. step: optimiser steps done. planned: epochs that
    the schedule is made for (0: as the recipe says). best: the best validation score and its tie-break, larger is
    better; best_epoch: from 1. stale: epochs since then. seconds: spent so far. ended: why it is over, "" while it
    isn't. off, losing: see Balance.
    """

    epoch: int = 0
    inside: int = 0
    step: int = 0
    planned: int = 0
    best: tuple[float, float] | None = None
    best_epoch: int = 0
    stale: int = 0
    seconds: float = 0.0
    ended: str = ""
    off: bool = False
    losing: int = 0


def save(out: Path, recipe: Recipe, data: Data, learner: Learner, position: Position) -> None:
    """Writes the state; of a training that is over, its position alone. OSError where the disk refuses."""
    position.off, position.losing = learner.balance.off, learner.balance.losing
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "position": json.dumps(dataclasses.asdict(position)),
        "recipe": json.dumps(_lasting(recipe)),
        "clips": _clips(data),
        "acted": json.dumps(learner.balance.acted),
    }
    contents: dict[str, torch.Tensor] = {}
    if position.ended not in _OVER:
        contents |= named(learner.network, "network")
        memory = optimiser.optimiser_tensors(learner.optimiser)
        contents |= {f"optimiser.{name}": value for name, value in memory.items()}
        if learner.average is not None:
            contents |= named(learner.average.network, "average")
    tensors.write(out / FILE, contents, header)


def unfinished(out: Path) -> bool:
    """Whether the folder holds a training that could go on. LearningError where its state is damaged."""
    path = out / FILE
    if not path.exists():
        return False
    return not json.loads(tensors.read_header(path, _WHAT).get("position", "{}")).get("ended")


def load(out: Path, recipe: Recipe, data: Data, learner: Learner) -> Position:
    """Puts the state in `out` into the learner and gives its position; a fresh one where there is no state.

    LearningError where the file is damaged, or of another recipe or other clips.
    """
    path = out / FILE
    if not path.exists():
        return Position()
    contents, header = tensors.read(path, _WHAT)
    if header.get("format") != _FORMAT or header.get("version") != _VERSION:
        raise LearningError(f"{path}: not the state of a training by this version; begin anew without --resume")
    _same(path, recipe, data, header)
    fields = json.loads(header["position"])
    fields["best"] = None if fields["best"] is None else tuple(fields["best"])
    position = Position(**fields)
    if position.ended not in _OVER:
        position.ended = ""  # of its time: there is more of that now
        parts = tensors.by_part(contents)
        learner.network.load_state_dict(parts["network"])
        optimiser.restore_optimiser(learner.optimiser, parts.get("optimiser", {}))
        if learner.average is not None:
            learner.average.network.load_state_dict(parts["average"])
    learner.balance.off, learner.balance.losing = position.off, position.losing
    learner.balance.acted = json.loads(header["acted"])
    return position


def _same(path: Path, recipe: Recipe, data: Data, header: dict[str, str]) -> None:
    began, now = json.loads(header["recipe"]), json.loads(json.dumps(_lasting(recipe)))
    differing = [name for name in now if began.get(name) != now[name]]
    if differing:
        raise LearningError(
            f"{path}: was begun with another recipe ({', '.join(differing)} differ); name another folder with --out, "
            "or begin anew without --resume"
        )
    if header["clips"] != _clips(data):
        raise LearningError(
            f"{path}: was begun with other clips; name another folder with --out, or begin anew without --resume"
        )


def _lasting(recipe: Recipe) -> dict[str, object]:
    """The recipe as tables, but for what may change on the way: how long it may take."""
    return as_document(dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, minutes=0.0)))


def _clips(data: Data) -> str:
    """A digest of which clips it learns from, in their order."""
    names = [clip.name for clip in data.train.clips] + [""] + [clip.name for clip in data.validation.clips]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
