"""Small builders that unit tests share: windows and scores with only what a test cares about."""

from __future__ import annotations

import numpy as np

from streamer.media import Coverage, Patch, Picture, Scores, Window

MS = 1_000_000
S = 1_000 * MS


def window(
    stream: str = "door",
    seq: int = 0,
    *,
    end_ns: int | None = None,
    bound_ns: int = S,
    pictures: tuple[int, ...] = (),
    patches: tuple[int, ...] = (),
    closed_after_ns: int = 20 * MS,
    epoch: str = "e1",
) -> Window:
    """A window of `stream` that ends at `end_ns` (default: after `seq + 1` hops), holding pictures and patches of
    these indices."""
    end = (seq + 1) * 500 * MS if end_ns is None else end_ns
    return Window(
        stream=stream,
        epoch=epoch,
        seq=seq,
        start_ns=end - 2 * S,
        end_ns=end,
        closed_ns=end + closed_after_ns,
        deadline_ns=end + bound_ns,
        wall_offset_ns=0,
        pictures=tuple(Picture(i, end, np.zeros((2, 2, 3), np.uint8)) for i in pictures),
        patches=tuple(Patch(i, end, np.zeros(4, np.float32)) for i in patches),
        coverage=Coverage(1.0, 1.0),
    )


def scores(*values: float, share: tuple[float, float, float] = (0.5, 0.5, 0.0)) -> Scores:
    """Scores of as many labels as there are values, all with the same shares."""
    return Scores(np.array(values, np.float32), np.tile(np.array(share, np.float32), (len(values), 1)))
