"""What the service and the process that makes pictures say to each other."""

from __future__ import annotations

import msgspec

from streamer.footage import Footage


class Detectors(msgspec.Struct, frozen=True):
    """The files of what finds faces and, where it is there, heads: weights of CenterFace, the graph of MoveNet."""

    faces: str
    heads: str | None = None


class Job(msgspec.Struct, frozen=True):
    """What to make: a picture of `at_ns`, or a clip of `clip_ns` around it where that is more than 0; wall time."""

    footage: Footage
    at_ns: int
    clip_ns: int = 0


class Developed(msgspec.Struct, frozen=True):
    """A finished file, or None and why there is none; how many pictures are in it, and how many faces were found."""

    data: bytes | None
    why: str | None = None
    pictures: int = 0
    faces: int = 0
