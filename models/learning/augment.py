"""What is changed of clips at random: in training so that more is learned, in evaluation to see what they bear.

All chance comes from the generator that is given. Pictures and sound are numpy arrays of one clip; clips are mixed with
each other as a batch.
"""

from __future__ import annotations

import glob
import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.data import UnreadableError, sound
from models.features import BANDS, HIGHEST_HZ, HOP_SAMPLES, LOWEST_HZ, SAMPLE_RATE
from models.learning.batch import MODALITIES, Batch, Mixed, Part
from models.learning.errors import LearningError
from models.learning.recipe import AugmentRecipe

Pixels = NDArray[np.uint8]
Sound = NDArray[np.float32]

_MASKS = 2  # of each kind, as SpecAugment's better policies have
_SMALLEST = 1e-8


@dataclass(frozen=True, slots=True)
class Degrade:
    """What evaluation takes from every clip: whole modalities, and the sound's clearness (noise at a signal-to-noise
    ratio in dB, both powers measured over the whole clip; None: none). noise_files: as a recipe's, see `Noises`."""

    without: Collection[str] = frozenset()
    snr_db: float | None = None
    noise_files: str = ""

    def __post_init__(self) -> None:
        """LearningError where it names no modality."""
        for name in self.without:
            if name not in MODALITIES:
                raise LearningError(f"{name!r} is no modality; they are {', '.join(MODALITIES)}")


def clip_rng(name: str, purpose: str) -> np.random.Generator:
    """A generator that is a clip's own: the same for the same name on every machine."""
    digest = hashlib.sha256(f"{purpose}\0{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


class Noises:
    """Noise to mix in: recordings, or where none are named coloured noise (its power falling as frequency to the power
    of 0 to 2: white, pink, brown and between)."""

    def __init__(self, pattern: str = "", folder: Path = Path()) -> None:
        """`pattern`: of file names, from `folder` on, e.g. "../speech/noise_*.flac". LearningError where no file is of
        that name, or one has no sound."""
        self.files = [Path(path) for path in sorted(glob.glob(str(folder / pattern)))] if pattern else []
        if pattern and not self.files:
            raise LearningError(f"{folder / pattern}: no noise files there; correct noise_files, or leave it out")
        self._sounds = [_noise(path) for path in self.files]

    def draw(self, samples: int, rng: np.random.Generator) -> Sound:
        """float32 `[samples]` of it from anywhere, mean power 1; short recordings go round."""
        if not self._sounds:
            return coloured_noise(samples, float(rng.uniform(0.0, 2.0)), rng)
        source = self._sounds[int(rng.integers(len(self._sounds)))]
        first = int(rng.integers(len(source)))
        piece = np.take(source, np.arange(first, first + samples), mode="wrap")
        return np.asarray(piece / max(_rms(piece), _SMALLEST), np.float32)


def _noise(path: Path) -> Sound:
    try:
        recorded = sound(path)
    except UnreadableError as error:
        raise LearningError(f"{error}; noise_files must name sound files") from error
    if not len(recorded):
        raise LearningError(f"{path}: no sound in it; noise_files must name sound files")
    return recorded


def coloured_noise(samples: int, exponent: float, rng: np.random.Generator) -> Sound:
    """float32 `[samples]`, mean power 1, with power falling as frequency to the power of `exponent`."""
    spectrum = np.fft.rfft(rng.standard_normal(max(samples, 2)))
    bins = np.arange(len(spectrum), dtype=np.float64)
    bins[0] = 1.0
    shaped = np.fft.irfft(spectrum * bins ** (-exponent / 2), max(samples, 2))[:samples]
    return np.asarray(shaped / max(_rms(shaped), _SMALLEST), np.float32)


def add_noise(waveform: Sound, noise: Sound, snr_db: float) -> Sound:
    """The sound with noise of mean power 1 mixed in at a ratio in dB; scaled down as a whole where it would clip."""
    mixed = waveform + noise * (_rms(waveform) * 10 ** (-snr_db / 20))
    return np.asarray(mixed / max(1.0, float(np.abs(mixed).max(initial=0.0))), np.float32)


def change_sound(waveform: Sound, recipe: AugmentRecipe, noises: Noises, rng: np.random.Generator) -> Sound:
    """Shift, gain and noise, float32 `[S]` -> `[S]`; a shifted sound leaves silence behind."""
    if not len(waveform):
        return waveform
    if recipe.sound_shift_s:
        waveform = shifted(waveform, round(rng.uniform(-1, 1) * recipe.sound_shift_s * SAMPLE_RATE))
    if recipe.gain_db:
        waveform = waveform * np.float32(10 ** (rng.uniform(-1, 1) * recipe.gain_db / 20))
    if recipe.noise and rng.random() < recipe.noise:
        waveform = add_noise(waveform, noises.draw(len(waveform), rng), float(rng.uniform(*recipe.noise_db)))
    return np.clip(waveform, -1.0, 1.0)


def shifted(waveform: Sound, samples: int) -> Sound:
    """Later by so many samples (earlier, below 0), of the same length, silent where it was not heard."""
    out = np.zeros_like(waveform)
    if abs(samples) < len(waveform):
        first, last = max(0, samples), len(waveform) + min(0, samples)
        out[first:last] = waveform[max(0, -samples) : len(waveform) - max(0, samples)]
    return out


def played(waveform: Sound, speed: float) -> Sound:
    """The sound played at another speed, float32 `[S]` -> about `[S / speed]`: faster is also higher, as of a shorter
    vocal tract (Ko et al., "Audio augmentation for speech recognition", 2015)."""
    if not len(waveform):
        return waveform
    places = np.arange(0, len(waveform) - 1, speed)
    return np.asarray(np.interp(places, np.arange(len(waveform)), waveform), np.float32)


def mask_sound(waveform: Sound, bands: int, frames: int, rng: np.random.Generator) -> Sound:
    """SpecAugment (Park et al., 2019) on the waveform, for encoders that are not trained: two stripes of up to `bands`
    of the 64 mel bands filtered out, two spans of up to `frames` of 10 ms silenced."""
    if bands and len(waveform):
        spectrum = np.fft.rfft(waveform)
        hertz = np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE)
        edges = _mel_edges()
        for _ in range(_MASKS):
            first, last = _stripe(BANDS, bands, rng)
            spectrum[(hertz >= edges[first]) & (hertz < edges[last])] = 0.0
        waveform = np.asarray(np.fft.irfft(spectrum, len(waveform)), np.float32)
    if frames:
        waveform = waveform.copy()
        for _ in range(_MASKS):
            first, last = _stripe(max(1, len(waveform) // HOP_SAMPLES), frames, rng)
            waveform[first * HOP_SAMPLES : last * HOP_SAMPLES] = 0.0
    return waveform


def _stripe(length: int, widest: int, rng: np.random.Generator) -> tuple[int, int]:
    width = int(rng.integers(0, min(widest, length) + 1))
    first = int(rng.integers(0, length - width + 1))
    return first, first + width


def _mel_edges() -> NDArray[np.float64]:
    """`[65]` edges in Hz of 64 stripes, evenly spaced on the HTK mel scale."""
    low, high = (1127.0 * math.log1p(hertz / 700.0) for hertz in (LOWEST_HZ, HIGHEST_HZ))
    return np.asarray(700.0 * np.expm1(np.linspace(low, high, BANDS + 1) / 1127.0), np.float64)


def margin_of(recipe: AugmentRecipe) -> float:
    """What scaling and shifting may reach beyond a picture's edge, in fractions of its side."""
    return recipe.scale / 2 + recipe.shift


def changes_pictures(recipe: AugmentRecipe) -> bool:
    """Whether anything of pictures is changed (but which of them there are)."""
    return bool(margin_of(recipe) or recipe.flip or recipe.colour or recipe.cutout)


def changes_sound(recipe: AugmentRecipe) -> bool:
    """Whether anything of a sound is changed before it is encoded."""
    return bool(recipe.noise or recipe.gain_db or recipe.sound_shift_s or recipe.bands or recipe.frames)


def change_pictures(pictures: Pixels, side: int, recipe: AugmentRecipe, rng: np.random.Generator) -> Pixels:
    """The pictures of one clip, all in the same way: what moves in them goes on as it did.

    uint8 `[N, H, W]` or `[N, H, W, 3]`, H and W `side` and an even margin around -> `[N, side, side]` (or with 3).
    Scaling and shifting see the margin, and beyond it the edge repeated.
    """
    if not len(pictures):
        return inner(pictures, side)
    pictures = _moved(pictures, side, recipe, rng) if margin_of(recipe) else inner(pictures, side)
    if recipe.flip and rng.random() < 0.5:
        pictures = pictures[:, :, ::-1]
    if recipe.colour:
        pictures = _coloured(pictures, recipe.colour, rng)
    if recipe.cutout:
        pictures = _cut_out(pictures, recipe.cutout, rng)
    return np.ascontiguousarray(pictures)


def inner(pictures: Pixels, side: int) -> Pixels:
    """The pictures `[N, H, W, ...]` without their margin, `[N, side, side, ...]`."""
    top, left = (pictures.shape[1] - side) // 2, (pictures.shape[2] - side) // 2
    return pictures[:, top : top + side, left : left + side]


def _moved(pictures: Pixels, side: int, recipe: AugmentRecipe, rng: np.random.Generator) -> Pixels:
    """A square box of another size and place, scaled to `side`; whole pixels, so that it is one resampling."""
    seen = max(1, round(side * (1 + rng.uniform(-1, 1) * recipe.scale)))
    down, right = (round(side * rng.uniform(-1, 1) * recipe.shift) for _ in range(2))
    top = (pictures.shape[1] - seen) // 2 + down
    left = (pictures.shape[2] - seen) // 2 + right
    rows = np.clip(np.arange(top, top + seen), 0, pictures.shape[1] - 1)
    columns = np.clip(np.arange(left, left + seen), 0, pictures.shape[2] - 1)
    box = pictures[:, rows[:, None], columns[None, :]]
    if seen == side:
        return box
    planes = torch.from_numpy(box if box.ndim == 4 else box[..., None]).permute(0, 3, 1, 2)
    scaled = F.interpolate(planes, size=(side, side), mode="bilinear", antialias=True)
    made = np.asarray(scaled.permute(0, 2, 3, 1).numpy(), np.uint8)
    return made if box.ndim == 4 else made[..., 0]


def _coloured(pictures: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Contrast about the clip's mean, and brightness, each by up to `strength`."""
    contrast = 1 + rng.uniform(-1, 1) * strength
    brightness = 128 * rng.uniform(-1, 1) * strength
    mean = float(pictures.mean())
    table = np.clip(np.rint((np.arange(256) - mean) * contrast + mean + brightness), 0, 255).astype(np.uint8)
    return np.asarray(table[pictures], np.uint8)


def _cut_out(pictures: Pixels, widest: float, rng: np.random.Generator) -> Pixels:
    """Cutout (DeVries and Taylor, 2017): a rectangle in the clip's mean grey, each side up to `widest` of the side."""
    side = pictures.shape[1]
    height, width = (round(side * rng.uniform(0, widest)) for _ in range(2))
    top, left = (int(rng.integers(0, side - extent + 1)) for extent in (height, width))
    pictures = pictures.copy()
    pictures[:, top : top + height, left : left + width] = np.uint8(pictures.mean())
    return pictures


def drop(count: int, chance: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """bool `[count]`: which items stay, each left out with that chance; of those there are, one always stays."""
    kept = rng.random(count) >= chance
    if count and not kept.any():
        kept[int(rng.integers(count))] = True
    return kept


def mix(batch: Batch, strength: float, rng: np.random.Generator) -> Batch:
    """Mixup (Zhang et al., 2018) of clips with other clips of the batch: the same pairs and weights for every modality,
    so that picture and sound of a mixture still belong together.

    Weights are drawn from Beta(strength, strength), and the greater part is always the clip's own. Items are mixed one
    by one as far as both clips have them; words can't be mixed and stay the clip's own.
    """
    pairs = torch.from_numpy(rng.permutation(len(batch)))
    drawn = rng.beta(strength, strength, len(batch))
    weight = torch.from_numpy(np.maximum(drawn, 1 - drawn).astype(np.float32))
    parts = {
        name: part if name == "text" else part.of(_blended(part, pairs, weight)) for name, part in batch.parts.items()
    }
    return replace(batch, parts=parts, mixed=Mixed(batch.target[pairs], weight))


def _blended(part: Part, pairs: Tensor, weight: Tensor) -> Tensor:
    both = part.mask & part.mask[pairs]
    own = weight.view(-1, *[1] * (part.x.ndim - 1))
    made = own * part.x + (1 - own) * part.x[pairs]
    made = made.round().to(part.x.dtype) if not part.x.dtype.is_floating_point else made.to(part.x.dtype)
    return torch.where(both.view(*both.shape, *[1] * (part.x.ndim - 2)), made, part.x)


def degrade(waveform: Sound, clip: str, how: Degrade, noises: Noises) -> Sound:
    """A clip's sound as evaluation wants it: the same noise for the same clip, whatever was done before."""
    if how.snr_db is None or not len(waveform):
        return waveform
    return add_noise(waveform, noises.draw(len(waveform), clip_rng(clip, "noise")), how.snr_db)


def _rms(waveform: Sequence[float] | NDArray[np.floating[Any]]) -> float:
    values = np.asarray(waveform, np.float64)
    return float(np.sqrt(np.mean(values * values))) if len(values) else 0.0
