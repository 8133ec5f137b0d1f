"""Losses, against what paper and pencil give."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.learning import losses
from models.learning.errors import LearningError
from models.learning.recipe import AudioRecipe, Recipe, TrainRecipe


def recipe(task: str, **train: object) -> Recipe:
    return Recipe("r", task=task, audio=AudioRecipe(), train=TrainRecipe(**train))  # type: ignore[arg-type]


def test_cross_entropy_is_the_negative_logarithm_of_what_is_true() -> None:
    """Log-odds of log 3 against 0: the first class has 3/4."""
    logits = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0]])
    found = losses.cross_entropy(logits, torch.tensor([0, 1]))
    assert found.tolist() == pytest.approx([-math.log(3 / 4), -math.log(1 / 4)])
    smoothed = losses.cross_entropy(logits, torch.tensor([0, 0]), 0.2)
    assert smoothed[0] == pytest.approx(-0.9 * math.log(3 / 4) - 0.1 * math.log(1 / 4))


def test_binary_is_the_mean_over_labels() -> None:
    """Probabilities of 3/4 and 1/2 of labels that are and are not there."""
    logits = torch.tensor([[math.log(3), 0.0]])
    found = losses.binary(logits, torch.tensor([[1.0, 0.0]]))
    assert float(found) == pytest.approx((-math.log(3 / 4) - math.log(1 / 2)) / 2)
    smoothed = losses.binary(logits, torch.tensor([[1.0, 0.0]]), 0.2)
    assert float(smoothed) == pytest.approx((-0.9 * math.log(3 / 4) - 0.1 * math.log(1 / 4) - math.log(1 / 2)) / 2)


def test_huber_is_half_the_square_and_then_a_line() -> None:
    """Errors of 1/2 and of 3 standard deviations; the mean over a clip's numbers."""
    found = losses.huber(torch.tensor([[0.5, 0.0], [3.0, 3.0]]), torch.zeros(2, 2))
    assert found.tolist() == pytest.approx([0.125 / 2, 2.5])


def test_focal_weighs_down_what_is_told_well() -> None:
    """(1 - p)^2 times the cross-entropy, p of what is true; for labels each by itself."""
    logits = torch.tensor([[math.log(3), 0.0]])
    assert float(losses.focal(logits, torch.tensor([0]))) == pytest.approx(-((1 / 4) ** 2) * math.log(3 / 4))
    found = losses.focal_labels(logits, torch.tensor([[0.0, 1.0]]))
    assert float(found) == pytest.approx((-((3 / 4) ** 2) * math.log(1 / 4) - ((1 / 2) ** 2) * math.log(1 / 2)) / 2)
    assert torch.equal(losses.focal(logits, torch.tensor([0]), 0.0), losses.cross_entropy(logits, torch.tensor([0])))


def test_logit_adjustment_learns_as_if_all_classes_were_alike() -> None:
    """On clips that tell nothing, nine of ten of one class, plain training says nine tenths, and the adjusted one says
    one half; the adjustment is in the loss alone."""
    counts = [899.0, 99.0]
    target = torch.tensor([0] * 9 + [1])
    for rare, expected in (("none", 0.9), ("logit_adjustment", 0.5)):
        loss = losses.loss_of(recipe("classes", imbalance=rare), counts, 998)
        logits = torch.zeros(1, 2, requires_grad=True)
        search = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe")

        def step(search: torch.optim.LBFGS = search, logits: torch.Tensor = logits, loss: losses.Loss = loss) -> float:
            search.zero_grad()
            value = loss(logits.expand(10, 2), target).mean()
            value.backward()
            return float(value.detach())

        search.step(step)
        assert float(logits.softmax(dim=1)[0, 0]) == pytest.approx(expected, abs=0.01), rare


def test_shifts_are_logarithms_of_priors() -> None:
    """A quarter and three quarters; for labels, odds of a third. A name without clips has a finite one."""
    assert losses.class_shift([24, 74]).exp().tolist() == pytest.approx([0.25, 0.75])
    assert losses.label_shift([24], 98).exp().tolist() == pytest.approx([1 / 3])
    assert torch.isfinite(losses.class_shift([0, 10])).all() and torch.isfinite(losses.label_shift([0, 10], 10)).all()


def test_weights_draw_every_class_as_often() -> None:
    """Of three clips of one class and one of another, that one is drawn as often as the three."""
    assert losses.sampling_weights([[0], [0], [0], [1]], 2).tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])


def test_weights_of_labels_go_by_the_rarest() -> None:
    """A clip with a frequent and a rare label counts as the rare one does, one without any as the most frequent."""
    weights = losses.sampling_weights([[0], [0, 1], [0], [0], []], 3)
    assert weights.tolist() == pytest.approx(np.array([1, 4, 1, 1, 1]) / 8)


@pytest.mark.parametrize("task", ["classes", "labels", "numbers"])
def test_losses_are_one_figure_a_clip(task: str) -> None:
    """Whatever the recipe, a float32 figure for each clip, also from logits of half precision."""
    target = {
        "classes": torch.tensor([0, 1, 2]),
        "labels": torch.ones(3, 3),
        "numbers": torch.zeros(3, 3),
    }[task]
    kinds = ("none",) if task == "numbers" else ("none", "focal", "logit_adjustment", "balanced_sampling")
    for rare in kinds:
        found = losses.loss_of(recipe(task, imbalance=rare), [1, 2, 3], 6)(
            torch.zeros(3, 3, dtype=torch.bfloat16), target
        )
        assert found.shape == (3,) and found.dtype == torch.float32, rare


@pytest.mark.parametrize(
    ("task", "asked", "named"),
    [
        ("numbers", {"imbalance": "focal"}, "imbalance"),
        ("sequence", {"balance_modalities": 0.5}, "balance_modalities"),
        ("numbers", {"label_smoothing": 0.1}, "label_smoothing"),
    ],
)
def test_what_a_task_has_not_is_refused(task: str, asked: dict[str, object], named: str) -> None:
    """Rare classes of a regression, balance of a sequence: the error names the key and the task."""
    with pytest.raises(LearningError, match=rf"train\.{named} .*{task}"):
        losses.check(recipe(task, **asked))
    losses.check(replace(recipe(task), task="classes"))
