"""Windows without meaning, which an engine is warmed up and measured by. Pure."""

from __future__ import annotations

import numpy as np

from streamer.clock import NS_PER_S
from streamer.detector import blank_look
from streamer.media import WORDS_REACH_NS, Coverage, Geometry, Patch, Picture, SaidWord, Window, Work

_WORDS_A_SECOND = 4  # of somebody who speaks fast


def blank_window(geometry: Geometry, work: Work) -> Window:
    """One with the pictures and patches of `work`, and with looks in its pictures where that has any."""
    picture = np.zeros((geometry.frame_size, geometry.frame_size, 3), np.uint8)
    samples = np.zeros(geometry.patch_samples, np.float32)
    look = blank_look() if work.looks else None
    pictures = tuple(Picture(index, 0, picture, look) for index in range(work.looks or work.pictures))
    patches = tuple(Patch(index, 0, samples) for index in range(work.patches))
    return Window("", "", 0, 0, 1, 0, 0, 0, pictures, patches, Coverage(1, 1))


def blank_words(geometry: Geometry) -> tuple[SaidWord, ...]:
    """As many words as are said within a window's reach, where words take part."""
    reach_ns = geometry.window_ns + WORDS_REACH_NS if geometry.reads_text else 0
    return (SaidWord("", 0, 0),) * (_WORDS_A_SECOND * reach_ns // NS_PER_S)
