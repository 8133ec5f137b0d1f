"""Encoded pictures to a blurred one, or to a clip of them. Nothing that is not blurred leaves this module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Protocol, cast

import av
import numpy as np
from av.video.reformatter import Colorspace, Interpolation
from numpy.typing import NDArray

from streamer.footage import Footage
from streamer.pictures.blur import Boxes, blurred, spread
from streamer.pictures.encode import encode_clip, encode_jpeg
from streamer.pictures.job import Developed, Job

_S = 1_000_000_000
_NS_BASE = Fraction(1, _S)
# Pictures larger than this are refused before they are decoded (8K is 33 million).
_MAX_PIXELS = 50_000_000
_SNAPSHOT_SIDE, _CLIP_SIDE = 1280, 640
# Pictures of a clip are looked at enlarged: a face of 10 pixels is still one to who knows it.
_CLIP_LOOK = 960
_CLIP_STEP_NS = _S // 5
_MOST_PICTURES = 80
# A picture further than this from the moment that is asked for does not show it.
_TOO_FAR_NS = 2 * _S


class Finder(Protocol):
    """Finds faces, or heads."""

    def find(self, rgb: NDArray[np.uint8], side: int) -> Boxes:
        """The boxes of those in uint8 `[H, W, 3]`, looked at with this longer side."""
        ...


class Finders:
    """What any of several finds."""

    def __init__(self, finders: Sequence[Finder]) -> None:
        self._finders = finders

    def find(self, rgb: NDArray[np.uint8], side: int) -> Boxes:
        """See `Finder`."""
        return np.concatenate([finder.find(rgb, side) for finder in self._finders])


def develop(job: Job, finder: Finder) -> Developed:
    """The picture, as JPEG, or the clip, as MP4."""
    if job.clip_ns:
        return _clip(job, finder)
    nearest: av.VideoFrame | None = None
    for frame in _decoded(job.footage):
        if nearest is None or abs(_shown_ns(frame) - job.at_ns) < abs(_shown_ns(nearest) - job.at_ns):
            nearest = frame
    if nearest is None:
        return Developed(None, "nothing of it can be decoded")
    if abs(_shown_ns(nearest) - job.at_ns) > _TOO_FAR_NS:
        return Developed(None, "no picture of that moment is kept")
    rgb = _upright(nearest, _SNAPSHOT_SIDE, job.footage.turns)
    boxes = finder.find(rgb, _SNAPSHOT_SIDE)
    return Developed(encode_jpeg(blurred(rgb, boxes)), None, 1, len(boxes))


def _clip(job: Job, finder: Finder) -> Developed:
    begin_ns, end_ns = job.at_ns - job.clip_ns // 2, job.at_ns + job.clip_ns // 2
    times: list[int] = []
    pictures: list[NDArray[np.uint8]] = []
    due_ns = begin_ns
    for frame in _decoded(job.footage):
        at_ns = _shown_ns(frame)
        if due_ns <= at_ns <= end_ns and len(pictures) < _MOST_PICTURES:
            times.append(at_ns)
            pictures.append(_upright(frame, _CLIP_SIDE, job.footage.turns))
            # On the grid of fifths of a second, where the camera is as quick as that.
            due_ns += ((at_ns - due_ns) // _CLIP_STEP_NS + 1) * _CLIP_STEP_NS
    if len(pictures) < 2:
        return Developed(None, "too little of that time is kept")
    # A camera may change its size: the clip has that of most of its pictures.
    shapes = [picture.shape for picture in pictures]
    usual = max(set(shapes), key=shapes.count)
    kept = [(at_ns, picture) for at_ns, picture in zip(times, pictures, strict=True) if picture.shape == usual]
    found = [finder.find(picture, _CLIP_LOOK) for _, picture in kept]
    finished = [
        (at_ns - kept[0][0], blurred(picture, boxes))
        for (at_ns, picture), boxes in zip(kept, spread(found), strict=True)
    ]
    return Developed(encode_clip(finished), None, len(finished), sum(map(len, found)))


def _decoded(footage: Footage) -> Iterator[av.VideoFrame]:
    """What can be decoded, with wall time as its stamps."""
    context = av.CodecContext.create(footage.codec, "r")
    assert isinstance(context, av.VideoCodecContext)
    context.extradata = footage.setup or None
    context.width, context.height = footage.size
    if footage.format:
        context.pix_fmt = footage.format
    context.thread_count = 1
    context.options = {"max_pixels": str(_MAX_PIXELS)}
    packets = [_packet(coded.data, coded.wall_ns, coded.is_key) for coded in footage.pictures]
    for packet in (*packets, None):
        try:
            frames = context.decode(packet)
        except av.FFmpegError:
            continue  # what refers to it is marked as corrupt, or repaired by the decoder
        yield from (frame for frame in frames if frame.pts is not None and not frame.is_corrupt)


def _packet(data: bytes, wall_ns: int, is_key: bool) -> av.Packet[av.VideoStream]:
    packet = cast("av.Packet[av.VideoStream]", av.Packet(data))
    packet.pts, packet.time_base, packet.is_keyframe = wall_ns, _NS_BASE, is_key
    return packet


def _shown_ns(frame: av.VideoFrame) -> int:
    assert frame.pts is not None
    return frame.pts


def _upright(frame: av.VideoFrame, side: int, turns: int) -> NDArray[np.uint8]:
    """uint8 `[H, W, 3]`, even sides and none longer than `side`."""
    scale = min(1.0, side / max(frame.width, frame.height))
    width, height = (max(2, int(length * scale) // 2 * 2) for length in (frame.width, frame.height))
    # Unsaid, it is BT.601 for standard definition and BT.709 above, as every player takes it (ITU-R BT.709).
    unsaid = frame.colorspace == 2 and frame.height >= 720
    small = frame.reformat(
        width=width,
        height=height,
        format="rgb24",
        src_colorspace=int(Colorspace.ITU709) if unsaid else None,
        interpolation=Interpolation.AREA if scale < 1 else Interpolation.BILINEAR,
    )
    rgb = np.asarray(small.to_ndarray(), np.uint8)
    return np.ascontiguousarray(np.rot90(rgb, turns))
