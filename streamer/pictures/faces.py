"""Where faces are in a picture, by CenterFace. Numpy in, numpy out.

Who blurs wants none left out, and loses little by a box too many: the threshold is low, every picture is looked at in
two sizes, so that small faces and large ones are found, and in the smaller one in all four directions, because who has
fallen is not upright.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.pictures.turning import Boxes, scaled, turned_back

# Its wheels report to their maker over the network unless told not to before they are loaded.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

from models.faces import INPUT, MULTIPLE, OUTPUTS, boxes_of

THRESHOLD = 0.2
# A small picture is enlarged by no more than this.
_ENLARGED = 2.0
_OVERLAP = 0.3
_MOST_BOXES = 1000


class FaceDetector:
    """Finds faces; not for several threads at once.

    Args:
        graph: of `models.faces.any_size`.
        threshold: the least score of what counts as a face, in (0, 1).
    """

    def __init__(self, graph: bytes, threshold: float = THRESHOLD) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Pictures come in few sizes, but the memory of each would be kept for ever.
        options.enable_cpu_mem_arena = False
        self._session: Any = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._threshold = threshold

    def find(self, rgb: NDArray[np.uint8], side: int) -> Boxes:
        """The faces in uint8 `[H, W, 3]` RGB. The same face may be found in several boxes.

        Args:
            side: the longer side of the larger size in which it is looked at, pixels.
        """
        scale = min(side / max(rgb.shape[:2]), _ENLARGED)
        found = [self._upright(scaled(rgb, scale)) / scale]
        half = scaled(rgb, scale / 2)
        found += [turned_back(self._upright(np.rot90(half, turns)), turns, half) * 2 / scale for turns in range(4)]
        return np.concatenate(found).astype(np.float32)

    def _upright(self, rgb: NDArray[np.uint8]) -> Boxes:
        height, width = rgb.shape[:2]
        padded = np.zeros((1, 3, -(-height // MULTIPLE) * MULTIPLE, -(-width // MULTIPLE) * MULTIPLE), np.float32)
        padded[0, :, :height, :width] = rgb.transpose(2, 0, 1)
        boxes, _ = boxes_of(self._session.run(list(OUTPUTS), {INPUT: padded}), self._threshold, _MOST_BOXES)
        return boxes[_apart(boxes)]


def _apart(boxes: Boxes) -> list[int]:
    """Places of the boxes that are left when each takes away those after it that it overlaps (IoU)."""
    left, top, right, bottom = boxes.T
    areas = (right - left) * (bottom - top)
    remaining = np.arange(len(boxes))
    kept: list[int] = []
    while len(remaining):
        first, others = remaining[0], remaining[1:]
        kept.append(int(first))
        wide = np.minimum(right[first], right[others]) - np.maximum(left[first], left[others])
        tall = np.minimum(bottom[first], bottom[others]) - np.maximum(top[first], top[others])
        shared = np.maximum(wide, 0) * np.maximum(tall, 0)
        remaining = others[shared / (areas[first] + areas[others] - shared) < _OVERLAP]
    return kept
