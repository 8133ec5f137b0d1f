"""What can be said of sound before anybody listens to it: how loud it is, whether it is clipped, whether it is there at
all. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SILENT_DB = -60.0
"""Sound whose samples stay under this, against full scale, is silence: a microphone that is off, or a dead line."""
# A converter that is overdriven gives its largest number several times in a row.
_FULL = 0.999
_RUN = 3
_BLOCK = 320
_LEAST = 1e-6


@dataclass(frozen=True, slots=True)
class Loudness:
    """rms_db, peak_db: against full scale, -120 at least. clipped: the fraction of samples in runs of 3 or more at full
    scale. silent: the fraction of 20 ms blocks in which nothing reaches SILENT_DB."""

    rms_db: float
    peak_db: float
    clipped: float
    silent: float


def measure(samples: NDArray[np.float32]) -> Loudness:
    """Of float32 `[n]` in [-1, 1], 16 kHz mono."""
    if not len(samples):
        return Loudness(-120.0, -120.0, 0.0, 1.0)
    size = np.abs(samples)
    whole = len(size) // _BLOCK * _BLOCK
    blocks = size[:whole].reshape(-1, _BLOCK).max(axis=1) if whole else size.max(keepdims=True)
    return Loudness(
        rms_db=_db(float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))),
        peak_db=_db(float(size.max())),
        clipped=_in_runs(size >= _FULL) / len(size),
        silent=float(np.mean(blocks < 10 ** (SILENT_DB / 20))),
    )


def _db(size: float) -> float:
    return round(float(20 * np.log10(max(size, _LEAST))), 1)


def _in_runs(full: NDArray[np.bool_]) -> int:
    """How many are true in runs of at least _RUN."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], full, [False]]).astype(np.int8)))
    lengths = edges[1::2] - edges[::2]
    return int(lengths[lengths >= _RUN].sum())
