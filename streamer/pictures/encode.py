"""Pictures to files that hold nothing but the pictures: no name of a program, no time, no place."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.codec.context import Flags
from numpy.typing import NDArray

# Of 2 (best) to 31.
_QUANTISER = 4
_MS = Fraction(1, 1000)
_X264 = {"preset": "veryfast", "crf": "26", "bf": "0"}


def encode_jpeg(rgb: NDArray[np.uint8]) -> bytes:
    """uint8 `[H, W, 3]` RGB -> a JPEG file, 4:2:0."""
    context = av.CodecContext.create("mjpeg", "w")
    context.height, context.width = rgb.shape[:2]
    context.pix_fmt = "yuvj420p"
    context.time_base = Fraction(1, 1)
    context.qmin = context.qmax = _QUANTISER
    context.thread_count = 1
    context.flags |= Flags.bitexact  # or it signs with its own name
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuvj420p")
    return b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode(None)))


def encode_clip(pictures: Sequence[tuple[int, NDArray[np.uint8]]]) -> bytes:
    """Pictures, uint8 `[H, W, 3]` RGB of one size with even sides, and when to show each, in nanoseconds from the
    first -> an MP4 file, H.264.

    Raises:
        av.codec.codec.UnknownCodecError: this build of PyAV has no encoder of H.264.
    """
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"fflags": "bitexact"}) as output:
        stream = output.add_stream("libx264", rate=5, options=_X264)
        stream.height, stream.width = pictures[0][1].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = stream.time_base = _MS
        stream.codec_context.thread_count = 1
        # x264 tells of itself and all its settings in the first picture (SEI, NAL unit 6).
        unsigned = BitStreamFilterContext("filter_units=remove_types=6", stream)
        for since_ns, rgb in pictures:
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = since_ns // 1_000_000, _MS
            for packet in stream.encode(frame):
                output.mux(unsigned.filter(packet))
        for packet in stream.encode(None):
            output.mux(unsigned.filter(packet))
    return file.getvalue()
