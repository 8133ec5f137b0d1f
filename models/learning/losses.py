"""What training minimises, a task, and what is done about names that are rare.

Everything is computed in float32, whatever precision the network runs in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.learning.errors import LearningError
from models.learning.recipe import Recipe

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits `[B, K]` (numbers: what is said, standardised) and targets as in Batch -> float32 `[B]`, one a clip."""

_FOCUS = 2.0  # gamma of the focal loss; the paper's own choice
_HUBER = 1.0  # standard deviations, from which on an error counts linearly


def loss_of(recipe: Recipe, counts: Sequence[float], clips: int) -> Loss:
    """The loss of a recipe for classes, labels or numbers (a sequence's is its decoder's own).

    counts: how many of the `clips` for training have each name. LearningError where the recipe asks for what its task
    hasn't.
    """
    check(recipe)
    rare = recipe.train.imbalance
    if recipe.task == "numbers":
        return huber
    smoothing = recipe.train.label_smoothing
    if recipe.task == "classes":
        if rare == "focal":
            return focal
        shift = class_shift(counts) if rare == "logit_adjustment" else torch.zeros(len(counts))
        return lambda logits, target: cross_entropy(logits + shift.to(logits.device), target, smoothing)
    if rare == "focal":
        return focal_labels
    shift = label_shift(counts, clips) if rare == "logit_adjustment" else torch.zeros(len(counts))
    return lambda logits, target: binary(logits + shift.to(logits.device), target, smoothing)


def check(recipe: Recipe) -> None:
    """LearningError where the recipe asks for what its task hasn't."""
    if recipe.task in ("classes", "labels"):
        return
    asked = {
        "imbalance": recipe.train.imbalance != "none",
        "balance_modalities": recipe.train.balance_modalities > 0,
        "label_smoothing": recipe.task == "numbers" and recipe.train.label_smoothing > 0,
    }
    for name, wanted in asked.items():
        if wanted:
            raise LearningError(f"train.{name} is for tasks of classes or labels; leave it out for {recipe.task}")


def cross_entropy(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Softmax cross-entropy `[B, C]`, int64 `[B]`; `smoothing` of the target is spread over all classes (Szegedy et
    al., "Rethinking the Inception architecture", 2016)."""
    return F.cross_entropy(logits.float(), target, label_smoothing=smoothing, reduction="none")


def binary(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Sigmoid cross-entropy, `[B, L]` each, the mean over labels; targets are drawn towards 1/2 by `smoothing`."""
    softened = target * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(logits.float(), softened, reduction="none").mean(dim=1)


def huber(said: Tensor, target: Tensor) -> Tensor:
    """Square of small errors, absolute value of large ones (Huber, "Robust estimation of a location parameter", 1964):
    numbers `[B, K]`, standardised; the mean over them."""
    return F.huber_loss(said.float(), target.float(), delta=_HUBER, reduction="none").mean(dim=1)


def focal(logits: Tensor, target: Tensor, focus: float = _FOCUS) -> Tensor:
    """-(1 - p)^focus log p of the true class (Lin et al., "Focal loss for dense object detection", 2017): clips that
    are told well already count little."""
    log_p = F.log_softmax(logits.float(), dim=1).gather(1, target[:, None]).squeeze(1)
    return -(1 - log_p.exp()).pow(focus) * log_p


def focal_labels(logits: Tensor, target: Tensor, focus: float = _FOCUS) -> Tensor:
    """The focal loss of each label by itself, `[B, L]` each; the mean over labels."""
    toward = logits.float() * (2 * target - 1)
    return -(torch.sigmoid(-toward).pow(focus) * F.logsigmoid(toward)).mean(dim=1)


def class_shift(counts: Sequence[float]) -> Tensor:
    """log prior of each class `[C]`, added to the logits in training alone (Menon et al., "Long-tail learning via logit
    adjustment", 2021): what is learned is then right for classes that are all as frequent, and so are its
    probabilities."""
    smoothed = torch.as_tensor(np.asarray(counts, dtype=np.float64)) + 1  # a class without clips has a finite logarithm
    return (smoothed / smoothed.sum()).log().float()


def label_shift(counts: Sequence[float], clips: int) -> Tensor:
    """The same for labels: log-odds of each one's frequency `[L]`."""
    share = (torch.as_tensor(np.asarray(counts, dtype=np.float64)) + 1) / (clips + 2)
    return torch.logit(share).float()


def sampling_weights(targets: Sequence[Sequence[int]], outputs: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """How often each clip is to be drawn, float64 `[N]` that sums to 1, so that all names come up as often.

    targets: the names of each clip by index. A clip counts as its rarest name does; one without any as the most
    frequent.
    """
    counted = np.zeros(outputs)
    for names in targets:
        counted[list(names)] += 1
    rate = 1 / np.maximum(counted, 1)
    least = rate[counted > 0].min() if (counted > 0).any() else 1.0
    weights = np.array([max((rate[name] for name in names), default=least) for names in targets])
    balanced: np.ndarray[tuple[int], np.dtype[np.float64]] = weights / weights.sum()
    return balanced
