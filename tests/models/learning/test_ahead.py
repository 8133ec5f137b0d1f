"""Things made ahead."""

from __future__ import annotations

import threading

import pytest
import torch

from models.learning.ahead import Ahead
from models.learning.learner import Learner
from tests.models.learning import tiny


def test_the_next_is_made_while_this_one_is_used() -> None:
    """What follows is begun in another thread before it is asked for, and given when it is; nothing is made twice."""
    made: list[int] = []
    begun = threading.Event()

    def make(key: int) -> int:
        made.append(key)
        if key == 1:
            begun.set()
        return 10 * key

    ahead = Ahead(make, beside=True)
    assert ahead.take(0, 1) == 0
    assert begun.wait(10)
    assert ahead.take(1, 2) == 10
    ahead.close()
    assert made[:2] == [0, 1] and made.count(1) == 1


def test_another_key_than_foreseen_is_made() -> None:
    """A guess that was wrong costs time alone."""
    ahead = Ahead(lambda key: key, beside=True)
    assert ahead.take(0, 1) == 0
    assert ahead.take(5, 6) == 5
    ahead.close()


def test_an_error_comes_with_its_own_key() -> None:
    """What fails ahead is told when it is asked for, not before."""

    def make(key: int) -> int:
        if key == 1:
            raise ValueError("one")
        return key

    ahead = Ahead(make, beside=True)
    assert ahead.take(0, 1) == 0
    with pytest.raises(ValueError, match="one"):
        ahead.take(1, 2)
    assert ahead.take(3, 4) == 3
    ahead.close()


def test_batches_made_ahead_train_alike() -> None:
    """Steps whose batches were made beside them are the same to the last bit, over the end of an epoch too."""
    found = []
    for beside in (False, True):
        made = Learner(tiny.recipe(modality_dropout=0.5, accumulate=2), tiny.data(), torch.device("cpu"), beside=beside)
        at = [(epoch, inside) for epoch in range(2) for inside in range(made.steps)]
        found.append([made.step(epoch, inside, done, 2)["loss"] for done, (epoch, inside) in enumerate(at)])
        made.close()
    assert found[0] == found[1] and len(set(found[0])) == len(found[0])
