"""Who is in the pictures of a media file, found as the live service finds them: in the pictures that changed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models import data, people
from models.changes import Changes
from models.people import Found

if TYPE_CHECKING:
    import av
    from av.video.reformatter import VideoReformatter

# Its wheels report to their maker over the network unless told not to before they are loaded.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

SIZE = 256
_BATCH = 4  # pictures in one call: past this a CPU gains nothing
_S = 1_000_000_000

Look = tuple[NDArray[np.uint8], float, float]
"""uint8 `[SIZE, SIZE, 3]`: the whole picture with its shape kept at the top left, the rest black; and the parts of the
square's width and height that it takes."""


class Finder:
    """Finds people in looks; for one thread at a time or several."""

    def __init__(self, graph: Path) -> None:
        """`graph`: of `models.movenet.graph_of`."""
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

    def find(self, looks: Sequence[Look]) -> list[Found]:
        """Who is in each."""
        told: list[Found] = []
        for first in range(0, len(looks), _BATCH):
            chunk = looks[first : first + _BATCH]
            rows = self._session.run(["people"], {"pixels": np.stack([square for square, _, _ in chunk])})[0]
            told += [people.found(one, wide, high) for one, (_, wide, high) in zip(rows, chunk, strict=True)]
        return told


def seen_in(
    path: Path, finder: Finder, rate: int, size: int, start_s: float = 0.0, end_s: float | None = None
) -> NDArray[np.float32]:
    """The people of each picture that `models.data.pictures` gives of a piece of a video: float32 `[N, WIDTH]`, see
    models.people. `size`: of the pictures by which it is told whether anything changed. Raises UnreadableError."""
    changes, times, looked_s, looks = Changes(), [], [], []
    for at_s, rgb, look in _pictures(path, rate, size, start_s, end_s):
        times.append(at_s)
        if changes.wants(rgb, round(at_s * _S)):
            looked_s.append(at_s)
            looks.append(look)
    seen = list(zip(looked_s, finder.find(looks), strict=True))
    told = [people.newest(seen, at_s) for at_s in times]
    return np.stack(told) if told else np.zeros((0, people.WIDTH), np.float32)


def _pictures(
    path: Path, rate: int, size: int, start_s: float, end_s: float | None
) -> Iterator[tuple[float, NDArray[np.uint8], Look]]:
    """The pictures of a piece with their looks; the same pictures as those of models.data.pictures."""
    from av.video.reformatter import VideoReformatter

    whole = data.sampled(path, rate, start_s, end_s)
    small, large = VideoReformatter(), VideoReformatter()
    for at_s, frame in whole:
        yield at_s, data.scaled(small, frame, size, size), look_of(large, frame)


def look_of(scaler: VideoReformatter, frame: av.VideoFrame) -> Look:
    """A decoded picture, upright, for looking for people in."""
    longer = max(frame.width, frame.height)
    width, height = (max(1, round(side * SIZE / longer)) for side in (frame.width, frame.height))
    whole = data.scaled(scaler, frame, width, height)
    square = np.zeros((SIZE, SIZE, 3), np.uint8)
    square[: whole.shape[0], : whole.shape[1]] = whole
    return square, whole.shape[1] / SIZE, whole.shape[0] / SIZE
