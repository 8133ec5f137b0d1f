"""Fusions of every kind, with random parameters, and random tokens to compare them on."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor

from models.fusion.attention import AttentionFusion
from models.fusion.base import Fusion, FusionSize
from models.fusion.concat import ConcatFusion
from models.fusion.hierarchical import HierarchicalFusion
from models.learning.batch import MODALITIES, Part

KINDS = (ConcatFusion, HierarchicalFusion, AttentionFusion)
SUBSETS = [set(chosen) for size in range(4) for chosen in combinations(MODALITIES, size)]
SIZE = FusionSize(width=16, outputs=5, heads=2, layers=2, dropout=0.3, longest_s=2.0)


def fusion(kind: type[Fusion], modalities: tuple[str, ...] = MODALITIES, size: FusionSize = SIZE) -> Fusion:
    """One in evaluation mode, every parameter random: what starts as zero can hide what goes wrong."""
    made = kind(modalities, size)  # type: ignore[call-arg]
    generator = torch.Generator().manual_seed(zlib.crc32(kind.__name__.encode()))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return made.eval()


def part(mask: Tensor, seed: int = 0, width: int = SIZE.width) -> Part:
    """Tokens in the order of their moments within 2 s; what is not under the mask isn't a number."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*mask.shape, width, generator=generator)
    when = torch.rand(mask.shape, generator=generator).mul(2).sort(dim=1).values
    return Part(x.masked_fill(~mask[..., None], torch.nan), mask, when.masked_fill(~mask, torch.nan))


def parts(clips: int = 3, seed: int = 0) -> dict[str, Part]:
    """Every modality for every clip, of different lengths with holes."""
    found = {}
    for number, name in enumerate(MODALITIES):
        generator = torch.Generator().manual_seed(100 * seed + number)
        mask = torch.rand(clips, 7 - number, generator=generator) < 0.6
        mask[:, number] = True
        found[name] = part(mask, 10 * seed + number)
    return found


def without(given: Mapping[str, Part], kept: set[str]) -> dict[str, Part]:
    """The same with all masks False of modalities that are not kept."""
    return {
        name: each if name in kept else each.only(torch.zeros(len(each.mask), dtype=torch.bool))
        for name, each in given.items()
    }
