"""Gradients computed by several processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np
import psutil
import pytest
import torch

from models.learning.batch import Batch
from models.learning.errors import LearningError
from models.learning.learner import Learner
from models.learning.recipe import Recipe
from models.learning.sets import Data
from tests.conftest import eventually_sync
from tests.models.learning import tiny
from tests.processes import ended


def recipe(**train: object) -> Recipe:
    """Nothing of it is left to chance."""
    plain = tiny.recipe(batch=12, **train)
    return replace(plain, fusion=replace(plain.fusion, dropout=0.0))


def learner(made: Recipe, train: tiny.Tokens | None = None) -> Learner:
    data: Data = replace(tiny.data(), train=train or tiny.Tokens("classes", 36, 1, change=0.0))
    return Learner(made, data, torch.device("cpu"))


def steps(made: Learner, count: int = 3) -> list[dict[str, float]]:
    with closing(made):
        return [made.step(0, inside, inside, 3) for inside in range(count)]


@pytest.mark.parametrize("processes", [2, 3])
def test_shares_add_up_to_the_batch(processes: int) -> None:
    """Gradients are those of one process, and losses, step after step."""
    alone, shared = learner(recipe()), learner(recipe(processes=processes))
    assert steps(shared, 1) == [pytest.approx(one, rel=1e-4) for one in steps(alone, 1)]
    for here, there in zip(alone.network.parameters(), shared.network.parameters(), strict=True):
        assert here.grad is not None and there.grad is not None
        torch.testing.assert_close(here.grad, there.grad, rtol=1e-3, atol=1e-6)
    for one, other in zip(steps(alone), steps(shared), strict=True):
        assert other == pytest.approx(one, rel=1e-3)


def test_it_repeats_to_the_last_bit() -> None:
    """With everything random that there is, the same seed gives the same losses and weights."""
    made = tiny.recipe(processes=2, modality_dropout=0.5)
    one, other = learner(made, tiny.Tokens("classes", 36, 1)), learner(made, tiny.Tokens("classes", 36, 1))
    assert steps(one) == steps(other)
    for here, there in zip(one.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(here, there)


def test_shares_are_changed_differently() -> None:
    """What augmentation does to one process's clips is not what it does to another's."""

    class Seen(tiny.Tokens):
        def batch(self, indices: Sequence[int], rng: np.random.Generator | None) -> Batch:
            assert rng is not None
            drawn.append(float(rng.random()))
            return super().batch(indices, rng)

    drawn: list[float] = []
    made = learner(recipe(processes=2), Seen("classes", 36, 1))
    for share in (0, 1):
        made._batches((0, 0), share)
    assert drawn[0] != drawn[1]


def test_what_goes_wrong_there_is_told_here() -> None:
    """An error of the data says the same, wherever it arises."""

    class Broken(tiny.Tokens):
        def batch(self, indices: Sequence[int], rng: np.random.Generator | None) -> Batch:
            if os.getpid() != home:
                raise LearningError("clip 7: can't be read")
            return super().batch(indices, rng)

    home = os.getpid()
    made = learner(recipe(processes=2), Broken("classes", 36, 1))
    with closing(made), pytest.raises(LearningError, match="clip 7: can't be read"):
        made.step(0, 0, 0, 3)


def test_a_process_that_is_killed_ends_the_training() -> None:
    """With what to do about it; and none is left."""
    made = learner(recipe(processes=2))
    with closing(made):
        made.step(0, 0, 0, 3)
        (child,) = [each for each in psutil.Process().children() if not ended(each)]
        child.send_signal(signal.SIGKILL)
        eventually_sync(lambda: ended(child))
        with pytest.raises(RuntimeError, match="--resume"):
            made.step(0, 1, 1, 3)
    assert ended(child)


def test_none_is_left_when_it_is_closed() -> None:
    """Processes end with the learner."""
    made = learner(recipe(processes=2))
    with closing(made):
        made.step(0, 0, 0, 3)
        children = [each for each in psutil.Process().children() if not ended(each)]
    assert children and all(ended(child) for child in children)
