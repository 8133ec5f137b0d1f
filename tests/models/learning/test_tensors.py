"""Files of tensors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.learning import tensors
from models.learning.errors import LearningError


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    """The header comes first, in its own order, and the library that the format is of finds the tensors behind it:
    also those that share memory, lie across, or are empty."""
    path = tmp_path / "one"
    base = torch.arange(6.0).reshape(2, 3)
    given = {
        "whole": base,
        "same": base,
        "across": base.T,
        "empty": torch.zeros(0, 4),
        "number": torch.tensor(3),
        "half": torch.ones(3, dtype=torch.bfloat16),
    }
    header = {"zebra": "1", "apple": 'with "quotes" and 字', "middle": "x"}
    tensors.write(path, given, header)
    found = load_file(path)
    assert set(found) == set(given) and all(torch.equal(found[name], given[name]) for name in given)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    assert list(json.loads(data[8 : 8 + length])["__metadata__"]) == ["zebra", "apple", "middle"]
    again, read = tensors.read(path, "file")
    assert read == header == tensors.read_header(path, "file")
    assert all(torch.equal(again[name], given[name]) for name in given)


def test_an_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where writing breaks off, what was there before is still there and whole, and the next one finds no rubbish."""
    path = tmp_path / "one"
    tensors.write(path, {"x": torch.zeros(3)}, {"which": "old"})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            tensors.write(path, {"x": torch.ones(3)}, {"which": "new"})
    assert tensors.read_header(path, "file") == {"which": "old"}
    tensors.write(path, {"x": torch.ones(3)}, {"which": "new"})
    assert [one.name for one in tmp_path.iterdir()] == ["one"]
    assert torch.equal(tensors.read(path, "file")[0]["x"], torch.ones(3))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file, a folder and a text are each told as what they should have been."""
    (tmp_path / "text").write_text("hello")
    for name, said in (("none", "no such state"), ("text", "not a state"), (".", "not a state")):
        with pytest.raises(LearningError, match=said):
            tensors.read(tmp_path / name, "state")
        with pytest.raises(LearningError, match=said):
            tensors.read_header(tmp_path / name, "state")
