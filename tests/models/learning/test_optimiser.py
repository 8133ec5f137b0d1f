"""How weights are moved."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from models.learning import optimiser
from models.learning.network import Network, Outline
from models.learning.optimiser import Average
from models.learning.recipe import Recipe, TrainRecipe, VideoRecipe
from tests.models.learning import tiny


def network() -> Network:
    torch.manual_seed(0)
    return Network(tiny.recipe(), tiny.data().outline)


def test_the_schedule_goes_up_a_line_and_down_a_cosine() -> None:
    """Over 100 steps with 10 of warm-up: never at zero, at its peak after the warm-up, at half of it in the middle of
    the rest, near zero at the end; without a warm-up it begins at its peak."""
    factors = [optimiser.schedule(step, 100, 10) for step in range(100)]
    assert factors[:11] == pytest.approx([(step + 1) / 11 for step in range(10)] + [1.0])
    assert factors[55] == pytest.approx(0.5)
    assert factors[99] < 0.001
    assert all(here >= there for here, there in pairwise(factors[10:]))
    assert optimiser.schedule(0, 100, 0) == 1.0


def test_encoders_have_their_own_rate_and_vectors_do_not_decay() -> None:
    """Every parameter is in one group: encoders at their rate, matrices with decay, biases and norms without."""
    made = network()
    found = optimiser.optimiser(made, TrainRecipe(rate=1e-3, encoder_rate=1e-4, weight_decay=0.1))
    groups = {id(one): group for group in found.param_groups for one in group["params"]}
    assert len(groups) == sum(len(group["params"]) for group in found.param_groups) == len(list(made.parameters()))
    for name, parameter in made.named_parameters():
        group = groups[id(parameter)]
        assert group["peak"] == (1e-4 if name.startswith("encoders.") else 1e-3), name
        assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0.0), name
    optimiser.set_rate(found, 0.5)
    assert {group["lr"] for group in found.param_groups} == {5e-4, 5e-5}


def test_without_a_rate_of_their_own_encoders_learn_as_the_rest() -> None:
    """A rate of 0 for encoders means: none of their own."""
    found = optimiser.optimiser(network(), TrainRecipe(rate=1e-3, encoder_rate=0.0))
    assert {group["peak"] for group in found.param_groups} == {1e-3}


def test_an_average_follows_slowly() -> None:
    """From its tenth part on, an average of decay 0.9 moves a tenth of the way; what it holds learns nothing itself."""
    made = network()
    average = Average(made, 0.9)
    before = [value.clone() for value in average.network.parameters()]
    with torch.no_grad():
        for value in made.parameters():
            value.add_(1.0)
    average.update(made, 1000)
    for mean, old in zip(average.network.parameters(), before, strict=True):
        torch.testing.assert_close(mean, old + 0.1)
        assert not mean.requires_grad
    average.update(made, 0)  # in the beginning its decay is a tenth: it forgets where it came from
    for mean, old in zip(average.network.parameters(), before, strict=True):
        torch.testing.assert_close(mean, old + 0.1 + 0.9 * 0.9)


def test_statistics_are_averaged_like_the_weights_they_belong_to() -> None:
    """Running means of batch norms move by the same share as weights; counters are copied."""
    recipe = Recipe("r", video=VideoRecipe("lips", 25))
    made = Network(recipe, Outline(3))
    average = Average(made, 0.9)
    norms = [next(m for m in one.modules() if isinstance(m, nn.BatchNorm2d)) for one in (made, average.network)]
    assert norms[0].running_mean is not None and norms[0].num_batches_tracked is not None
    with torch.no_grad():
        norms[0].running_mean.add_(1.0)
        norms[0].num_batches_tracked.add_(7)
    average.update(made, 1000)
    torch.testing.assert_close(norms[1].running_mean, torch.full_like(norms[0].running_mean, 0.1))
    assert norms[1].num_batches_tracked == 7


def test_the_optimiser_goes_through_tensors() -> None:
    """An optimiser that was restored moves weights as the one whose memory it has, to the last bit."""
    one, other = network(), network()
    recipe = TrainRecipe()
    first, second = optimiser.optimiser(one, recipe), optimiser.optimiser(other, recipe)

    def step(made: Network, by: torch.optim.Optimizer, seed: int) -> None:
        torch.manual_seed(seed)
        for value in made.parameters():
            value.grad = torch.randn_like(value)
        by.step()

    step(one, first, 1)
    other.load_state_dict(one.state_dict())
    optimiser.restore_optimiser(second, optimiser.optimiser_tensors(first))
    step(one, first, 2)
    step(other, second, 2)
    assert all(torch.equal(here, there) for here, there in zip(one.parameters(), other.parameters(), strict=True))
