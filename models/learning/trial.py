"""Explanations on trial: over many clips, does taking away what they point at cost more than taking away at random?

Per clip and explanation the cost is the mean over fractions of tokens taken away (the area over the perturbation curve
of Samek et al., 2017, see models.learning.explain), in log-odds of what the clip was told as.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models import data, frame
from models.features import normalise_pixels
from models.learning.batch import MODALITIES, Part
from models.learning.clips import Clip
from models.learning.deletion import FRACTIONS, Deleted, Ratio, covering, deletion, ratio
from models.learning.explain import Explanation, Method, encode, explain, score_of
from models.learning.gradcam import frozen_cam, grad_cam
from models.learning.keep import Loaded
from models.learning.network import Network
from models.learning.recipe import Recipe, Task
from models.learning.sets import Split

_FEWEST = 4  # items: of fewer, a fraction is one and all are alike
_MOST_PICTURED = 20  # clips whose pictures are covered: each is encoded a dozen times


def trial(
    loaded: Loaded,
    clips: Split,
    most: int,
    seed: int,
    report: Callable[[str, int, int], None],
    weights: Path | None = None,
) -> dict[str, Any]:
    """The trial of each explanation on at most `most` clips, drawn by the seed, as JSON has it.

    Keys: clips; fractions; share, the modalities' mean; for each of `attention`, `left_out` and `attention_alone`:
    `ratio` (how many times the cost of random tokens), `interval`, `pointed` and `random` (mean costs),
    `same_modalities` (those four against random tokens of the same modalities), `by_fraction`; and `grad_cam` for
    places in pictures, on fewer clips. Figures are null where random ones cost nothing. weights: the file of the frozen
    frame encoder, where the network reads its tokens.
    """
    subject = Subject(loaded.network.eval(), loaded.recipe.task, np.random.default_rng(seed))
    chosen = np.sort(subject.rng.permutation(len(clips))[:most]).tolist()
    frames = frame.load(weights).folded() if weights is not None else None
    told: list[Explanation] = []
    deleted: dict[str, list[Deleted]] = {method: [] for method in get_args(Method)}
    covered: list[tuple[float, float]] = []
    for done, index in enumerate(chosen, 1):
        parts = clips.batch([index], None).parts
        encoded = encode(subject.network, parts)
        report("deletion", done, len(chosen))
        if sum(int(part.mask.sum()) for part in encoded.values()) < _FEWEST:
            continue
        told.append(explain(subject.network, encoded, subject.task))
        label = told[-1].label
        for method in deleted:
            deleted[method].append(subject.deleted(encoded, label, method))
        if subject.task == "numbers" or "video" not in encoded or len(covered) >= _MOST_PICTURED:
            continue
        if has_convolution(subject.network):
            covered.append(subject.covered(parts, label))
        elif frames is not None:
            pictures = pictures_of(clips.clips[index], loaded.recipe)
            covered.append(subject.covered_frozen(encoded, label, frames, pictures))
    document: dict[str, Any] = {"clips": len(told), "fractions": list(FRACTIONS)}
    if not told:
        return document
    shares = np.mean([one.share for one in told], axis=0).tolist()
    document["share"] = dict(zip(MODALITIES, shares, strict=True))
    document |= {method: _of_method(found, seed) for method, found in deleted.items()}
    if covered:
        pointed, random = np.array(covered).T
        document["grad_cam"] = as_document(ratio(pointed, random, np.random.default_rng(seed)))
    return document


def _of_method(found: list[Deleted], seed: int) -> dict[str, Any]:
    pointed, random, matched = (
        np.stack([getattr(one, name) for one in found]) for name in ("pointed", "random", "matched")
    )

    def against(cost: NDArray[np.float64], other: NDArray[np.float64]) -> dict[str, Any]:
        return as_document(ratio(cost, other, np.random.default_rng(seed)))

    return {
        **against(pointed.mean(axis=1), random.mean(axis=1)),
        "same_modalities": against(pointed.mean(axis=1), matched.mean(axis=1)),
        "by_fraction": [against(pointed[:, at], random[:, at]) for at in range(pointed.shape[1])],
    }


def as_document(found: Ratio) -> dict[str, Any]:
    """A ratio as JSON has it."""
    return {
        "ratio": found.value,
        "interval": [found.low, found.high],
        "pointed": found.pointed,
        "random": found.random,
    }


def has_convolution(network: Network) -> bool:
    """Whether pictures have an encoder that is trained, which convolves."""
    return "video" in network.encoders and any(
        isinstance(module, nn.Conv2d) for module in network.encoder("video").each.modules()
    )


def pictures_of(clip: Clip, recipe: Recipe) -> Tensor:
    """The pictures that a frozen encoder saw of a clip: uint8 `[N, S, S, 3]`."""
    assert recipe.video is not None and clip.media is not None
    found = data.pictures(clip.media, recipe.video.rate, recipe.video.size, clip.start_s, clip.end_s)
    return torch.from_numpy(np.stack([pixels for _, pixels in found]))


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose explanations are on trial; `rng` draws what they are compared with."""

    network: Network
    task: Task
    rng: np.random.Generator

    def deleted(self, encoded: Mapping[str, Part], label: int, method: str) -> Deleted:
        """Costs of taking tokens away."""
        why = explain(self.network, encoded, self.task, label, cast(Method, method))
        return deletion(score_of(self.network, label, self.task), encoded, why.mass, self.rng)

    def covered(self, parts: Mapping[str, Part], label: int) -> tuple[float, float]:
        """Costs of covering the fifth of a clip's pictures that Grad-CAM points at, and a random fifth."""
        video = parts["video"]
        there = video.mask[0]
        maps = grad_cam(self.network, parts, self.task, label)[there]
        score = score_of(self.network, label, self.task)
        others = {name: part for name, part in encode(self.network, parts).items() if name != "video"}

        @torch.no_grad()
        def say(pictures: Tensor) -> float:
            x = video.x.clone()
            x[0, there] = pictures
            return float(score({**others, **encode(self.network, {"video": video.of(x)})}))

        return covering(say, video.x[0, there], maps, self.rng)

    def covered_frozen(
        self, encoded: Mapping[str, Part], label: int, frames: frame.FrameEncoder, pictures: Tensor
    ) -> tuple[float, float]:
        """The same where the frame encoder is frozen: pictures uint8 `[N, S, S, 3]`, which are encoded anew."""
        score = score_of(self.network, label, self.task)

        @torch.no_grad()
        def features(pixels: Tensor) -> Tensor:
            maps: Tensor = frames.head(frames.blocks(frames.stem(normalise_pixels(pixels))))
            return maps

        @torch.no_grad()
        def say(pixels: Tensor) -> float:
            token = features(pixels).mean(dim=(2, 3))[None]
            beside = encoded["video"].x[..., token.shape[-1] :]
            video = encoded["video"].of(torch.cat([token, beside], dim=-1))
            return float(score({**encoded, "video": video}))

        maps = frozen_cam(self.network, encoded, self.task, label, features(pictures))
        return covering(say, pictures, maps, self.rng)
