"""Adversarial pretraining: made-up clips and real ones are told apart, and what tells them apart is kept.

What it is good for: with more clips, a discriminator serves to find clips unlike any before, a generator to make more
of a rare class's features. As a start for a task little is to be expected of it, for to tell real from made-up a
network need not know what is in a clip; and with a few hundred clips the distance on clips kept apart (see below) was
seen to grow again after few epochs, so the best is kept from before. It needs frozen encoders: it makes features of
whole clips, no pictures and no sound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.learning.batch import Part
from models.learning.errors import LearningError
from models.learning.network import Outline
from models.learning.pretrain.method import EMBEDDING, Method, View
from models.learning.recipe import Recipe

_NOISE = 64
_HIDDEN = 256
_PENALTY = 1.0  # gamma
JUDGE, MAKER = 0, 1


class Adversarial(Method):
    """x are a real clip's items, a modality's mean each, normalised; G(z) are a made-up clip's, from noise z. The
    discriminator D is the network with a number on top. With f(t) = -log(1 + exp(-t)), D and G solve

        min_G max_D  E[f(D(x) - D(G(z)))] - gamma/2 (E|grad D(x)|^2 + E|grad D(G(z))|^2)

    Each real clip is held against a made-up one, so that no mode can be left out for free, and both penalties make it
    come to rest (Huang et al., "The GAN is dead; long live the GAN! A modern GAN baseline", 2024). G lowers
    -f(D(G(z)) - D(x)), as there.

    Neither loss says how good the two are. What is held out is the energy distance (Szekely & Rizzo, 2013) of made-up
    and real clips.
    """

    def __init__(self, recipe: Recipe, outline: Outline) -> None:
        video, audio = recipe.video, recipe.audio
        if (
            recipe.text is not None
            or (video is not None and (video.encoder != "efficientnet" or video.change or video.people))
            or (video is not None and video.smoothness)
            or (audio is not None and audio.encoder != "yamnet")
        ):
            raise LearningError(
                f"{recipe.name}: gan needs frozen encoders of what is seen and heard (efficientnet without change, "
                "smoothness and people, yamnet); take --method masked or contrastive"
            )
        # Without dropout: the penalties need a smooth D.
        super().__init__(replace(recipe, fusion=replace(recipe.fusion, dropout=0.0)), outline)
        self.score = nn.Linear(EMBEDDING, 1)
        self._widths = {name: self.network.encoder(name).item_width for name in recipe.modalities}
        self.maker = nn.Sequential(
            nn.Linear(_NOISE, _HIDDEN),
            nn.GELU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.GELU(),
            nn.Linear(_HIDDEN, sum(self._widths.values())),
        )

    def players(self) -> Sequence[Sequence[nn.Parameter]]:
        """The discriminator, then the generator."""
        return [[*self.network.parameters(), *self.score.parameters()], list(self.maker.parameters())]

    def loss(self, views: Sequence[View], player: int) -> Tensor:
        """See the class; of the discriminator (0) or of the generator (1)."""
        real = pooled({name: views[0][name] for name in self._widths if name in views[0]})
        if player == MAKER:
            return F.softplus(self.judge(real) - self.judge(self.made(real))).mean()
        false = self.made(real, detach=True)
        for part in [*real.values(), *false.values()]:
            part.x.requires_grad_()
        said_real, said_false = self.judge(real), self.judge(false)
        penalty = slope(said_real, real) + slope(said_false, false)
        return F.softplus(said_false - said_real).mean() + _PENALTY / 2 * penalty

    @torch.no_grad()
    def held_out(self, views: Sequence[View]) -> Tensor:
        """See the class."""
        real = pooled({name: views[0][name] for name in self._widths if name in views[0]})
        made = self.made(real)
        rows = [torch.cat([part.x[:, 0] * part.mask for part in one.values()], dim=1) for one in (real, made)]
        return energy_distance(*rows)

    def judge(self, parts: View) -> Tensor:
        """D of each clip, `[B]`."""
        scores: Tensor = self.score(self.network(parts))
        return scores.squeeze(1)

    def made(self, real: View, detach: bool = False) -> dict[str, Part]:
        """As many made-up clips, with the moments and the modalities of the real ones."""
        first = next(iter(real.values()))
        vectors = self.maker(torch.randn(len(first.mask), _NOISE, device=first.x.device))
        pieces = dict(zip(self._widths, vectors.split(list(self._widths.values()), dim=1), strict=True))
        whole = {name: F.layer_norm(x, x.shape[-1:]).unsqueeze(1) for name, x in pieces.items()}
        return {name: part.of(whole[name].detach() if detach else whole[name]) for name, part in real.items()}


def pooled(parts: Mapping[str, Part]) -> dict[str, Part]:
    """Items `[B, N, W]` -> the mean of those that are there, normalised, `[B, 1, W]`."""
    made = {}
    for name, part in parts.items():
        there = part.mask.unsqueeze(-1)
        count = there.sum(dim=1).clamp(min=1)
        mean = torch.where(there, part.x, torch.zeros_like(part.x)).float().sum(dim=1) / count
        when = torch.where(part.mask, part.when, torch.zeros_like(part.when)).sum(dim=1, keepdim=True) / count
        made[name] = Part(F.layer_norm(mean, mean.shape[-1:]).unsqueeze(1), part.present().unsqueeze(1), when)
    return made


def slope(said: Tensor, parts: View) -> Tensor:
    """The mean over clips of |grad D|^2, over all that D read of a clip; differentiable."""
    gradients = torch.autograd.grad(said.sum(), [part.x for part in parts.values()], create_graph=True)
    return torch.stack([one.square().flatten(1).sum(dim=1) for one in gradients]).sum(dim=0).mean()


def energy_distance(one: Tensor, other: Tensor) -> Tensor:
    """2 E|x - y| - E|x - x'| - E|y - y'| of two samples `[N, W]`, `[M, W]`, of at least two each: 0 on average where
    they are drawn alike, and else above."""
    within = [torch.cdist(x, x).sum() / max(1, len(x) * (len(x) - 1)) for x in (one, other)]
    return 2 * torch.cdist(one, other).mean() - within[0] - within[1]
