"""The checkpoint `tags`: labels from the two pretrained classifiers as they are, merged and calibrated.

`tags.csv` holds the mapping of classes to labels and says how its lines were drawn; `tags.toml` holds the calibration
and says what it was fitted on. Reading them takes the standard library only; building the module imports torch.
"""

from __future__ import annotations

import csv
import tomllib
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from models.config import LabelInfo

if TYPE_CHECKING:
    from torch import nn

    from models.fusion.noisy_or import ModalityHead, TagFusion
    from models.weights import Weights

CLASS_COUNTS = {"imagenet": 1000, "audioset": 521}
MODALITY_OF = {"imagenet": "video", "audioset": "audio"}
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class SourceClass:
    """One class of a pretrained classifier and the label it counts for."""

    label: str
    collection: str
    index: int
    name: str


@dataclass(frozen=True, slots=True)
class Platt:
    """From a modality's pooled log-odds x of a label to calibrated log-odds: `scale * x + bias`.

    After Platt, "Probabilistic outputs for support vector machines" (1999). `order` is that of the power mean over the
    tokens of a window: 1 is their mean, and the higher it is, the more one token counts. `nothing` is the logit of
    being none of the classes, where they exclude each other.
    """

    scale: float
    bias: float
    order: float
    nothing: float | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """What turns class scores into the probability that a label is true of a window.

    `prior` is that of any label while nothing is seen and heard.
    """

    prior: float
    video: Platt
    audio: Platt


@cache
def source_classes() -> tuple[SourceClass, ...]:
    """All 1,521 rows of tags.csv, in its order. ValueError where a class is missing, doubled or out of range."""
    with (_HERE / "tags.csv").open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        classes = tuple(SourceClass(row["label"], row["collection"], int(row["index"]), row["class"]) for row in rows)
    for collection, count in CLASS_COUNTS.items():
        indices = sorted(source.index for source in classes if source.collection == collection)
        if indices != list(range(count)):
            raise ValueError(f"tags.csv: {collection} must list each of 0 to {count - 1} exactly once")
    return classes


@cache
def labels() -> tuple[LabelInfo, ...]:
    """Every label, in alphabetical order (the order of the scores), with the modalities that have a class for it."""
    modalities: dict[str, set[str]] = {}
    for source in source_classes():
        modalities.setdefault(source.label, set()).add(MODALITY_OF[source.collection])
    ordered = sorted(modalities, key=lambda name: (name.lower(), name))
    return tuple(
        LabelInfo(name, tuple(modality for modality in ("video", "audio") if modality in modalities[name]))
        for name in ordered
    )


@cache
def label_of_class(collection: str) -> tuple[int, ...]:
    """For each class of "imagenet" or "audioset", in its order, the place of its label in `labels()`."""
    place = {label.name: index for index, label in enumerate(labels())}
    ordered = sorted((source for source in source_classes() if source.collection == collection), key=lambda s: s.index)
    return tuple(place[source.label] for source in ordered)


def build(weights: Weights) -> tuple[TagFusion, tuple[LabelInfo, ...], dict[str, object]]:
    """The fusion on the classifiers of both pretrained encoders, its labels, and its calibration for people to read."""
    from models import audio, frame

    constants = calibration()
    fusion = assemble(frame.load(weights.frame).classifier, audio.load(weights.audio).classifier, constants)
    return fusion, labels(), asdict(constants)


def assemble(video: nn.Linear, audio: nn.Linear, constants: Calibration) -> TagFusion:
    """The fusion, in evaluation mode, that keeps ImageNet's classifier `[1000, 1280]` and AudioSet's `[521, 1024]`."""
    from models.fusion.noisy_or import TagFusion

    heads = _head(video, "imagenet", constants.video), _head(audio, "audioset", constants.audio)
    return TagFusion(*heads, constants.prior).eval()


def _head(classifier: nn.Linear, collection: str, platt: Platt) -> ModalityHead:
    import torch

    from models.fusion.noisy_or import HeadConstants, ModalityHead

    places = torch.tensor(label_of_class(collection))
    constants = HeadConstants(places, len(labels()), platt.scale, platt.bias, platt.order, platt.nothing)
    return ModalityHead(classifier, constants)


@cache
def calibration() -> Calibration:
    """The constants of tags.toml."""
    with (_HERE / "tags.toml").open("rb") as file:
        document = tomllib.load(file)
    video, audio = (
        Platt(**{name: float(value) for name, value in table.items()})
        for table in (document["video"], document["audio"])
    )
    return Calibration(float(document["prior"]), video, audio)
