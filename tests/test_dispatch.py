"""Every window gets one answer in time, whatever the engine does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from streamer.answer import Answer
from streamer.clock import HostClock
from streamer.dispatch import Dispatcher
from streamer.media import Scores, Window
from streamer.schedule import SchedulePolicy, Scheduler
from tests.builders import MS, S, scores, window
from tests.conftest import eventually


class ScriptedEngine:
    """Does what `behave` says for each batch."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.release.set()
        self.fail = False
        self.batches: list[int] = []

    def run(self, windows: Sequence[Window]) -> list[Scores]:
        self.batches.append(len(windows))
        self.release.wait(20)
        if self.fail:
            raise RuntimeError("device lost")
        return [scores(0.9) for _ in windows]


@asynccontextmanager
async def running(
    engine: ScriptedEngine, first_batch_ns: int = 10 * MS
) -> AsyncIterator[tuple[Dispatcher, list[Answer]]]:
    answers: list[Answer] = []
    scheduler = Scheduler(SchedulePolicy(max_windows=4, first_batch_ns=first_batch_ns))
    dispatcher = Dispatcher(engine, scheduler, HostClock(), lambda: 5 * MS, answers.append)
    task = asyncio.create_task(dispatcher.run())
    try:
        yield dispatcher, answers
    finally:
        engine.release.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def soon(seq: int, bound_ns: int = S, stream: str = "door") -> Window:
    return window(stream, seq, end_ns=HostClock().now_ns() - 20 * MS, bound_ns=bound_ns)


async def test_windows_are_computed_and_answered_once() -> None:
    """Ten windows of two streams get ten `ok` answers with scores."""
    async with running(ScriptedEngine()) as (dispatcher, answers):
        for seq in range(5):
            dispatcher.submit(soon(seq, stream="a"))
            dispatcher.submit(soon(seq, stream="b"))
        await eventually(lambda: len(answers) == 10)
        assert {(a.window.stream, a.window.seq) for a in answers} == {(n, s) for n in "ab" for s in range(5)}
        assert all(a.status == "ok" and a.scores is not None for a in answers)


async def test_a_hung_engine_makes_no_late_label() -> None:
    """What a hung batch holds is shed before its deadline, and the batch's own result is thrown away when it comes."""
    engine = ScriptedEngine()
    async with running(engine) as (dispatcher, answers):
        engine.release.clear()
        for seq in range(6):
            dispatcher.submit(soon(seq, bound_ns=300 * MS))
        await eventually(lambda: len(answers) == 6)
        assert all(a.status == "shed" and a.reason == "overload" for a in answers)
        assert all(a.finished_ns <= a.window.deadline_ns for a in answers)
        engine.release.set()
        dispatcher.submit(soon(6))
        await eventually(lambda: len(answers) == 7)
        assert answers[-1].status == "ok" and len({a.window.seq for a in answers}) == 7


async def test_a_failing_engine_sheds_and_recovers(caplog: pytest.LogCaptureFixture) -> None:
    """An exception in the engine costs its batch, says so, and the next batch is computed."""
    engine = ScriptedEngine()
    async with running(engine) as (dispatcher, answers):
        engine.fail = True
        dispatcher.submit(soon(0))
        await eventually(lambda: len(answers) == 1)
        assert answers[0].reason == "engine" and dispatcher.engine_failures == 1
        assert "the engine failed" in caplog.text
        engine.fail = False
        dispatcher.submit(soon(1))
        await eventually(lambda: len(answers) == 2)
        assert answers[1].status == "ok"


async def test_what_cannot_make_it_is_shed_without_computing() -> None:
    """When a batch is known to take longer than what is left, the window is shed and the engine is not asked."""
    engine = ScriptedEngine()
    async with running(engine, first_batch_ns=2 * S) as (dispatcher, answers):
        dispatcher.submit(soon(0))
        await eventually(lambda: len(answers) == 1)
        assert answers[0].reason == "overload" and engine.batches == []


async def test_forgetting_a_stream_answers_what_it_had_waiting() -> None:
    """Removing a stream sheds its waiting windows with reason `draining`."""
    engine = ScriptedEngine()
    engine.release.clear()
    async with running(engine) as (dispatcher, answers):
        dispatcher.submit(soon(0, stream="busy"))
        await eventually(lambda: engine.batches == [1])
        for seq in range(3):
            dispatcher.submit(soon(seq, stream="gone"))
        dispatcher.forget("gone")
        assert [(a.window.stream, a.reason) for a in answers] == [("gone", "draining")] * 3
