"""Checkpoint files: what is saved comes back, and what can't be used is refused by name."""

from __future__ import annotations

import dataclasses
import json
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from models import checkpoint as checkpoints
from models.checkpoint import Checkpoint, CheckpointError
from models.config import Geometry, LabelInfo
from models.learning.recipe import DataRecipe, Recipe
from models.weights import Weights
from tests.learned import FROZEN, LIPS, NAMES, TALKING, learned_checkpoint

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
from dataclasses import replace
from pathlib import Path
from models import checkpoint
checkpoint.read(Path({str(_saved(tmp_path))!r}))
print("torch" in sys.modules)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.strip() == "False"


def test_what_ships_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that lies with the program is read by its name, and listed; one that does not says what makes it."""
    monkeypatch.setattr(checkpoints, "SHIPPED", tmp_path)
    learned_checkpoint(tmp_path / "sounds.safetensors")
    assert checkpoints.names() == ["tags", "sounds"]
    assert checkpoints.read(checkpoints.find("sounds")).name == "small"
    with pytest.raises(CheckpointError, match=r"fight: .* does not come with the program; runs/fight\.sh makes it"):
        checkpoints.find("fight")
    assert checkpoints.find(tmp_path / "mine.safetensors") == tmp_path / "mine.safetensors"
    with pytest.raises(CheckpointError, match="no such checkpoint; give a file, or the name tags or sounds"):
        checkpoints.read(tmp_path / "none.safetensors")


def test_scripts_that_are_named_are_there() -> None:
    """The scripts that an error sends people to exist."""
    root = Path(checkpoints.__file__).parents[1]
    named = {name: root / script for name, script in checkpoints.SCRIPTS.items() if name not in checkpoints.names()}
    assert not {name: str(path) for name, path in named.items() if not path.is_file()}


def test_a_learned_checkpoint_says_what_it_reads(tmp_path: Path) -> None:
    """Modalities, geometry, encoders and label names come out of its header, without torch being needed for them."""
    checkpoint = checkpoints.read(learned_checkpoint(tmp_path / "lips.safetensors", replace(LIPS, audio=None)))
    assert (checkpoint.kind, checkpoint.task, checkpoint.modalities) == ("learned", "classes", ("video",))
    assert (checkpoint.geometry.frame_rates, checkpoint.geometry.frame_size) == ((25,), 96)
    assert checkpoint.geometry.window_ns == 3_000_000_000
    assert checkpoint.labels == tuple(LabelInfo(name, ("video",)) for name in NAMES)
    assert not checkpoint.encoders and checkpoint.looked_at == (0.25, 0.5, 0.75, 1.0)
    frozen = checkpoints.read(learned_checkpoint(tmp_path / "frozen.safetensors"))
    assert set(frozen.encoders) == {"frame", "audio"} and frozen.looked_at == (0.0, 0.0, 1.0, 1.0)


def test_other_encoders_than_it_was_trained_on_are_refused(pretrained: Weights, tmp_path: Path) -> None:
    """A learned checkpoint on frozen encoders wants the very weights; one that carries its own wants none."""
    other = dataclasses.replace(pretrained, sha256=pretrained.sha256 | {"frame": "0" * 64})
    with pytest.raises(CheckpointError, match="was made for another frame encoder"):
        checkpoints.load(learned_checkpoint(tmp_path / "frozen.safetensors"), other)
    assert checkpoints.load(learned_checkpoint(tmp_path / "lips.safetensors", LIPS), other).task == "classes"


@pytest.mark.parametrize(
    ("recipe", "kind", "words"),
    [
        (replace(FROZEN, task="numbers"), "learned", "tells numbers.*streamer eval"),
        (FROZEN, "pretrained", "pretrained encoders.*streamer train"),
        (
            replace(TALKING, video=None, audio=None, data=DataRecipe(window=0.1)),
            "learned",
            "words without times.*window",
        ),
    ],
)
def test_what_tells_no_labels_says_what_it_is_for(recipe: Recipe, kind: str, words: str, tmp_path: Path) -> None:
    """Checkpoints that no stream can be labelled with are told apart by their header."""
    checkpoint = checkpoints.read(learned_checkpoint(tmp_path / "c.safetensors", recipe, kind=kind))
    with pytest.raises(CheckpointError, match=words):
        checkpoints.tells_labels(checkpoint)
