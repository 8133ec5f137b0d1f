"""Fits scale and bias of tags.toml and prints them: `python -m models.calibrate FOLDER [--weights DIR]`.

The other constants are taken as they are. FOLDER holds `images`, `esc10` and `fsdd`, as `models.evaluate` describes
them. The fit is deterministic.

Video: photographs of one thing are kinder than a camera, so each is seen in seven ways (squashed, cropped, as a wide
picture, at low resolution, in the dark, small before something else, a quarter of it) and, as pictures of nothing,
three more: blurred away, its tiles shuffled, tiles of many pictures. The label of the photograph is true of the seven,
every other label false, and of the three all are false.

Audio: windows of three patches of environmental sounds, quiet ones left out, and of spoken digits; each class weighs
the same. One scale and one bias serve all labels: offsets for the eleven classes at hand lowered the log loss, but by
learning how often a class stands in this collection, and doubled the calibration error.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models import tags, weights
from models.data import read_audio, read_frames
from models.evaluate import SOUND_LABELS, SOUND_MAYBE, Labeller, calibration_error, cut_patches

FOLDS = 4
WINDOW_PATCHES = 3
QUIET = 0.3  # of the loudest patch of its clip
_SIZE = 224


@dataclass(frozen=True, slots=True)
class Examples:
    """Pooled log-odds, truth and weights (0 where the truth is unknown), each `[N, L]`; the fold of each row `[N]`."""

    odds: Tensor
    truth: Tensor
    weight: Tensor
    fold: Tensor


def views(pictures: list[NDArray[np.uint8]], at: int, random: np.random.Generator) -> tuple[list[Tensor], list[Tensor]]:
    """Seven ways of seeing picture `at`, and three pictures of nothing: float `[3, 224, 224]` each."""
    whole = torch.from_numpy(pictures[at]).permute(2, 0, 1).float()
    other = torch.from_numpy(pictures[int(random.integers(len(pictures)))]).permute(2, 0, 1).float()
    height, width = whole.shape[1:]
    square, wide = min(height, width), min(height, width * 9 // 16)
    top, left = (height - square) // 2, (width - square) // 2
    y, x = int(random.integers(height // 2 + 1)), int(random.integers(width // 2 + 1))
    small = _resize(_resize(other, 6), _SIZE)
    sy, sx = random.integers(0, _SIZE // 2, 2)
    small[:, sy : sy + _SIZE // 2, sx : sx + _SIZE // 2] = _resize(whole, _SIZE // 2)
    true = [
        _resize(whole, _SIZE),
        _resize(whole[:, top : top + square, left : left + square], _SIZE),
        _resize(whole[:, (height - wide) // 2 : (height - wide) // 2 + wide], _SIZE),
        _resize(_resize(whole, 80), _SIZE),
        _resize(whole, _SIZE) * 0.3,
        small,
        _resize(whole[:, y : y + height // 2, x : x + width // 2], _SIZE),
    ]
    tiles = _tiles(true[0])
    every = [_tiles(_resize(torch.from_numpy(picture).permute(2, 0, 1).float(), _SIZE)) for picture in pictures]
    mixed = torch.stack([every[int(random.integers(len(every)))][place] for place in range(64)])
    nothing = [
        _resize(_resize(whole, 6), _SIZE),
        _untile(tiles[torch.from_numpy(random.permutation(64))]),
        _untile(mixed),
    ]
    return true, nothing


def _resize(picture: Tensor, size: int) -> Tensor:
    return F.interpolate(picture[None], (size, size), mode="bilinear", antialias=True, align_corners=False)[0]


def _tiles(picture: Tensor) -> Tensor:
    """`[3, 224, 224]` -> 64 tiles `[64, 3, 28, 28]`."""
    return picture.reshape(3, 8, 28, 8, 28).permute(1, 3, 0, 2, 4).reshape(64, 3, 28, 28)


def _untile(tiles: Tensor) -> Tensor:
    return tiles.reshape(8, 8, 3, 28, 28).permute(2, 0, 3, 1, 4).reshape(3, _SIZE, _SIZE)


def video_examples(labeller: Labeller, folder: Path) -> Examples:
    """Each view of each photograph as a window of one frame."""
    label_of = {
        source.name.replace(" ", "_"): source.label
        for source in sorted(tags.source_classes(), key=lambda s: -s.index)
        if source.collection == "imagenet"
    }
    files = sorted(folder.glob("*.jpg"))
    pictures = [read_frames(path, 1, size=256, fit="crop")[0] for path in files]
    random = np.random.default_rng(0)
    rows, truth, fold = [], [], []
    for at, path in enumerate(files):
        true, nothing = views(pictures, at, random)
        pixels = torch.stack(true + nothing).clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        tokens = labeller.encode_frames(np.ascontiguousarray(pixels))
        with torch.no_grad():
            rows.append(labeller.fusion.video.pooled(tokens[:, None], torch.ones(len(tokens), 1)))
        said = torch.zeros(len(pixels), len(labeller.names))
        said[: len(true), labeller.names.index(label_of[path.stem])] = 1
        truth.append(said)
        fold += [at % FOLDS] * len(pixels)
    odds = torch.cat(rows)
    return Examples(odds, torch.cat(truth), labeller.fusion.video.raises.expand_as(odds), torch.tensor(fold))


def audio_examples(labeller: Labeller, folder: Path) -> Examples:
    """Windows of sounds whose class is known, weighted so that every class weighs the same."""
    rows, classes, fold = [], [], []
    for path in [*sorted((folder / "esc10").glob("*/*.opus")), *sorted((folder / "fsdd").glob("*.flac"))]:
        waveform = read_audio(path)
        loudness = np.sqrt(np.mean(cut_patches(waveform, labeller.geometry) ** 2, axis=1))
        tokens = labeller.encode_audio(waveform)
        is_digit = path.suffix == ".flac"
        length = min(WINDOW_PATCHES, len(tokens))
        for start in range(0, len(tokens) - length + 1, 2):
            if is_digit or loudness[start : start + length].max() > QUIET * loudness.max():
                rows.append(tokens[start : start + length].repeat(WINDOW_PATCHES // length, 1))
                classes.append("digit" if is_digit else path.parent.name)
                fold.append(sum(map(ord, path.stem.split("_")[1])) % FOLDS if is_digit else int(path.stem[0]) % FOLDS)
    with torch.no_grad():
        stacked = torch.stack(rows)
        odds = labeller.fusion.audio.pooled(stacked, torch.ones(stacked.shape[:2]))
    truth, weight = torch.zeros_like(odds), labeller.fusion.audio.raises.repeat(len(odds), 1)
    for row, name in enumerate(classes):
        truth[row, [labeller.names.index(label) for label in SOUND_LABELS.get(name, ("Speech",))]] = 1
        weight[row, [labeller.names.index(label) for label in SOUND_MAYBE[name]]] = 0
    rarity = torch.tensor([len(classes) / classes.count(name) for name in classes])
    return Examples(odds, truth, weight * (rarity / rarity.mean())[:, None], torch.tensor(fold))


def fit_platt(examples: Examples) -> tuple[float, float]:
    """Scale and bias of least log loss, the same for every label."""
    scale, bias = torch.ones(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    _minimise([scale, bias], lambda: _loss(examples, scale * examples.odds + bias))
    return scale.item(), bias.item()


def _loss(examples: Examples, odds: Tensor) -> Tensor:
    loss = F.binary_cross_entropy_with_logits(odds, examples.truth, reduction="none")
    return (loss * examples.weight).sum(dim=1).mean()


def _minimise(parameters: list[Tensor], loss: Callable[[], Tensor]) -> None:
    optimiser = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")

    def step() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(step)  # type: ignore[no-untyped-call]


def held_out(examples: Examples) -> tuple[float, float]:
    """Log loss a window and calibration error of each fold under constants fitted on the others."""
    odds = torch.empty_like(examples.odds)
    for fold in range(FOLDS):
        test = examples.fold == fold
        rest = Examples(*(part[~test] for part in (examples.odds, examples.truth, examples.weight, examples.fold)))
        scale, bias = fit_platt(rest)
        odds[test] = scale * examples.odds[test] + bias
    known = examples.weight > 0
    return float(_loss(examples, odds)), calibration_error(odds.sigmoid()[known], examples.truth[known])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Fits scale and bias of tags.toml.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, default=None)
    options = parser.parse_args()
    labeller = Labeller(weights.fetch(options.weights))
    for modality, examples in (
        ("video", video_examples(labeller, options.folder / "images")),
        ("audio", audio_examples(labeller, options.folder)),
    ):
        scale, bias = fit_platt(examples)
        loss, error = held_out(examples)
        print(f"[{modality}]  # held out: log loss {loss:.3f} a window, calibration error {error:.3f}")
        print(f"scale = {scale:.3f}\nbias = {bias:.3f}")


if __name__ == "__main__":
    main()
