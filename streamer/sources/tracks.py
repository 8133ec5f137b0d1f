"""What decoders and stamps need to know of a track, whether FFmpeg opened it or it came in some other way."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import av


class VideoTrack(Protocol):
    """Pictures: an `av.VideoStream` is one. `guessed_rate`: pictures a second, `start_time`: the first stamp;
    None where nothing says."""

    @property
    def index(self) -> int: ...

    @property
    def time_base(self) -> Fraction | None: ...

    @property
    def guessed_rate(self) -> Fraction | None: ...

    @property
    def start_time(self) -> int | None: ...

    @property
    def codec_context(self) -> av.VideoCodecContext: ...


class AudioTrack(Protocol):
    """Sound: an `av.AudioStream` is one."""

    @property
    def index(self) -> int: ...

    @property
    def time_base(self) -> Fraction | None: ...

    @property
    def start_time(self) -> int | None: ...

    @property
    def codec_context(self) -> av.AudioCodecContext: ...


@dataclass(frozen=True, slots=True)
class Tracks:
    """The best track of each kind, None where there is none that can be decoded or it is not wanted."""

    video: VideoTrack | None
    audio: AudioTrack | None
