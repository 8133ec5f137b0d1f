"""Encoded pictures as they leave the ring of a stream: what is needed to decode a few of them, somewhere else."""

from __future__ import annotations

import msgspec


class Coded(msgspec.Struct, frozen=True, gc=False):
    """One encoded picture. wall_ns: when it is to be shown, nanoseconds since 1970 on the stream's own wall clock (the
    one that its segments' times are of)."""

    data: bytes
    wall_ns: int
    is_key: bool


class Footage(msgspec.Struct, frozen=True):
    """Encoded pictures in the order of decoding, from a key frame on.

    codec: FFmpeg's name of it. setup: what a decoder must know beforehand (extradata). size: width and height where
    they were known. format: FFmpeg's name of the pixels' format, empty where the decoder finds out. turns: how often a
    picture is turned to the left by 90 degrees to stand upright.
    """

    codec: str
    setup: bytes
    size: tuple[int, int]
    format: str
    turns: int
    pictures: list[Coded]
