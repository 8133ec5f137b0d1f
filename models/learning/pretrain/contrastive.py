"""Contrastive pretraining: what is seen and what is heard of one clip are told from those of other clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.learning.batch import Part
from models.learning.network import Outline
from models.learning.pretrain.method import Method, View
from models.learning.recipe import Recipe

_SCALE = math.log(1 / 0.07)
_STEEPEST = math.log(100.0)
_KEPT = 0.5  # of a clip's items are in a view of it


class Contrastive(Method):
    """With a_i and b_i the embeddings of clip i from two modalities, each of length 1, and s the learned inverse
    temperature,

        L = -1/2B sum_i [log softmax_j(s a_i.b_j)_i + log softmax_j(s b_i.a_j)_i]

    which is InfoNCE (van den Oord et al., "Representation learning with contrastive predictive coding", 2018) both
    ways with s learned and at most 100 (Radford et al., "Learning transferable visual models from natural language
    supervision", 2021). An embedding is what the fusion says of the modality alone. The mean over all pairs of
    modalities.

    Where a recipe has one modality, a and b are two views of it, each augmented anew and of a random half of its items
    (after Chen et al., "A simple framework for contrastive learning of visual representations", 2020; their negatives
    of the same view are left out).
    """

    def __init__(self, recipe: Recipe, outline: Outline) -> None:
        super().__init__(recipe, outline)
        self.scale = nn.Parameter(torch.tensor(_SCALE))
        self._alone = len(recipe.modalities) == 1
        self.views = 2 if self._alone else 1

    def loss(self, views: Sequence[View], player: int) -> Tensor:
        """See the class. Clips that lack a modality are in no pair with it; 0 where fewer than two clips have a pair,
        for there is nothing to be told apart."""
        if self._alone:
            views = [{name: _some(part) for name, part in view.items()} for view in views]
        said = [self.network.fusion.contribution(self.network.tokens(view)) for view in views]
        if self._alone:
            name = self.network.fusion.modalities[0]
            pairs = [((0, name), (1, name))]
        else:
            pairs = [((0, one), (0, other)) for one, other in combinations(said[0], 2)]
        found = []
        for (first, one), (second, other) in pairs:
            if one in said[first] and other in said[second]:
                both = views[first][one].present() & views[second][other].present()
                found.append(info_nce(said[first][one][both], said[second][other][both], self.scale))
        return torch.stack(found).mean() if found else self.scale * 0.0


def info_nce(one: Tensor, other: Tensor, scale: Tensor) -> Tensor:
    """The loss of the class for embeddings `[B, E]` of any length; `scale` is the logarithm of s."""
    if len(one) < 2:
        return (one.sum() + other.sum() + scale) * 0.0
    likeness = F.normalize(one, dim=1) @ F.normalize(other, dim=1).T * scale.clamp(max=_STEEPEST).exp()
    own = torch.arange(len(one), device=one.device)
    return (F.cross_entropy(likeness, own) + F.cross_entropy(likeness.T, own)) / 2


def _some(part: Part) -> Part:
    """A random half of each clip's items, at least one of those that are there."""
    drawn = torch.rand(part.mask.shape, device=part.mask.device).masked_fill(~part.mask, 2.0)
    first = drawn == drawn.min(dim=1, keepdim=True).values
    return Part(part.x, part.mask & ((drawn < _KEPT) | first), part.when)
