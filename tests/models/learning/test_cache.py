"""What is kept: found again by what it was made from, whole, and made anew where it is damaged."""

from __future__ import annotations

import multiprocessing
import os
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.learning.cache import Sources, Store, code_digest, content_digest
from models.learning.errors import LearningError

FIELDS = {"kind": "t", "start": 0.0}


class Maker:
    """Makes an array, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> dict[str, NDArray[Any]]:
        self.times += 1
        return {"x": np.arange(1000, dtype=np.float16).reshape(10, 100)[:, ::2], "when": np.zeros(0, np.float32)}


def test_it_is_made_once(tmp_path: Path) -> None:
    """The same fields give the same arrays without making them; others make their own."""
    make, store = Maker(), Store(tmp_path)
    first = store.get(FIELDS, make)
    second = Store(tmp_path).get(dict(reversed(FIELDS.items())), make)
    assert make.times == 1 and (second["x"] == first["x"]).all() and second["x"].dtype == np.float16
    assert second["when"].shape == (0,)
    store.get(FIELDS | {"start": 0.5}, make)
    assert make.times == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_damage_is_made_good(tmp_path: Path, damage: str) -> None:
    """A file that was cut short, changed or overwritten is made anew, and is right again."""
    make, store = Maker(), Store(tmp_path)
    store.get(FIELDS, make)
    path = store.path(FIELDS)
    held = path.read_bytes()
    middle = len(held) // 2
    spoilt = {
        "cut": held[:middle],
        "flipped": held[:middle] + bytes([held[middle] ^ 1]) + held[middle + 1 :],
        "empty": b"",
        "other": b"no zip at all",
    }
    path.write_bytes(spoilt[damage])
    assert (store.get(FIELDS, make)["x"] == make()["x"]).all()
    assert make.times == 3 and path.read_bytes() == held


def test_nothing_half_made_stays(tmp_path: Path) -> None:
    """Where making fails, there is no entry and nothing beside it."""

    def fail() -> dict[str, NDArray[Any]]:
        raise RuntimeError("on the way")

    with pytest.raises(RuntimeError):
        Store(tmp_path).get(FIELDS, fail)
    Store(tmp_path).get(FIELDS, Maker())
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def _fill(folder: Path) -> None:
    for number in range(50):
        kept = Store(folder).get({"number": number}, lambda: {"x": np.arange(5000)})
        assert kept["x"].sum() == 5000 * 4999 // 2


def test_processes_may_fill_one_folder(tmp_path: Path) -> None:
    """Two at once leave every entry whole."""
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_fill, args=(tmp_path,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 50


def test_a_folder_that_takes_nothing(tmp_path: Path) -> None:
    """One line that names the remedy."""
    (tmp_path / "file").touch()
    with pytest.raises(LearningError, match="STREAMER_CACHE"):
        Store(tmp_path / "file").get(FIELDS, Maker())


def test_content_not_name_counts(tmp_path: Path) -> None:
    """The digest follows what a file holds, also after a change."""
    one, two = tmp_path / "one", tmp_path / "two"
    for path in (one, two):
        path.write_bytes(b"same")
    assert content_digest(one) == content_digest(two)
    one.write_bytes(b"longer")
    os.utime(one, (1, 1))
    assert content_digest(one) != content_digest(two)
    with pytest.raises(LearningError, match="take its clip out"):
        content_digest(tmp_path / "none")


def test_code_counts() -> None:
    """Other code, other digest."""
    assert code_digest(Store) == code_digest(Store) != code_digest(Store, content_digest)


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    """A folder without them is one clear line."""
    with pytest.raises(LearningError, match="missing"):
        Sources.usual(tmp_path)


def test_threads_may_ask_for_the_code_at_once() -> None:
    """To find a class its file is parsed, which only one thread may do at a time."""
    classes = [Store, Sources, Maker, ThreadPoolExecutor, multiprocessing.Process, zipfile.ZipFile, tarfile.TarFile]
    begin = threading.Barrier(len(classes))

    def digest(kind: type) -> str:
        begin.wait(30)
        return code_digest(kind)

    with ThreadPoolExecutor(len(classes)) as pool:
        found = list(pool.map(digest, classes))
    assert found == [code_digest(kind) for kind in classes] and len(set(found)) == len(classes)
