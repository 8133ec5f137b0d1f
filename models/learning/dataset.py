"""Clips as batches: everything that encoders read, in memory, padded and, in training, changed at random.

The offset task (`data.target = "offset"`) shows the same moments of a clip's picture and sound shifted against each
other; what is to be told is by how many seconds the sound is late. Both are cut out of the clip's inside, so that no
end of a track gives the shift away, from a place that changes too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data import UnreadableError
from models.features import SAMPLE_RATE
from models.learning import augment, manifest
from models.learning.augment import Degrade, Noises
from models.learning.batch import PADDING, Batch, Part
from models.learning.cache import Sources
from models.learning.clips import Clip
from models.learning.errors import LearningError
from models.learning.items import ItemMaker, Items, as_float
from models.learning.recipe import Recipe
from models.learning.vocabulary import Vocabulary
from models.speech import PATCH_HOP_SAMPLES, PATCH_SAMPLES

__all__ = ["Dataset", "Sources"]

Progress = Callable[[int, int], None]

OFFSET_LIMIT_S = 0.4
"""Sound and picture are shifted against each other by up to so much, either way, evenly."""
OFFSET_PIECE_S = 1.6
"""As much of a clip is shown for it."""

_WHOLE = 0.25  # of sequences that recipes trim
_WORD_S = 0.4  # of a word that nobody timed, where nothing says how long the clip is
_THREADS = 2  # decoders at once; the frozen encoders use every core as it is


@dataclass(frozen=True, slots=True)
class _Cut:
    """A piece of a clip: its first second, its length (None: the clip's), and by how much its sound is late."""

    first_s: float = 0.0
    length_s: float | None = None
    late_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Piece:
    """One modality of one clip as a batch takes it: x `[N, ...]`, mask bool `[N]`, when float32 `[N]`."""

    x: NDArray[Any]
    mask: NDArray[np.bool_]
    when: NDArray[np.float32]


class Dataset:
    """Clips that can be had as batches. `clips` are in the order of the indices."""

    def __init__(
        self,
        recipe: Recipe,
        clips: Sequence[Clip],
        names: Sequence[str],
        vocabulary: Vocabulary,
        sources: Sources,
        folder: Path | None = None,
        degrade: Degrade | None = None,
    ) -> None:
        """
        Args:
            names: of the outputs; every target must be among them (LearningError).
            folder: that `noise_files` start from; as the recipe says, where it isn't given.
            degrade: for evaluation: what is taken away. With one, nothing is prepared that only training needs.
        """
        self.recipe = recipe
        self.clips = clips
        self._names = {name: place for place, name in enumerate(names)}
        self._vocabulary = vocabulary
        self._degrade = degrade
        self._modalities = [name for name in recipe.modalities if degrade is None or name not in degrade.without]
        self._noises = _noises(recipe, folder or Path(recipe.data.folder), degrade)
        self._maker = ItemMaker(recipe, sources, self._noises, degrade)
        self._is_offset = recipe.data.target == manifest.OFFSET
        self._targets = [self._target(clip) for clip in clips]
        self._video: list[Items] = []
        self._audio: list[Items] = []
        if self._is_offset:
            _check_offset(recipe)
        _check_speed(recipe)
        if recipe.augment.mix and recipe.task not in ("classes", "labels"):
            raise LearningError(f"augment.mix: clips are mixed for classes and labels, not for {recipe.task}")

    def __len__(self) -> int:
        return len(self.clips)

    def count(self, name: str) -> int:
        """How many clips have a target of that name."""
        return sum(name in clip.target for clip in self.clips)

    @property
    def longest_s(self) -> float:
        """The longest clip, in seconds, as batches show it."""
        if self._is_offset:
            return OFFSET_PIECE_S
        return max((self._length_s(index) for index in range(len(self))), default=0.0)

    def prepare(self, progress: Progress | None = None) -> None:
        """Reads or makes the items of every clip; `progress` is called with how many are done, and of how many.

        LearningError names a file that is missing or can't be read.
        """
        if len(self._video) == len(self.clips):
            return
        with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
            found = []
            for each in pool.map(self._items, self.clips):
                found.append(each)
                if progress is not None:
                    progress(len(found), len(self.clips))
        self._video = [video for video, _ in found]
        self._audio = [audio for _, audio in found]
        self._check_lengths()

    def batch(self, indices: Sequence[int], rng: np.random.Generator | None = None) -> Batch:
        """Those clips, padded to their longest. With `rng`, changed at random as the recipe says; all chance is its."""
        self.prepare()
        cuts = [self._cut(index, rng) for index in indices]
        parts: dict[str, Part] = {}
        for name in self._modalities:
            pieces = [self._piece(name, index, cut, rng) for index, cut in zip(indices, cuts, strict=True)]
            if any(len(piece.mask) for piece in pieces):
                parts[name] = _padded(pieces)
        target = self._joined([self._targets[index] for index in indices])
        if self._is_offset:
            target = torch.tensor([[cut.late_s] for cut in cuts], dtype=torch.float32)
        names = [self.clips[index].name for index in indices]
        batch = Batch(parts, target, names, times=self._times(indices, cuts))
        strength = self.recipe.augment.mix
        return augment.mix(batch, strength, rng) if rng is not None and strength else batch

    def targets(self) -> Tensor:
        """The targets of all clips, as in a batch of them all (in evaluation)."""
        if self._is_offset:
            late = [self._cut(index, None).late_s for index in range(len(self))]
            return torch.tensor(late, dtype=torch.float32)[:, None]
        return self._joined(self._targets)

    def _items(self, clip: Clip) -> tuple[Items, Items]:
        nothing = Items(np.zeros((0, 0), np.float32), np.zeros(0, np.float32))
        try:
            video = self._maker.pictures(clip) if "video" in self._modalities else nothing
            if "audio" not in self._modalities:
                return video, nothing
            assert self.recipe.audio is not None
            if not self._is_patched:
                return video, self._maker.patches(clip)
            if self._degrade is not None and self._degrade.snr_db is not None:
                return video, Items(self._maker.heard(clip), nothing.when)
            return video, Items(self._maker.sound(clip), nothing.when)
        except UnreadableError as error:
            raise LearningError(f"{error}; replace the file or take its clip out") from error

    def _check_lengths(self) -> None:
        needed_s = OFFSET_PIECE_S + 2 * OFFSET_LIMIT_S
        for index, clip in enumerate(self.clips):
            if self._is_offset and self._length_s(index) < needed_s - 1e-6:
                raise LearningError(
                    f"{clip.name}: {self._length_s(index):.2f} s of picture and sound, and the offset task needs "
                    f"{needed_s:g} s of both; take the clip out"
                )

    def _length_s(self, index: int) -> float:
        """How long a clip is: for the offset task the shorter of its tracks, else the longest of what is there."""
        ends = []
        if self._modalities and "video" in self._modalities:
            assert self.recipe.video is not None
            when = self._video[index].when
            ends.append(float(when[-1]) + 1 / self.recipe.video.rate if len(when) else 0.0)
        if "audio" in self._modalities:
            ends.append(self._sound_s(index))
        if self._is_offset:
            return min(ends, default=0.0)
        if "text" in self._modalities:
            ends += [word.end_s for word in self.clips[index].words if not math.isnan(word.end_s)]
        return max(ends, default=0.0)

    def _sound_s(self, index: int) -> float:
        items = self._audio[index]
        if self._is_patched:
            return len(items.x) / SAMPLE_RATE
        return 2 * float(items.when[0]) + float(items.when[-1] - items.when[0]) if len(items.when) else 0.0

    @property
    def _is_patched(self) -> bool:
        """Whether the sound itself is kept, and cut into patches for each batch."""
        return self.recipe.audio is not None and self.recipe.audio.encoder == "speech"

    def _cut(self, index: int, rng: np.random.Generator | None) -> _Cut:
        """What of a clip is shown: all of it, but for the offset task."""
        if not self._is_offset:
            return self._trimmed(index, rng) if rng is not None and self.recipe.augment.trim else _Cut()
        rng = augment.clip_rng(self.clips[index].name, manifest.OFFSET) if rng is None else rng
        late_s = float(rng.uniform(-OFFSET_LIMIT_S, OFFSET_LIMIT_S))
        room_s = self._length_s(index) - OFFSET_PIECE_S - 2 * OFFSET_LIMIT_S
        assert self.recipe.video is not None
        rate = self.recipe.video.rate
        first = math.ceil(OFFSET_LIMIT_S * rate - 1e-6) + int(rng.integers(0, int(max(0.0, room_s) * rate) + 1))
        return _Cut(first / rate, OFFSET_PIECE_S, late_s)

    def _trimmed(self, index: int, rng: np.random.Generator) -> _Cut:
        """A sequence with less of what is before and after it; one in four stays whole, as it will be in use."""
        times = self.clips[index].times
        if not times or rng.random() < _WHOLE:
            return _Cut()
        before_s, after_s = rng.uniform(0.0, self.recipe.augment.trim, 2)
        first_s = max(0.0, times[0][0] - before_s)
        return _Cut(first_s, times[-1][1] + after_s - first_s)

    def _times(self, indices: Sequence[int], cuts: Sequence[_Cut]) -> Tensor | None:
        """When symbols are said, as the clips are cut: float32 `[B, S, 2]`."""
        if self.recipe.task != "sequence":
            return None
        longest = max(len(self._targets[index]) for index in indices)
        times = np.full((len(indices), longest, 2), np.nan, np.float32)
        for row, index, cut in zip(times, indices, cuts, strict=True):
            said = self.clips[index].times
            if said:
                row[: len(said)] = np.asarray(said, np.float32) - np.float32(cut.first_s)
        return torch.from_numpy(times)

    def _piece(self, name: str, index: int, cut: _Cut, rng: np.random.Generator | None) -> _Piece:
        if name == "video":
            return self._seen(self._video[index], cut, rng)
        if name == "text":
            return self._read(index, rng)
        return self._heard_patches(index, cut, rng) if self._is_patched else _drawn(self._audio[index], rng)

    def _seen(self, items: Items, cut: _Cut, rng: np.random.Generator | None) -> _Piece:
        video, recipe = self.recipe.video, self.recipe.augment
        assert video is not None
        if video.encoder == "efficientnet":
            piece = _drawn(items, rng)
        else:
            x, when = items.x, items.when
            if cut.length_s is not None:
                half_s = 0.5 / video.rate
                inside = (when > cut.first_s - half_s) & (when < cut.first_s + cut.length_s - half_s)
                x, when = x[inside], when[inside] - np.float32(cut.first_s)
            x = augment.inner(x, video.pixels) if rng is None else augment.change_pictures(x, video.pixels, recipe, rng)
            piece = _Piece(x, np.ones(len(x), np.bool_), when)
        if rng is not None and recipe.frame_drop:
            piece = replace(piece, mask=piece.mask & augment.drop(len(piece.mask), recipe.frame_drop, rng))
        return piece

    def _heard_patches(self, index: int, cut: _Cut, rng: np.random.Generator | None) -> _Piece:
        stored = self._audio[index].x
        sound = as_float(stored) if stored.dtype == np.int16 else stored
        if cut.length_s is not None:
            first = round((cut.first_s - cut.late_s) * SAMPLE_RATE)
            sound = sound[max(0, first) : first + round(cut.length_s * SAMPLE_RATE)]
        if rng is not None:
            if self.recipe.augment.speed:
                sound = augment.played(sound, 1 + self.recipe.augment.speed * float(rng.uniform(-1, 1)))
            sound = augment.change_sound(sound, self.recipe.augment, self._noises, rng)
        if not len(sound):
            return _Piece(np.zeros((0, PATCH_SAMPLES), np.float32), np.zeros(0, np.bool_), np.zeros(0, np.float32))
        whole = np.pad(sound, (0, max(0, PATCH_SAMPLES - len(sound))))
        x = np.lib.stride_tricks.sliding_window_view(whole, PATCH_SAMPLES)[::PATCH_HOP_SAMPLES]
        when = (np.arange(len(x)) * PATCH_HOP_SAMPLES + PATCH_SAMPLES / 2) / SAMPLE_RATE
        return _Piece(x, np.ones(len(x), np.bool_), when.astype(np.float32))

    def _read(self, index: int, rng: np.random.Generator | None) -> _Piece:
        words = self.clips[index].words
        x = np.array([self._vocabulary.id(word.text) for word in words], np.int64)
        length_s = max(self._length_s(index), _WORD_S * len(words))
        spread = (np.arange(len(words)) + 0.5) * (length_s / max(1, len(words)))
        middle = np.array([(word.start_s + word.end_s) / 2 for word in words], np.float64)
        when = np.where(np.isnan(middle), spread, middle).astype(np.float32)
        mask = np.ones(len(words), np.bool_)
        if rng is not None and self.recipe.augment.word_drop:
            mask = augment.drop(len(words), self.recipe.augment.word_drop, rng)
        return _Piece(x, mask, when)

    def _target(self, clip: Clip) -> NDArray[Any]:
        """Of one clip: classes int64 `[]`, labels float32 `[L]`, numbers float32 `[K]`, sequences int64 `[S]`."""
        task = self.recipe.task
        if task == "numbers":
            if any(isinstance(each, str) for each in clip.target):
                raise LearningError(f"{clip.name}: {clip.target[0]!r} is no number; correct data.target or task")
            return np.array(clip.target, np.float32)
        for name in clip.target:
            if name not in self._names:
                known = ", ".join(list(self._names)[:12])
                raise LearningError(f"{clip.name}: {name!r} is none of the names that are learned ({known} ...)")
        places = [self._names[str(name)] for name in clip.target]
        if task == "classes":
            if len(places) != 1:
                raise LearningError(f"{clip.name}: {len(places)} classes; a clip has exactly one")
            return np.array(places[0], np.int64)
        if task == "sequence":
            return np.array(places, np.int64)
        there = np.zeros(len(self._names), np.float32)
        there[places] = 1.0
        return there

    def _joined(self, targets: Sequence[NDArray[Any]]) -> Tensor:
        if not targets:
            raise LearningError("no clips in this split; add some, or change data.validation")
        if self.recipe.task != "sequence":
            try:
                return torch.from_numpy(np.stack(targets))
            except ValueError as error:
                raise LearningError("clips have targets of different length; give each as many numbers") from error
        longest = max(len(target) for target in targets)
        joined = np.full((len(targets), longest), PADDING, np.int64)
        for row, target in zip(joined, targets, strict=True):
            row[: len(target)] = target
        return torch.from_numpy(joined)


def _noises(recipe: Recipe, folder: Path, degrade: Degrade | None) -> Noises:
    if degrade is not None:
        return Noises(degrade.noise_files if degrade.snr_db is not None else "", folder)
    return Noises(recipe.augment.noise_files if recipe.augment.noise else "", folder)


def _check_speed(recipe: Recipe) -> None:
    speed = recipe.augment.speed
    if not 0 <= speed < 1:
        raise LearningError(f"augment.speed is {speed:g}; write a fraction from 0 to below 1, like 0.1")
    if speed and (
        recipe.modalities != ("audio",)
        or recipe.task not in ("classes", "labels")
        or recipe.audio is None
        or recipe.audio.encoder != "speech"
    ):
        raise LearningError(
            "augment.speed changes when things are heard: it is for classes and labels of sound alone, with the "
            "encoder speech"
        )


def _check_offset(recipe: Recipe) -> None:
    fits = recipe.video is not None and recipe.audio is not None
    fits = fits and recipe.task == "numbers" and recipe.text is None
    fits = fits and recipe.video is not None and recipe.video.encoder != "efficientnet"
    if not fits or recipe.audio is None or recipe.audio.encoder != "speech":
        raise LearningError(
            'the offset is learned with task = "numbers", video of lips or resnet18 and audio of speech; frozen tokens '
            "are too coarse in time"
        )
    if recipe.augment.sound_shift_s:
        raise LearningError("augment.sound_shift_s would move what the offset task is to tell; leave it out")


def _drawn(items: Items, rng: np.random.Generator | None) -> _Piece:
    """Frozen tokens `[V, N, W]` in one of their forms: in training any, else the first."""
    form = 0 if rng is None else int(rng.integers(len(items.x)))
    x = items.x[form].astype(np.float32)
    return _Piece(x, np.ones(len(x), np.bool_), items.when)


def _padded(pieces: Sequence[_Piece]) -> Part:
    longest = max(len(piece.mask) for piece in pieces)
    model = next(piece for piece in pieces if len(piece.mask))
    x = np.zeros((len(pieces), longest, *model.x.shape[1:]), model.x.dtype)
    mask = np.zeros((len(pieces), longest), np.bool_)
    when = np.zeros((len(pieces), longest), np.float32)
    for row, piece in enumerate(pieces):
        count = len(piece.mask)
        if count:
            x[row, :count], mask[row, :count], when[row, :count] = piece.x, piece.mask, piece.when
    return Part(torch.from_numpy(x), torch.from_numpy(mask), torch.from_numpy(when))
