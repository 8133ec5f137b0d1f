"""A data set that is learned in a second: tokens of two modalities whose means tell the class, and made-up clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.config import Geometry
from models.learning.batch import PADDING, Batch, Part
from models.learning.clips import Clip
from models.learning.network import Outline
from models.learning.recipe import AudioRecipe, FusionRecipe, Recipe, TrainRecipe, VideoRecipe
from models.learning.sets import Data

NAMES = ("red", "green", "blue")
WIDTHS = {"video": Geometry().video_width, "audio": Geometry().audio_width}
ITEMS = 3


class Tokens:
    """Clips of class 0, 1, 2, 0, ... Each modality's tokens are its class's own direction, `strength` times, in noise
    of deviation 1. Augmentation is noise of
    deviation `change`."""

    def __init__(self, task: str, clips: int, seed: int, strength: float = 0.6, change: float = 0.1) -> None:
        rng = np.random.default_rng(seed)
        self._task = task
        self._change = change
        self._classes = np.arange(clips) % len(NAMES)
        self._x = {}
        for name, width in WIDTHS.items():
            directions = np.random.default_rng(width).normal(size=(len(NAMES), width))
            noise = rng.normal(size=(clips, ITEMS, width))
            self._x[name] = (strength * directions[self._classes][:, None] + noise).astype(np.float32)
        self.clips = [Clip(f"{seed}-{index}", None, (NAMES[one],)) for index, one in enumerate(self._classes)]

    def __len__(self) -> int:
        return len(self.clips)

    def targets(self) -> Tensor:
        classes = torch.from_numpy(self._classes)
        if self._task == "classes":
            return classes
        if self._task == "labels":
            return torch.stack([classes == 0, classes != 1, classes == 2], dim=1).float()
        if self._task == "numbers":
            return (100.0 + 25.0 * classes[:, None]).float()
        return torch.stack([classes, torch.where(classes == 0, PADDING, 1)], dim=1)

    def batch(self, indices: Sequence[int], rng: np.random.Generator | None) -> Batch:
        chosen = list(indices)
        parts = {}
        for name, x in self._x.items():
            items = x[chosen]
            if rng is not None:
                items = items + self._change * rng.normal(size=items.shape).astype(np.float32)
            shape = items.shape[:2]
            when = torch.arange(ITEMS).expand(shape) / ITEMS
            parts[name] = Part(torch.from_numpy(items), torch.ones(shape, dtype=torch.bool), when.float())
        return Batch(parts, self.targets()[chosen], [self.clips[index].name for index in chosen])


def recipe(**train: object) -> Recipe:
    """Two frozen encoders, joined by concatenation; a training of a few epochs, changed as said."""
    settings = {"epochs": 3, "batch": 8, "rate": 3e-3, "warm_up": 0.5, "patience": 0, **train}
    return Recipe(
        "tiny",
        video=VideoRecipe(),
        audio=AudioRecipe(),
        fusion=FusionRecipe("concat", width=16, heads=2, layers=1),
        train=TrainRecipe(**settings),  # type: ignore[arg-type]
    )


def data(task: str = "classes", clips: int = 36, strength: float = 0.6) -> Data:
    """As many clips for training, a third for validation and for the test."""
    outputs = 1 if task == "numbers" else len(NAMES)
    return Data(
        Tokens(task, clips, 1, strength),
        Tokens(task, clips // 3, 2, strength),
        Tokens(task, clips // 3, 3, strength),
        ("offset",) if task == "numbers" else NAMES,
        (),
        Outline(outputs, longest_s=1.0),
        {"clips": clips},
    )


def of_task(made: Recipe, task: str) -> Recipe:
    """The recipe for another task."""
    return replace(made, task=task)  # type: ignore[arg-type]
