"""What a way of pretraining is: a network that is kept, and losses that need no label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from models.learning.batch import Part
from models.learning.network import Network, Outline
from models.learning.recipe import Recipe

EMBEDDING = 64
"""Outputs of the network while no task gives it any: the layer that makes them is not passed on to one."""

View = Mapping[str, Part]
"""Stored items by modality."""


class Method(nn.Module):
    """Base of the ways. network: what is kept. views: how many times a loss looks at the clips, each time augmented
    anew. All chance is torch's own."""

    views = 1

    def __init__(self, recipe: Recipe, outline: Outline) -> None:
        super().__init__()
        self.network = Network(replace(recipe, task="classes"), replace(outline, outputs=EMBEDDING))

    def players(self) -> Sequence[Sequence[nn.Parameter]]:
        """The parameters that each loss is lowered by, in the order in which they take turns."""
        return [list(self.parameters())]

    def loss(self, views: Sequence[View], player: int) -> Tensor:
        """The loss of a player, a scalar; the network is in the mode that the caller put it in."""
        raise NotImplementedError

    def held_out(self, views: Sequence[View]) -> Tensor:
        """What says on clips kept apart whether it gets better (lower is), a scalar."""
        return self.loss(views, 0)
