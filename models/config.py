"""What a checkpoint fixes about its input and output: the geometry of a window, and the labels."""

from __future__ import annotations

from dataclasses import dataclass

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Geometry:
    """How media is cut for the network. Times are integer nanoseconds.

    `frame_rates` are the sampling rates the network takes, in frames a second: the first is the default on a CPU, the
    last on a GPU. A patch is `patch_samples` of mono sound at `sample_rate` (96 frames of 25 ms, one every 10 ms), one
    every `patch_hop_ns`. `video_width` and `audio_width` are the lengths of one frame's and one patch's token.
    """

    window_ns: int = 2 * NS_PER_S
    hop_ns: int = NS_PER_S // 2
    frame_rates: tuple[int, ...] = (2, 4)
    frame_size: int = 224
    sample_rate: int = 16_000
    patch_samples: int = 15_600
    patch_hop_ns: int = 480_000_000
    video_width: int = 1280
    audio_width: int = 1024

    def __post_init__(self) -> None:
        """Refuse what can't be cut; ValueError names the field."""
        for name in self.__slots__:
            value = getattr(self, name)
            numbers = value if isinstance(value, tuple) else (value,)
            if not numbers or not all(isinstance(number, int) and number > 0 for number in numbers):
                raise ValueError(f"geometry: {name} must be positive whole numbers, not {value!r}")

    @property
    def patch_ns(self) -> int:
        """The length of one patch."""
        return self.patch_samples * NS_PER_S // self.sample_rate

    @property
    def max_frames(self) -> int:
        """The most frame tokens a window can hold: at the highest rate, with both ends on a sample."""
        return self.window_ns * max(self.frame_rates) // NS_PER_S + 1

    @property
    def max_patches(self) -> int:
        """The most patch tokens a window can hold: every patch that starts in it, with both ends on one."""
        return self.window_ns // self.patch_hop_ns + 1


@dataclass(frozen=True, slots=True)
class LabelInfo:
    """A name that can appear in a segment, and the modalities ("video", "audio") that can raise it."""

    name: str
    modalities: tuple[str, ...]
