"""How weights are moved: Adam with decoupled decay, its schedule, and the weights' moving average."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.learning.network import Network
from models.learning.recipe import TrainRecipe


def optimiser(network: Network, recipe: TrainRecipe) -> torch.optim.AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter, "Decoupled weight decay regularization", 2019).

    Four groups: encoders at `encoder_rate` (where that is above 0) and the rest, each with its matrices, which decay,
    and its vectors (biases, scales of norms), which don't. A group's `peak` is what the schedule multiplies.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = recipe.encoder_rate if name.startswith("encoders.") and recipe.encoder_rate > 0 else recipe.rate
        decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, "peak": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ]
    )


def schedule(step: int, steps: int, warm_up: int) -> float:
    """What the peak rate is multiplied by at `step` of `steps` (from 0): a line up over `warm_up` steps, then half a
    cosine to zero (Loshchilov & Hutter, "SGDR", 2017)."""
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    done = (step - warm_up) / max(1, steps - warm_up)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def set_rate(made: torch.optim.Optimizer, factor: float) -> None:
    """Every group's rate is its peak times `factor`."""
    for group in made.param_groups:
        group["lr"] = group["peak"] * factor


class Average:
    """The exponential moving average of a network's weights (Polyak & Juditsky, 1992), which validates and is kept.

    `network` holds it, in evaluation mode. In the first steps the decay is lower, so that the beginning is forgotten.
    Statistics that a network keeps itself (of batch norms) are averaged alike: those of today's weights don't fit the
    weights' mean, and while these still move fast a network with both knows next to nothing.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, network: Network, step: int) -> None:
        """Move towards the weights after `step` (from 0)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for mean, now in zip(self.network.parameters(), network.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)
        for kept, now_kept in zip(self.network.buffers(), network.buffers(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(now_kept, 1 - decay)
            else:
                kept.copy_(now_kept)


def optimiser_tensors(made: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's memory as tensors by name, for a file: `parameter.what`."""
    state: Mapping[int, Mapping[str, Tensor]] = made.state_dict()["state"]
    return {f"{index}.{what}": value for index, kept in state.items() for what, value in kept.items()}


def restore_optimiser(made: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Puts what `optimiser_tensors` gave into an optimiser of the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, what = name.partition(".")
        state.setdefault(int(index), {})[what] = value.clone()  # torch would move the very tensors given
    made.load_state_dict({"state": state, "param_groups": made.state_dict()["param_groups"]})
