"""Checkpoints: a fusion's tensors with everything needed to feed it and to read its answers.

A checkpoint is one safetensors file, whose header is JSON that `head -c 2000 FILE` shows: geometry, label names,
calibration, and which encoders (by the SHA-256 of their weight files) its tokens must come from. Reading one can't run
code, and reading the header needs no torch: the service starts without importing it.
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

FORMAT = "streamer-checkpoint"
VERSION = 1
TAGS = "tags"
ENCODERS = ("frame", "audio")
MODALITIES = ("video", "audio", "text")


class CheckpointError(Exception):
    """A checkpoint can't be used; the message names it and what to do about it."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint's header, and where its tensors are.

    `labels` are in the order of the fusion's output. `encoders` gives the SHA-256 of the weight file of each encoder.
    `calibration` says on what the scores were calibrated and with what constants, for people to read.
    """

    path: Path
    name: str
    kind: str
    geometry: Geometry
    labels: Sequence[LabelInfo]
    encoders: Mapping[str, str]
    calibration: Mapping[str, object]

    def state(self) -> dict[str, Tensor]:
        """The fusion's tensors by name, on the CPU."""
        from safetensors.torch import load_file

        return load_file(self.path)

    def fusion(self) -> TagFusion:
        """The fusion with these tensors, in evaluation mode."""
        from models.fusion.noisy_or import TagFusion

        return TagFusion.from_state(self.state()).eval()

    def digest(self) -> str:
        """A short digest of the whole file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def save(checkpoint: Checkpoint, state: Mapping[str, Tensor]) -> None:
    """Writes the checkpoint to its path, whole or not at all; folders are made. OSError where the disk refuses."""
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


def load(name_or_path: str | Path, weights: Weights) -> Checkpoint:
    """The checkpoint of that name ("tags", made from the weights alone) or in that file.

    Raises CheckpointError for a missing, damaged or newer file, and for one whose encoders aren't those in `weights`.
    """
    if name_or_path == TAGS:
        path = _tags_path(weights)
        if not path.is_file():
            _build_tags(path, weights)
    else:
        path = Path(name_or_path)
    checkpoint = read(path)
    for role, digest in checkpoint.encoders.items():
        if weights.sha256.get(role) != digest:
            raise CheckpointError(
                f"{path}: was made for another {role} encoder (SHA-256 {digest[:12]}...) than the weights have; "
                "use the weights that it was made with"
            )
    return checkpoint


def read(path: Path) -> Checkpoint:
    """A checkpoint's header, checked. Raises CheckpointError for a missing, damaged or newer file."""
    # Opened as arrays, not tensors: that way safetensors leaves torch alone.
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            header: dict[str, str] = file.metadata() or {}
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such checkpoint; give a file, or the name {TAGS}") from error
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
    return Checkpoint(
        path=path,
        name=header["name"],
        kind=header["kind"],
        geometry=Geometry(**fields),
        labels=labels,
        encoders=dict(json.loads(header["encoders"])),
        calibration=dict(json.loads(header["calibration"])),
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
