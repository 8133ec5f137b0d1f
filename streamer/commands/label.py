"""Files, offline, as fast as the machine allows: the same windows, engine and labels as live, without deadlines.

Decoding runs on a thread of its own ahead of the engine by a bounded number of windows.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from streamer.answer import Answer, segment_of
from streamer.clock import rfc3339
from streamer.decide import EventDetector, EventPolicy, labels_of, likeliest
from streamer.engine import Engine
from streamer.media import (
    WORDS_REACH_NS,
    AudioChunk,
    EpochStart,
    Frame,
    Progress,
    SaidWord,
    SourceEvent,
    Window,
)
from streamer.messages import Event, Segment
from streamer.people.watch import Findings, PeopleWatch
from streamer.window import Windower, WindowPolicy

# Windows decoded ahead of the engine: enough to keep it busy, few enough to bound memory (a picture is 150 KB).
_AHEAD = 16
_BATCH = 8


@dataclass(frozen=True, slots=True)
class Labelled:
    """One window's segment with the events that it opened, updated or closed; `end_ns` is its media time."""

    segment: Segment
    events: list[Event]
    end_ns: int


Reader = Callable[[], Iterator[SourceEvent]]
Words = Callable[[int, int], tuple[SaidWord, ...]]
"""Gives what was said between two media times, oldest first. Asked in the order of the windows."""


def label(
    name: str, read: Reader, engine: Engine, people: PeopleWatch | None = None, words: Words | None = None
) -> Iterator[Labelled]:
    """Label one file.

    Args:
        name: what the segments call it.
        read: gives its media from the start, media time from 0; runs on a thread of its own.
        people: watches who is in the picture; None: nobody does.
        words: what is said, for an engine that reads it; None: nobody listens.

    Yields:
        one item a hop, in order; what was read before a failure is yielded before it is raised.

    Raises:
        MediaError: the file can't be opened or breaks half way.
    """
    names = [info.name for info in engine.labels]
    detector = EventDetector(name, names, EventPolicy())
    with _Windows(name, read, engine) as windows:
        try:
            for batch in windows.batches():
                if words is not None:
                    batch = [_reading(window, words) for window in batch]
                started_ns = time.monotonic_ns()
                results = engine.run(batch)
                # Nobody waits for a file: its segments tell how long their batch took to compute, and no latency else.
                compute_ns = time.monotonic_ns() - started_ns
                for window, scores in zip(batch, results, strict=True):
                    answer = Answer(window, "ok", None, scores, 0, compute_ns)
                    found = Findings() if people is None else people.update(window, scores)
                    labels = likeliest([*labels_of(names, scores), *found.labels])
                    segment = segment_of(answer, labels, 0, compute_ns, 0, found.people)
                    if window.start_ns < 0:
                        # The first windows reach back to before the file began, and there is no such time.
                        segment = replace(segment, start=rfc3339(0))
                    events = [*detector.update(window, scores.scores), *found.events]
                    yield Labelled(segment, events, window.end_ns)
        finally:
            engine.forget(name)


def _reading(window: Window, words: Words) -> Window:
    return dataclasses.replace(window, words=words(window.start_ns - WORDS_REACH_NS, window.end_ns))


class _Windows:
    """A file's windows, cut on a thread of its own; leaving the context ends the thread."""

    def __init__(self, name: str, read: Reader, engine: Engine) -> None:
        self._read = read
        self._windower = Windower(name, engine.geometry, WindowPolicy(bound_ns=0, grace_ns=None))
        self._queue: queue.Queue[Window | BaseException | None] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self._epochs = 0
        self._thread = threading.Thread(target=self._work, name=f"decode:{Path(name).name}", daemon=True)

    def __enter__(self) -> _Windows:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        while self._thread.is_alive():
            self._discard()
            self._thread.join(0.05)

    def _discard(self) -> None:
        try:
            while True:
                self._queue.get_nowait()
        except queue.Empty:
            return

    def _work(self) -> None:
        failure: BaseException | None = None
        try:
            self._read_all()
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread and raised there
            failure = error
        self._queue.put(failure)

    def _read_all(self) -> None:
        try:
            for event in self._read():
                self._take(event)
                if self._stop.is_set():
                    return
        finally:
            self._put_all(self._windower.finish(0, tail=True))

    def _take(self, event: SourceEvent) -> None:
        if isinstance(event, EpochStart):
            self._put_all(self._windower.finish(0, tail=True))
            self._windower.begin(str(self._epochs), event)
            self._epochs += 1
        elif isinstance(event, Frame | AudioChunk | Progress):
            self._windower.feed(event)
            self._put_all(self._windower.poll(0))

    def _put_all(self, windows: list[Window]) -> None:
        for window in windows:
            if not self._stop.is_set():
                self._queue.put(window)

    def batches(self) -> Iterator[list[Window]]:
        """As many windows as wait, up to the engine's batch; raises what the reader raised, after what came before
        it."""
        batch: list[Window] = []
        while True:
            item = self._queue.get()
            if isinstance(item, Window):
                batch.append(item)
                if len(batch) < _BATCH:
                    continue
            if batch:
                yield batch
                batch = []
            if isinstance(item, BaseException):
                raise item
            if item is None:
                return
