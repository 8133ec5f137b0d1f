"""CenterFace as it is published, made fit for pictures of any size.

Its graph (Xu et al., CenterFace: Joint Face Detection and Alignment Using Face as Point, 2019) is written for ten
pictures of 32 x 32, though nothing in it depends on that.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

INPUT = "input.1"
"""float32 `[1, 3, H, W]`: RGB of 0 to 255, H and W multiples of 32."""
OUTPUTS = ("537", "538", "539")
"""How much each place is a face's middle `[1, 1, H/4, W/4]`; logarithm of its height and width in units of four pixels
`[1, 2, H/4, W/4]`; where in the place the middle is, down and to the right `[1, 2, H/4, W/4]`."""
MULTIPLE = 32
"""What H and W are multiples of."""
_STEP = 4


def boxes_of(
    outputs: Sequence[NDArray[np.float32]], threshold: float, most: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The faces in what `OUTPUTS` say of one picture, the surest first: boxes float32 `[N, 4]` (left, top, right,
    bottom in pixels; the same face may have several) and scores float32 `[N]`.

    Args:
        threshold: the least score of what counts as a face. most: no more than so many.
    """
    heat, size, offset = (array[0] for array in outputs)
    rows, columns = np.nonzero(heat[0] > threshold)
    order = np.argsort(-heat[0, rows, columns])[:most]
    rows, columns = rows[order], columns[order]
    tall, wide = np.exp(size[:, rows, columns]) * _STEP
    middle_y = (rows + offset[0, rows, columns] + 0.5) * _STEP
    middle_x = (columns + offset[1, rows, columns] + 0.5) * _STEP
    edges = [middle_x - wide / 2, middle_y - tall / 2, middle_x + wide / 2, middle_y + tall / 2]
    return np.stack(edges, axis=1).astype(np.float32), heat[0, rows, columns].astype(np.float32)


def any_size(path: Path) -> bytes:
    """The graph in `path`, as a serialised ONNX model that takes one picture of any size.

    Raises:
        OSError: it can't be read.
        google.protobuf.message.DecodeError: it is no ONNX model.
    """
    model = onnx.load(str(path))
    (pixels,) = (value for value in model.graph.input if value.name == INPUT)
    for value in [pixels, *model.graph.output]:
        scale = "" if value is pixels else "/4"
        dimensions = value.type.tensor_type.shape.dim
        dimensions[0].dim_value = 1
        dimensions[2].dim_param, dimensions[3].dim_param = f"height{scale}", f"width{scale}"
    # What it says of the values in between is of the size it was written for.
    del model.graph.value_info[:]
    return bytes(model.SerializeToString())
