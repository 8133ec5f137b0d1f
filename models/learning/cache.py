"""What was made of media once: kept by content, whole or not at all, made anew where damaged."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.learning.errors import LearningError
from models.weights import Progress as Fetching
from models.weights import Weights, WeightsFetchError, cache_dir
from models.whisper import fetch_roles

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Sources:
    """The folder that derived things are kept in, and the pretrained weights (None where no encoder needs them)."""

    cache: Path
    weights: Weights | None = None

    @classmethod
    def usual(
        cls, weights_folder: Path | None = None, roles: Collection[str] = (), progress: Fetching | None = None
    ) -> Sources:
        """The user's cache folder and the published weights, those of `roles` (models.learning.keep.frozen) among them.
        LearningError where those can't be had."""
        try:
            weights = fetch_roles(roles, weights_folder, progress)
        except WeightsFetchError as error:
            raise LearningError(str(error)) from error
        if not set(roles) <= set(weights.files):
            raise LearningError(" ".join(weights.missing.values()))
        return cls(cache_dir(), weights)


class Store:
    """Arrays by what they were made from.

    An entry is one file, named by the SHA-256 of its fields; it appears in one step, so several processes may fill one
    folder at once. A zip's own checksums (CRC-32) tell damage, and a damaged entry is made anew.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, fields: Mapping[str, Any], make: Callable[[], Arrays]) -> dict[str, NDArray[Any]]:
        """The entry with these fields, which JSON must be able to hold; made where it isn't there.

        LearningError where the folder can't be written.
        """
        path = self.path(fields)
        kept = _read(path)
        if kept is not None:
            return kept
        arrays = {name: np.ascontiguousarray(array) for name, array in make().items()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="new-", dir=path.parent) as scratch:
                # Not np.savez(path): an open file takes no second name and no suffix.
                new = Path(scratch) / path.name
                with new.open("wb") as file:
                    np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes them for its own flag
                os.replace(new, path)
        except OSError as error:
            raise LearningError(
                f"{path.parent}: can't keep features there ({error.strerror}); make room, or name another cache folder "
                "with STREAMER_CACHE=DIR"
            ) from error
        return arrays

    def path(self, fields: Mapping[str, Any]) -> Path:
        """Where an entry with these fields is kept."""
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        name = hashlib.sha256(text.encode()).hexdigest()
        return self._folder / name[:2] / f"{name}.npz"


def _read(path: Path) -> dict[str, NDArray[Any]] | None:
    try:
        with np.load(path, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
        return None  # damaged: what is made now takes its place


_digests: dict[tuple[str, int, int], str] = {}


def content_digest(path: Path) -> str:
    """SHA-256 of a file's content, remembered by path, size and time of change. LearningError where it can't be
    read."""
    try:
        about = path.stat()
        known = (str(path), about.st_size, about.st_mtime_ns)
        if known not in _digests:
            with path.open("rb") as file:
                _digests[known] = hashlib.file_digest(file, "sha256").hexdigest()
        return _digests[known]
    except OSError as error:
        raise LearningError(
            f"{path}: can't be read ({error.strerror}); put the file there or take its clip out"
        ) from error


def code_digest(*parts: Callable[..., Any] | type) -> str:
    """A short digest of functions' and classes' source text: edited code makes anew what was made by it."""
    return hashlib.sha256("\n".join(_source(part) for part in parts).encode()).hexdigest()[:16]


_reading = threading.Lock()


@functools.cache
def _source(part: Callable[..., Any] | type) -> str:
    # To find a class its whole file is parsed, and CPython 3.11 fails where two threads parse at once (gh-106905).
    with _reading:
        return inspect.getsource(part)
