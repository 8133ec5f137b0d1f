"""What the service and the process that listens say to each other: MessagePack, each message after its length."""

from __future__ import annotations

import struct

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.speech.files import SpeechFiles
from streamer.speech.heard import Heard, Hearing

LENGTH = struct.Struct("<I")
_FULL = 32_767.0


class Put(msgspec.Struct, frozen=True, tag="put"):
    """Listen to a stream; as SpeechOptions. number: of its next utterance."""

    stream: str
    number: int
    weight: float
    denoise: bool
    language: str | None


class Sound(msgspec.Struct, frozen=True, tag="sound"):
    """16-bit samples, 16 kHz mono, little-endian. lost_ns: so much before them was lost on the way."""

    stream: str
    media_ns: int
    samples: bytes
    lost_ns: int = 0


class End(msgspec.Struct, frozen=True, tag="end"):
    """Sound ends; `removed`: for good."""

    stream: str
    removed: bool = False


class Ease(msgspec.Struct, frozen=True, tag="ease"):
    """Leave out so much, of all streams."""

    level: int


Told = Put | Sound | End | Ease
"""What the service says."""


class Said(msgspec.Struct, frozen=True):
    """What the process says: what was heard, in order, and how each stream is listened to."""

    heard: list[Heard] = []
    hearing: dict[str, Hearing] | None = None


class ListenSettings(msgspec.Struct, frozen=True):
    """What the process is told on a line of JSON when it starts. socket: file descriptor on which all the rest is said.
    threads: cores that it may use."""

    files: SpeechFiles
    socket: int
    threads: int


class SpeechReport(msgspec.Struct, frozen=True):
    """Once a second, since the process began. utterances: that became final with words. partials, finals: passes of the
    recogniser over utterances in progress, and ended ones. fed_s, shed_s: seconds of sound that came, and that were
    left out; shed: utterances left out. doubted: how many were not believed, by why. busy: the part of the last second
    that passes took."""

    utterances: int = 0
    partials: int = 0
    finals: int = 0
    fed_s: float = 0.0
    shed_s: float = 0.0
    shed: int = 0
    doubted: dict[str, int] = {}
    busy: float = 0.0
    device: str = "cpu"


def framed(message: msgspec.Struct) -> bytes:
    """The message after its length."""
    body = msgspec.msgpack.encode(message)
    return LENGTH.pack(len(body)) + body


def packed(samples: NDArray[np.float32]) -> bytes:
    """float32 `[n]` in [-1, 1] as 16-bit samples."""
    return (np.clip(samples, -1.0, 1.0) * _FULL).astype("<i2").tobytes()


def unpacked(samples: bytes) -> NDArray[np.float32]:
    """The other way round."""
    return np.frombuffer(samples, "<i2").astype(np.float32) / np.float32(_FULL)
