"""Every window gets one answer in time, whatever the engine does, and whatever else holds up the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from streamer.answer import Answer
from streamer.clock import HostClock
from streamer.media import Scores, Window, WorkCosts
from streamer.scheduling.dispatch import Dispatcher
from streamer.scheduling.schedule import SchedulePolicy, Scheduler
from tests.builders import MS, S, scores, window
from tests.conftest import eventually

QUICK = WorkCosts(call_ns=MS, window_ns=MS, picture_ns=MS, patch_ns=MS)
SLOW = WorkCosts(call_ns=2 * S, window_ns=MS, picture_ns=MS, patch_ns=MS)


class ScriptedEngine:
    """Waits where it is held, fails on windows whose seq is in `poison` or on batches larger than `fits`."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.release.set()
        self.poison: set[int] = set()
        self.fits = 1000
        self.batches: list[int] = []

    def run(self, windows: Sequence[Window]) -> list[Scores]:
        self.batches.append(len(windows))
        self.release.wait(20)
        if len(windows) > self.fits:
            raise MemoryError
        if self.poison & {window.seq for window in windows}:
            raise RuntimeError("device lost")
        return [scores(0.9) for _ in windows]


@contextmanager
def running(engine: ScriptedEngine, costs: WorkCosts = QUICK) -> Iterator[tuple[Dispatcher, list[Answer]]]:
    answers: list[Answer] = []
    scheduler = Scheduler(SchedulePolicy(max_windows=4), costs)
    with Dispatcher(engine, scheduler, HostClock(), lambda: 100 * MS, answers.append) as dispatcher:
        try:
            yield dispatcher, answers
        finally:
            engine.release.set()


def soon(seq: int, bound_ns: int = S, stream: str = "door") -> Window:
    return window(stream, seq, end_ns=HostClock().now_ns() - 20 * MS, bound_ns=bound_ns)


async def test_windows_are_computed_and_answered_once() -> None:
    """Ten windows of two streams get ten `ok` answers with scores and the batch they were in."""
    with running(ScriptedEngine()) as (dispatcher, answers):
        for seq in range(5):
            dispatcher.submit(soon(seq, stream="a"))
            dispatcher.submit(soon(seq, stream="b"))
        await eventually(lambda: len(answers) == 10)
        assert {(a.window.stream, a.window.seq) for a in answers} == {(n, s) for n in "ab" for s in range(5)}
        assert all(a.status == "ok" and a.scores is not None and a.batch is not None for a in answers)


async def test_a_hung_engine_makes_no_late_label() -> None:
    """What a hung batch holds is shed before its deadline, and the batch's own result is thrown away when it comes."""
    engine = ScriptedEngine()
    with running(engine) as (dispatcher, answers):
        engine.release.clear()
        for seq in range(6):
            dispatcher.submit(soon(seq, bound_ns=300 * MS))
        await eventually(lambda: len(answers) == 6)
        assert all(a.status == "shed" and a.reason in ("overload", "engine") for a in answers)
        assert all(a.finished_ns <= a.window.deadline_ns for a in answers)
        engine.release.set()
        await eventually(lambda: dispatcher.statistics.wasted > 0)
        dispatcher.submit(soon(6))
        await eventually(lambda: len(answers) == 7)
        assert answers[-1].status == "ok" and len({a.window.seq for a in answers}) == 7


async def test_an_engine_that_hangs_for_long_is_named_as_the_reason() -> None:
    """Windows that wait behind a batch that takes many times what it should are shed as the engine's fault."""
    engine = ScriptedEngine()
    with running(engine) as (dispatcher, answers):
        engine.release.clear()
        dispatcher.submit(soon(0, bound_ns=200 * MS))
        await eventually(lambda: len(answers) == 1)
        dispatcher.submit(soon(1, bound_ns=900 * MS))
        await eventually(lambda: len(answers) == 2)
        assert [answer.reason for answer in answers] == ["overload", "engine"]


async def test_deadlines_are_kept_while_the_loop_stands_still() -> None:
    """A callback that blocks the event loop over the deadline does not keep a window from being shed in time."""
    engine = ScriptedEngine()
    with running(engine) as (dispatcher, answers):
        engine.release.clear()
        dispatcher.submit(soon(0, bound_ns=250 * MS))
        time.sleep(0.6)  # noqa: ASYNC251 - blocking the loop is what is tested
        assert [answer.status for answer in answers] == ["shed"]
        assert answers[0].finished_ns <= answers[0].window.deadline_ns


async def test_a_failing_engine_sheds_and_recovers(caplog: pytest.LogCaptureFixture) -> None:
    """An exception in the engine costs its window, says so, and the next batch is computed."""
    engine = ScriptedEngine()
    with running(engine) as (dispatcher, answers):
        engine.poison = {0}
        dispatcher.submit(soon(0))
        await eventually(lambda: len(answers) == 1)
        assert answers[0].reason == "engine" and dispatcher.engine_failures == 1
        assert "the engine failed" in caplog.text
        dispatcher.submit(soon(1))
        await eventually(lambda: len(answers) == 2)
        assert answers[1].status == "ok"


async def test_one_window_that_cannot_be_computed_does_not_take_its_neighbours_with_it() -> None:
    """Of a batch that fails, each window is tried by itself: only the one that fails again is shed."""
    engine = ScriptedEngine()
    with running(engine) as (dispatcher, answers):
        engine.release.clear()
        dispatcher.submit(soon(0, 20 * S, "first"))
        await eventually(lambda: engine.batches == [1])
        engine.poison = {2}
        for seq in (1, 2, 3):
            dispatcher.submit(soon(seq, 20 * S))
        engine.release.set()
        await eventually(lambda: len(answers) == 4)
        assert {a.window.seq: a.status for a in answers} == {0: "ok", 1: "ok", 2: "shed", 3: "ok"}
        assert engine.batches == [1, 3, 1, 1, 1]


async def test_too_little_memory_makes_batches_smaller() -> None:
    """After an engine ran out of memory on a batch, the next ones are half as large, and every window is answered."""
    engine = ScriptedEngine()
    engine.fits = 2
    with running(engine) as (dispatcher, answers):
        engine.release.clear()
        dispatcher.submit(soon(0, 20 * S, "first"))
        await eventually(lambda: engine.batches == [1])
        for seq in range(1, 9):
            dispatcher.submit(soon(seq, 20 * S))
        engine.release.set()
        await eventually(lambda: len(answers) == 9)
        assert all(answer.status == "ok" for answer in answers)
        assert engine.batches[1] == 4 and max(engine.batches[2:]) <= 2


async def test_what_cannot_make_it_is_shed_without_computing() -> None:
    """When a batch is known to take longer than what is left, the window is shed and the engine is not asked."""
    engine = ScriptedEngine()
    with running(engine, SLOW) as (dispatcher, answers):
        dispatcher.submit(soon(0, bound_ns=300 * MS))
        await eventually(lambda: len(answers) == 1)
        assert answers[0].reason == "overload" and engine.batches == []


async def test_forgetting_a_stream_answers_what_it_had_waiting() -> None:
    """Removing a stream sheds its windows without an answer with reason `draining`."""
    engine = ScriptedEngine()
    with running(engine) as (dispatcher, answers):
        engine.release.clear()
        dispatcher.submit(soon(0, stream="busy"))
        await eventually(lambda: engine.batches == [1])
        for seq in range(3):
            dispatcher.submit(soon(seq, stream="gone"))
        dispatcher.forget("gone")
        assert [(a.window.stream, a.reason) for a in answers] == [("gone", "draining")] * 3


async def test_leaving_answers_what_is_open() -> None:
    """Whoever leaves while a batch hangs finds every window answered as `draining`."""
    engine = ScriptedEngine()
    answers: list[Answer] = []
    scheduler = Scheduler(SchedulePolicy(max_windows=1), QUICK)
    dispatcher = Dispatcher(engine, scheduler, HostClock(), lambda: 5 * MS, answers.append)
    engine.release.clear()
    with dispatcher:
        dispatcher.submit(soon(0, bound_ns=20 * S))
        dispatcher.submit(soon(1, bound_ns=20 * S))
        await eventually(lambda: engine.batches == [1])
    assert sorted((a.window.seq, a.reason) for a in answers) == [(0, "draining"), (1, "draining")]
    engine.release.set()
