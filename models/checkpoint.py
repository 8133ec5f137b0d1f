"""Checkpoints: a network's tensors with everything needed to feed it and to read its answers.

A checkpoint is one safetensors file, whose header is JSON that `head -c 2000 FILE` shows: geometry, label names,
calibration, and which encoders (by the SHA-256 of their weight files) its tokens must come from. Reading one can't run
code, and reading the header needs no torch: the service starts without importing it.

There are three kinds: `tags`, made of two pretrained classifiers; `learned`, trained from a recipe, which the header
then holds; and `pretrained`, encoders alone, to start training from.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.config import Geometry, LabelInfo
from models.weights import Weights, cache_dir

if TYPE_CHECKING:
    from torch import Tensor

    from models.fusion.noisy_or import TagFusion
    from models.learning.keep import Loaded

FORMAT = "streamer-checkpoint"
VERSION = 1
TAGS = "tags"
LEARNED = "learned"
PRETRAINED = "pretrained"
SHIPPED = Path(__file__).parent / "shipped"
# What makes those that have a name; where the rights in the data don't allow it they don't ship.
SCRIPTS = {
    "av-offset": "runs/grid-offset.sh",
    "fight": "runs/fight.sh",
    "grid-digit": "runs/grid-digit.sh",
    "grid-sentence": "runs/grid-sentence.sh",
    "sounds": "runs/sounds.sh",
}
ENCODERS = ("frame", "audio")
# Of who reads alone: nobody says anything in less.
_SHORTEST_READ_NS = 1_000_000_000
MODALITIES = ("video", "audio", "text")


class CheckpointError(Exception):
    """A checkpoint can't be used; the message names it and what to do about it."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint's header, and where its tensors are.

    `labels` are in the order of the output: for the tasks `classes` and `labels` what can be told of a window, for
    `numbers` what the numbers are called, for `sequence` the symbols. `encoders` gives the SHA-256 of the weight file
    of each frozen encoder that it needs ("frame", "audio", "whisper", "people"). `calibration` says on what the scores
    were calibrated and with what constants. `recipe`: what it was trained by, as models.learning.recipe reads it; None
    for `tags`.
    `vocabulary`: the words that its text encoder tells apart, in lower case, from number 1 on; 0 is any other word.
    """

    path: Path
    name: str
    kind: str
    geometry: Geometry
    labels: Sequence[LabelInfo]
    encoders: Mapping[str, str]
    calibration: Mapping[str, object]
    task: str = "labels"
    recipe: Mapping[str, Any] | None = None
    vocabulary: Sequence[str] = ()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that it reads, in the usual order."""
        if self.recipe is None:
            return ("video", "audio")
        return tuple(name for name in MODALITIES if self.recipe.get(name) is not None)

    @property
    def reads_people(self) -> bool:
        """Whether who is in a picture is part of what it reads."""
        return bool(((self.recipe or {}).get("video") or {}).get("people"))

    @property
    def looked_at(self) -> tuple[float, float, float, float]:
        """The part of a picture that it sees: left, top, right, bottom in fractions."""
        video = (self.recipe or {}).get("video") or {}
        if video.get("encoder") not in ("lips", "resnet18"):
            return 0.0, 0.0, 1.0, 1.0
        left, top, right, bottom = video["crop"]
        return float(left), float(top), float(right), float(bottom)

    def state(self) -> dict[str, Tensor]:
        """Its tensors by name, on the CPU."""
        from safetensors.torch import load_file

        return load_file(self.path)

    def fusion(self) -> TagFusion:
        """The fusion of a checkpoint of kind `tags`, in evaluation mode."""
        from models.fusion.noisy_or import TagFusion

        return TagFusion.from_state(self.state()).eval()

    def learned(self) -> Loaded:
        """The network of a learned checkpoint, in evaluation mode, and its calibration. CheckpointError where its
        tensors don't fit its recipe."""
        from models.learning import keep
        from models.learning.errors import LearningError

        try:
            return keep.load_network(self.path)
        except LearningError as error:
            raise CheckpointError(str(error)) from error

    def digest(self) -> str:
        """A short digest of the whole file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def save(checkpoint: Checkpoint, state: Mapping[str, Tensor]) -> None:
    """Writes a checkpoint of kind `tags` to its path, whole or not at all; folders are made. OSError where the disk
    refuses. (Learned ones: models.learning.keep.)"""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    header = {
        "format": FORMAT,
        "version": str(VERSION),
        "name": checkpoint.name,
        "kind": checkpoint.kind,
        "geometry": json.dumps(dataclasses.asdict(checkpoint.geometry)),
        "labels": json.dumps([[label.name, *label.modalities] for label in checkpoint.labels], ensure_ascii=False),
        "encoders": json.dumps(dict(checkpoint.encoders)),
        "calibration": json.dumps(dict(checkpoint.calibration), ensure_ascii=False),
    }
    checkpoint.path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="save-", dir=checkpoint.path.parent) as scratch:
        temporary = Path(scratch) / checkpoint.path.name
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        try:
            save_file(tensors, temporary, header)
        except SafetensorError as error:
            # The system's own error is in its text alone.
            found = re.search(r"os error (\d+)", str(error))
            number = int(found[1]) if found else errno.EIO
            raise OSError(number, os.strerror(number), str(checkpoint.path)) from error
        os.replace(temporary, checkpoint.path)


def names() -> list[str]:
    """What can be loaded by name: `tags`, and what ships with the program."""
    return [TAGS, *sorted(path.stem for path in SHIPPED.glob("*.safetensors"))]


def find(name_or_path: str | Path) -> Path:
    """The file of a checkpoint that has a name (all but `tags`, which is made), or that path as it is.

    Raises CheckpointError for the name of one that does not ship; says what makes it.
    """
    name = str(name_or_path)
    shipped = SHIPPED / f"{name}.safetensors"
    if name in SCRIPTS and not shipped.is_file():
        raise CheckpointError(
            f"{name}: this checkpoint does not come with the program; {SCRIPTS[name]} makes it from its data, below "
            "the folder learned: give its path there"
        )
    return shipped if name in SCRIPTS else Path(name_or_path)


def needs(name_or_path: str | Path) -> frozenset[str]:
    """The roles of the weight files by which what it reads is made. Raises CheckpointError as `load`."""
    return frozenset(ENCODERS) if name_or_path == TAGS else frozenset(read(find(name_or_path)).encoders)


def load(name_or_path: str | Path, weights: Weights) -> Checkpoint:
    """The checkpoint of that name ("tags", made from the weights alone, or one that ships) or in that file.

    Raises CheckpointError for a missing, damaged or newer file, and for one whose encoders aren't those in `weights`.
    """
    if name_or_path == TAGS:
        path = _tags_path(weights)
        if not path.is_file():
            _build_tags(path, weights)
    else:
        path = find(name_or_path)
    checkpoint = read(path)
    for role, digest in checkpoint.encoders.items():
        if weights.sha256.get(role) != digest:
            raise CheckpointError(
                f"{path}: was made for another {role} encoder (SHA-256 {digest[:12]}...) than the weights have; "
                "use the weights that it was made with"
            )
    return checkpoint


def tells_labels(checkpoint: Checkpoint) -> None:
    """CheckpointError, with what it is for, unless what it tells of a window are labels with their probabilities."""
    if checkpoint.kind == PRETRAINED:
        remedy = "train from it: `start` in a recipe for `streamer train`"
        raise CheckpointError(f"{checkpoint.path}: holds pretrained encoders, which tell no labels yet; {remedy}")
    if checkpoint.task in ("numbers", "sequence"):
        told = "numbers" if checkpoint.task == "numbers" else "sequences"
        remedy = f"score it on clips: streamer eval {checkpoint.path} FOLDER"
        raise CheckpointError(f"{checkpoint.path}: tells {told}, which are no labels of a stream; {remedy}")
    if checkpoint.modalities == ("text",) and checkpoint.geometry.window_ns < _SHORTEST_READ_NS:
        raise CheckpointError(
            f"{checkpoint.path}: was trained on words without times, so nothing says how long to listen for a label; "
            "train it with a `window` in the recipe's [data], like 4.0"
        )


def read(path: Path) -> Checkpoint:
    """A checkpoint's header, checked. Raises CheckpointError for a missing, damaged or newer file."""
    # Opened as arrays, not tensors: that way safetensors leaves torch alone.
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            header: dict[str, str] = file.metadata() or {}
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such checkpoint; give a file, or the name {' or '.join(names())}") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a checkpoint, or damaged ({error})") from error
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path}: a safetensors file, but not a checkpoint of this program")
    if header.get("version") != str(VERSION):
        raise CheckpointError(
            f"{path}: format version {header.get('version')}, but this program reads version {VERSION}"
        )
    try:
        return _parse(path, header)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its header is damaged ({error})") from error


def _parse(path: Path, header: Mapping[str, str]) -> Checkpoint:
    """The header's strings as what they stand for; KeyError, TypeError or ValueError where they don't."""
    fields: dict[str, Any] = json.loads(header["geometry"])
    fields["frame_rates"] = tuple(fields["frame_rates"])
    labels = tuple(LabelInfo(str(name), tuple(modalities)) for name, *modalities in json.loads(header["labels"]))
    for label in labels:
        if not label.name or not set(label.modalities) <= set(MODALITIES):
            raise ValueError(f"label {label.name!r} from {label.modalities}")
    if len({label.name for label in labels}) != len(labels):
        raise ValueError("a label's name stands twice")
    kind = header["kind"]
    if kind not in (TAGS, LEARNED, PRETRAINED):
        raise ValueError(f"kind {kind!r}")
    learned = kind != TAGS
    return Checkpoint(
        path=path,
        name=header["name"],
        kind=kind,
        geometry=Geometry(**fields),
        labels=labels,
        encoders=dict(json.loads(header["encoders"])),
        calibration=dict(json.loads(header["calibration"])),
        task=header["task"] if learned else "labels",
        recipe=dict(json.loads(header["recipe"])) if learned else None,
        vocabulary=tuple(map(str, json.loads(header["vocabulary"]))) if learned else (),
    )


def source_key(*names: str) -> str:
    """A short digest of files of this package, for cached things made by their code: edited code makes them anew."""
    digest = hashlib.sha256()
    for name in names:
        digest.update((Path(__file__).parent / name).read_bytes())
    return digest.hexdigest()[:16]


def _tags_path(weights: Weights) -> Path:
    """Where the cache keeps the checkpoint `tags` made from these weights by this code."""
    code = source_key("checkpoint.py", "config.py", "tags.py", "tags.csv", "tags.toml", "fusion/noisy_or.py")
    return cache_dir() / "checkpoints" / f"{TAGS}-{weights.key(ENCODERS)}-{code}.safetensors"


def _build_tags(path: Path, weights: Weights) -> None:
    """Makes the checkpoint `tags` once: the encoders' own classifiers, merged and calibrated, nothing trained."""
    from models import tags

    fusion, labels, calibration = tags.build(weights)
    encoders = {role: weights.sha256[role] for role in ENCODERS}
    try:
        save(Checkpoint(path, TAGS, TAGS, Geometry(), labels, encoders, calibration), fusion.state_dict())
    except OSError as error:
        raise CheckpointError(cannot_keep(path, error)) from error


def cannot_keep(path: Path, error: OSError) -> str:
    """What to tell a user whose disk doesn't take a file of the cache."""
    return f"{path.parent}: cannot write there ({error.strerror}); name another cache folder with STREAMER_CACHE=DIR"
