"""What is said in a file: each utterance in one of its segments."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from streamer.commands.label import Labelled
from streamer.commands.transcript import Transcript
from streamer.errors import MediaError
from streamer.messages import CoverageBody, LatencyBody, Segment
from streamer.speech.heard import Heard, HeardWord
from streamer.speech.written import ToWrite, Written
from tests.builders import MS, S

_NOTHING = LatencyBody(total=0.0, ingest=0.0, queue=0.0, compute=0.0, publish=0.0)


def write(heard: ToWrite) -> Written:
    words = tuple(heard.text.split())
    return Written(heard.text.strip(), words, ("",) * len(words), tuple(word for word in words if word == "help"))


def utterances(*ends_ns: int) -> Iterator[Heard]:
    for number, end_ns in enumerate(ends_ns, 1):
        word = HeardWord(f" w{number}", end_ns - 300 * MS, end_ns, 0.9)
        yield Heard("x", number, "en", (word,), 1, True, end_ns - 300 * MS, end_ns)


def items(count: int, failure: Exception | None = None) -> Iterator[Labelled]:
    segment = Segment(
        stream="x", epoch="0", seq=0, start="", end="", status="ok", coverage=CoverageBody(1.0, 0.5, 0.0),
        latency_ms=_NOTHING, bound_ms=0,
    )  # fmt: skip
    for seq in range(count):
        yield Labelled(replace(segment, seq=seq), [], (seq + 1) * 500 * MS)
    if failure is not None:
        raise failure


def test_an_utterance_stands_in_the_first_segment_that_ends_after_it() -> None:
    """What ends at 0.7 s stands in the segment of 0.5 to 1 s, and what ends after the last one stands in that."""
    found = list(Transcript(utterances(700 * MS, 4 * S), write).speaking(items(4)))
    said = [item.segment.speech and item.segment.speech.text for item in found]
    assert said == [None, "w1", None, "w2"]
    assert {item.segment.coverage.text for item in found} == {0.5}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(300 * MS, 6 * S), max_size=12).map(sorted), st.integers(1, 8))
def test_each_stands_in_exactly_one(ends_ns: list[int], count: int) -> None:
    """However utterances and segments fall, every word stands once and in order, and never before it was said."""
    found = list(Transcript(utterances(*ends_ns), write).speaking(items(count)))
    assert [item.segment.seq for item in found] == list(range(count))
    words = [word for item in found if item.segment.speech is not None for word in item.segment.speech.words]
    assert words == [f"w{number}" for number in range(1, len(ends_ns) + 1)]


def test_a_file_that_breaks_gives_what_came_before() -> None:
    """The segments before the failure come first, then it is raised."""
    seen = []
    with pytest.raises(MediaError):
        for item in Transcript(utterances(400 * MS), write).speaking(items(2, MediaError("torn"))):
            seen.append(item.segment.speech)
    assert len(seen) == 2 and seen[0] is not None


def test_keywords_are_labels_and_cues_are_kept() -> None:
    """A keyword is a label that rests on text alone, with the recogniser's own probability."""
    word = HeardWord(" help", 0, 300 * MS, 0.8)
    transcript = Transcript(iter([Heard("x", 1, "en", (word,), 1, True, 0, 300 * MS)]), write)
    (item,) = transcript.speaking(items(1))
    (label,) = item.segment.labels
    assert (label.name, label.score, label.share.text) == ("said: help", 0.8, 1.0)
    assert [cue.text for cue in transcript.cues] == ["help"]
