"""Whether a sampled picture is another than the one in which people were last looked for. Pure.

Looking for people costs a hundred times what sampling a picture does, and most cameras see an empty yard most of the
time. A picture is compared by the mean brightness of blocks, which neither the noise of a sensor nor that of a codec
moves by much; and with the picture looked at last instead of the one before, so that what creeps is seen in the end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Blocks a side. Somebody a sixth of the picture high covers several.
_BLOCKS = 16
# What a block's mean must have moved by, of 255.
_MOVED = 6.0
# A picture that stays as it is is looked at this often all the same: somebody may have been overlooked.
_AGAIN_NS = 10_000_000_000


class Changes:
    """The pictures of one stream, in their order."""

    def __init__(self) -> None:
        self._looked: NDArray[np.float32] | None = None
        self._looked_ns = 0
        self._settles = False

    def wants(self, rgb: NDArray[np.uint8], media_ns: int) -> bool:
        """Whether people are to be looked for in this picture, uint8 `[S, S, 3]`, S at least 16; taken as done where
        they are. The picture after one that changed is looked at too: it shows how things came to rest."""
        means = _means(rgb)
        changed = self._looked is None or bool(np.abs(means - self._looked).max() > _MOVED)
        if not (changed or self._settles or media_ns - self._looked_ns >= _AGAIN_NS):
            return False
        self._looked, self._looked_ns, self._settles = means, media_ns, changed
        return True


def _means(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 `[16, 16]`: of green, which carries most of a picture's brightness."""
    side = rgb.shape[0] // _BLOCKS * _BLOCKS
    part = side // _BLOCKS
    green = rgb[:side, :side, 1].reshape(_BLOCKS, part, _BLOCKS, part)
    means: NDArray[np.float32] = green.mean(axis=(1, 3), dtype=np.float32)
    return means
