"""What an answer rests on, and a test of whether that is true: modalities, moments, places in a picture.

Modalities: exact Shapley values (Shapley, "A value for n-person games", 1953), see models.fusion.base. Moments: the
mass that an attention lays on each token, or what the answer loses without the token, for fusions that have none.
Places: Grad-CAM (Selvaraju et al., "Grad-CAM", 2017). What such a heat map is worth is measured by taking away what it
points at (Samek et al., "Evaluating the visualization of what a deep neural network has learned", 2017): it must cost
the answer more than taking away as much at random.

Tokens are taken away before an encoder looks along time (`Encoder.over`), so no neighbour can have seen them. All here
is of one clip at a time: parts have B = 1.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from models.fusion.base import Fusion, explained, shares
from models.learning.batch import MODALITIES, Part
from models.learning.network import Network
from models.learning.recipe import Task

Score = Callable[[Mapping[str, Part]], Tensor]  # encoded items of V variants of a clip -> what they say for it, [V]

Method = Literal["attention", "left_out", "attention_alone"]

FRACTIONS = (0.05, 0.1, 0.2, 0.3, 0.5)
DRAWS = 20
COVERS = 10
_CELLS = 8
_ROWS = 4096  # items of all variants that go through a network at once
_LEAST = 1e-6  # a map that rises no higher anywhere says nothing


class Attending(Protocol):
    """A fusion that says where it looks; each of the three does."""

    def mass(self, parts: Mapping[str, Part]) -> dict[str, Tensor]:
        """Tokens `[B, N, D]` by modality -> each token's part `[B, N]`."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a clip was told as output `label`.

    share: of each modality (video, audio, text), sums to 1. mass: by modality, how much each of its items counts,
    `[N]`, all of a clip summing to 1 (0 where nothing counts). when: seconds of the items.
    """

    label: int
    share: tuple[float, float, float]
    mass: Mapping[str, Tensor]
    when: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Deleted:
    """What one clip's answer loses by taking away a fraction of its tokens, a figure for each of `fractions`.

    pointed: those that count most. random: as many of all its tokens, mean of the draws. matched: as many of each
    modality as were pointed at, mean of the draws: it asks for the moments alone, where `random` asks for the modality
    too.
    """

    fractions: Sequence[float]
    pointed: NDArray[np.float64]
    random: NDArray[np.float64]
    matched: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times what random tokens cost the pointed ones do, over clips, with its 95 % interval.

    None where random ones cost nothing: there is no such figure then. `high` is None where the interval reaches there.
    """

    value: float | None
    low: float | None
    high: float | None
    pointed: float
    random: float
    clips: int


# -- what is said, as one number ---------------------------------------------------------------------------------------


def odds(logits: Tensor, label: int, task: Task) -> Tensor:
    """What rows of logits `[V, L]` say for output `label`: `[V]`.

    Classes that exclude each other: log-odds of the one against all others, since a softmax's logits mean nothing by
    themselves. Labels: the logit. Numbers: the number.
    """
    if task != "classes" or logits.shape[1] == 1:
        return logits[:, label]
    others = [index for index in range(logits.shape[1]) if index != label]
    return logits[:, label] - logits[:, others].logsumexp(dim=1)


def score_of(network: Network, label: int, task: Task) -> Score:
    """The score of output `label` by a network. For numbers it is how near a variant's number is to the clip's own: the
    first variant is what it is compared with, so that to lose is to be told otherwise."""

    def score(parts: Mapping[str, Part]) -> Tensor:
        tokens = {name: network.encoder(name).tokens(part) for name, part in parts.items()}
        said = odds(network.fusion(tokens), label, task)
        return -(said - said[:1]).abs() if task == "numbers" else said

    return score


@torch.no_grad()
def encode(network: Network, parts: Mapping[str, Part]) -> dict[str, Part]:
    """Stored items -> encoded items, of the modalities that the network knows and that are there."""
    return {name: network.encoder(name).encode(part) for name, part in _known(network, parts).items()}


def _known(network: Network, parts: Mapping[str, Part]) -> dict[str, Part]:
    return {name: part for name, part in parts.items() if name in network.encoders and bool(part.mask.any())}


# -- why ---------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def explain(
    network: Network, encoded: Mapping[str, Part], task: Task, label: int | None = None, method: Method = "attention"
) -> Explanation:
    """Why a clip (`encode`) is told as `label`, or as what is likeliest (for numbers: the first).

    The modalities' shares are those that serving publishes. An item's mass is, by

    "attention": the part of the attention that its token gets, where it speaks for the label. Attention says where a
        fusion looks, whether for a label or against it; the gradient of the label's score tells them apart (after
        Chefer et al., "Generic attention-model explainability", 2021).
    "left_out": what the label loses without the item; true by its making for single items, at a pass an item.
    "attention_alone": the part of the attention, whatever it is for.

    Attention within a modality counts as much as the modality's share. In fusions that attend within modalities only,
    it is that of their pooling.
    """
    tokens = {name: network.encoder(name).tokens(part) for name, part in encoded.items()}
    if label is None:
        label = 0 if task == "numbers" else int(network.fusion(tokens)[0].argmax())
    said = _Said(network.fusion, task)
    present = torch.tensor([[name in tokens for name in MODALITIES]])
    share = shares(explained(said, tokens)[0], present)[0, label]
    video, audio, text = share.tolist()
    if method == "left_out":
        mass = left_out(score_of(network, label, task), encoded)
    else:
        mass = {name: _within(each[0]) for name, each in cast(Attending, network.fusion).mass(tokens).items()}
        if method == "attention" and task != "numbers":
            pull = pulls(network, tokens, task, label)
            mass = {name: _within(_where(each, pull[name] > 0)) for name, each in mass.items()}
        mass = _normal({name: mass[name] * share[MODALITIES.index(name)] for name in tokens})
    return Explanation(label, (video, audio, text), mass, {name: part.when[0] for name, part in encoded.items()})


def pulls(network: Network, tokens: Mapping[str, Part], task: Task, label: int) -> dict[str, Tensor]:
    """How much each token speaks for `label`, to first order, `[N]` by modality: the gradient of its score along the
    token's difference from the mean token of its modality (Shrikumar et al., "Learning important features through
    propagating activation differences", 2017). One pass back."""
    with torch.enable_grad():
        leaves = {name: part.of(part.x.detach().requires_grad_(True)) for name, part in tokens.items()}
        said = odds(network.fusion(leaves), label, task)
        slopes = torch.autograd.grad(said.sum(), [part.x for part in leaves.values()], materialize_grads=True)
    found = {}
    for (name, part), slope in zip(tokens.items(), slopes, strict=True):
        there = part.mask[0]
        mean = part.x[0, there].mean(dim=0)
        found[name] = torch.where(there, (slope[0] * (part.x[0] - mean)).sum(dim=-1), torch.zeros(len(there)))
    return found


def _where(mass: Tensor, speaks: Tensor) -> Tensor:
    """Mass where it speaks; all of it where that is nowhere."""
    chosen = mass * speaks
    return chosen if bool(chosen.any()) else mass


def _within(mass: Tensor) -> Tensor:
    """A modality's mass, summing to 1 (or to 0)."""
    return mass / mass.sum().clamp(min=torch.finfo(mass.dtype).tiny)


class _Said(Fusion):
    """A fusion whose outputs are what `odds` says of every label."""

    def __init__(self, fusion: Fusion, task: Task) -> None:
        super().__init__()
        self.inner, self.task = fusion, task
        self.modalities, self.size = fusion.modalities, fusion.size

    def coalitions(self, parts: Mapping[str, Part], chosen: Sequence[Collection[str]]) -> Tensor:
        """See the base."""
        logits = self.inner.coalitions(parts, chosen)
        flat = logits.flatten(0, 1)
        return torch.stack([odds(flat, label, self.task) for label in range(flat.shape[1])], dim=1).view_as(logits)


@torch.no_grad()
def left_out(score: Score, parts: Mapping[str, Part]) -> dict[str, Tensor]:
    """What the score loses without each single item, `[N]` by modality; gains count as 0; sums to 1."""
    places = _places(parts)
    kept = torch.ones(1 + len(places), len(places), dtype=torch.bool)
    kept[torch.arange(1, 1 + len(places)), torch.arange(len(places))] = False
    said = _said(score, parts, kept)
    lost = (said[0] - said[1:]).clamp(min=0)
    mass = {name: torch.zeros(part.mask.shape[1]) for name, part in parts.items()}
    for (name, index), value in zip(places, lost.tolist(), strict=True):
        mass[name][index] = value
    return _normal(mass)


def _normal(mass: Mapping[str, Tensor]) -> dict[str, Tensor]:
    total = float(sum(float(each.sum()) for each in mass.values()))
    return {name: each / total if total > 0 else torch.zeros_like(each) for name, each in mass.items()}


# -- is it true --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def deletion(
    score: Score,
    parts: Mapping[str, Part],
    mass: Mapping[str, Tensor],
    rng: np.random.Generator,
    fractions: Sequence[float] = FRACTIONS,
) -> Deleted:
    """Takes the heaviest tokens of a clip away, and as many random ones DRAWS times."""
    places = _places(parts)
    weight = np.array([float(mass[name][index]) for name, index in places])
    # Ties in a random order: a flat explanation must not gain from the order in which tokens stand.
    order = np.lexsort((rng.random(len(places)), -weight))
    kinds = np.array([MODALITIES.index(name) for name, _ in places])
    rows = [np.ones(len(places), bool)]
    for fraction in fractions:
        count = max(1, round(fraction * len(places)))
        top = order[:count]
        rows.append(_without(len(places), top))
        rows += [_without(len(places), rng.permutation(len(places))[:count]) for _ in range(DRAWS)]
        rows += [_without(len(places), _alike(kinds, top, rng)) for _ in range(DRAWS)]
    said = _said(score, parts, torch.from_numpy(np.stack(rows))).double().numpy()
    lost = (said[0] - said[1:]).reshape(len(fractions), 1 + 2 * DRAWS)
    random, matched = lost[:, 1 : 1 + DRAWS].mean(axis=1), lost[:, 1 + DRAWS :].mean(axis=1)
    return Deleted(tuple(fractions), lost[:, 0], random, matched)


def _without(count: int, taken: NDArray[np.int64]) -> NDArray[np.bool_]:
    row = np.ones(count, bool)
    row[taken] = False
    return row


def _alike(kinds: NDArray[np.int64], taken: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Random places, as many of each kind as were taken."""
    chosen = []
    for kind, count in zip(*np.unique(kinds[taken], return_counts=True), strict=True):
        chosen.append(rng.permutation(np.flatnonzero(kinds == kind))[:count])
    return np.concatenate(chosen)


def ratio(
    pointed: NDArray[np.float64], random: NDArray[np.float64], rng: np.random.Generator, times: int = 2000
) -> Ratio:
    """Mean cost of pointed tokens over mean cost of random ones, both `[clips]`, resampled over clips (percentiles)."""
    picks = rng.integers(0, len(pointed), (times, len(pointed)))
    above, below = pointed[picks].mean(axis=1), random[picks].mean(axis=1)
    # Where random tokens cost nothing the ratio has no bound; resamples like that count as endless.
    drawn = np.sort(np.where(below > 0, above / np.where(below > 0, below, 1), np.where(above > 0, np.inf, -np.inf)))
    low, high = (float(np.quantile(drawn, at, method="nearest")) for at in (0.025, 0.975))
    bounds = low if np.isfinite(low) else None, high if np.isfinite(high) else None
    cost, chance = float(pointed.mean()), float(random.mean())
    if chance <= 0:
        return Ratio(None, bounds[0], None, cost, chance, len(pointed))
    return Ratio(cost / chance, *bounds, cost, chance, len(pointed))


def _places(parts: Mapping[str, Part]) -> list[tuple[str, int]]:
    """Every item that is there, in the usual order of modalities."""
    return [
        (name, int(index))
        for name in MODALITIES
        if name in parts
        for index in parts[name].mask[0].nonzero().flatten().tolist()
    ]


def _said(score: Score, parts: Mapping[str, Part], kept: Tensor) -> Tensor:
    """The score of a clip with only the places that each row of `kept` (bool `[V, places]`) has: `[V]`."""
    places = _places(parts)
    rows = max(2, _ROWS // max(1, len(places)))
    said: list[Tensor] = []
    for at in range(1, len(kept), rows - 1):
        # The whole clip leads every batch: a score may compare with its first row.
        chosen = torch.cat([kept[:1], kept[at : at + rows - 1]])
        said.append(score(_variants(parts, places, chosen))[1 if said else 0 :])
    return torch.cat(said)


def _variants(parts: Mapping[str, Part], places: Sequence[tuple[str, int]], kept: Tensor) -> dict[str, Part]:
    made: dict[str, Part] = {}
    for name, part in parts.items():
        columns = [at for at, (owner, _) in enumerate(places) if owner == name]
        items = [index for owner, index in places if owner == name]
        mask = torch.zeros(len(kept), part.mask.shape[1], dtype=torch.bool)
        mask[:, items] = kept[:, columns]
        wide = (len(kept), *part.x.shape[1:])
        made[name] = Part(part.x.expand(wide), mask, part.when.expand(len(kept), -1))
    return made


# -- where in a picture ------------------------------------------------------------------------------------------------


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
            encoded = {name: network.encoder(name).encode(part) for name, part in _known(network, parts).items()}
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
    heat = torch.relu((slope[0][:, :, None, None] * features).sum(dim=1))
    return _to_one(heat * encoded["video"].mask[0][:, None, None])


def _number(network: Network, encoded: Mapping[str, Part], label: int) -> Tensor:
    """A regression's number itself: its distance to itself has no slope."""
    said: Tensor = network.fusion({name: network.encoder(name).tokens(part) for name, part in encoded.items()})
    return said[:, label]


def _to_one(maps: Tensor) -> Tensor:
    highest = float(maps.amax()) if maps.numel() else 0.0
    return maps / highest if highest > _LEAST else torch.zeros_like(maps)


def places(
    say: Callable[[Tensor], float], pictures: Tensor, maps: Tensor, rng: np.random.Generator, fraction: float = 0.2
) -> tuple[float, float]:
    """What covering the places that maps point at costs, and what covering as many at random does (mean of COVERS).

    pictures: uint8 `[N, P, P]` or `[N, P, P, 3]`, of which `say` tells the score. maps: `[N, h, w]`. Pictures are cut
    into 8 x 8 places; covered is that fraction of all of the clip's, by the mean colour of their picture. Random ones
    are as many in each picture: the maps are asked for places, not for moments.
    """
    heat = F.adaptive_avg_pool2d(maps[:, None], _CELLS).flatten(1).numpy().astype(np.float64)
    order = np.lexsort((rng.random(heat.size), -heat.ravel()))
    taken = np.isin(np.arange(heat.size), order[: max(1, round(fraction * heat.size))]).reshape(heat.shape)
    whole = say(pictures)
    pointed = whole - say(_covered(pictures, taken))
    drawn = [whole - say(_covered(pictures, rng.permuted(taken, axis=1))) for _ in range(COVERS)]
    return pointed, float(np.mean(drawn))


def _covered(pictures: Tensor, taken: NDArray[np.bool_]) -> Tensor:
    """Pictures with the taken places (bool `[N, 64]`) in their mean colour."""
    grid = torch.from_numpy(taken).view(-1, 1, _CELLS, _CELLS).float()
    hidden = F.interpolate(grid, size=pictures.shape[1:3], mode="nearest")[:, 0] > 0
    plain = pictures.float().mean(dim=(1, 2), keepdim=True).to(pictures.dtype)
    wide = hidden.view(*hidden.shape, *[1] * (pictures.ndim - 3))
    return torch.where(wide, plain.expand_as(pictures), pictures)
