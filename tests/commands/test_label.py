"""Files offline: a segment a hop in order, what came before a failure first, and no thread left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from models.config import LabelInfo
from streamer.commands.label import Labelled, label
from streamer.errors import MediaError
from streamer.media import AudioChunk, EpochStart, Frame, Progress, Scores, SourceEvent, Window
from tests.builders import MS, S, scores
from tests.conftest import eventually_sync
from tests.test_window import GEOMETRY


class Recorded:
    """An engine that scores by what is in the window, and keeps what it was asked."""

    geometry = GEOMETRY
    labels = (LabelInfo("Dog", ("video", "audio")), LabelInfo("Cat", ("video",)))

    def __init__(self) -> None:
        self.batches: list[list[Window]] = []
        self.forgotten: list[str] = []
        self.fail = False

    def run(self, windows: Sequence[Window]) -> list[Scores]:
        if self.fail:
            raise RuntimeError("out of memory")
        self.batches.append(list(windows))
        return [scores(0.9 if window.pictures else 0.0, 0.2) for window in windows]

    def forget(self, stream: str) -> None:
        self.forgotten.append(stream)

    def warm_up(self, most: int) -> list[tuple[int, int]]:
        return []


def half_second(index: int) -> list[SourceEvent]:
    """A picture, its sound, and the word that all up to the end of the half second is read."""
    at_ns = index * 500 * MS
    return [
        Frame(at_ns, 500 * MS, 0, np.zeros((8, 8, 3), np.uint8)),
        AudioChunk(at_ns, 0, np.zeros(8000, np.float32)),
        Progress(at_ns + 500 * MS, at_ns + 500 * MS, 0),
    ]


def media(halves: int, failure: Exception | None = None) -> Callable[[], Iterator[SourceEvent]]:
    """So many half seconds of both tracks, then the failure."""

    def read() -> Iterator[SourceEvent]:
        yield EpochStart("start", 0, 0)
        for index in range(halves):
            yield from half_second(index)
        if failure is not None:
            raise failure

    return read


def all_of(read: Callable[[], Iterator[SourceEvent]], engine: Recorded) -> list[Labelled]:
    return list(label("clip.mp4", read, engine))  # type: ignore[arg-type]


def decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode:")]


def test_a_segment_a_hop_in_order() -> None:
    """Ten seconds give twenty segments, numbered, timed from 1970, labelled by falling score, in few batches."""
    engine = Recorded()
    found = all_of(media(20), engine)
    assert [item.segment.seq for item in found] == list(range(20))
    assert [item.end_ns for item in found] == [(n + 1) * 500 * MS for n in range(20)]
    assert found[3].segment.start == "1970-01-01T00:00:00.000Z" and found[3].segment.end == "1970-01-01T00:00:02.000Z"
    assert [name.name for name in found[5].segment.labels] == ["Dog", "Cat"]
    assert {item.segment.stream for item in found} == {"clip.mp4"} and {i.segment.status for i in found} == {"ok"}
    assert len(engine.batches) == 3 and engine.forgotten == ["clip.mp4"] and not decoders()


def test_latency_tells_the_computing_alone() -> None:
    """Nobody waits for a file: there is no bound, and the latency is what its batch took to compute."""
    segment = all_of(media(4), Recorded())[-1].segment
    latency = segment.latency_ms
    assert segment.bound_ms == 0 and latency.ingest == latency.queue == latency.publish == 0.0
    assert latency.total == latency.compute < 1000.0


def test_what_is_left_at_the_end_is_a_segment_too() -> None:
    """Media that end in the middle of a hop end with a segment of what there is."""

    def read() -> Iterator[SourceEvent]:
        yield from media(3)()
        yield AudioChunk(1500 * MS, 0, np.zeros(1600, np.float32))

    found = all_of(read, Recorded())
    assert len(found) == 4 and found[-1].end_ns == 2 * S and 0.0 < found[-1].segment.coverage.audio < 0.9


def test_events_open_and_close_with_the_labels() -> None:
    """What lasts opens an event, and one that is not there any more closes it."""

    def read() -> Iterator[SourceEvent]:
        yield from media(12)()
        for index in range(12, 40):
            yield AudioChunk(index * 500 * MS, 0, np.zeros(8000, np.float32))
            yield Progress((index + 1) * 500 * MS, (index + 1) * 500 * MS, 0)

    states = [(event.label, event.state) for item in all_of(read, Recorded()) for event in item.events]
    assert states.count(("Dog", "open")) == 1 and states.count(("Dog", "close")) == 1


@pytest.mark.parametrize("halves", [0, 1, 7, 40])
def test_what_was_read_comes_before_the_failure(halves: int) -> None:
    """A file that breaks gives its segments up to there, then its error, and leaves nothing running."""
    engine, found = Recorded(), []
    with pytest.raises(MediaError, match="breaks off"):
        for item in label("clip.mp4", media(halves, MediaError("clip.mp4: breaks off")), engine):  # type: ignore[arg-type]
            found.append(item.segment.seq)
    assert found == list(range(halves)) and engine.forgotten == ["clip.mp4"] and not decoders()


def test_a_reader_that_gives_nonsense_ends_with_its_fault() -> None:
    """A fault of the reader's own reaches the caller instead of hanging it."""

    def read() -> Iterator[SourceEvent]:
        yield EpochStart("start", 0, 0)
        yield Frame(0, 500 * MS, 0, None)  # type: ignore[arg-type]
        yield Progress("soon", None, 0)  # type: ignore[arg-type]

    with pytest.raises(TypeError):
        all_of(read, Recorded())
    assert not decoders()


def test_a_failing_engine_ends_the_reader() -> None:
    """What the engine raises reaches the caller, and the thread that decodes ends although it has far to go."""
    engine = Recorded()
    engine.fail = True
    with pytest.raises(RuntimeError, match="out of memory"):
        all_of(media(100_000), engine)
    assert not decoders() and engine.forgotten == ["clip.mp4"]


def test_closing_early_ends_the_reader() -> None:
    """Whoever stops after one segment leaves no thread, and the reader is closed with its file."""
    closed = threading.Event()

    def read() -> Iterator[SourceEvent]:
        try:
            yield from media(100_000)()
        finally:
            closed.set()

    engine = Recorded()
    labels = label("clip.mp4", read, engine)  # type: ignore[arg-type]
    assert next(labels).segment.seq == 0
    labels.close()  # type: ignore[attr-defined]
    eventually_sync(lambda: not decoders() and closed.is_set())
    assert engine.forgotten == ["clip.mp4"]


def test_decoding_runs_ahead_by_a_bounded_number_of_windows() -> None:
    """However slow the engine, no more than a few seconds of pictures wait for it."""
    read_halves = 0

    def read() -> Iterator[SourceEvent]:
        nonlocal read_halves
        yield EpochStart("start", 0, 0)
        for index in range(1000):
            read_halves = index
            yield from half_second(index)

    labels = label("clip.mp4", read, Recorded())  # type: ignore[arg-type]
    for taken in range(1, 200):
        next(labels)
        assert read_halves <= taken + 8 + 16 + 3
    labels.close()  # type: ignore[attr-defined]


def test_stamps_that_start_over_begin_an_epoch() -> None:
    """Files joined together are two epochs; media time goes on, and each counts from 0."""

    def read() -> Iterator[SourceEvent]:
        yield from media(4)()
        yield EpochStart("jump", 2 * S, 0)
        for index in range(4, 8):
            yield from half_second(index)

    found = [item.segment for item in all_of(read, Recorded())]
    assert [(s.epoch, s.seq) for s in found] == [("0", n) for n in range(4)] + [("1", n) for n in range(4)]
    assert found[-1].end == "1970-01-01T00:00:04.000Z"
