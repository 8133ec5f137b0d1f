"""What an answer rests on: modalities and moments.

Modalities: exact Shapley values (Shapley, "A value for n-person games", 1953), see models.fusion.base. Moments: the
mass that an attention lays on each token, or what the answer loses without the token, for fusions that have none.
Places in a picture are told by models.learning.gradcam; models.learning.deletion tests whether any of it is true.

Tokens are taken away before an encoder looks along time (`Encoder.over`), so no neighbour can have seen them. All here
is of one clip at a time: parts have B = 1.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import torch
from torch import Tensor

from models.fusion.base import Fusion, explained, shares
from models.learning.batch import MODALITIES, Part
from models.learning.network import Network
from models.learning.recipe import Task

Score = Callable[[Mapping[str, Part]], Tensor]  # encoded items of V variants of a clip -> what they say for it, [V]

Method = Literal["attention", "left_out", "attention_alone"]

_ROWS = 4096  # items of all variants that go through a network at once


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
    return {name: network.encoder(name).encode(part) for name, part in known(network, parts).items()}


def known(network: Network, parts: Mapping[str, Part]) -> dict[str, Part]:
    """Those of the parts that the network has an encoder for and that are there."""
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
    places = places_of(parts)
    kept = torch.ones(1 + len(places), len(places), dtype=torch.bool)
    kept[torch.arange(1, 1 + len(places)), torch.arange(len(places))] = False
    said = said_without(score, parts, kept)
    lost = (said[0] - said[1:]).clamp(min=0)
    mass = {name: torch.zeros(part.mask.shape[1]) for name, part in parts.items()}
    for (name, index), value in zip(places, lost.tolist(), strict=True):
        mass[name][index] = value
    return _normal(mass)


def _normal(mass: Mapping[str, Tensor]) -> dict[str, Tensor]:
    total = float(sum(float(each.sum()) for each in mass.values()))
    return {name: each / total if total > 0 else torch.zeros_like(each) for name, each in mass.items()}


def places_of(parts: Mapping[str, Part]) -> list[tuple[str, int]]:
    """Every item that is there, in the usual order of modalities."""
    return [
        (name, int(index))
        for name in MODALITIES
        if name in parts
        for index in parts[name].mask[0].nonzero().flatten().tolist()
    ]


def said_without(score: Score, parts: Mapping[str, Part], kept: Tensor) -> Tensor:
    """The score of a clip with only the places that each row of `kept` (bool `[V, places]`) has: `[V]`."""
    places = places_of(parts)
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
