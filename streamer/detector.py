"""People in pictures, by MoveNet MultiPose under ONNX Runtime. Numpy in, numpy out; the engine is its one caller.

MoveNet was made for whole people. Where it finds nobody, a face that fills the picture, or that looks out of a cot, is
found by CenterFace.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import people
from models.faces import INPUT, MULTIPLE, OUTPUTS, boxes_of
from streamer.media import LOOK_SIZE, Look, Sighting

# Its wheels report to their maker over the network unless told not to before they are loaded.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

# The most pictures in one call: past this a CPU gains nothing.
_CHUNK = 4
# Where somebody is this likely no face is looked for; at 0.245 a detection is somebody as often as not.
_FOUND = 0.245
# A face that is this likely is somebody (no clip without people came to 0.6), and as likely as `_FOUND`.
_FACE = 0.65
_MOST_FACES = 6


class PeopleDetector:
    """Finds up to six people a picture; not for several threads at once.

    Args:
        graph: of `models.movenet`: "pixels" uint8 `[B, 256, 256, 3]` to "people" float32 `[B, 6, 56]`.
        faces: CenterFace's graph, of `models.faces.any_size`; None: faces are not looked for.
        threads: cores one call may use.
    """

    def __init__(self, graph: Path, faces: bytes | None, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning threads burn the cores that decoding needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        self._session: Any = onnxruntime.InferenceSession(str(graph), options, providers=providers)
        self._faces: Any = None if faces is None else onnxruntime.InferenceSession(faces, options, providers=providers)

    def find(self, looks: Sequence[tuple[int, int, Look]]) -> list[Sighting]:
        """Who is seen in each look, given with its picture's index and media time."""
        found: list[Sighting] = []
        for start in range(0, len(looks), _CHUNK):
            chunk = looks[start : start + _CHUNK]
            told = self._session.run(["people"], {"pixels": np.stack([look.rgb for _, _, look in chunk])})[0]
            found += [_sighting(*asked, rows) for asked, rows in zip(chunk, told, strict=True)]
        if self._faces is None:
            return found
        return [
            self._with_faces(sighting, look) if sighting.scores.max(initial=0.0) < _FOUND else sighting
            for sighting, (_, _, look) in zip(found, looks, strict=True)
        ]

    def _with_faces(self, sighting: Sighting, look: Look) -> Sighting:
        """What was seen, and whose faces are."""
        tall, wide = (-(-round(part * LOOK_SIZE) // MULTIPLE) * MULTIPLE for part in (look.height, look.width))
        pixels = look.rgb[:tall, :wide].transpose(2, 0, 1)[None].astype(np.float32)
        boxes, scores = boxes_of(self._faces.run(list(OUTPUTS), {INPUT: pixels}), _FACE, _MOST_FACES)
        across, down = LOOK_SIZE * look.width, LOOK_SIZE * look.height
        boxes = np.clip(boxes / np.array([across, down, across, down], np.float32), 0.0, 1.0)
        kept = people.apart(boxes)
        return replace(
            sighting,
            scores=np.concatenate([scores[kept] - (_FACE - _FOUND), sighting.scores]).astype(np.float32),
            boxes=np.concatenate([boxes[kept], sighting.boxes]),
            points=np.concatenate([np.zeros((len(kept), people.POINTS, 3), np.float32), sighting.points]),
        )


def blank_look() -> Look:
    """A look at nothing, for measuring what one takes."""
    return Look(np.zeros((LOOK_SIZE, LOOK_SIZE, 3), np.uint8), 1.0, 1.0)


def _sighting(index: int, media_ns: int, look: Look, rows: NDArray[np.float32]) -> Sighting:
    """What `rows` (float32 `[6, 56]`, see models.people) say."""
    seen = people.found(rows, look.width, look.height)
    return Sighting(index, media_ns, seen.aspect, seen.scores, seen.boxes, seen.points)
