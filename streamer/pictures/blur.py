"""Faces made unrecognisable, for good. Pure.

What is left of a face is a mosaic of four cells or fewer across, the mean of each in sixteen steps a colour, and its
edges smoothed: a few dozen bits, from which no face comes back. The cells lie on a grid of the picture and not of the
face, so that the pictures of a clip do not tell more than one of them does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]

# A detector's box ends at brow and chin: hair, ears and what it errs by are half a face around it.
_ENLARGED = 1.6
_CELLS = 4
_LEAST_CELL = 4
_LEVEL = 16
# In pictures of a clip: a face found in one is blurred in so many before and after it; and between two findings of what
# may be the same face, so many pictures apart, on the way from the one to the other. It moves by no more than half its
# size from a picture to the next.
_LINGERS = 2
_REACHES = 5
_STRIDE = 0.5


def blurred(rgb: NDArray[np.uint8], boxes: Boxes) -> NDArray[np.uint8]:
    """uint8 `[H, W, 3]` -> the same with what lies in `boxes` (float32 `[N, 4]`) and around them blurred."""
    result = rgb.copy()
    if not len(boxes):
        return result
    shorter = np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    cells = 2 ** np.ceil(np.log2(np.maximum(shorter / _CELLS, _LEAST_CELL))).astype(int)
    # The large ones last: where faces overlap, the coarser mosaic stays.
    for cell in np.unique(cells):
        mask = _mask(rgb.shape[:2], _enlarged(boxes[cells == cell]))
        if mask.any():
            _blur(result, mask, int(cell))
    return result


def _enlarged(boxes: Boxes) -> Boxes:
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * _ENLARGED + 1
    return np.concatenate([middle - half, middle + half], axis=1)


def _mask(shape: tuple[int, ...], boxes: Boxes) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool)
    for left, top, right, bottom in np.clip(boxes, 0, max(shape)):
        mask[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))] = True
    return mask


def _blur(rgb: NDArray[np.uint8], mask: NDArray[np.bool_], cell: int) -> None:
    """Put the mosaic of `rgb` where `mask` is; worked out for as much of the picture as that needs."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = rows[0] // cell * cell, columns[0] // cell * cell
    part = np.s_[top : rows[-1] + 1, left : columns[-1] + 1]
    mosaic = _smoothed(_mosaic(rgb[part], cell), cell)
    rgb[part] = np.where(mask[part][..., None], mosaic, rgb[part])


def _mosaic(rgb: NDArray[np.uint8], cell: int) -> NDArray[np.uint8]:
    height, width = rgb.shape[:2]
    rows, columns = np.arange(0, height, cell), np.arange(0, width, cell)
    sums = np.add.reduceat(np.add.reduceat(rgb.astype(np.uint32), rows, axis=0), columns, axis=1)
    counts = np.outer(np.diff([*rows, height]), np.diff([*columns, width]))[..., None]
    means: NDArray[np.uint32] = sums // counts // _LEVEL * _LEVEL + _LEVEL // 2
    return means.repeat(cell, axis=0)[:height].repeat(cell, axis=1)[:, :width].astype(np.uint8)


def _smoothed(rgb: NDArray[np.uint8], reach: int) -> NDArray[np.uint8]:
    """The mean over a square of `reach` pixels, smaller at the picture's edge."""
    values = rgb.astype(np.float64)
    for axis in (0, 1):
        length = values.shape[axis]
        sums = np.insert(np.cumsum(values, axis=axis), 0, 0, axis=axis)
        low = np.clip(np.arange(length) - reach // 2, 0, length)
        high = np.clip(np.arange(length) + (reach + 1) // 2, 0, length)
        counts = (high - low).reshape([-1 if each == axis else 1 for each in range(3)])
        values = (np.take(sums, high, axis=axis) - np.take(sums, low, axis=axis)) / counts
    return values.astype(np.uint8)


def spread(found: Sequence[Boxes]) -> list[Boxes]:
    """What to blur in each picture of a clip: what was found there, and what was found in those around it.

    A detector loses a face for a moment: it turns, it is smeared by its movement. So a face found in one picture is
    taken to be in the two before and after it too; and where what may be the same face is found up to five pictures
    apart, the way from the one place to the other is blurred in the pictures between.
    """
    result: list[list[Boxes]] = [[boxes] for boxes in found]
    for place, boxes in enumerate(found):
        for other in range(max(0, place - _LINGERS), min(len(found), place + _LINGERS + 1)):
            if other != place:
                result[other].append(boxes)
        for later in range(place + 2, min(len(found), place + _REACHES + 1)):
            first, second = _same(boxes, found[later], later - place)
            for other in range(place + 1, later):
                part = np.float32((other - place) / (later - place))
                result[other].append(first + part * (second - first))
    return [np.concatenate(boxes) for boxes in result]


def _same(before: Boxes, after: Boxes, pictures: int) -> tuple[Boxes, Boxes]:
    """Faces before that may be among those after, and for each the nearest there."""
    if not len(before) or not len(after):
        none = np.zeros((0, 4), np.float32)
        return none, none
    middles, later_middles = ((boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (before, after))
    distances = np.linalg.norm(middles[:, None] - later_middles[None], axis=2)
    nearest = distances.argmin(axis=1)
    sizes, later_sizes = ((boxes[:, 2:] - boxes[:, :2]).max(axis=1) for boxes in (before, after[nearest]))
    is_near = distances[np.arange(len(before)), nearest] <= sizes * _STRIDE * pictures
    is_alike = np.maximum(sizes, later_sizes) <= 2 * np.minimum(sizes, later_sizes)
    is_same = is_near & is_alike
    return before[is_same], after[nearest][is_same]
