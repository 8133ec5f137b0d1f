"""Who has fallen: a small recurrent network over what a person's points and box do from sighting to sighting.

numpy alone, so that the live service asks it without torch; `streamer train falls` trains it. What it is given is free
of place and scale: angles, shares of the body's own size, and how those change. The network is a gated recurrent unit
(Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014) in torch's form, and one logit.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.checkpoint import CheckpointError

FORMAT = "streamer-falls"
VERSION = "1"
SHIPPED = Path(__file__).with_name("falls.safetensors")
"""The judge that comes with the program."""
FEATURES = 30
TENSORS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_out", "bias_out")

_HEAD, _SHOULDERS, _HIPS, _KNEES, _ANKLES = [0, 1, 2, 3, 4], [5, 6], [11, 12], [13, 14], [15, 16]
_S = 1_000_000_000
# How far back changes are measured, and the least that counts as so far back: sightings are not quite regular.
_BACK_S = (0.4, 0.9, 1.8)
_HISTORY_S = 4.0
# A body's size is the longest its box was lately: who lies towards the camera is still as tall as they stood.
_SIZE_FADES_S = 10.0
# From this probability on somebody counts as fallen, and until they stand upright again they still do, at this one.
_FALLEN = 0.5
_HELD = 0.75
# Upright: the torso's downward part, and the box's height to its width, in so many sightings one after the other;
# and the most that is said then.
_UPRIGHT = 0.8
_TALL = 1.3
_UPRIGHT_TIMES = 2
_STANDS = 0.2
# Points less sure than this were not found at all.
_FOUND = 0.05

Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Stance:
    """One sighting in heights of the picture; y runs down."""

    at_s: float
    head: NDArray[np.float64]
    hips: NDArray[np.float64]
    middle: float
    bottom: float
    diagonal: float
    upright: float


class FallFeatures:
    """One person's sightings, in their order, as what the network is given."""

    def __init__(self) -> None:
        self._past: deque[_Stance] = deque()
        self._size = 0.0

    def update(self, media_ns: int, aspect: float, box: Float, points: Float) -> Float:
        """float32 `[FEATURES]` of this sighting and those before.

        Args:
            media_ns: its media time.
            aspect: the picture's width over its height.
            box: float32 `[4]`: left, top, right, bottom; points: float32 `[17, 3]`: x, y, score, in the order of COCO;
                places in fractions of the picture.
        """
        body = points.astype(np.float64) * (aspect, 1.0, 1.0)
        left, top, right, bottom = (float(side) for side in box)
        width, height = max((right - left) * aspect, 1e-3), max(bottom - top, 1e-3)
        head, shoulders, hips = _middle(body, _HEAD), _middle(body, _SHOULDERS), _middle(body, _HIPS)
        knees, ankles = _middle(body, _KNEES), _middle(body, _ANKLES)
        torso = hips - shoulders
        length = max(math.hypot(*torso), 1e-3)
        now = _Stance(
            media_ns / _S, head, hips, (left + right) / 2 * aspect, bottom, math.hypot(width, height), torso[1] / length
        )
        gap_s = now.at_s - self._past[-1].at_s if self._past else 0.5
        self._size = size = max(now.diagonal, self._size * math.exp(-max(gap_s, 0.0) / _SIZE_FADES_S))
        values = [
            torso[1] / length,
            abs(torso[0]) / length,
            length / size * 2,
            math.log(width / height) / 1.5,
            height / size,
            width / size,
            (knees - hips)[1] / size * 2,
            (ankles - hips)[1] / size * 2,
            (hips - head)[1] / size * 2,
            abs((knees - hips)[0]) / size * 2,
            abs((ankles - hips)[0]) / size * 2,
            *(float(body[rows, 2].mean()) for rows in (_HEAD, _SHOULDERS + _HIPS, _KNEES + _ANKLES)),
            math.log(max(gap_s, 0.05) / 0.5),
            float(left < 0.02 or right > 0.98),
            float(top < 0.02),
            float(bottom > 0.98),
            *self._changes(now, size),
        ]
        self._past.append(now)
        while now.at_s - self._past[0].at_s > _HISTORY_S:
            self._past.popleft()
        return np.clip(np.array(values, np.float32), -3.0, 3.0)

    def _changes(self, now: _Stance, size: float) -> list[float]:
        """How far head, hips and the rest have come in the last half, whole and two seconds."""
        if not self._past:
            return [0.0] * 11 + [now.upright]
        half, whole, two = (self._since(now, back) for back in _BACK_S)
        values = []
        for before in (half, whole, two):
            values += [(now.head - before.head)[1] / size * 2, (now.hips - before.hips)[1] / size * 3]
        values += [now.upright - half.upright, now.upright - whole.upright]
        values += [(now.bottom - whole.bottom) / size * 2, abs(now.middle - whole.middle) / size]
        values += [2 * math.log(now.diagonal / whole.diagonal)]
        return [*values, max(now.upright, *(stance.upright for stance in self._past))]

    def _since(self, now: _Stance, back_s: float) -> _Stance:
        """The latest that is at least so far back, or the first there is."""
        for stance in reversed(self._past):
            if now.at_s - stance.at_s >= back_s:
                return stance
        return self._past[0]


@dataclass(frozen=True, slots=True)
class FallModel:
    """The network's weights, float32, H units: `weight_ih` `[3H, FEATURES]`, `weight_hh` `[3H, H]`, `bias_ih` and
    `bias_hh` `[3H]` (reset, update, new), `weight_out` `[1, H]`, `bias_out` `[1]`."""

    weight_ih: Float
    weight_hh: Float
    bias_ih: Float
    bias_hh: Float
    weight_out: Float
    bias_out: Float

    @classmethod
    def load(cls, path: Path) -> Self:
        """The weights in a file that `models.falls` wrote. Raises CheckpointError for a missing or damaged one."""
        # Opened as arrays, not tensors: that way safetensors leaves torch alone.
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as file:
                header = file.metadata() or {}
                if (header.get("format"), header.get("version")) != (FORMAT, VERSION):
                    raise CheckpointError(
                        f"{path}: no judge of falls of this version; make it anew by: streamer train falls"
                    )
                model = cls(**{name: file.get_tensor(name) for name in TENSORS})
        except FileNotFoundError as error:
            raise CheckpointError(f"{path}: no such file; make it by: streamer train falls") from error
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: not a judge of falls, or damaged ({error})") from error
        units = model.weight_hh.shape[1]
        shapes = [getattr(model, name).shape for name in TENSORS]
        if shapes != [(3 * units, FEATURES), (3 * units, units), (3 * units,), (3 * units,), (1, units), (1,)]:
            raise CheckpointError(f"{path}: its tensors are of other shapes; make it anew by: streamer train falls")
        return model

    def start(self) -> Float:
        """What the network knows before the first sighting: float32 `[H]`."""
        return np.zeros(self.weight_hh.shape[1], np.float32)

    def step(self, features: Float, state: Float) -> tuple[float, Float]:
        """One sighting, float32 `[FEATURES]`: the logit, and the state after it, float32 `[H]`."""
        given = self.weight_ih @ features + self.bias_ih
        kept = self.weight_hh @ state + self.bias_hh
        units = len(state)
        reset = _sigmoid(given[:units] + kept[:units])
        update = _sigmoid(given[units : 2 * units] + kept[units : 2 * units])
        new = np.tanh(given[2 * units :] + reset * kept[2 * units :])
        after = (1 - update) * new + update * state
        return float((self.weight_out @ after + self.bias_out)[0]), after.astype(np.float32)


class FallJudge:
    """Watches one person."""

    def __init__(self, model: FallModel) -> None:
        self._model = model
        self._begin()

    def _begin(self) -> None:
        self._features = FallFeatures()
        self._state = self._model.start()
        self._fallen = False
        self._upright = 0
        self._said = 0.0

    def update(self, media_ns: int, aspect: float, box: Float, points: Float) -> float:
        """The probability, in [0, 1], that this person has fallen by `media_ns` and not got up since; called for each
        sighting of them in order, arguments as `FallFeatures.update` has them.

        Once they count as fallen they do until they have been upright in two sightings, however still they lie. Where
        only a face is seen, what was said before is said again.
        """
        if points[_SHOULDERS + _HIPS, 2].max() >= _FOUND:
            self._said = self._judge(media_ns, aspect, box, points)
        return self._said

    def _judge(self, media_ns: int, aspect: float, box: Float, points: Float) -> float:
        features = self._features.update(media_ns, aspect, box, points)
        logit, self._state = self._model.step(features, self._state)
        probability = 1 / (1 + math.exp(-max(-30.0, min(30.0, logit))))
        left, top, right, bottom = (float(side) for side in box)
        stands = features[0] > _UPRIGHT and bottom - top > _TALL * (right - left) * aspect
        self._upright = self._upright + 1 if stands else 0
        if self._fallen and self._upright >= _UPRIGHT_TIMES:
            self._begin()
            return min(probability, _STANDS)
        self._fallen = self._fallen or probability >= _FALLEN
        return max(probability, _HELD) if self._fallen else probability


def _middle(body: NDArray[np.float64], rows: list[int]) -> NDArray[np.float64]:
    """The middle of these points, the surer ones counting more: x and y."""
    # What is not seen is guessed, and a guess is better than nothing.
    weights = body[rows, 2] + 0.02
    middle: NDArray[np.float64] = (body[rows, :2] * weights[:, None]).sum(axis=0) / weights.sum()
    return middle


def _sigmoid(values: Float) -> Float:
    result: Float = 0.5 * (1 + np.tanh(0.5 * values))
    return result
