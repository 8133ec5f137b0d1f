"""Subtitles: what players read, and when each is shown."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.commands.subtitles import Cue, apart, cues_of, srt, vtt
from tests.builders import S

_LONG = "it was the first great sorrow of his life, it was not so much the loss of the cotton itself but the fantasy"
_ZH = "这是他一生中第一次巨大的悲伤，与其说是失去了棉花本身，不如说是围绕它建立起来的幻想、希望和梦想，救命啊。"


def parsed(text: str, suffix: str, folder: Path) -> str:
    """What FFmpeg makes of a file of subtitles, as SubRip."""
    path = folder / f"subtitles.{suffix}"
    path.write_text(text, encoding="utf-8")
    command = ["ffmpeg", "-v", "error", "-xerror", "-i", str(path), "-f", "srt", "-"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


@pytest.mark.parametrize("suffix", ["srt", "vtt"])
def test_ffmpeg_reads_them(suffix: str, tmp_path: Path) -> None:
    """Both kinds come back with the same times and words, signs of markup included."""
    cues = apart(
        [*cues_of(1 * S, 4 * S, "Rock & roll, 1 < 2"), *cues_of(3661 * S, 3670 * S, _ZH), Cue(5 * S, 6 * S, "x")]
    )
    back = parsed(srt(cues) if suffix == "srt" else vtt(cues), suffix, tmp_path)
    assert back.count(" --> ") == len(cues) and "00:00:01,000 --> 00:00:04,000" in back and "01:01:01,000 -->" in back
    assert all(part in back for part in ("Rock", "roll, 1", "这是他一生中", "救命啊。"))


@pytest.mark.parametrize("text", [_LONG, _ZH, "Help!"])
def test_a_long_utterance_is_several_cues(text: str) -> None:
    """Each has two lines of a reader's width at most, one follows the other, and together they are the utterance."""
    cues = cues_of(10 * S, 20 * S, text)
    assert (cues[0].start_ns, cues[-1].end_ns) == (10 * S, 20 * S)
    assert all(one.end_ns == other.start_ns for one, other in pairwise(cues))
    assert all(len(cue.text.split("\n")) <= 2 for cue in cues)
    plain = "".join("".join(cue.text.split()) for cue in cues)
    assert plain == "".join(text.split())
    assert max(len(line) for cue in cues for line in cue.text.split("\n")) <= (22 if text == _ZH else 44)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100), st.text("ab 救命，.", min_size=1, max_size=200))))
def test_no_two_are_shown_together(said: list[tuple[int, int, str]]) -> None:
    """Whatever was said when, cues are in order, last for a while, and do not overlap."""
    cues = apart([cue for start, length, text in said for cue in cues_of(start * S, (start + length) * S, text)])
    assert all(cue.end_ns > cue.start_ns for cue in cues)
    assert all(one.end_ns <= other.start_ns for one, other in pairwise(cues))


def test_nothing_said_is_an_empty_file_of_its_kind() -> None:
    """A file without speech gives files that players take."""
    assert srt([]) == "" and vtt([]).startswith("WEBVTT")
