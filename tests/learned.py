"""Checkpoints as training writes them, with weights that nobody trained: for tests of what serves them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from models.learning.calibration import Calibration
from models.learning.keep import Learned, save_checkpoint
from models.learning.network import Network, Outline
from models.learning.recipe import AudioRecipe, FusionKind, FusionRecipe, Recipe, TextRecipe, VideoRecipe

FROZEN = Recipe("small", video=VideoRecipe(), audio=AudioRecipe(), fusion=FusionRecipe(width=32, heads=2, layers=1))
LIPS = replace(FROZEN, video=VideoRecipe("lips", 25, 96, (0.25, 0.5, 0.75, 1.0), 32), audio=AudioRecipe("speech"))
TALKING = replace(FROZEN, text=TextRecipe("gru", layers=1))
VOCABULARY = ("help", "me", "the", "dog", "小心", "狗", "now", "two")
NAMES = ("barking", "speaking", "nothing")


def with_fusion(recipe: Recipe, kind: FusionKind) -> Recipe:
    """The recipe with another fusion."""
    return replace(recipe, fusion=replace(recipe.fusion, kind=kind))


def learned_checkpoint(
    path: Path,
    recipe: Recipe = FROZEN,
    *,
    names: tuple[str, ...] = NAMES,
    calibration: Calibration | None = None,
    longest_s: float = 3.0,
    kind: str = "learned",
    vocabulary: tuple[str, ...] = VOCABULARY,
) -> Path:
    """A checkpoint of that recipe with random weights, the same every time, that don't all say the same."""
    torch.manual_seed(len(recipe.name) + len(recipe.modalities))
    outline = Outline(len(names), vocabulary=len(vocabulary), longest_s=longest_s)
    network = Network(recipe, outline)
    with torch.no_grad():
        # As they begin some parts are zero, and would be the same whatever is seen.
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    learned = Learned(recipe, outline, names, vocabulary, calibration or Calibration(recipe.task), kind=kind)
    save_checkpoint(path, network, learned)
    return path
