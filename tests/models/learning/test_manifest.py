"""Manifests: what a row says, and one clear line where it says nothing that can be used."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from models.learning import manifest
from models.learning.clips import Clip, Word
from models.learning.errors import LearningError
from models.learning.recipe import Recipe, parse
from models.learning.words import cut_words


def recipe(task: str = "classes", **data: Any) -> Recipe:
    """Of sound, with that table `data`."""
    return parse({"name": "t", "task": task, "data": data, "audio": {}}, "t")


def read(folder: Path, text: str, of: Recipe, name: str = "manifest.csv") -> list[Clip]:
    """The clips of a manifest with that text."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return manifest.read(path, of)


def fault(folder: Path, text: str, of: Recipe, name: str = "manifest.csv") -> str:
    """What is said about a manifest that can't be used."""
    with pytest.raises(LearningError) as caught:
        read(folder, text, of, name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_row_is_a_clip(tmp_path: Path) -> None:
    """Media are found from the manifest on; piece, class, split and group are as the row says; other columns may be
    there."""
    text = "media,start,end,label,split,group,weather\na/b.mp4,1.5,3,dog,test,rex,fair\nc.wav,,,cat,,,\n"
    first, second = read(tmp_path, text, recipe())
    assert first == Clip("a/b.mp4#1.5", tmp_path / "a/b.mp4", ("dog",), 1.5, 3.0, split="test", group="rex")
    assert second == Clip("c.wav", tmp_path / "c.wav", ("cat",))


def test_jsonl_says_the_same(tmp_path: Path) -> None:
    """One object a line, empty lines between; lists where CSV has separators."""
    rows = [
        {"media": "a.mp4", "start": 1, "label": ["dog", "rain"], "words": [[0.5, 0.9, "good"]]},
        {"media": "b.mp4", "label": [], "split": "train"},
    ]
    text = "\n\n".join(map(json.dumps, rows))
    first, second = read(tmp_path, text, recipe("labels"), "manifest.jsonl")
    assert (first.target, first.start_s, first.words) == (("dog", "rain"), 1.0, (Word("good", 0.5, 0.9),))
    assert second.target == () and second.split == "train"
    csv = read(tmp_path, "media,start,label,words\na.mp4,1,dog; rain,0.5:0.9:good\n", recipe("labels"))
    assert csv == [first]


def test_numbers_of_one_column_or_of_several(tmp_path: Path) -> None:
    """Figures separated by semicolons, or a column each."""
    one = read(tmp_path, "media,label\na.wav,1.5;-2\n", recipe("numbers"))
    two = read(tmp_path, "media,x,y\na.wav,1.5,-2\n", recipe("numbers", target="x, y"))
    assert one[0].target == two[0].target == (1.5, -2.0)


def test_sequences_are_words(tmp_path: Path) -> None:
    """The target's text as words in lower case without signs; in JSON also a list as it is."""
    spoken = read(tmp_path, 'media,said\na.wav,"Don\'t stop, Bob!"\n', recipe("sequence", target="said"))
    assert spoken[0].target == ("don't", "stop", "bob")
    line = json.dumps({"media": "a.wav", "said": ["A", "b"]})
    assert read(tmp_path, line, recipe("sequence", target="said"), "manifest.jsonl")[0].target == ("A", "b")


def test_text_without_times(tmp_path: Path) -> None:
    """Words of `text` have no times; a row may have text alone."""
    (clip,) = read(tmp_path, "media,text,label\n,good dog,dog\n", recipe())
    assert clip.media is None and [word.text for word in clip.words] == ["good", "dog"]
    assert all(math.isnan(word.start_s) for word in clip.words)


def test_chinese_is_cut_into_words() -> None:
    """By jieba, beside words of other scripts."""
    pytest.importorskip("jieba", reason="no jieba: pip install jieba")
    assert cut_words("我喜欢北京, OK?") == ("我", "喜欢", "北京", "ok")


def test_the_moment_of_the_target(tmp_path: Path) -> None:
    """With `moment = "target"` a clip is its target and a margin; words keep their time, told from the new start."""
    of = recipe(moment="target")
    text = "media,start,end,label,target_start,target_end,words\na.wav,10,13,two,1.0,1.4,0.2:0.5:bin 1.5:1.8:now\n"
    (clip,) = read(tmp_path, text, of)
    assert (clip.start_s, clip.end_s) == pytest.approx((10.8, 11.6))
    assert [word.start_s for word in clip.words] == pytest.approx([-0.6, 0.7])
    assert "target_start" in fault(tmp_path, "media,label\na.wav,two\n", of)


def test_the_offset_is_made(tmp_path: Path) -> None:
    """It needs no column, and a column of that name would mean something else."""
    of = recipe("numbers", target="offset")
    assert read(tmp_path, "media\na.mp4\n", of)[0].target == ()
    assert "rename the column" in fault(tmp_path, "media,offset\na.mp4,0.1\n", of)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("media,label\n", "no clips"),
        ("", "no column `media`"),
        ("media,kind\na.wav,dog\n", "no column 'label'"),
        ("media,media,label\na,b,c\n", "'media' stands twice"),
        ("media,label,splt\na.wav,dog,train\n", "looks like 'split'"),
        ("media,label\na.wav,dog,cat\n", "3 cells under 2 columns"),
        ("media,label\na.wav,\n", "label is empty"),
        ("media,label,split\na.wav,dog,dev\n", "split is 'dev'"),
        ("media,label,start\na.wav,dog,soon\n", "start is 'soon'"),
        ("media,label,start\na.wav,dog,-1\n", "start is '-1'"),
        ("media,label,start\na.wav,dog,nan\n", "start is 'nan'"),
        ("media,label,start,end\na.wav,dog,2,1\n", "end 1 is not after start 2"),
        ("media,label\n,dog\n", "no media and no text"),
        ("media,label,words\na.wav,dog,good\n", "write start:end:word"),
        ("media,label,words\na.wav,dog,2:1:good\n", "write start:end:word"),
        ('media,label\n"a.wav,dog\n', "not CSV"),
        ("media,label\na.wav,dog\na.wav,cat\n", "stands at"),
    ],
)
def test_what_csv_can_be_wrong(tmp_path: Path, text: str, said: str) -> None:
    """Each says the file, the line, and what to write."""
    message = fault(tmp_path, text, recipe())
    assert said in message and str(tmp_path / "manifest.csv") in message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("media", "not JSON"),
        ("[1]", "no object"),
        ('{"media": "a.wav", "label": {"dog": 1}}', "write text or a number"),
        ('{"media": "a.wav", "label": "dog", "words": [["good", 1, 2]]}', "write start:end:word"),
        ('{"media": ["a.wav"], "label": "dog"}', "write text or a number"),
    ],
)
def test_what_jsonl_can_be_wrong(tmp_path: Path, line: str, said: str) -> None:
    """Each names the line that it is in, counted with empty ones."""
    good = '{"media": "x.wav", "label": "dog"}\n\n'
    message = fault(tmp_path, good + line, recipe(), "manifest.jsonl")
    assert said in message and "manifest.jsonl:3" in message


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    """Also behind cells that go over several lines."""
    message = fault(tmp_path, 'media,label,note\na.wav,dog,"one\ntwo"\nb.wav,,x\n', recipe())
    assert "manifest.csv:4" in message


def test_faults_can_be_collected(tmp_path: Path) -> None:
    """All of them, and the rows that are right."""
    path = tmp_path / "manifest.csv"
    path.write_text("media,label,split\na.wav,dog,\nb.wav,,\nc.wav,cat,x\nd.wav,1,2,3\n")
    faults: list[str] = []
    clips = manifest.read(path, recipe(), faults)
    assert [clip.name for clip in clips] == ["a.wav"]
    assert [each.split(": ")[0].rpartition(":")[2] for each in faults] == ["3", "4", "5"]


def test_one_manifest_a_folder(tmp_path: Path) -> None:
    """With two nobody knows which holds; with none there is none."""
    assert manifest.find(tmp_path) is None
    for name in manifest.FILES:
        (tmp_path / name).write_text("")
    with pytest.raises(LearningError, match="keep one"):
        manifest.find(tmp_path)


def test_only_text_is_read(tmp_path: Path) -> None:
    """A file that isn't UTF-8 is said to be none."""
    (tmp_path / "manifest.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LearningError, match="UTF-8"):
        manifest.read(tmp_path / "manifest.csv", recipe())
