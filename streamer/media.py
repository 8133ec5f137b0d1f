"""What flows between the rooms: media with its time, windows cut from it, scores computed on them.

**Media time** of a live stream is capture time on the host's monotonic clock in integer nanoseconds: the source's
timeline maps each presentation time stamp onto it, so both tracks of a camera share one axis and a deadline is a sum.
Offline (`streamer
label`) it counts from 0 at the start of the file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streamer.clock import NS_PER_S

Modality = Literal["video", "audio", "text"]
Effort = Literal["all", "keyframes", "none"]
"""How many of a camera's pictures are decoded: as many as are sampled, key frames alone, or none of them."""
MODALITIES: tuple[Modality, ...] = ("video", "audio", "text")


LOOK_SIZE = 256
"""Pixels of a side of what people are looked for in: what MoveNet MultiPose was made for."""


@dataclass(frozen=True, slots=True)
class Look:
    """A sampled picture as people are looked for in it.

    rgb: uint8 `[LOOK_SIZE, LOOK_SIZE, 3]`, RGB: the whole picture with its shape kept at the top left, the rest black.
    width, height: the part of the square that the picture takes, in (0, 1]; one of them is 1.
    """

    rgb: NDArray[np.uint8]
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Frame:
    """One sampled picture.

    rgb: uint8 `[S, S, 3]`, RGB, S as the checkpoint's geometry says. `duration_ns` is how long this sample stands
    for: the sampling period, or the camera's own frame interval where that is longer. look: where people are to be
    looked for and the picture is another than when that was last done.
    """

    media_ns: int
    duration_ns: int
    arrived_ns: int
    rgb: NDArray[np.uint8]
    look: Look | None = None


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """A run of sound without holes: float32 `[n]` in [-1, 1], mono, at the checkpoint's sample rate; `media_ns` is
    its first sample's."""

    media_ns: int
    arrived_ns: int
    samples: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far each track has been read: everything before this media time has been delivered. None: no such track
    (yet)."""

    video_ns: int | None
    audio_ns: int | None
    arrived_ns: int


@dataclass(frozen=True, slots=True)
class EpochStart:
    """A new timeline begins: at the first media of a connection, or when media time jumped by over 1 s.

    `media_ns` is the first media's. `wall_offset_ns` added to a media time gives wall time (the camera's own, where
    its sender reports are sane; else the host's).
    """

    reason: Literal["start", "reconnect", "jump"]
    media_ns: int
    wall_offset_ns: int


SourceState = Literal["connecting", "live", "stalled", "reconnecting", "ended", "failed"]


@dataclass(frozen=True, slots=True)
class StateChange:
    """The source moved to `state`; `reason` says why in one line without secrets, None where there is nothing to
    say."""

    state: SourceState
    reason: str | None
    at_ns: int


SourceEvent = Frame | AudioChunk | Progress | EpochStart | StateChange


@dataclass(slots=True)
class SourceStats:
    """Counters of one source since it was added; written by its reader thread, read by metrics (plain ints: no lock
    needed)."""

    packets: dict[str, int] = field(default_factory=lambda: {"video": 0, "audio": 0})
    bytes: int = 0
    frames_decoded: int = 0
    frames_sampled: int = 0
    fps: float = 0.0
    lag_ms: float = 0.0
    reconnects: int = 0
    drops: dict[str, int] = field(default_factory=dict)
    picture: tuple[int, int] | None = None
    """Width and height of the camera's own pictures, upright; None before the first."""
    kept_bytes: int = 0
    """Encoded pictures in the stream's ring now."""
    kept_lost: int = 0
    """Groups of pictures that were too long for the ring."""

    def drop(self, reason: str, count: int = 1) -> None:
        """Count `count` items not used, under `reason` (e.g. `late`, `corrupt`, `preroll`, `overflow`)."""
        self.drops[reason] = self.drops.get(reason, 0) + count


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame as a window holds it: `index` numbers the stream's sampled frames and never repeats, so its token is
    computed once."""

    index: int
    media_ns: int
    rgb: NDArray[np.uint8]
    look: Look | None = None


@dataclass(frozen=True, slots=True)
class Patch:
    """A piece of sound as the audio encoder wants it: float32 `[patch_samples]`, holes as zeros; `index` never
    repeats in a stream."""

    index: int
    media_ns: int
    samples: NDArray[np.float32]


WORDS_REACH_NS = 3_000_000_000
"""How far before its start a window reads words: they settle that much later than they are said, at most but for few,
and a window takes what has settled when it closes. So it has about as many as a clip of its length."""


@dataclass(frozen=True, slots=True)
class SaidWord:
    """A word as speech recognition has settled on it, in lower case and without signs. Media time.

    It is what was said, before personal data are masked in what is published of it: it leaves the process nowhere.
    """

    text: str = field(repr=False)
    start_ns: int
    end_ns: int

    @property
    def middle_ns(self) -> int:
        """When it is taken to have been said."""
        return (self.start_ns + self.end_ns) // 2


@dataclass(frozen=True, slots=True)
class Coverage:
    """The fraction of a window that was really there, a modality; each in [0, 1]."""

    video: float
    audio: float
    text: float = 0.0


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of one stream's media time, closed: nothing will be added to it.

    `[start_ns, end_ns)` is media time; `deadline_ns` and `closed_ns` are on the host's monotonic clock. `degraded`:
    what was left out of it on purpose, for want of computing power. words: of it and of WORDS_REACH_NS before it, those
    that had settled when it closed, oldest first; none where the checkpoint reads no text.
    """

    stream: str
    epoch: str
    seq: int
    start_ns: int
    end_ns: int
    closed_ns: int
    deadline_ns: int
    wall_offset_ns: int
    pictures: tuple[Picture, ...]
    patches: tuple[Patch, ...]
    coverage: Coverage
    degraded: tuple[str, ...] = ()
    words: tuple[SaidWord, ...] = ()


@dataclass(frozen=True, slots=True)
class Token:
    """What an encoder made of the picture or patch `index`, which is from `media_ns`: float16 `[D]`, for keeping."""

    index: int
    media_ns: int
    values: NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class ReadWord:
    """A word as the network read it: its number in the checkpoint's vocabulary, 0 for one that isn't in it. Media
    time."""

    number: int
    start_ns: int
    end_ns: int

    def seconds_from(self, start_ns: int) -> float:
        """Its middle in seconds from a window's start. What was said before counts as said then: clips that networks
        learn from have nothing before their beginning."""
        return max(0, (self.start_ns + self.end_ns) // 2 - start_ns) / NS_PER_S


@dataclass(frozen=True, slots=True)
class Basis:
    """What a window's scores were computed from, oldest first: only what took part. Windows that overlap share the
    tokens themselves."""

    video: tuple[Token, ...] = ()
    audio: tuple[Token, ...] = ()
    text: tuple[ReadWord, ...] = ()


@dataclass(frozen=True, slots=True)
class Sighting:
    """The people seen in the picture `index`, which is from `media_ns`; N is 0 to 6. Places are fractions of the
    picture's width and height from its top left corner.

    aspect: the picture's width over its height. scores: float32 `[N]`, the detector's own, in [0, 1]. boxes: float32
    `[N, 4]`: left, top, right, bottom. points: float32 `[N, 17, 3]`: x, y and score of the body's points in the order
    of COCO.
    """

    index: int
    media_ns: int
    aspect: float
    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]
    points: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scores:
    """What the engine says of one window.

    scores: float32 `[L]` calibrated probabilities, in the order of the checkpoint's label names.
    shares: float32 `[L, 3]`, the share of video, audio and text in each label; every row sums to 1.
    basis: what they rest on; None where the engine does not tell.
    sightings: of the window's pictures in which people were looked for, oldest first.
    """

    scores: NDArray[np.float32]
    shares: NDArray[np.float32]
    basis: Basis | None = None
    sightings: tuple[Sighting, ...] = ()


@dataclass(frozen=True, slots=True)
class Work:
    """What has to be computed: windows to fuse, and before that pictures and patches to encode, and pictures to look
    for people in."""

    windows: int = 0
    pictures: int = 0
    patches: int = 0
    looks: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.windows + other.windows,
            self.pictures + other.pictures,
            self.patches + other.patches,
            self.looks + other.looks,
        )


@dataclass(frozen=True, slots=True)
class WorkCosts:
    """Nanoseconds on an idle machine: for a call of the engine at all, and for each window, picture, patch and look for
    people in it."""

    call_ns: int = 1_000_000
    window_ns: int = 1_000_000
    picture_ns: int = 12_000_000
    patch_ns: int = 4_000_000
    look_ns: int = 35_000_000

    def of(self, work: Work) -> int:
        """Nanoseconds for `work` in one call."""
        return (
            self.call_ns
            + self.window_ns * work.windows
            + self.picture_ns * work.pictures
            + self.patch_ns * work.patches
            + self.look_ns * work.looks
        )


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a checkpoint wants media cut: the numbers a window depends on, all from the checkpoint.

    `frame_rates` are the sampling rates it takes (frames a second), the first the default on a CPU and the last on a
    GPU; a patch is `patch_samples` at `sample_rate`, one every `patch_hop_ns`. reads_text: words that are said take
    part. reads_people: who is in the pictures does.
    """

    window_ns: int
    hop_ns: int
    frame_rates: tuple[int, ...]
    frame_size: int
    sample_rate: int
    patch_samples: int
    patch_hop_ns: int
    reads_text: bool = False
    reads_people: bool = False

    @property
    def patch_ns(self) -> int:
        """The length of one patch in nanoseconds."""
        return self.patch_samples * 1_000_000_000 // self.sample_rate
