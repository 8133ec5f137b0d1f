"""A folder of tiny clips of which both the picture and the sound tell half of the class, and what is learned of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.learning.cache import Sources
from models.learning.recipe import AudioRecipe, DataRecipe, FusionRecipe, Recipe, TrainRecipe, VideoRecipe
from models.learning.sets import open_data
from models.learning.train import Hooks, train
from tests.media_factory import Spec, make

SIGHTS = ("left", "top")  # which half of the picture is bright
SOUNDS = {"low": 400.0, "high": 2500.0}  # the tone's frequency
CLASSES = tuple(f"{sight}-{sound}" for sight in SIGHTS for sound in sorted(SOUNDS))


def folder(path: Path, clips: dict[str, int], seed: int = 0) -> Path:
    """`SPLIT/CLASS/FILE` with so many clips a class and split ("" for none: `CLASS/FILE`), of a second each."""
    rng = np.random.default_rng(seed)
    for split, count in clips.items():
        for name in CLASSES:
            for number in range(count):
                file = path / split / name / f"{seed}{number}.mkv"
                file.parent.mkdir(parents=True, exist_ok=True)
                make(file, _spec(name, rng))
    return path


def _spec(name: str, rng: np.random.Generator) -> Spec:
    sight, _, sound = name.partition("-")
    dark, bright = rng.integers(0, 60), rng.integers(150, 255)
    loud, pitch = rng.uniform(0.2, 0.6), SOUNDS[sound] * rng.uniform(0.9, 1.1)

    def paint(_: float, size: tuple[int, int]) -> NDArray[np.uint8]:
        width, height = size
        picture = rng.normal(dark, 10, (height, width, 3))
        half = (slice(None), slice(width // 2)) if sight == "left" else (slice(height // 2), slice(None))
        picture[half] += bright
        return picture.clip(0, 255).astype(np.uint8)

    def play(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        # In bursts: what stays the same all the time, an encoder of speech takes for the room.
        return loud * np.sin(2 * np.pi * pitch * times_s) * (times_s * 3 % 1 < 0.5)

    return Spec(seconds=1.0, size=(64, 64), fps=5, gop=5, sample_rate=16_000, paint=paint, play=play)


def recipe(kind: str = "concat", **changed: object) -> Recipe:
    """Both small trained encoders, over all of the picture."""
    settings = {"epochs": 14, "batch": 8, "rate": 3e-3, "warm_up": 5.0, "patience": 0, **changed}
    return Recipe(
        "sights",
        data=DataRecipe(validation=0.25),
        video=VideoRecipe("lips", rate=5, size=64, pixels=32),
        audio=AudioRecipe("speech"),
        fusion=FusionRecipe(kind, width=16, heads=2, layers=1),  # type: ignore[arg-type]
        train=TrainRecipe(**settings),  # type: ignore[arg-type]
    )


@dataclass(frozen=True)
class Learned:
    """The clips' folder, the checkpoint learned from it, and the cache of its features."""

    folder: Path
    checkpoint: Path
    cache: Path


_MADE: list[Learned] = []


def learned(temporary: Path) -> Learned:
    """Learned once a process."""
    if not _MADE:
        clips, cache = folder(temporary / "clips", {"train": 7, "validation": 2, "test": 3}), temporary / "cache"
        data = open_data(recipe(), clips, Sources(cache))
        _MADE.append(Learned(clips, train(recipe(), data, temporary / "out", Hooks()).checkpoint, cache))
    return _MADE[0]
