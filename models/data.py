"""Media files as arrays, for training and measuring; the live service has a decoder of its own.

PyAV is imported where it is used, so that the package imports on a machine that has only torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import av
    import av.container
    from av.video.reformatter import VideoReformatter
    from numpy.typing import NDArray

SECOND_NS = 1_000_000_000
Fit = Literal["squash", "crop"]

_UNSAID = 2  # colour space of a picture whose file doesn't say
_HIGH_DEFINITION = 720  # rows, from which on unsaid colours are BT.709
_GAP_S = 0.005  # less is a matter of rounded times
_SEEK_S = 2.0  # pieces that start later than this are sought: to half of it before, so that decoders have settled


@dataclass(frozen=True, slots=True)
class Tracks:
    """What is in a file: whether pictures and sound, and how many seconds from the first picture (first sound, where
    there are none) to the end of the longer of the two."""

    video: bool
    audio: bool
    duration_s: float


class UnreadableError(Exception):
    """A file that FFmpeg can't read, or not to its end; the message says why."""


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


def pictures(
    path: Path, rate: int, size: int, start_s: float = 0.0, end_s: float | None = None
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """The pictures of a piece of a video, `rate` a second where it has so many: each with its own time in seconds from
    the piece's start, uint8 RGB `[size, size, 3]`, squashed, upright and coloured as live ones are.

    Seconds count from the file's first picture (see `sound`). Nothing where the file has no video.
    Raises UnreadableError.
    """
    from av.video.reformatter import VideoReformatter

    with _opened(path) as container:
        if not container.streams.video:
            return
        stream = container.streams.video[0]
        zero_s = _zero_s(container)
        _seek(container, zero_s, start_s)
        interval_s = 1 / float(stream.average_rate or rate)
        slack_s = min(interval_s / 2, 1 / (8 * rate))
        scaler, taken = VideoReformatter(), 0
        for frame in container.decode(stream):
            at_s = (frame.time or 0.0) - zero_s - start_s
            if end_s is not None and at_s + slack_s >= end_s - start_s:
                return
            if at_s + slack_s >= taken / rate:
                yield max(0.0, at_s), _squashed(scaler, frame, size)
                taken = max(taken, int((at_s + slack_s) * rate)) + 1


def sampled(
    path: Path, rate: int, start_s: float = 0.0, end_s: float | None = None
) -> Iterator[tuple[float, av.VideoFrame]]:
    """The same pictures as `pictures` gives, as they are decoded; see `scaled`. Raises UnreadableError."""
    with _opened(path) as container:
        if not container.streams.video:
            return
        stream = container.streams.video[0]
        zero_s = _zero_s(container)
        _seek(container, zero_s, start_s)
        interval_s = 1 / float(stream.average_rate or rate)
        slack_s = min(interval_s / 2, 1 / (8 * rate))
        taken = 0
        for frame in container.decode(stream):
            at_s = (frame.time or 0.0) - zero_s - start_s
            if end_s is not None and at_s + slack_s >= end_s - start_s:
                return
            if at_s + slack_s >= taken / rate:
                yield max(0.0, at_s), frame
                taken = max(taken, int((at_s + slack_s) * rate)) + 1


def scaled(scaler: VideoReformatter, frame: av.VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
    """A decoded picture as uint8 RGB `[height, width, 3]` (the sides changed where it is turned): whole, upright and
    coloured as the service converts pictures."""
    from av.video.reformatter import Colorspace, Interpolation

    hd = frame.colorspace == _UNSAID and frame.height >= _HIGH_DEFINITION
    made = scaler.reformat(
        frame,
        width=width,
        height=height,
        format="rgb24",
        src_colorspace=int(Colorspace.ITU709) if hd else None,
        interpolation=Interpolation.BILINEAR,
    )
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(np.asarray(made.to_ndarray(), np.uint8), turns))


def sound(
    path: Path, start_s: float = 0.0, end_s: float | None = None, sample_rate: int = 16000
) -> NDArray[np.float32]:
    """The sound of a piece of a file, mixed to one channel: float32 `[S]` in -1..1; empty where there is none.

    Sample 0 is the moment `start_s`, counted from the file's first picture (first sound, where it has no pictures), so
    that it stands in time to what `pictures` gives; a track that begins later is silent before.
    Raises UnreadableError.
    """
    with _opened(path) as container:
        if not container.streams.audio:
            return np.zeros(0, np.float32)
        zero_s = _zero_s(container)
        _seek(container, zero_s, start_s)
        first_s, whole = _in_time(container, sample_rate, None if end_s is None else end_s + zero_s)
    early = round((start_s + zero_s - first_s) * sample_rate)
    whole = whole[early:] if early >= 0 or not len(whole) else np.pad(whole, (-early, 0))
    return whole if end_s is None else whole[: round((end_s - start_s) * sample_rate)]


@contextmanager
def _opened(path: Path) -> Iterator[av.container.InputContainer]:
    import av

    try:
        with av.open(str(path)) as container:
            yield container
    except av.error.FFmpegError as error:
        raise UnreadableError(f"{path}: {error.strerror or error}") from error


def _in_time(
    container: av.container.InputContainer, sample_rate: int, end_s: float | None
) -> tuple[float, NDArray[np.float32]]:
    """The time of the first sample, and the sound up to `end_s` of the file's own time; gaps are silence."""
    import av

    resampler = av.AudioResampler(format="flt", layout="mono", rate=sample_rate)
    pieces = [np.zeros(0, np.float32)]
    first_s = due_s = None
    for frame in container.decode(container.streams.audio[0]):
        at_s = frame.time
        if at_s is None:
            at_s = due_s or 0.0
        if first_s is None or due_s is None:
            first_s = due_s = at_s
        if end_s is not None and at_s > end_s:
            break
        if at_s - due_s > _GAP_S:
            # Where a decoder swallows what the encoder put before the beginning, it may leave the first time as it was.
            pieces.append(np.zeros(round((at_s - due_s) * sample_rate), np.float32))
            due_s = at_s
        due_s += frame.samples / frame.sample_rate
        pieces += [_samples(piece) for piece in resampler.resample(frame)]
    if first_s is not None:
        pieces += [_samples(piece) for piece in resampler.resample(None)]
    return first_s or 0.0, np.concatenate(pieces)


def _samples(piece: av.AudioFrame) -> NDArray[np.float32]:
    return np.asarray(piece.to_ndarray(), np.float32).reshape(-1)


def tracks(path: Path) -> Tracks:
    """What is in a file, from its packets and the first picture and sound of each track: a file that ends early is as
    long as what is left of it. Raises UnreadableError, also where the file has neither."""
    with _opened(path) as container:
        chosen = [*container.streams.video[:1], *container.streams.audio[:1]]
        if not chosen:
            raise UnreadableError(f"{path}: neither pictures nor sound in it")
        zero_s, end_s = _zero_s(container), 0.0
        undecoded = {stream.index for stream in chosen}
        for packet in container.demux(chosen):
            if packet.pts is not None and packet.time_base is not None:
                end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base) - zero_s)
            if packet.stream.index in undecoded and packet.decode():
                undecoded.discard(packet.stream.index)
        video, audio = bool(container.streams.video), bool(container.streams.audio)
        if undecoded:
            raise UnreadableError(f"{path}: a track of it can't be decoded")
        return Tracks(video, audio, end_s)


def _zero_s(container: av.container.InputContainer) -> float:
    """The moment that seconds of a file count from."""
    for stream in (*container.streams.video[:1], *container.streams.audio[:1]):
        if stream.start_time is not None and stream.time_base is not None:
            return float(stream.start_time * stream.time_base)
    return 0.0


def _seek(container: av.container.InputContainer, zero_s: float, start_s: float) -> None:
    if start_s > _SEEK_S:
        container.seek(round((zero_s + start_s - _SEEK_S / 2) * 1_000_000), backward=True)


def _squashed(scaler: VideoReformatter, frame: av.VideoFrame, size: int) -> NDArray[np.uint8]:
    """As the service converts pictures: whole, bilinear, BT.709 from 720 rows on unless it says, turned upright."""
    from av.video.reformatter import Colorspace, Interpolation

    hd = frame.colorspace == _UNSAID and frame.height >= _HIGH_DEFINITION
    made = scaler.reformat(
        frame,
        width=size,
        height=size,
        format="rgb24",
        src_colorspace=int(Colorspace.ITU709) if hd else None,
        interpolation=Interpolation.BILINEAR,
    )
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(np.asarray(made.to_ndarray(), np.uint8), turns))


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
