"""Folders as clips: data sets that are known, folders a class, and splits that stay as they are."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.learning import layouts
from models.learning.clips import Clip, ClipSet
from models.learning.errors import LearningError
from models.learning.recipe import Recipe, parse

GRID_LINE = "{}\tbin blue at f two now\t0:0.9:sil 0.9:1.1:bin 1.1:1.3:blue 1.3:1.4:at 1.4:1.6:f 1.6:1.9:two 1.9:2.1:now"


def recipe(task: str = "classes", **data: Any) -> Recipe:
    """Of sound, with that table `data`."""
    return parse({"name": "t", "task": task, "data": data, "audio": {}}, "t")


def put(folder: Path, *names: str) -> Path:
    """Empty files of those names."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """Twenty sentences."""
    lines = [GRID_LINE.format(f"s{number:02}") for number in range(20)]
    (tmp_path / "align.tsv").write_text("\n".join(["id\ttext\twords", *lines]))
    return tmp_path


def by_split(found: ClipSet) -> dict[str, int]:
    """How many clips each split has."""
    return dict(Counter(clip.split for clip in found.clips))


def test_grid_digit(grid: Path) -> None:
    """The digit is told, from the sentence without it; the last tenth of the names is for validation."""
    found = layouts.read_clips(grid, recipe(target="digit"))
    clip = found.clips[0]
    assert clip.target == ("two",) and clip.media == grid / "s00.mp4"
    assert [word.text for word in clip.words] == ["bin", "blue", "at", "f", "now"]
    assert list(found.names) == list(layouts.GRID_WORDS["digit"])
    assert [clip.name for clip in found.of("validation")] == ["s18", "s19"]


def test_grid_moment(grid: Path) -> None:
    """Around the digit, with the margin that lips need."""
    clip = layouts.read_clips(grid, recipe(target="digit", moment="target")).clips[0]
    assert (clip.start_s, clip.end_s) == pytest.approx((1.4, 2.1))


def test_grid_sentence_and_offset(grid: Path) -> None:
    """A sentence is its six words, of which none are given away; the offset has no target until a batch is made."""
    found = layouts.read_clips(grid, recipe("sequence", target="sentence"))
    assert found.clips[0].target == ("bin", "blue", "at", "f", "two", "now") and found.clips[0].words == ()
    assert len(found.names) == 51 and set(found.clips[0].target) <= set(found.names)
    assert layouts.read_clips(grid, recipe("numbers", target="offset")).clips[0].target == ()


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (recipe(), "data.target is 'label'"),
        (recipe("labels", target="digit"), 'task = "classes"'),
        (recipe(target="sentence"), 'task = "sequence"'),
        (recipe("sequence", target="sentence", moment="target"), 'moment = "clip"'),
    ],
)
def test_grid_asked_for_what_it_has_not(grid: Path, of: Recipe, said: str) -> None:
    """It says what it has."""
    with pytest.raises(LearningError, match=said):
        layouts.read_clips(grid, of)


@pytest.mark.parametrize("line", ["s01\tno times", GRID_LINE.format("s01") + " 2.1:2.2:now", "s1\ta\t0:1:bin"])
def test_grid_lines_that_are_none(tmp_path: Path, line: str) -> None:
    """File and line are named."""
    (tmp_path / "align.tsv").write_text(f"id\ttext\twords\n{line}\n")
    with pytest.raises(LearningError, match=r"align\.tsv:2"):
        layouts.read_clips(tmp_path, recipe(target="digit"))


def test_esc10_folds(tmp_path: Path) -> None:
    """The fold is the group, and takes of one recording stay together."""
    names = [f"{kind}/{fold}-{fold}{n}-{take}.opus" for kind in ("rain", "rooster") for fold in (1, 2, 3, 4)
             for n in range(5) for take in "AB"]  # fmt: skip
    found = layouts.read_clips(put(tmp_path, *names), recipe())
    assert {clip.group for clip in found.clips} == {"1", "2", "3", "4"} and list(found.names) == ["rain", "rooster"]
    sides = {(layouts.recording(clip), clip.target, clip.split) for clip in found.clips}
    assert len(sides) == len(names) // 2
    assert by_split(found) == {"train": 72, "validation": 8}


def test_us8k_folds_stand_in_the_manifest_of_files(tmp_path: Path) -> None:
    """Where none is there, clips of one recording are a group."""
    folder = put(tmp_path / "us8k", "siren/157867-8-0-0.opus", "siren/157868-8-0-0.opus")
    groups = {clip.group for clip in layouts.read_clips(folder, recipe()).clips}
    assert groups == {"157867", "157868"}
    (tmp_path / "MANIFEST.tsv").write_text(
        "path\tbytes\tsource\nus8k/siren/157867-8-0-0.opus\t1\tx/audio/fold2/157867-8-0-0.wav\t\n"
    )
    assert {clip.group for clip in layouts.read_clips(folder, recipe()).clips} == {"2", "157868"}


def test_fights_by_source(tmp_path: Path) -> None:
    """Clips of one camera are a group."""
    folder = put(tmp_path / "fights", "fight/fi1.mp4", "nofight/no1.mp4")
    (tmp_path / "MANIFEST.tsv").write_text("fights/fight/fi1.mp4\t1\tx\tMIT\tCCTV, 2 s, audible, source 3\n")
    assert [clip.group for clip in layouts.read_clips(folder, recipe()).clips] == ["3", ""]


def test_fsdd_speakers(tmp_path: Path) -> None:
    """Digits by name in their order; the speaker is the group."""
    found = layouts.read_clips(put(tmp_path, "7_theo_1.flac", "0_lucas_10.flac"), recipe())
    assert [(clip.target, clip.group) for clip in found.clips] == [(("zero",), "lucas"), (("seven",), "theo")]
    assert found.names[:2] == ["zero", "one"]


def test_a_folder_a_class(tmp_path: Path) -> None:
    """Media of any depth; what isn't media is passed over; splits may be folders above."""
    put(tmp_path / "flat", "dog/a.wav", "dog/more/b.MP4", "cat/c.ogg", "cat/notes.txt", "read.me")
    flat = layouts.read_clips(tmp_path / "flat", recipe())
    assert [(clip.name, clip.target[0]) for clip in flat.clips] == [
        ("cat/c.ogg", "cat"), ("dog/a.wav", "dog"), ("dog/more/b.MP4", "dog")
    ]  # fmt: skip
    put(tmp_path / "split", "train/dog/a.wav", "test/dog/b.wav", "validation/cat/c.wav")
    split = layouts.read_clips(tmp_path / "split", recipe())
    assert {clip.name: clip.split for clip in split.clips} == {
        "train/dog/a.wav": "train", "test/dog/b.wav": "test", "validation/cat/c.wav": "validation"
    }  # fmt: skip


def test_folders_tell_classes_alone(tmp_path: Path) -> None:
    """Everything else needs a manifest; and a folder must be there and hold something."""
    put(tmp_path / "a", "dog/a.wav")
    for of, said in ((recipe("numbers"), "needs a manifest"), (recipe(moment="target"), "target_start")):
        with pytest.raises(LearningError, match=said):
            layouts.read_clips(tmp_path / "a", of)
    for name, said in (("none", "no such folder"), ("a/dog", "no clips")):
        with pytest.raises(LearningError, match=said):
            layouts.read_clips(tmp_path / name, recipe())


def clips(*groups: str, kinds: int = 2, each: int = 10) -> list[Clip]:
    """So many of each class in each group."""
    return [
        Clip(f"{group}-{kind}-{number}", None, (f"k{kind}",), group=group)
        for group in groups
        for kind in range(kinds)
        for number in range(each)
    ]


def test_validation_is_drawn_from_each_class() -> None:
    """A tenth of each, the same on every machine and in any order."""
    found = layouts.fill_splits(clips(""), 0.1)
    held = [clip for clip in found if clip.split == "validation"]
    assert sorted(clip.target for clip in held) == [("k0",), ("k1",)]
    again = layouts.fill_splits(clips("")[::-1], 0.1)
    assert {clip.name for clip in again if clip.split == "validation"} == {clip.name for clip in held}
    assert {clip.split for clip in layouts.fill_splits(clips(""), 0.0)} == {"train"}


def test_a_fraction_is_below_one() -> None:
    """Else nothing would be left to learn from."""
    for wrong in (1.0, -0.1):
        with pytest.raises(LearningError, match="fraction"):
            layouts.fill_splits(clips(""), wrong)


def test_many_groups_are_kept_whole() -> None:
    """No group is on both sides, and no class is drawn far beyond its part."""
    groups = [f"g{number}" for number in range(20)]
    found = layouts.fill_splits(clips(*groups, each=2), 0.1)
    assert len({(clip.group, clip.split) for clip in found}) == 20
    held = Counter(clip.target for clip in found if clip.split == "validation")
    assert held[("k0",)] == held[("k1",)] == 4


def test_what_is_said_holds() -> None:
    """Where validation is said, the rest is for training; what is for testing is never drawn."""
    said = [replace(clip, split="validation") if number < 3 else clip for number, clip in enumerate(clips(""))]
    assert Counter(clip.split for clip in layouts.fill_splits(said, 0.5)) == {"validation": 3, "train": 17}
    tests = [replace(clip, split="test") if number < 10 else clip for number, clip in enumerate(clips(""))]
    found = layouts.fill_splits(tests, 0.2)
    assert Counter(clip.split for clip in found) == {"test": 10, "validation": 2, "train": 8}


def test_leaving_a_group_out() -> None:
    """It is for testing, and validation is drawn from the others."""
    found = layouts.leave_out(ClipSet(Path(), clips("a", "b", "c"), ["k0", "k1"]), "b")
    assert {clip.group for clip in found.of("test")} == {"b"} and len(found.of("test")) == 20
    assert len(found.of("validation")) == 4 and {clip.group for clip in found.of("validation")} <= {"a", "c"}
    with pytest.raises(LearningError, match="groups are a, b, c"):
        layouts.leave_out(ClipSet(Path(), clips("a", "b", "c"), []), "d")


@pytest.mark.parametrize(
    ("name", "target", "count", "groups"),
    [("grid_s1", "digit", 802, 1), ("esc10", "label", 320, 4), ("us8k", "label", 299, 3), ("fsdd", "label", 420, 6),
     ("fights", "label", 192, 33)],
)  # fmt: skip
def test_real_data_sets(shared_data: Path, name: str, target: str, count: int, groups: int) -> None:
    """Every clip is found, is there, has a split, and both classes and groups are those of the data set."""
    found = layouts.read_clips(shared_data / name, recipe(target=target))
    assert len(found.clips) == count and len({clip.group for clip in found.clips} | {""}) in (groups, groups + 1)
    assert all(clip.media is not None and clip.media.is_file() for clip in found.clips)
    assert {clip.split for clip in found.clips} == {"train", "validation"}
    assert 0.05 * count < len(found.of("validation")) < 0.15 * count
    assert {clip.target[0] for clip in found.of("validation")} == set(found.names)
