"""Freezes of the whole process: what is one, how long it was, and a real one."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.clock import ManualClock
from streamer.observe.freeze import TICK_NS, Freeze, FreezeDetector, FreezeWatch
from tests.builders import MS, S
from tests.conftest import eventually_sync


class Host:
    """A host whose clock and CPU time a test turns."""

    def __init__(self) -> None:
        self.clock = ManualClock(1000 * S)
        self.cpu_ns = 0
        self.watch = FreezeWatch(self.clock, lambda: self.cpu_ns)

    def pass_(self, wall_ms: int, cpu_ms: int) -> int:
        """So much time passes until the next tick; the monotonic time after it."""
        self.clock.advance(wall_ms * MS)
        self.cpu_ns += cpu_ms * MS
        self.watch.tick()
        return self.clock.now_ns()


def test_a_late_tick_without_cpu_time_is_a_freeze() -> None:
    """Half a second without a tick and without work was a freeze, from when the tick was due until it came."""
    detector = FreezeDetector(0, 0)
    assert detector.tick(20 * MS, 1 * MS) is None
    assert detector.tick(540 * MS, 2 * MS) == Freeze(40 * MS, 540 * MS)
    assert detector.tick(560 * MS, 3 * MS) is None


def test_a_late_tick_while_the_process_works_is_none() -> None:
    """A thread that holds the interpreter's lock makes the tick late, and uses CPU time while it does."""
    detector = FreezeDetector(0, 0)
    assert detector.tick(520 * MS, 500 * MS) is None
    # As little as a fifth of a core is work.
    assert detector.tick(1040 * MS, 600 * MS) is None


def test_a_tick_that_is_a_little_late_is_none() -> None:
    """What any loaded machine does to a thread is not called a freeze."""
    detector = FreezeDetector(0, 0)
    assert detector.tick(TICK_NS + 49 * MS, 0) is None
    assert detector.tick(TICK_NS + 49 * MS + TICK_NS + 50 * MS, 0) is not None


def test_a_busy_process_can_freeze_too() -> None:
    """What it used just before it froze, two whole cores here, doesn't hide the freeze."""
    detector = FreezeDetector(0, 0)
    assert detector.tick(20 * MS, 40 * MS) is None
    assert detector.tick(140 * MS, 80 * MS) == Freeze(40 * MS, 140 * MS)


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 100)), max_size=40))
def test_freezes_follow_one_another_and_lie_within_what_passed(steps: list[tuple[int, int]]) -> None:
    """Whatever passes, no two freezes overlap, none is shorter than 50 ms, and none covers the tick before it."""
    detector, now, cpu, end = FreezeDetector(0, 0), 0, 0, 0
    for wall_ms, percent in steps:
        before, now, cpu = now, now + wall_ms * MS, cpu + wall_ms * MS * percent // 100
        freeze = detector.tick(now, cpu)
        if freeze is not None:
            assert freeze.end_ns == now and freeze.begin_ns == before + TICK_NS and freeze.begin_ns >= end
            assert freeze.end_ns - freeze.begin_ns >= 50 * MS
            end = freeze.end_ns


def test_frozen_time_within_an_interval() -> None:
    """Each freeze counts with the part of it that lies in the interval asked for."""
    host = Host()
    first = host.pass_(520, 0)
    host.pass_(20, 1)
    second = host.pass_(320, 0)
    frozen = host.watch.frozen_ns
    assert (host.watch.count, host.watch.seconds) == (2, 0.8)
    assert frozen(0, second + S) == 800 * MS
    assert frozen(first - 100 * MS, first) == 100 * MS
    assert frozen(first, first + 20 * MS) == 0
    assert frozen(first - 100 * MS, second - 250 * MS) == 150 * MS
    assert frozen(second, second + S) == 0
    assert frozen(second, second - S) == 0


def test_what_a_freeze_explains() -> None:
    """What is late by no more than the freeze; what was due in it and done soon after; and nothing else."""
    host = Host()
    thawed = host.pass_(420, 0)
    explains, captured = host.watch.explains, thawed - 900 * MS
    assert explains(captured, thawed + 100 * MS, thawed + 400 * MS)
    assert not explains(captured, thawed + 100 * MS, thawed + 600 * MS)
    assert explains(captured, thawed - 390 * MS, thawed + 300 * MS)
    assert not explains(captured, thawed - 390 * MS, thawed + 600 * MS)
    assert not explains(captured, thawed + 100 * MS, thawed + 50 * MS)
    assert not explains(thawed, thawed + 100 * MS, thawed + 101 * MS)
    # 100 ms in which the store was away, half of them within the freeze.
    away = ((thawed - 50 * MS, thawed + 50 * MS),)
    assert explains(captured, thawed + 100 * MS, thawed + 565 * MS, away)
    assert not explains(captured, thawed + 100 * MS, thawed + 575 * MS, away)


def test_old_freezes_are_forgotten_but_stay_counted() -> None:
    """What is kept is bounded; the sums are of all."""
    host = Host()
    first = host.pass_(520, 0)
    for _ in range(256):
        host.pass_(120, 0)
    assert host.watch.frozen_ns(0, first) == 0
    assert host.watch.count == 257


def test_a_freeze_that_has_just_ended_counts_at_once() -> None:
    """Who asks before the watch's own thread has run again still hears of it."""
    host = Host()
    with host.watch:
        begin = host.clock.now_ns()
        host.clock.advance(520 * MS)
        assert host.watch.frozen_ns(begin, host.clock.now_ns()) == 500 * MS
        assert host.watch.count == 1


def test_freezes_are_logged_but_not_in_a_flood(caplog: pytest.LogCaptureFixture) -> None:
    """A quarter of a second is worth a warning, at most one in 10 s; short ones are counted alone."""
    host = Host()
    with caplog.at_level(logging.WARNING, "streamer.observe.freeze"):
        host.pass_(220, 0)
        host.watch._tell()
        assert caplog.messages == []
        for _ in range(5):
            host.pass_(520, 0)
            host.watch._tell()
        assert caplog.messages == ["the process did not run: 0.70 s in 2 freezes since the start"]
        host.pass_(10_020, 0)
        host.watch._tell()
    assert caplog.messages[1:] == ["the process did not run: 12.70 s in 7 freezes since the start"]


def test_a_watch_that_does_not_run_finds_nothing() -> None:
    """Before its start and after its end there are no ticks, and that isn't taken for a freeze."""
    host = Host()
    host.clock.advance(10 * S)
    assert host.watch.frozen_ns(0, 2000 * S) == 0
    with host.watch:
        pass
    host.clock.advance(10 * S)
    assert host.watch.frozen_ns(0, 2000 * S) == 0 and host.watch.count == 0


def test_its_thread_ends_with_it_and_a_fault_of_a_follower_ends_that_alone() -> None:
    """The block left, no thread is left; a follower that raises is called no more, the others go on."""
    calls: list[str] = []

    def broken() -> None:
        calls.append("broken")
        raise ValueError("a fault")

    before = threading.active_count()
    with FreezeWatch() as watch:
        watch.follow(broken)
        unfollow = watch.follow(lambda: calls.append("sound"))
        eventually_sync(lambda: calls.count("sound") >= 3, 5, "ticks")
        unfollow()
    assert calls.count("broken") == 1
    assert threading.active_count() == before


CHILD = """
import sys, time
from streamer.observe.freeze import FreezeWatch
with FreezeWatch() as watch:
    began = time.monotonic_ns()
    print("ready", flush=True)
    sys.stdin.readline()
    print(watch.frozen_ns(began, time.monotonic_ns()) / 1e9, watch.seconds, watch.count, flush=True)
"""


def test_a_process_that_was_stopped_says_so() -> None:
    """A process that SIGSTOP held for half a second tells of half a second, less one tick at most."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        # How long it is held is what is tested, not waited for.
        time.sleep(0.5)
        held_s = time.monotonic() - began
        child.send_signal(signal.SIGCONT)
        within, seconds, count = map(float, child.communicate("\n", 30)[0].split())
    assert within >= held_s - TICK_NS / S - 0.01
    assert seconds >= within and count >= 1
