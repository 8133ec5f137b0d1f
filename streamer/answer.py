"""A window's one answer, and the segment it becomes. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from streamer.clock import NS_PER_MS, rfc3339
from streamer.media import Scores, Window
from streamer.messages import CoverageBody, Label, LatencyBody, People, Reason, Segment, Status


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """The batch that a window was computed in: its number since the start, how many windows, pictures and patches it
    had, and what it was expected to take."""

    number: int
    windows: int
    pictures: int
    patches: int
    expected_ns: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of `window`: scores, or the reason why there are none. Times are host monotonic nanoseconds.

    `degraded` names the work that was left out; `batch` is None where nothing was computed.
    """

    window: Window
    status: Status
    reason: Reason | None
    scores: Scores | None
    started_ns: int
    finished_ns: int
    degraded: tuple[str, ...] = ()
    batch: BatchFacts | None = None


def shed(window: Window, reason: Reason, now_ns: int) -> Answer:
    """The answer without labels: decided at `now_ns`, nothing was computed."""
    return Answer(window, "shed", reason, None, now_ns, now_ns)


def segment_of(
    answer: Answer, labels: list[Label], bound_ns: int, now_ns: int, publish_ns: int, people: People | None = None
) -> Segment:
    """The message for `answer`, about to be published at `now_ns`; `publish_ns` is what that is expected to take.
    `people`: who is in the picture; None where nobody looked."""
    window = answer.window
    return Segment(
        stream=window.stream,
        epoch=window.epoch,
        seq=window.seq,
        start=rfc3339(window.start_ns + window.wall_offset_ns),
        end=rfc3339(window.end_ns + window.wall_offset_ns),
        status=answer.status,
        reason=answer.reason,
        degraded=list(answer.degraded),
        labels=labels,
        people=people,
        coverage=CoverageBody(
            video=round(window.coverage.video, 3),
            audio=round(window.coverage.audio, 3),
            text=round(window.coverage.text, 3),
        ),
        latency_ms=_latency(answer, now_ns, publish_ns),
        bound_ms=bound_ns // NS_PER_MS,
    )


def _latency(answer: Answer, now_ns: int, publish_ns: int) -> LatencyBody:
    window = answer.window
    ingest = _ms(window.closed_ns - window.end_ns)
    queue = _ms(answer.started_ns - window.closed_ns)
    compute = _ms(answer.finished_ns - answer.started_ns)
    # Waiting for an earlier window of the same stream is time spent on getting it published.
    publish = _ms(now_ns - answer.finished_ns + publish_ns)
    return LatencyBody(
        total=round(ingest + queue + compute + publish, 1), ingest=ingest, queue=queue, compute=compute, publish=publish
    )


def _ms(duration_ns: int) -> float:
    return round(max(0, duration_ns) / NS_PER_MS, 1)


@dataclass(slots=True)
class _Slot:
    window: Window | None
    ready: Answer | Callable[[], None] | None


@dataclass(slots=True)
class InOrder:
    """The answers of one stream in the order of their windows, and what must be said between them.

    `expect` a window when it closes, `answer` it when its answer is known, `then` something that must be said after
    all windows
    expected so far; `release` gives what may go out now. Holds no more than the windows of one latency bound.
    """

    _slots: deque[_Slot] = field(default_factory=deque)

    def __len__(self) -> int:
        return len(self._slots)

    def expect(self, window: Window) -> None:
        """`window` is accepted: it will be answered exactly once."""
        self._slots.append(_Slot(window, None))

    def answer(self, answer: Answer) -> bool:
        """Fill in the answer of its window; False if that window has one already or was never expected."""
        for slot in self._slots:
            if slot.window is not None and slot.window is answer.window and slot.ready is None:
                slot.ready = answer
                return True
        return False

    def then(self, action: Callable[[], None]) -> None:
        """Do `action` when everything expected before it has gone out."""
        self._slots.append(_Slot(None, action))

    def release(self) -> list[Answer | Callable[[], None]]:
        """What may go out now, oldest first."""
        free: list[Answer | Callable[[], None]] = []
        while self._slots and self._slots[0].ready is not None:
            ready = self._slots.popleft().ready
            assert ready is not None
            free.append(ready)
        return free

    def unanswered(self) -> list[Window]:
        """The windows whose answer is still awaited, oldest first."""
        return [slot.window for slot in self._slots if slot.window is not None and slot.ready is None]
