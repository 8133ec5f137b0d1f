"""How well falls are told of people that the judge never saw: each subject left out in turn, at several phases.

A phase is the moment at which the two pictures a second begin that somebody is looked for in: where a fall lies between
them is chance, and a clip says more if it is met at each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.fall_clips import Clip
from models.fall_judge import FallModel
from models.falls import Progress, Recipe, judged, train
from models.learning.errors import LearningError

PHASES_S = tuple(phase / 14 for phase in range(7))
_TOLD = 0.5  # from this probability on a fall is told
_HOP_S = 0.5  # of windows: what is seen in one is told at its end
_LATE_S = 1.5
# A fall is over when hips and shoulders have come as far down as they come in so long, but for this part of the way.
_COMES_DOWN_S = 3.0
_LEFT = 0.1

Began = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Told:
    """One clip of somebody who was left out.

    fell_s: when they began to fall, by the labels; None: they don't. rest_s: when they had come to rest, by their
    points (`rest_s`). told_s: by phase, the end of the window in which a fall is told first; None: in none.
    """

    name: str
    subject: str
    fell_s: float | None
    rest_s: float | None
    told_s: Sequence[float | None]

    @property
    def right_s(self) -> list[float]:
        """When the fall is told, of each phase that tells it and not before they began to fall."""
        fell_s = math.inf if self.fell_s is None else self.fell_s
        return [at_s for at_s in self.told_s if at_s is not None and at_s > fell_s]

    @property
    def false_alarms(self) -> int:
        """Phases at which a fall is told that is none, or not yet."""
        return sum(at_s is not None for at_s in self.told_s) - len(self.right_s)

    @property
    def found(self) -> bool:
        """Whether a fall is told at most of the phases."""
        return len(self.right_s) > len(self.told_s) / 2

    @property
    def late_s(self) -> list[float]:
        """Seconds from the end of the fall to when it is told, of each phase that tells it."""
        assert self.rest_s is not None
        return [at_s - self.rest_s for at_s in self.right_s]


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it, a row a clip."""

    clips: Sequence[Told]

    def document(self) -> dict[str, Any]:
        """Counts, for there are never many falls to count, and seconds, as JSON has them; clips one by one."""
        falls = [clip for clip in self.clips if clip.fell_s is not None]
        others = [clip for clip in self.clips if clip.fell_s is None]
        late_s = sorted(late for clip in falls for late in clip.late_s)
        return {
            "falls": len(falls),
            "found": sum(clip.found for clip in falls),
            "runs_with_falls": sum(len(clip.told_s) for clip in falls),
            "runs_found": len(late_s),
            "clips_without": len(others),
            "runs_without": sum(len(clip.told_s) for clip in others),
            "false_alarms": sum(clip.false_alarms for clip in others),
            "alarms_before_falls": sum(clip.false_alarms for clip in falls),
            "latency_s": {
                "median": round(float(np.median(late_s)), 2) if late_s else None,
                "most": round(late_s[-1], 2) if late_s else None,
                "within_1.5": sum(late <= _LATE_S for late in late_s),
            },
            "clips": [
                {"clip": clip.name, "left_out": clip.subject, "fell_s": clip.fell_s, "rest_s": clip.rest_s}
                | {"told_s": [None if at_s is None else round(at_s, 2) for at_s in clip.told_s]}
                for clip in self.clips
            ],
        }


def unseen(
    clips: Sequence[Clip], recipe: Recipe, began: Began = lambda *_: None, progress: Progress = lambda *_: None
) -> Trial:
    """Each subject's clips told by a judge that learnt from the others'. `began`: called with the subject that is left
    out, its number and of how many; `progress`: of each training. LearningError where there are not two subjects."""
    subjects = sorted({clip.subject for clip in clips})
    if len(subjects) < 2:
        raise LearningError(
            f"all clips are of {subjects[0] if subjects else 'nobody'}: with them left out nothing is left; add clips "
            "of somebody else, called SUBJECT_ANYTHING.mp4"
        )
    told = []
    for number, subject in enumerate(subjects, 1):
        began(subject, number, len(subjects))
        model = train([clip for clip in clips if clip.subject != subject], recipe, progress).model()
        told += [_told(model, clip) for clip in clips if clip.subject == subject]
    return Trial(told)


def found_s(model: FallModel, clip: Clip, phase_s: float) -> float | None:
    """When the judge first says that somebody has fallen, in seconds of the clip; None: it never does."""
    track = clip.track(phase_s)
    for at_ns, probability in zip(track.times_ns.tolist(), judged(model, track), strict=True):
        if probability >= _TOLD:
            return float(at_ns / 1e9)
    return None


def rest_s(clip: Clip) -> float | None:
    """When somebody who falls has come down, in seconds of the clip; None where nobody falls."""
    if clip.fell_s is None:
        return None
    falling = (clip.times_s >= clip.fell_s) & (clip.times_s <= clip.fell_s + _COMES_DOWN_S)
    times_s, points = clip.times_s[falling], clip.points[falling]
    if not len(times_s):
        return clip.fell_s
    height = _smooth(points[:, [5, 6, 11, 12], 1].mean(axis=1))  # y runs down
    down = height.max() - _LEFT * (height.max() - height[0])
    return round(float(times_s[int(np.argmax(height >= down))]), 2)


def _smooth(values: np.ndarray) -> np.ndarray:
    """The middle of each value and its two neighbours on either side: points of who tumbles jump."""
    padded = np.pad(values, 2, mode="edge")
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1))


def _told(model: FallModel, clip: Clip) -> Told:
    seen = [found_s(model, clip, phase_s) for phase_s in PHASES_S]
    ends = [None if at_s is None else (math.floor(at_s / _HOP_S) + 1) * _HOP_S for at_s in seen]
    return Told(clip.name, clip.subject, clip.fell_s, rest_s(clip), ends)
