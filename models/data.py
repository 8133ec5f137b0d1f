"""Media files as arrays, for training and measuring; the live service has a decoder of its own.

PyAV is imported where it is used, so that the package imports on a machine that has only torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray

SECOND_NS = 1_000_000_000
Fit = Literal["squash", "crop"]


def read_frames(path: Path, rate: int, size: int = 224, fit: Fit = "squash") -> NDArray[np.uint8]:
    """The pictures shown at 0, 1/rate, 2/rate ... seconds of a video or still image: uint8 RGB [N, size, size, 3].

    `squash` scales the whole picture to the square, whatever its shape; `crop` keeps its shape and takes the middle.
    N is 0 where the file has no video. Times count from the first picture.

    Raises `av.error.FFmpegError` for what FFmpeg can't read.
    """
    import av

    pictures: list[NDArray[np.uint8]] = []
    with av.open(str(path)) as container:
        if not container.streams.video:
            return np.zeros((0, size, size, 3), np.uint8)
        first_ns = None
        for frame in container.decode(container.streams.video[0]):
            shown_ns = round((frame.time or 0.0) * SECOND_NS)
            first_ns = shown_ns if first_ns is None else first_ns
            if shown_ns - first_ns >= len(pictures) * SECOND_NS // rate:
                pictures.append(_square(frame, size, fit))
    return np.stack(pictures) if pictures else np.zeros((0, size, size, 3), np.uint8)


def read_audio(path: Path, sample_rate: int = 16000) -> NDArray[np.float32]:
    """The first audio track, mixed to one channel: float32 [S] in -1..1 at `sample_rate`; S is 0 where there is none.

    Raises `av.error.FFmpegError` for what FFmpeg can't read.
    """
    import av

    with av.open(str(path)) as container:
        if not container.streams.audio:
            return np.zeros(0, np.float32)
        resampler = av.AudioResampler(format="flt", layout="mono", rate=sample_rate)
        pieces = [
            piece.to_ndarray().reshape(-1)
            for frame in (*container.decode(container.streams.audio[0]), None)
            for piece in resampler.resample(frame)
        ]
    return np.concatenate(pieces).astype(np.float32) if pieces else np.zeros(0, np.float32)


def _square(frame: av.VideoFrame, size: int, fit: Fit) -> NDArray[np.uint8]:
    """Area scaling: as good as any for the labels of real clips, and quicker than bilinear on a 720p picture."""
    from av.video.reformatter import Interpolation

    width, height = size, size
    if fit == "crop":
        scale = size / min(frame.width, frame.height)
        width, height = max(size, round(frame.width * scale)), max(size, round(frame.height * scale))
    pixels = frame.reformat(width, height, "rgb24", interpolation=Interpolation.AREA).to_ndarray()
    top, left = (height - size) // 2, (width - size) // 2
    return np.ascontiguousarray(pixels[top : top + size, left : left + size])
