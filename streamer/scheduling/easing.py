"""What of a window is computed: all of it, or what its stream's level on the degrade ladder leaves. Pure.

Pictures and patches of sound are encoded once each, and windows overlap: so what a window costs is what is new in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from streamer.media import Patch, Picture, Window, Work

# With more pictures than this in a window, every second one can be left out and its course still be seen.
_FEW_PICTURES = 2
# From this level on people are not looked for.
_NOBODY = 2
_ONE_MODALITY = 3


@dataclass(frozen=True, slots=True)
class Offer:
    """A window as the engine gets it, what was left out of it (by the source or here), and what is new in it."""

    window: Window
    degraded: tuple[str, ...]
    work: Work


@dataclass(slots=True)
class Encoded:
    """Which pictures and patches of a stream have been encoded, as far back as its windows reach."""

    pictures: set[int] = field(default_factory=set)
    patches: set[int] = field(default_factory=set)
    looks: set[int] = field(default_factory=set)

    def offer(self, window: Window, level: int) -> Offer:
        """`window` with what is left of it at `level`."""
        pictures, patches, degraded = window.pictures, window.patches, window.degraded
        if level:
            pictures = _fewer(pictures, level, with_sound=bool(patches))
            if level >= _ONE_MODALITY:
                patches = self._fewer_patches(patches)
            if len(pictures) < len(window.pictures):
                degraded = _also(degraded, "frames" if pictures else "video")
            if len(patches) < len(window.patches):
                degraded = _also(degraded, "sound")
            blind = level >= _NOBODY and any([picture.look is not None for picture in pictures])
            if blind:
                pictures = tuple(replace(picture, look=None) for picture in pictures)
                degraded = _also(degraded, "people")
            if blind or len(pictures) < len(window.pictures) or len(patches) < len(window.patches):
                window = replace(window, pictures=pictures, patches=patches)
        new = Work(
            1,
            sum([picture.index not in self.pictures for picture in pictures]),
            sum([patch.index not in self.patches for patch in patches]),
            sum([picture.look is not None and picture.index not in self.looks for picture in pictures]),
        )
        return Offer(window, degraded, new)

    def _fewer_patches(self, patches: tuple[Patch, ...]) -> tuple[Patch, ...]:
        """What need not be encoded, and the newest one. A window that was shed would else leave its sound to the next
        one to encode, and nothing be won by having shed it."""
        return tuple(patch for patch in patches[:-1] if patch.index in self.patches) + patches[-1:]

    def add(self, window: Window) -> None:
        """`window` is computed."""
        self.pictures.update([picture.index for picture in window.pictures])
        self.patches.update([patch.index for patch in window.patches])
        self.looks.update([picture.index for picture in window.pictures if picture.look is not None])

    def copy(self) -> Encoded:
        """The same, to go on from."""
        return Encoded(set(self.pictures), set(self.patches), set(self.looks))

    def forget_before(self, window: Window) -> None:
        """No window that begins before `window` will be computed any more."""
        if window.pictures:
            oldest = window.pictures[0].index
            self.pictures = {index for index in self.pictures if index >= oldest}
            self.looks = {index for index in self.looks if index >= oldest}
        if window.patches:
            oldest = window.patches[0].index
            self.patches = {index for index in self.patches if index >= oldest}


def _fewer(pictures: tuple[Picture, ...], level: int, *, with_sound: bool) -> tuple[Picture, ...]:
    if level >= _ONE_MODALITY:
        return () if with_sound else pictures[-1:]
    if len(pictures) <= _FEW_PICTURES:
        return pictures
    # The same ones in every window that holds them.
    return tuple(picture for picture in pictures if picture.index % 2 == 0)


def _also(degraded: tuple[str, ...], step: str) -> tuple[str, ...]:
    return degraded if step in degraded else (*degraded, step)
