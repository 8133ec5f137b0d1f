"""Real falls to learn from: what MoveNet sees in a folder of clips, picture by picture, and when somebody fell.

A folder has clips, named SUBJECT_ANYTHING.mp4, and `labels.tsv`: the clip's name, a tab, and a text in which a fall
stands as "Fall...[SECONDS to SECONDS]", its beginning first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.fall_film import Float, Track
from models.learning.errors import LearningError

if TYPE_CHECKING:
    from models.multipose import MultiPose

_FALL = re.compile(r"Fall[^\[\]]*\[\s*([\d.]+) to")
_SIZE = 256
# Less sure than this it is nobody.
_LEAST = 0.12
_BATCH = 16

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Clip:
    """Everything seen of one person in a clip, at its own rate; fell_s: when they began to, None where they don't."""

    name: str
    subject: str
    fell_s: float | None
    times_s: Float
    aspect: float
    boxes: Float
    points: Float

    def track(self, phase_s: float, rng: np.random.Generator | None = None) -> Track:
        """Two sightings a second, the first at `phase_s`; with `rng`, mirrored at times and a little noisier."""
        wanted = np.arange(phase_s, float(self.times_s[-1]) + 1e-6, 0.5)
        index = np.unique(np.searchsorted(self.times_s, wanted - 1e-3).clip(max=len(self.times_s) - 1))
        boxes, points = self.boxes[index].copy(), self.points[index].copy()
        if rng is not None:
            points[..., :2] += rng.normal(0, 0.005, points[..., :2].shape)
            if rng.random() < 0.5:
                boxes[:, [0, 2]], points[..., 0] = 1 - boxes[:, [2, 0]], 1 - points[..., 0]
        times_s = self.times_s[index]
        fallen = np.zeros(len(index), np.float32)
        if self.fell_s is not None:
            # On the way down it is neither one nor the other.
            fallen[times_s >= self.fell_s] = -1.0
            fallen[times_s >= self.fell_s + 1.5] = 1.0
        return Track(np.round(times_s * 1e9).astype(np.int64), self.aspect, boxes, points, fallen)


def falls_in(labels: Path) -> dict[str, float]:
    """When somebody falls, in seconds, by clip. OSError where the file can't be read."""
    lines = (line.partition("\t") for line in labels.read_text(encoding="utf-8").splitlines())
    found = ((name, _FALL.search(text)) for name, _, text in lines)
    return {name: float(fall[1]) for name, fall in found if fall}


def read(folder: Path, network: MultiPose, progress: Progress = lambda *_: None) -> list[Clip]:
    """The clips of a folder, by name; `progress`: called with how many were looked at, and of how many.

    LearningError where there are none, where labels or a clip can't be read, and where nobody falls in any of them.
    """
    labels = folder / "labels.tsv"
    try:
        falls = falls_in(labels)
    except (OSError, UnicodeDecodeError) as error:
        raise LearningError(f"{labels}: when somebody falls can't be read there ({error}); write it") from error
    paths = sorted(folder.glob("*.mp4"))
    clips = []
    for done, path in enumerate(paths):
        progress(done, len(paths))
        clips.append(_clip(path, network, falls.get(path.name)))
    seen = [clip for clip in clips if clip is not None]
    if not any(clip.fell_s is not None for clip in seen):
        raise LearningError(
            f"{folder}: nobody falls in its clips; name them SUBJECT_ANYTHING.mp4 and write into labels.tsv when "
            "somebody falls: the clip's name, a tab, Fall[2.3 to 6]"
        )
    return seen


def _clip(path: Path, network: MultiPose, fell_s: float | None) -> Clip | None:
    """What is seen in it of the likeliest person; None where nobody is."""
    import torch

    times, squares, (width, height) = _pictures(path)
    if not len(squares):
        raise LearningError(f"{path}: no pictures in it; take it out of the folder")
    people = []
    with torch.inference_mode():
        for start in range(0, len(squares), _BATCH):
            people.append(network(torch.from_numpy(squares[start : start + _BATCH])).numpy())
    rows = np.concatenate(people)
    best = rows[np.arange(len(rows)), rows[..., 55].argmax(axis=1)]
    seen = best[:, 55] >= _LEAST
    if not seen.any():
        return None
    best = best[seen]
    points = best[:, :51].reshape(-1, 17, 3)[..., [1, 0, 2]] / np.array([width, height, 1.0])
    boxes = best[:, [52, 51, 54, 53]] / np.array([width, height, width, height])
    subject = path.stem.partition("_")[0]
    aspect = width / height
    return Clip(path.stem, subject, fell_s, times[seen], aspect, boxes.astype(np.float32), points.astype(np.float32))


def _pictures(path: Path) -> tuple[Float, np.ndarray, tuple[float, float]]:
    """Times in seconds, uint8 `[N, 256, 256, 3]` with the picture at the top left, and the part of it that it takes."""
    import av

    times, squares, width, height = [], [], _SIZE, _SIZE
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                longer = max(frame.width, frame.height)
                width, height = round(frame.width * _SIZE / longer), round(frame.height * _SIZE / longer)
                square = np.zeros((_SIZE, _SIZE, 3), np.uint8)
                square[:height, :width] = frame.to_ndarray(format="rgb24", width=width, height=height)
                squares.append(square)
                times.append(frame.time or 0.0)
    except (av.error.FFmpegError, IndexError) as error:
        raise LearningError(f"{path}: can't be read ({error}); replace the file or take it out") from error
    seconds = np.array(times, np.float32)
    whole = np.stack(squares) if squares else np.zeros((0, _SIZE, _SIZE, 3), np.uint8)
    return seconds - seconds[:1], whole, (width / _SIZE, height / _SIZE)
