"""Checkpoint files: what is saved comes back, and what can't be used is refused by name."""

from __future__ import annotations

import dataclasses
import json
import struct
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from models import checkpoint as checkpoints
from models.checkpoint import Checkpoint, CheckpointError
from models.config import Geometry, LabelInfo
from models.weights import Weights

WEIGHTS = Weights(
    files=MappingProxyType({}),
    sha256=MappingProxyType({"frame": "f" * 64, "audio": "a" * 64}),
    missing=MappingProxyType({}),
)


def _checkpoint(path: Path) -> Checkpoint:
    return Checkpoint(
        path=path,
        name="small",
        kind="tags",
        geometry=Geometry(hop_ns=250_000_000, frame_rates=(1, 2)),
        labels=(LabelInfo("Dog", ("video", "audio")), LabelInfo("狗", ("audio",))),
        encoders={"frame": "f" * 64, "audio": "a" * 64},
        calibration={"prior": 0.01, "video": {"scale": 1.5}},
    )


def _saved(folder: Path) -> Path:
    path = folder / "small.safetensors"
    checkpoints.save(_checkpoint(path), {"weight": torch.arange(6.0).reshape(2, 3)})
    return path


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    """Header and tensors are read as they were written, and no temporary file stays behind."""
    path = _saved(tmp_path)
    loaded = checkpoints.load(path, WEIGHTS)
    assert loaded == _checkpoint(path)
    torch.testing.assert_close(loaded.state(), {"weight": torch.arange(6.0).reshape(2, 3)})
    assert [entry.name for entry in tmp_path.iterdir()] == ["small.safetensors"]


def test_header_is_readable_json(tmp_path: Path) -> None:
    """The file begins with the length of a JSON object that shows geometry and labels in plain words."""
    data = _saved(tmp_path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])["__metadata__"]
    assert json.loads(header["labels"]) == [["Dog", "video", "audio"], ["狗", "audio"]]
    assert json.loads(header["geometry"])["hop_ns"] == 250_000_000


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A path that isn't there is named, with what may stand in its place."""
    with pytest.raises(CheckpointError, match=r"none\.safetensors: no such checkpoint; give a file, or the name tags"):
        checkpoints.load(tmp_path / "none.safetensors", WEIGHTS)


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "folder"])
def test_damaged_file_is_named(damage: str, tmp_path: Path) -> None:
    """A file cut short, a text, an empty file and a folder are refused by name."""
    path = _saved(tmp_path)
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes({"cut": whole[:-5], "text": b"<html>404</html>", "empty": b""}[damage])
    with pytest.raises(CheckpointError, match=r"small\.safetensors: not a checkpoint, or damaged"):
        checkpoints.load(path, WEIGHTS)


def test_foreign_safetensors_is_refused(tmp_path: Path) -> None:
    """Tensors without our header aren't taken for a checkpoint."""
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of this program"):
        checkpoints.load(path, WEIGHTS)


def _rewritten(folder: Path, **changes: str | None) -> Path:
    """A checkpoint whose header fields are changed, or dropped where None."""
    path = _saved(folder)
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])["__metadata__"] | changes
    save_file(
        {"weight": np.zeros(3, np.float32)}, path, {key: text for key, text in header.items() if text is not None}
    )
    return path


def test_newer_format_is_refused(tmp_path: Path) -> None:
    """A checkpoint of a later version says which version it has and which is read."""
    with pytest.raises(CheckpointError, match="format version 2, but this program reads version 1"):
        checkpoints.load(_rewritten(tmp_path, version="2"), WEIGHTS)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("geometry", None),
        ("geometry", "{"),
        ("geometry", '{"frame_rates": [2], "window": 3}'),
        ("geometry", json.dumps(dataclasses.asdict(Geometry()) | {"hop_ns": 0})),
        ("geometry", json.dumps(dataclasses.asdict(Geometry()) | {"hop_ns": 0.5})),
        ("geometry", json.dumps(dataclasses.asdict(Geometry()) | {"frame_rates": []})),
        ("labels", '[["Dog", "smell"]]'),
        ("labels", '[["Dog", "video"], ["Dog", "audio"]]'),
        ("labels", "[[]]"),
        ("labels", "7"),
        ("encoders", "[1]"),
    ],
)
def test_senseless_header_is_refused(field: str, text: str | None, tmp_path: Path) -> None:
    """A header that is missing a field, isn't JSON, or says what can't be is refused by the file's name."""
    with pytest.raises(CheckpointError, match=r"small\.safetensors: its header is damaged"):
        checkpoints.load(_rewritten(tmp_path, **{field: text}), WEIGHTS)


def test_other_encoders_are_refused(tmp_path: Path) -> None:
    """A checkpoint for other encoder weights than those at hand names the encoder."""
    other = dataclasses.replace(WEIGHTS, sha256=MappingProxyType({"frame": "f" * 64, "audio": "b" * 64}))
    with pytest.raises(CheckpointError, match="was made for another audio encoder"):
        checkpoints.load(_saved(tmp_path), other)


def test_tags_is_built_once(pretrained: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tags` is made from the weights alone; the second load reads the same file."""
    monkeypatch.setenv("STREAMER_CACHE", str(tmp_path))
    first = checkpoints.load("tags", pretrained)
    made = first.path.stat().st_mtime_ns
    assert checkpoints.load("tags", pretrained) == first
    assert first.path.stat().st_mtime_ns == made
    assert "Dog" in {label.name for label in first.labels}
    assert first.geometry == Geometry()
    fusion = first.fusion()
    scores, shares = fusion(torch.zeros(1, 2, 1280), torch.zeros(1, 2), torch.zeros(1, 2, 1024), torch.zeros(1, 2))
    assert scores.shape == (1, len(first.labels))
    assert shares.shape == (1, len(first.labels), 3)


def test_cache_that_cannot_be_written_is_named(
    pretrained: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache below a file gives one error with the remedy."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STREAMER_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(CheckpointError, match="STREAMER_CACHE=DIR"):
        checkpoints.load("tags", pretrained)


def test_header_is_read_without_torch(tmp_path: Path) -> None:
    """Reading a header imports no torch, so that a start from the cache is quick and small."""
    code = f"""
import sys
from pathlib import Path
from models import checkpoint
checkpoint.read(Path({str(_saved(tmp_path))!r}))
print("torch" in sys.modules)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.strip() == "False"
