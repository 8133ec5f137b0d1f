"""What a label rests on, computed: moments of a window, and a heat map over one picture of it. Numpy in, numpy out.

The graphs are those of `models.moments` and `models.cam`; a picture's features come from the served frame encoder's own
graph. For checkpoints that have no such graphs, see `streamer.why.variants`. A heat map is computed on the picture as
it was kept, a JPEG, which differs a little from what was labelled.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

# Its wheels report to their maker over the network unless told not to before they are loaded.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

from streamer.why.jpeg import decode


class Asked(msgspec.Struct, frozen=True, gc=False):
    """A label, by its place among the model's, and what a window's scores were computed from.

    video, audio: tokens, float16 in this machine's byte order, oldest first. pictures: JPEGs, one a video token; None
    where it is not kept. text: words by their numbers in the checkpoint's vocabulary. video_when and the like: seconds
    from the window's start, one a token.
    """

    label: int
    video: list[bytes]
    audio: list[bytes]
    pictures: list[bytes | None]
    video_when: list[float] = []
    audio_when: list[float] = []
    text: list[int] = []
    text_when: list[float] = []


class Explained(msgspec.Struct, frozen=True, gc=False):
    """What the label rests on.

    score, share: of the window, as fused anew. video, audio, text: (the token's own probability before calibration,
    mass) a token. picture: which of the pictures counts most; None where none counts. heat: row by row over that
    picture, empty where it was not kept.
    """

    score: float
    share: tuple[float, float, float]
    video: list[tuple[float, float]]
    audio: list[tuple[float, float]]
    picture: int | None = None
    rows: int = 0
    columns: int = 0
    heat: list[float] = []
    text: list[tuple[float, float]] = []


class Graphs(msgspec.Struct, frozen=True):
    """Where the graphs are, empty where there is none: `moments` and `heat` for a checkpoint that has them, else the
    `frame` encoder and the `fusion` that are served; `looked`: the part of a picture that the encoder sees (left, top,
    right, bottom in fractions)."""

    moments: str
    features: str
    heat: str
    frame: str = ""
    fusion: str = ""
    looked: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


class Explainer:
    """Loads each graph when it is first needed. One thread; not for several at once."""

    def __init__(self, graphs: Graphs) -> None:
        self._graphs = graphs

    @cached_property
    def _moments(self) -> Any:
        return session(self._graphs.moments)

    @cached_property
    def _features(self) -> Any:
        return session(self._graphs.features)

    @cached_property
    def _heat(self) -> Any:
        return session(self._graphs.heat)

    def explain(self, asked: Asked) -> Explained:
        """The window's moments, and the heat map over the picture that counts most."""
        width = {entry.name: entry.shape[-1] for entry in self._moments.get_inputs()}
        video, video_mask = stacked(asked.video, width["video"])
        audio, audio_mask = stacked(asked.audio, width["audio"])
        feeds = {"video": video, "video_mask": video_mask, "audio": audio, "audio_mask": audio_mask}
        shares, *found = self._moments.run(["shares", *_ONE_A_LABEL], feeds)
        score, each_video, mass_video, each_audio, mass_audio = (array[0][..., asked.label] for array in found)
        share = shares[0, asked.label]
        told = Explained(
            float(score),
            (float(share[0]), float(share[1]), float(share[2])),
            _pairs(each_video, mass_video, len(asked.video)),
            _pairs(each_audio, mass_audio, len(asked.audio)),
        )
        masses = [mass for _, mass in told.video]
        if not any(masses):
            return told
        most = int(np.argmax(masses))
        picture = asked.pictures[most]
        if picture is None:
            return msgspec.structs.replace(told, picture=most)
        heat = self.heat(decode(picture), asked.label)
        rows, columns = heat.shape
        values = [round(float(value), 4) for value in heat.ravel()]
        return msgspec.structs.replace(told, picture=most, rows=rows, columns=columns, heat=values)

    def features(self, rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """uint8 `[S, S, 3]` RGB -> the encoder's feature map float32 `[W, h, w]` and the token `[W]`, its mean."""
        features, token = self._features.run(["features", "token"], {"pixels": rgb[None]})
        return features[0], token[0]

    def heat(self, rgb: NDArray[np.uint8], label: int) -> NDArray[np.float32]:
        """Where in a picture (uint8 `[S, S, 3]` RGB) the label is: float32 `[h, w]` in [0, 1]."""
        features, _ = self.features(rgb)
        feeds = {"features": features[None], "label": np.array([label], np.int64)}
        return cast("NDArray[np.float32]", self._heat.run(["heat"], feeds)[0][0])


_ONE_A_LABEL = ["scores", "video_each", "video_mass", "audio_each", "audio_mass"]


def stacked(tokens: list[bytes], width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Tokens as the graph wants them, `[1, T, W]` and their mask `[1, T]`; where there are none, one that is masked."""
    if not tokens:
        return np.zeros((1, 1, width), np.float32), np.zeros((1, 1), np.float32)
    stacked = np.frombuffer(b"".join(tokens), np.float16).reshape(1, len(tokens), width).astype(np.float32)
    return stacked, np.ones((1, len(tokens)), np.float32)


def _pairs(each: NDArray[np.float32], mass: NDArray[np.float32], count: int) -> list[tuple[float, float]]:
    return list(zip(each[:count].tolist(), mass[:count].tolist(), strict=True))


def session(path: str) -> Any:
    """A graph, ready to run on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def only(graph: Any, outputs: list[str], feeds: dict[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
    """A graph's `outputs`, without computing what they don't need."""
    options = onnxruntime.RunOptions()
    options.only_execute_path_to_fetches = True
    found: list[NDArray[np.float32]] = graph.run(outputs, feeds, options)
    return found
