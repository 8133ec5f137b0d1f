"""Labelled clips, as manifests and data sets give them, before any media is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Split = Literal["train", "validation", "test", ""]


@dataclass(frozen=True, slots=True)
class Word:
    """A word that is said in a clip, seconds from the clip's start; NaN where nobody said when."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Clip:
    """One labelled piece of media.

    name: unique in its set. media: the file; None for text alone. start_s, end_s: the piece of it, seconds from its
    first picture or sample (end None: to its end). target: for classes one name; for labels any number of names; for
    numbers the figures; for sequences the symbols (words). words: the text that a text encoder reads (without what is
    to be told). times: of a sequence, when each symbol is said, start and end; empty where nobody said. split: ""
    where nobody said. group: what must not stand on both sides of a split (speaker, source, fold).
    """

    name: str
    media: Path | None
    target: tuple[str, ...] | tuple[float, ...]
    start_s: float = 0.0
    end_s: float | None = None
    words: tuple[Word, ...] = ()
    split: Split = ""
    group: str = ""
    times: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class ClipSet:
    """The clips of one folder, and the names that their targets are of (empty for numbers), in a fixed order."""

    folder: Path
    clips: Sequence[Clip]
    names: Sequence[str]

    def of(self, *splits: Split) -> list[Clip]:
        """Those of the given splits, in order."""
        return [clip for clip in self.clips if clip.split in splits]


_MARK = 8  # characters of a clip's mark: two of 10,000 clips share one with a chance of 1 %, and only one is lost then


def marks(clips: Iterable[Clip]) -> str:
    """Eight hexadecimal characters a clip, joined: what a checkpoint remembers of what it was trained on, so that it is
    not scored on that later."""
    return "".join(sorted(_mark(clip) for clip in clips))


def unmarked(clips: Iterable[Clip], known: str) -> list[Clip]:
    """Those that `marks` doesn't have in `known`, in order."""
    seen = {known[at : at + _MARK] for at in range(0, len(known), _MARK)}
    return [clip for clip in clips if _mark(clip) not in seen]


def _mark(clip: Clip) -> str:
    """By name and size: the same set may stand in another folder on another machine, and 001.wav in any set."""
    size = clip.media.stat().st_size if clip.media is not None and clip.media.is_file() else 0
    return hashlib.sha256(f"{clip.name}\0{size}".encode()).hexdigest()[:_MARK]
