"""Training and measuring the judge of falls: simulated motion, and what was seen of real falls.

`python -m models.falls train FOLDER --out FILE` learns from all clips of FOLDER (see `models.fall_clips`) and from
simulated motion; `eval FOLDER` learns once for each subject without their clips, and tells how it does on those.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from models import fall_clips
from models.fall_clips import Clip
from models.fall_film import Track, simulate
from models.fall_judge import FEATURES, FORMAT, TENSORS, VERSION, FallFeatures, FallJudge, FallModel

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


def train(clips: Sequence[Clip], recipe: Recipe) -> FallNet:
    """A network that has learnt from simulated motion and these clips; the same again for the same recipe."""
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
    for _ in range(recipe.epochs):
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


def save(path: Path, network: FallNet, recipe: Recipe, subjects: Sequence[str]) -> None:
    """Writes the weights with a header that says what they are, whole or not at all. OSError where it can't."""
    from safetensors.numpy import save_file

    model = network.model()
    header = {
        "format": FORMAT,
        "version": VERSION,
        "learnt_from": f"{recipe.simulated} simulated tracks; clips of {', '.join(subjects) or 'nobody'}",
        "seed": str(recipe.seed),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="save-", dir=path.parent) as scratch:
        temporary = Path(scratch) / path.name
        save_file({name: getattr(model, name) for name in TENSORS}, temporary, header)
        os.replace(temporary, path)


def found_s(model: FallModel, clip: Clip, phase_s: float) -> float | None:
    """When the judge first says that somebody has fallen, in seconds of the clip; None: it never does."""
    track = clip.track(phase_s)
    for at_ns, probability in zip(track.times_ns.tolist(), judged(model, track), strict=True):
        if probability >= 0.5:
            return float(at_ns / 1e9)
    return None


def evaluate(clips: Sequence[Clip], recipe: Recipe) -> None:
    """Prints, for each subject left out in turn, which of their falls are found and how long after they began, with
    sightings at several phases."""
    phases = [phase / (2 * _PHASES) for phase in range(_PHASES)]
    for subject in sorted({clip.subject for clip in clips}):
        model = train([clip for clip in clips if clip.subject != subject], recipe).model()
        for clip in clips:
            if clip.subject == subject:
                found = [found_s(model, clip, phase) for phase in phases]
                times = " ".join("-" if at is None else f"{at - (clip.fell_s or 0.0):.1f}" for at in found)
                print(f"{clip.name:16} {'fall' if clip.fell_s is not None else 'none'}  found: {times}")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m models.falls", description=__doc__)
    parser.add_argument("what", choices=["train", "eval"])
    parser.add_argument("folder", type=Path, help="clips, and labels.tsv")
    parser.add_argument("--movenet", type=Path, required=True, help="the weights of MoveNet MultiPose")
    parser.add_argument("--out", type=Path, help="where the weights go (train)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.what == "train" and options.out is None:
        parser.error("train needs --out FILE")
    from models import movenet

    torch.set_num_threads(1)
    clips = fall_clips.read(options.folder, movenet.load(options.movenet))
    recipe = Recipe(seed=options.seed)
    if options.what == "eval":
        evaluate(clips, recipe)
    else:
        save(options.out, train(clips, recipe), recipe, sorted({clip.subject for clip in clips}))


if __name__ == "__main__":
    main()
