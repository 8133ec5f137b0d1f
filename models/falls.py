"""Training of the judge of falls: simulated motion, and what was seen of real falls (see models.fall_clips).

`streamer train falls` is its command; models.fall_trial measures it on people that it never saw.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from models.fall_clips import Clip
from models.fall_film import Track, simulate
from models.fall_judge import FEATURES, FORMAT, TENSORS, VERSION, FallFeatures, FallJudge, FallModel
from models.learning import tensors

Progress = Callable[[int, int], None]

UNITS = 32
_LONGEST = 64
_PHASES = 7


@dataclass(frozen=True, slots=True)
class Recipe:
    """How it is trained. simulated: tracks made, `fall_share` of them with a fall; real_times: how often each clip is
    taken, with other noise, at each of its phases."""

    seed: int = 0
    simulated: int = 8000
    epochs: int = 14
    batch: int = 128
    rate: float = 4e-3
    real_times: int = 6
    fall_share: float = 0.4


class FallNet(nn.Module):
    """The judge's network in torch."""

    def __init__(self, units: int = UNITS) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, units, batch_first=True)
        self.out = nn.Linear(units, 1)

    def forward(self, features: Tensor) -> Tensor:
        """float32 `[B, T, FEATURES]` -> logits `[B, T]`."""
        hidden, _ = self.gru(features)
        logits: Tensor = self.out(hidden).squeeze(-1)
        return logits

    def model(self) -> FallModel:
        """The same weights for numpy."""
        # In the order of TENSORS, which is torch's own.
        return FallModel(*(tensor.detach().numpy().copy() for tensor in self.parameters()))


def features_of(track: Track) -> NDArray[np.float32]:
    """float32 `[N, FEATURES]` of a track's sightings."""
    features = FallFeatures()
    rows = zip(track.times_ns.tolist(), track.boxes, track.points, strict=True)
    return np.stack([features.update(at_ns, track.aspect, box, points) for at_ns, box, points in rows])


def judged(model: FallModel, track: Track) -> list[float]:
    """What the judge says at each sighting of a track."""
    judge = FallJudge(model)
    rows = zip(track.times_ns.tolist(), track.boxes, track.points, strict=True)
    return [judge.update(at_ns, track.aspect, box, points) for at_ns, box, points in rows]


def train(clips: Sequence[Clip], recipe: Recipe, progress: Progress = lambda *_: None) -> FallNet:
    """A network that has learnt from simulated motion and these clips; the same again for the same recipe, clips and
    version of torch, on one kind of processor. `progress`: called with the epochs that are done, and of how many."""
    rng = np.random.default_rng(recipe.seed)
    tracks = [simulate(rng, recipe.fall_share) for _ in range(recipe.simulated)]
    for clip in clips:
        tracks += [clip.track(phase / (2 * _PHASES), rng) for phase in range(_PHASES) for _ in range(recipe.real_times)]
    features, truth = _padded(tracks)
    torch.manual_seed(recipe.seed)
    network = FallNet()
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=1e-2)
    steps = recipe.epochs * -(-len(tracks) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=steps)
    for epoch in range(recipe.epochs):
        progress(epoch, recipe.epochs)
        for rows in np.array_split(rng.permutation(len(tracks)), -(-len(tracks) // recipe.batch)):
            loss = _loss(network(features[rows]), truth[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    return network.eval()


def _padded(tracks: Sequence[Track]) -> tuple[Tensor, Tensor]:
    """float32 `[B, T, FEATURES]` and truth `[B, T]`, -1 where nothing is to be learnt."""
    features = torch.zeros(len(tracks), _LONGEST, FEATURES)
    truth = torch.full((len(tracks), _LONGEST), -1.0)
    for row, track in enumerate(tracks):
        count = min(len(track.times_ns), _LONGEST)
        features[row, :count] = torch.from_numpy(features_of(track)[:count])
        truth[row, :count] = torch.from_numpy(track.fallen[:count])
    return features, truth


def _loss(logits: Tensor, truth: Tensor) -> Tensor:
    known = truth >= 0
    # A false alarm is worse than a fall seen a sighting later.
    weight = torch.where(truth > 0.5, 1.0, 1.5)
    losses = F.binary_cross_entropy_with_logits(logits, truth.clamp(min=0), weight, reduction="none")
    return losses[known].mean()


def save(path: Path, network: FallNet, header: Mapping[str, str]) -> None:
    """Writes the weights with a header (see `header_of`), whole or not at all; the same contents give the same bytes.
    OSError where it can't."""
    # In the order of TENSORS, which is torch's own.
    tensors.write(path, dict(zip(TENSORS, network.parameters(), strict=True)), header)


def header_of(recipe: Recipe, clips: Sequence[Clip], figures: Mapping[str, Any]) -> dict[str, str]:
    """What a file of weights says of itself: what it was learnt from and how, and how well that did on people that were
    left out (`figures`: models.fall_trial's document; empty where nobody measured)."""
    subjects = sorted({clip.subject for clip in clips})
    return {
        "format": FORMAT,
        "version": VERSION,
        "learnt_from": f"{recipe.simulated} simulated tracks; clips of {', '.join(subjects) or 'nobody'}",
        "recipe": json.dumps(asdict(recipe)),
        "figures": json.dumps(figures),
    }
