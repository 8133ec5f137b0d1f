"""The end of a training: its best checkpoint is calibrated, scored, given its figures, and reported on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from models.learning import calibration, keep, metrics
from models.learning.calibration import Calibration
from models.learning.keep import Loaded
from models.learning.predict import Predicted, only, predict
from models.learning.recipe import Recipe
from models.learning.sets import Data, Split


def calibrated(loaded: Loaded, said: Predicted) -> Calibration:
    """The checkpoint's calibration, fitted to validation clips where its task has one."""
    task = loaded.recipe.task
    if task not in ("classes", "labels") or not said.clips:
        return loaded.calibration
    return calibration.fit(task, said.raw, said.target)


def score(loaded: Loaded, split: Split, fitted: Calibration) -> dict[str, float]:
    """The main figure with each set of modalities that isn't all, by their names joined with "+"."""
    names = loaded.recipe.modalities
    main = metrics.main_figure(loaded.recipe.task)[0]
    found = {}
    for size in range(1, len(names)):
        for chosen in combinations(names, size):
            said = predict(loaded.network, split, change=partial(only, modalities=chosen))
            found["+".join(chosen)] = said.figures(loaded.recipe.task, fitted)[main]
    return found


def finish(
    recipe: Recipe, data: Data, checkpoint: Path, device: torch.device
) -> tuple[dict[str, Any], Mapping[str, Predicted]]:
    """Calibrates and scores the checkpoint in its file, and writes it anew with both. Gives the figures by set and what
    was said of each set."""
    loaded = keep.load_network(checkpoint)
    loaded.network.to(device)
    beam = recipe.sequence.beam
    said = {"validation": predict(loaded.network, data.validation, beam=beam)}
    if len(data.test):
        said["test"] = predict(loaded.network, data.test, beam=beam)
    fitted = calibrated(loaded, said["validation"])
    figures: dict[str, Any] = {name: one.figures(recipe.task, fitted) for name, one in said.items()}
    judged = data.test if len(data.test) else data.validation
    if len(recipe.modalities) > 1:
        figures["modalities"] = score(loaded, judged, fitted)
    keep.save_checkpoint(checkpoint, loaded.network, replace(loaded.learned, calibration=fitted, figures=figures))
    return figures, said
