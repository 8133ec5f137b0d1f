"""Where in a picture an answer rests: Grad-CAM (Selvaraju et al., "Grad-CAM", 2017), of one clip at a time (B = 1)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.learning.batch import Part
from models.learning.explain import known, score_of
from models.learning.network import Network
from models.learning.recipe import Task

_LEAST = 1e-6  # a map that rises no higher anywhere says nothing


def grad_cam(network: Network, parts: Mapping[str, Part], task: Task, label: int) -> Tensor:
    """Grad-CAM of a clip's pictures for a trained encoder: float32 `[N, h, w]` in 0..1, by its last convolution.

    A map's weights are the means over positions of the label's gradient by each channel; what speaks against the label
    is cut off. 1 is the highest place of all the clip's pictures; all is 0 where nothing speaks for the label. Pictures
    that are not there (masked) have 0. ValueError for an encoder without a convolution.
    """
    encoder = network.encoder("video")
    layers = [module for module in encoder.each.modules() if isinstance(module, nn.Conv2d)]
    if not layers:
        raise ValueError("the picture encoder has no convolution of its own: see frozen_cam")
    seen: list[Tensor] = []
    hook = layers[-1].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    try:
        with torch.enable_grad():
            encoded = {name: network.encoder(name).encode(part) for name, part in known(network, parts).items()}
            said = score_of(network, label, task)(encoded) if task != "numbers" else _number(network, encoded, label)
            (slope,) = torch.autograd.grad(said.sum(), seen[-1:])
    finally:
        hook.remove()
    heat = torch.relu((slope.mean(dim=(2, 3), keepdim=True) * seen[-1]).sum(dim=1)).detach()
    maps = heat.new_zeros(parts["video"].mask.shape[1], *heat.shape[1:])
    maps[parts["video"].mask[0]] = heat
    return _to_one(maps)


def frozen_cam(network: Network, encoded: Mapping[str, Part], task: Task, label: int, features: Tensor) -> Tensor:
    """The same for the frozen encoder, whose token is the mean of its feature map A: float32 `[N, h, w]` in 0..1.

    features: A of each of the clip's pictures, `[N, W, h, w]` (models.frame). The gradient by A is then the same at
    every position, the token's own, which makes Grad-CAM and class activation maps one (see models.cam).
    """
    with torch.enable_grad():
        token = encoded["video"].x.detach().requires_grad_(True)
        parts = {**encoded, "video": encoded["video"].of(token)}
        said = score_of(network, label, task)(parts) if task != "numbers" else _number(network, parts, label)
        (slope,) = torch.autograd.grad(said.sum(), [token])
    of_picture = slope[0][:, : features.shape[1], None, None]  # beside which may stand its people
    heat = torch.relu((of_picture * features).sum(dim=1))
    return _to_one(heat * encoded["video"].mask[0][:, None, None])


def _number(network: Network, encoded: Mapping[str, Part], label: int) -> Tensor:
    """A regression's number itself: its distance to itself has no slope."""
    said: Tensor = network.fusion({name: network.encoder(name).tokens(part) for name, part in encoded.items()})
    return said[:, label]


def _to_one(maps: Tensor) -> Tensor:
    highest = float(maps.amax()) if maps.numel() else 0.0
    return maps / highest if highest > _LEAST else torch.zeros_like(maps)
