"""Every fault that a folder of clips can have is found, and nothing is said of one that is right."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from models.learning import check as checking
from models.learning.check import Report
from models.learning.errors import LearningError
from models.learning.recipe import Recipe, parse
from tests.media_factory import Spec, make, tone

Folder = Callable[[str, Sequence[str]], Path]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Sounds of one second, each of its own content, and a clip of picture and sound of two."""
    folder = tmp_path_factory.mktemp("media")

    def at(hertz: int) -> Any:
        return lambda times_s: tone(times_s * hertz / 440)

    made = {
        f"{n}.ogg": make(folder / f"{n}.ogg", Spec(1.0, video=None, audio="libopus", play=at(200 + 50 * n)))
        for n in range(8)
    }
    both = {f"v{n}.mkv": make(folder / f"v{n}.mkv", Spec(size=(64, 48), play=at(300 + 50 * n))) for n in range(2)}
    return made | both


@pytest.fixture
def folder(tmp_path: Path, media: Mapping[str, Path]) -> Folder:
    """Makes a folder with a manifest of those lines and copies of the media that it names."""

    def build(header: str, rows: Sequence[str]) -> Path:
        for row in rows:
            name = row.split(",")[0]
            if name in media:
                shutil.copy(media[name], tmp_path / name)
        (tmp_path / "manifest.csv").write_text("\n".join([header, *rows]))
        return tmp_path

    return build


def recipe(task: str = "classes", **tables: Any) -> Recipe:
    """Of sound, with those tables."""
    return parse({"name": "t", "task": task, "audio": {}, **tables}, "t")


RIGHT = [f"{n}.ogg,{'dog' if n % 2 else 'cat'},{'validation' if n > 5 else 'train'}," for n in range(8)]
HEADER = "media,label,split,group"


def check(folder: Path, **more: Any) -> Report:
    """Of sound as classes."""
    return checking.check(folder, recipe(**more))


def test_nothing_is_wrong_with_what_is_right(folder: Folder) -> None:
    """And what there is, is counted."""
    report = check(folder(HEADER, RIGHT))
    assert report.faults == [] and report.notes == [] and report.clips == 8
    assert report.counts == {
        "cat": {"train": 3, "validation": 1, "test": 0},
        "dog": {"train": 3, "validation": 1, "test": 0},
    }
    assert report.splits == {"train": 6, "validation": 2} and report.lacks == {"audio": 0}
    assert report.seconds == pytest.approx((1.0, 1.0, 1.0), abs=0.05)
    assert report.document()["seconds"]["longest"] == pytest.approx(1.0, abs=0.05)


def test_files_that_are_not_there_or_no_media(folder: Folder) -> None:
    """One line a file, which names it; the clips that are right are looked at still."""
    where = folder(HEADER, [*RIGHT, "gone.ogg,dog,train,", "text.ogg,dog,train,"])
    (where / "text.ogg").write_text("no media")
    faults = check(where).faults
    assert len(faults) == 2 and "gone.ogg" in faults[0] and "text.ogg" in faults[1]


def test_rows_that_say_nothing(folder: Folder) -> None:
    """All of a manifest's faults at once, with their lines."""
    faults = check(folder(HEADER, [*RIGHT, "8.ogg,,train,", "9.ogg,dog,later,"])).faults
    assert len(faults) == 2 and "manifest.csv:10" in faults[0] and "manifest.csv:11" in faults[1]


def test_times_outside_the_media(folder: Folder) -> None:
    """An end or a start behind the end."""
    rows = ["0.ogg,dog,train,,0,0.9", "1.ogg,dog,train,,0.5,3", "2.ogg,dog,train,,2,"]
    faults = check(folder(f"{HEADER},start,end", rows)).faults
    assert len(faults) == 2 and "0.5 to 3 s" in faults[0] and "2.ogg" in faults[1]


def test_the_same_content_twice(folder: Folder) -> None:
    """Under two names, whatever the names; in two splits it is a leak; pieces that don't overlap are none."""
    where = folder(HEADER, [*RIGHT, "copy.ogg,cat,train,", "leak.ogg,cat,validation,"])
    shutil.copy(where / "0.ogg", where / "copy.ogg")
    shutil.copy(where / "1.ogg", where / "leak.ogg")
    faults = check(where).faults
    assert len(faults) == 2
    assert any("same content" in each and "copy.ogg" in each and not each.startswith("leak: ") for each in faults)
    assert any(each.startswith("leak: ") and "leak.ogg" in each for each in faults)


def test_pieces_of_one_file(folder: Folder) -> None:
    """Apart they may be in two splits; where they overlap that is a leak."""
    header = f"{HEADER},start,end"
    apart = ["0.ogg,dog,train,,0,0.5", "0.ogg,dog,validation,,0.5,1", "1.ogg,dog,train,,,"]
    assert check(folder(header, apart)).faults == []
    overlap = ["0.ogg,dog,train,,0,0.6", "0.ogg,dog,validation,,0.5,1", "1.ogg,dog,train,,,"]
    assert [each[:5] for each in check(folder(header, overlap)).faults] == ["leak:"]
    sliding = ["0.ogg,dog,train,,0,0.6", "0.ogg,dog,train,,0.5,1", "1.ogg,dog,validation,,,"]
    assert check(folder(header, sliding)).faults == []


def test_groups_on_both_sides(folder: Folder) -> None:
    """A speaker in training and validation is a leak, once a group."""
    rows = [row + ("rex" if row[0] in "0167" else "tom") for row in RIGHT]
    assert [each for each in check(folder(HEADER, rows)).faults] == [
        "leak: group 'rex' is in train and validation; give all of its clips one split"
    ]


def test_a_class_that_is_never_trained(folder: Folder) -> None:
    """It is in other splits alone."""
    (fault,) = check(folder(HEADER, [row.replace("dog,validation", "cow,validation") for row in RIGHT])).faults
    assert "'cow': no clip for training (1" in fault


def test_modalities(folder: Folder, media: Mapping[str, Path]) -> None:
    """One that no clip has can't be learned from; one that tells the class by being there is noted."""
    where = folder(HEADER, RIGHT)
    faults = checking.check(where, recipe(video={})).faults
    assert faults == ["no clip has video; take it out of the recipe"]
    assert checking.check(where).faults == []
    rows = ["v0.mkv,dog,train,", "v1.mkv,dog,validation,", "1.ogg,cat,train,", "2.ogg,cat,train,"]
    report = checking.check(folder(HEADER, rows), recipe(video={}))
    assert report.faults == [] and report.lacks == {"video": 2, "audio": 0}
    assert any("whether there is video tells the class of 4 of 4" in note for note in report.notes)


def test_imbalance_is_noted(folder: Folder, tmp_path: Path) -> None:
    """From ten to one on."""
    rows = [f"0.ogg,dog,train,,{n / 20},{(n + 1) / 20}" for n in range(10)]
    rows += ["1.ogg,cat,train,,,", "2.ogg,cat,validation,,,"]
    report = check(folder(f"{HEADER},start,end", rows))
    assert report.faults == [] and ["unbalanced" in note for note in report.notes] == [True]


def test_clips_too_short_for_the_offset(folder: Folder) -> None:
    """It needs room to shift in."""
    rows = ["v0.mkv,dog,train,", "v1.mkv,dog,validation,"]
    of = parse({"name": "t", "task": "numbers", "data": {"target": "offset"}, "video": {}, "audio": {}}, "t")
    faults = checking.check(folder(HEADER, rows), of).faults
    assert len(faults) == 2 and all("offset task needs" in each for each in faults)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    """There is nothing to look at."""
    with pytest.raises(LearningError, match="no such folder"):
        checking.check(tmp_path / "none")


def test_the_picture(folder: Folder, tmp_path: Path) -> None:
    """PNG and SVG are what their names say; nothing else is drawn."""
    report = check(folder(HEADER, RIGHT))
    checking.plot(report, tmp_path / "x.png")
    checking.plot(report, tmp_path / "x.svg")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert "dog" in (tmp_path / "x.svg").read_text() or "<svg" in (tmp_path / "x.svg").read_text()
    for name, said in (("x.pdf", "png or .svg"), ("none/x.png", "can't be written")):
        with pytest.raises(LearningError, match=said):
            checking.plot(report, tmp_path / name)


def test_real_data(shared_data: Path) -> None:
    """Spoken digits and the fights have no fault; that of the fights' tracks is known."""
    report = checking.check(shared_data / "fights")
    assert report.faults == [] and report.lacks == {"video": 0, "audio": 38} and report.groups == 33
