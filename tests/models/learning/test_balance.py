"""Holding back the encoder of the modality that is ahead."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from models.learning.balance import Balance, coefficients
from models.learning.network import Network
from tests.models.learning import tiny


def test_only_the_one_ahead_is_held_back() -> None:
    """Twice as good as the other: 1 - tanh(alpha 2); the other's gradients stay. Nearly alike: nothing happens."""
    assert coefficients({"video": 2.0, "audio": 1.0}, 0.5) == {"video": pytest.approx(1 - math.tanh(1.0)), "audio": 1.0}
    assert coefficients({"video": 1.1, "audio": 1.0}, 0.5) == {"video": 1.0, "audio": 1.0}
    assert coefficients({"video": 1.0}, 0.5) == {"video": 1.0}


def test_of_three_each_is_held_against_the_mean_of_the_others() -> None:
    """3 against (1 + 2) / 2 is twice as good; 2 against 2 and 1 against 2.5 are not ahead."""
    found = coefficients({"video": 3.0, "audio": 1.0, "text": 2.0}, 1.0)
    assert found == {"video": pytest.approx(1 - math.tanh(2.0)), "audio": 1.0, "text": 1.0}


def network_and_batch() -> tuple[Network, tiny.Tokens]:
    torch.manual_seed(0)
    return Network(tiny.recipe(), tiny.data().outline), tiny.Tokens("classes", 30, 1)


def learn_one(name: str, network: Network, data: tiny.Tokens) -> None:
    """Trains with the sight of one modality alone."""
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    batch = data.batch(range(30), None)
    for _ in range(30):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(network({name: batch.parts[name]}), batch.target)
        loss.backward()
        optimiser.step()


def step(balance: Balance, network: Network, data: tiny.Tokens) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """One backward pass that is watched and held; what encoders were held by, and their gradients before."""
    batch = data.batch(range(30), None)
    network.zero_grad()
    tokens = network.tokens(batch.parts)
    loss = torch.nn.functional.cross_entropy(network.fusion(tokens), batch.target)
    loss.backward()
    before = {name: value.grad.clone() for name, value in network.named_parameters() if value.grad is not None}
    balance.watch(network, tokens, batch.target)
    return balance.hold(network), before


def test_gradients_of_the_better_modality_are_slowed_and_blurred() -> None:
    """After one modality has learned alone, its encoder's gradients are scaled and get noise as large as they vary;
    those of the other, and of the fusion, stay to the last bit."""
    network, data = network_and_batch()
    learn_one("audio", network, data)
    factors, before = step(Balance(0.2), network, data)
    assert factors["audio"] < 1 == factors["video"]
    for name, parameter in network.named_parameters():
        if parameter.grad is None:
            continue
        if name.startswith("encoders.audio.") and parameter.ndim > 1:
            noise = parameter.grad - factors["audio"] * before[name]
            assert float(noise.std()) == pytest.approx(float(before[name].std()), rel=0.05)
        else:
            assert torch.equal(parameter.grad, before[name]), name


def test_clips_that_lack_a_modality_are_not_compared() -> None:
    """Where no clip has both, nothing is known, and nothing held."""
    network, data = network_and_batch()
    learn_one("audio", network, data)
    batch = data.batch(range(30), None)
    gone = replace(batch, parts={**batch.parts, "video": batch.parts["video"].only(torch.zeros(30, dtype=torch.bool))})
    balance = Balance(0.2)
    balance.watch(network, network.tokens(gone.parts), gone.target)
    assert balance.hold(network) == {}


def test_labels_are_compared_too() -> None:
    """For labels the measure is the probability of each one's being there or not."""
    network, data = network_and_batch()
    learn_one("audio", network, data)
    labels = tiny.Tokens("labels", 30, 1)
    balance = Balance(0.2)
    batch = labels.batch(range(30), None)
    balance.watch(network, network.tokens(batch.parts), batch.target)
    assert set(balance.hold(network)) == {"video", "audio"}


def test_it_is_switched_off_where_it_hurts() -> None:
    """Three epochs in a row without a better score while it acted end it for good; epochs in which it did nothing don't
    count, and a better score starts the count anew."""
    balance = Balance(0.5)
    for better, acted, expected in (
        (False, True, False),
        (False, True, False),
        (True, True, False),
        (False, True, False),
        (False, False, False),
        (False, True, False),
        (False, True, True),
        (True, True, True),
    ):
        balance.acted = acted
        balance.judge(better)
        assert balance.off is expected
    assert not balance.on


def test_without_strength_nothing_is_done() -> None:
    """A strength of 0, and one that was switched off, leave all gradients as they are."""
    for balance in (Balance(0.0), Balance(0.5, off=True)):
        network, data = network_and_batch()
        learn_one("audio", network, data)
        factors, before = step(balance, network, data)
        assert factors == {}
        assert all(
            torch.equal(parameter.grad, before[name])
            for name, parameter in network.named_parameters()
            if parameter.grad is not None
        )
