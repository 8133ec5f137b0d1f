"""Where in a picture a label is: a class activation map of the label's log-odds.

The frame encoder ends in a mean over the positions of a feature map A `[W, h, w]` and a linear classifier, so the map
of a class's logit is exact: the classifier applied at each position (Zhou et al., "Learning Deep Features for
Discriminative Localization", 2016). A label is a set of classes under a softmax with one class more, "nothing":

    log-odds = log sum_{c in label} exp(z_c)  -  log(sum_{c not in label} exp(z_c) + exp(nothing)),    z = V token + b

Its map is Grad-CAM's (Selvaraju et al., "Grad-CAM", 2017): ReLU of A weighted by the gradient. Here that gradient is
the same at every position and has a closed form, so no backward pass is needed:

    d log-odds / d token = V^T (softmax of z within the label  -  softmax of z and nothing outside it)
    d log-odds / d A[:, y, x] = that / (h w)

The second term takes away what speaks as much for other classes. Being the same at every position, the gradient makes
Grad-CAM, CAM with these weights, and the gradient times the activation one and the same map.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.fusion.noisy_or import ModalityHead

_NEVER = -1e9  # the logit of a class that is left out of a softmax
_LEAST = 1e-6  # a map that rises no higher anywhere says nothing


class HeatMap(nn.Module):
    """Feature map float32 `[B, W, h, w]` and label int64 `[B]` -> float32 `[B, h, w]` in [0, 1].

    The highest place of a map is 1, except where no place speaks for the label, or no class of the head stands for it:
    then all of it is 0. ValueError for a head whose classes do not exclude each other.
    """

    nothing: Tensor

    def __init__(self, head: ModalityHead) -> None:
        super().__init__()
        if head.nothing is None:
            raise ValueError("a heat map is defined for classes that exclude each other: this head has no `nothing`")
        self.classifier = head.classifier
        self.register_buffer("classes_of_label", head.merge.T.contiguous())
        self.register_buffer("nothing", head.nothing)

    classes_of_label: Tensor

    def forward(self, features: Tensor, label: Tensor) -> Tensor:
        """See the class."""
        direction = self.direction(features.mean(dim=(2, 3)), label)
        rises = torch.relu((features * direction[:, :, None, None]).sum(dim=1))
        highest = rises.amax(dim=(1, 2), keepdim=True)
        return torch.where(highest > _LEAST, rises / highest.clamp(min=_LEAST), torch.zeros_like(rises))

    def direction(self, token: Tensor, label: Tensor) -> Tensor:
        """Gradient of the label's log-odds by the token: `[B, W]`, `[B]` -> `[B, W]`; 0 where it has no class."""
        members = self.classes_of_label.index_select(0, label)
        logits: Tensor = self.classifier(token)
        never = torch.full_like(logits, _NEVER)
        within = F.softmax(torch.where(members > 0, logits, never), dim=1)
        others = torch.where(members > 0, never, logits)
        outside = F.softmax(torch.cat([others, self.nothing.expand(logits.shape[0], 1)], dim=1), dim=1)[:, :-1]
        rising: Tensor = (within - outside) @ self.classifier.weight
        return rising * members.amax(dim=1, keepdim=True)
