"""Whether an explanation is true: taking away what it points at must cost the answer more than as much at random.

After Samek et al., "Evaluating the visualization of what a deep neural network has learned", 2017. All here is of one
clip at a time: parts have B = 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.learning.batch import MODALITIES, Part
from models.learning.explain import Score, places_of, said_without

FRACTIONS = (0.05, 0.1, 0.2, 0.3, 0.5)
DRAWS = 20
COVERS = 10
_CELLS = 8


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


@torch.no_grad()
def deletion(
    score: Score,
    parts: Mapping[str, Part],
    mass: Mapping[str, Tensor],
    rng: np.random.Generator,
    fractions: Sequence[float] = FRACTIONS,
) -> Deleted:
    """Takes the heaviest tokens of a clip away, and as many random ones DRAWS times."""
    places = places_of(parts)
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
    said = said_without(score, parts, torch.from_numpy(np.stack(rows))).double().numpy()
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


def covering(
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
