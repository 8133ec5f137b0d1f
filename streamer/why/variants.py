"""What a label of a learned checkpoint rests on, by asking its fusion about windows from which something is missing.

Every figure is a difference of the label's own log-odds, computed by the very graph that is served, and needs nothing
else of it: masks take tokens away, as a lost packet would. With f the log-odds of the whole window,

    moment t:      what is lost without the tokens at t,  max(0, f - f(without t)),  normalised over the moments
    place p:       frozen encoder, whose token is the mean of a feature map A over its n places:
                       max(0, f(token + A_p / n) - f(token - A_p / n)) / 2,
                   the central difference along what one place adds to the mean: Grad-CAM (Selvaraju et al., 2017),
                   whose gradient is the same at every place then
                   carried encoder: what is lost where that part of the picture is covered by its mean colour
                   (occlusion; Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2014)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.why.explain import Asked, Explained, Graphs, only, session, stacked
from streamer.why.jpeg import decode

_Array = NDArray[np.float32]
_Feed = NDArray[Any]  # words are integers

# Moments a modality: at 25 pictures a second neighbours say the same, and are taken away together.
_MOST = 24
# Windows in one call: past this a CPU gains nothing, and memory grows.
_ROWS = 32
# Places a side in what the encoder looks at, and of the map of the whole picture that they are drawn into.
_PLACES = 7
_CELLS = 28
# What a cover takes beside its own place, on each side: half of one.
_MARGIN = 0.5
_LEAST = 1e-4  # log-odds: less is rounding


@dataclass(frozen=True, slots=True)
class _Window:
    """A window as the fusion takes it: a row of each input, and for each modality groups of neighbouring tokens."""

    row: dict[str, _Feed]
    groups: dict[str, list[slice]]


class VariantExplainer:
    """Loads each graph when it is first needed. One thread; not for several at once."""

    def __init__(self, graphs: Graphs) -> None:
        self._graphs = graphs

    @cached_property
    def _fusion(self) -> Any:
        return session(self._graphs.fusion)

    @cached_property
    def _widths(self) -> dict[str, int]:
        """Of the tokens of each modality that the fusion takes; 0 for text, whose tokens are numbers of words."""
        taken = (entry for entry in self._fusion.get_inputs() if "_" not in entry.name)
        return {entry.name: 0 if entry.name == "text" else entry.shape[-1] for entry in taken}

    def explain(self, asked: Asked) -> Explained:
        """The window's moments, and the heat map over the picture that counts most."""
        window = self._window(asked)
        scores, shares = self._run(["scores", "shares"], window.row)
        share = shares[0, asked.label]
        told = Explained(
            float(scores[0, asked.label]),
            (float(share[0]), float(share[1]), float(share[2])),
            self._moments(window, "video", asked.label),
            self._moments(window, "audio", asked.label),
            text=self._moments(window, "text", asked.label),
        )
        masses = [mass for _, mass in told.video]
        if not any(masses):
            return told
        most = int(np.argmax(masses))
        picture = asked.pictures[most]
        if picture is None:
            return msgspec.structs.replace(told, picture=most)
        heat = self._heat(decode(picture), window, most, asked.label)
        rows, columns = heat.shape
        values = [round(float(value), 4) for value in heat.ravel()]
        return msgspec.structs.replace(told, picture=most, rows=rows, columns=columns, heat=values)

    def _window(self, asked: Asked) -> _Window:
        tokens = {"video": asked.video, "audio": asked.audio}
        whens = {"video": asked.video_when, "audio": asked.audio_when, "text": asked.text_when}
        row: dict[str, _Feed] = {}
        groups: dict[str, list[slice]] = {}
        for name, width in self._widths.items():
            fed = _numbered(asked.text) if name == "text" else stacked(tokens[name], width)
            row[name], row[f"{name}_mask"] = fed
            row[f"{name}_when"] = np.array([whens[name] or [0.0]], np.float32)
            count = len(asked.text if name == "text" else tokens[name])
            bounds = np.linspace(0, count, min(count, _MOST) + 1).round().astype(int)
            groups[name] = [slice(int(one), int(other)) for one, other in itertools.pairwise(bounds)]
        return _Window(row, groups)

    def _moments(self, window: _Window, name: str, label: int) -> list[tuple[float, float]]:
        """A token: its moment's own probability, with nothing else there, and its part of what the moments count."""
        groups = window.groups.get(name, [])
        if not groups:
            return []
        mask = f"{name}_mask"
        without: list[dict[str, _Feed]] = []
        alone: list[dict[str, _Feed]] = []
        for group in groups:
            kept = window.row[mask].copy()
            kept[0, group] = 0.0
            without.append({mask: kept})
            alone.append(
                {other: np.zeros_like(array) for other, array in window.row.items() if other.endswith("_mask")}
                | {mask: window.row[mask] - kept}
            )
        odds = self._odds(window, [{}, *without, *alone], label)
        lost = np.maximum(0.0, odds[0] - odds[1 : 1 + len(groups)])
        lost = np.where(lost < _LEAST, 0.0, lost)
        total = float(lost.sum())
        told: list[tuple[float, float]] = []
        for group, gone, single in zip(groups, lost.tolist(), odds[1 + len(groups) :].tolist(), strict=True):
            count = group.stop - group.start
            mass = gone / total / count if total else 0.0
            told += [(float(1 / (1 + np.exp(-single))), mass)] * count
        return told

    def _heat(self, rgb: NDArray[np.uint8], window: _Window, place: int, label: int) -> _Array:
        """Where in a picture (uint8 `[S, S, 3]` RGB), the window's number `place`, the label is: float32 `[h, w]`."""
        if self._graphs.features:
            rises = self._frozen_heat(rgb, window, place, label)
        else:
            rises = self._covered_heat(rgb, window, place, label)
        rises = np.maximum(0.0, rises)
        highest = float(rises.max())
        scale = 1 / highest if highest > _LEAST else 0.0
        return (rises * scale).astype(np.float32)

    def _frozen_heat(self, rgb: NDArray[np.uint8], window: _Window, place: int, label: int) -> _Array:
        features, token = self._frame.run(["features", "token"], {"pixels": rgb[None]})
        rows, columns = features.shape[2:]
        each = features[0].reshape(features.shape[1], -1).T / (rows * columns)
        odds = self._odds_of_tokens(window, place, np.concatenate([token[0] + each, token[0] - each]), label)
        rises: _Array = np.float32(0.5) * (odds[: len(each)] - odds[len(each) :]).reshape(rows, columns)
        return rises

    def _covered_heat(self, rgb: NDArray[np.uint8], window: _Window, place: int, label: int) -> _Array:
        pictures = np.stack([rgb, *_covered(rgb, self._graphs.looked)])
        tokens = np.concatenate(
            [
                self._frame.run(["token"], {"pixels": pictures[at : at + _ROWS]})[0]
                for at in range(0, len(pictures), _ROWS)
            ]
        )
        odds = self._odds_of_tokens(window, place, tokens, label)
        return _drawn((odds[0] - odds[1:]).reshape(_PLACES, _PLACES), self._graphs.looked)

    @cached_property
    def _frame(self) -> Any:
        return session(self._graphs.features or self._graphs.frame)

    def _odds_of_tokens(self, window: _Window, place: int, tokens: _Array, label: int) -> _Array:
        """The label's log-odds with each of `tokens` `[V, W]` for the picture's own: `[V]`; who is seen in it stays."""
        variants: list[dict[str, _Feed]] = []
        for token in tokens:
            video = window.row["video"].copy()
            video[0, place, : len(token)] = token
            variants.append({"video": video})
        return self._odds(window, variants, label)

    def _odds(self, window: _Window, variants: Sequence[dict[str, _Feed]], label: int) -> _Array:
        """The label's log-odds in the window with each of the changes: `[V]`."""
        found = []
        for at in range(0, len(variants), _ROWS):
            chunk = variants[at : at + _ROWS]
            feeds = {
                name: np.concatenate([variant.get(name, array) for variant in chunk])
                for name, array in window.row.items()
            }
            found.append(self._run(["odds"], feeds)[0][:, label])
        return np.concatenate(found)

    def _run(self, outputs: list[str], feeds: dict[str, _Feed]) -> list[_Array]:
        taken = {entry.name for entry in self._fusion.get_inputs()}
        return only(self._fusion, outputs, {name: array for name, array in feeds.items() if name in taken})


def _numbered(words: list[int]) -> tuple[_Feed, _Array]:
    """Words as the fusion wants them, int64 `[1, N]` and their mask; where there are none, one that is masked."""
    return np.array([words or [0]], np.int64), np.full((1, max(1, len(words))), bool(words), np.float32)


def _places(looked: Sequence[float], margin: float) -> Iterator[tuple[float, float, float, float]]:
    """The places of what is looked at, row by row: left, top, right, bottom in fractions of the picture."""
    left, top, right, bottom = looked
    wide, high = (right - left) / _PLACES, (bottom - top) / _PLACES
    for row in range(_PLACES):
        for column in range(_PLACES):
            yield (
                max(left, left + (column - margin) * wide),
                max(top, top + (row - margin) * high),
                min(right, left + (column + 1 + margin) * wide),
                min(bottom, top + (row + 1 + margin) * high),
            )


def _covered(rgb: NDArray[np.uint8], looked: Sequence[float]) -> Iterator[NDArray[np.uint8]]:
    """The picture with each place of what is looked at covered by the mean colour of that."""
    side = len(rgb)
    left, top, right, bottom = (round(edge * side) for edge in looked)
    colour = rgb[top:bottom, left:right].reshape(-1, 3).mean(axis=0).round().astype(np.uint8)
    for place in _places(looked, _MARGIN):
        covered = rgb.copy()
        begin_x, begin_y, end_x, end_y = (round(edge * side) for edge in place)
        covered[begin_y:end_y, begin_x:end_x] = colour
        yield covered


def _drawn(values: _Array, looked: Sequence[float]) -> _Array:
    """Values of places drawn into a map of the whole picture, `[28, 28]`; 0 where the encoder does not look."""
    if tuple(looked) == (0.0, 0.0, 1.0, 1.0):
        return values
    left, top, right, bottom = looked
    centres = (np.arange(_CELLS) + 0.5) / _CELLS
    columns = np.floor((centres - left) / (right - left) * _PLACES).astype(int)
    rows = np.floor((centres - top) / (bottom - top) * _PLACES).astype(int)
    inside = ((rows >= 0) & (rows < _PLACES))[:, None] & ((columns >= 0) & (columns < _PLACES))
    picked: _Array = values[np.clip(rows, 0, _PLACES - 1)[:, None], np.clip(columns, 0, _PLACES - 1)]
    return np.where(inside, picked, np.float32(0.0))
