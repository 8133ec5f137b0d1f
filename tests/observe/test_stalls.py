"""Stalls of an event loop: seen with their length and place, by loop, and not where the process was frozen."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streamer.channel import Channel
from streamer.loop_thread import LoopThread
from streamer.observe import stalls as stalls_module
from streamer.observe.freeze import FreezeWatch
from streamer.observe.stalls import NOT_RUN, OTHER, UNSEEN, StallWatch
from tests.builders import MS, S
from tests.conftest import eventually


def hold(seconds: float) -> None:
    """Keep the calling thread busy for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def held(watch: StallWatch, place: str) -> list[str]:
    """The loops that stalled at a place that ends so; on a busy machine there may be others elsewhere."""
    return [loop for loop, where in watch.counts() if where.endswith(place)]


def turns(watch: StallWatch, at_most_s: str, loop: str = "main") -> int:
    """How many turns of a loop lasted no longer."""
    return dict(watch.durations()[loop].buckets())[at_most_s]


@pytest.fixture
def watch() -> Iterator[StallWatch]:
    """A watch that runs, for which the process is never frozen, however busy the machine is."""
    with FreezeWatch(cpu_ns=time.monotonic_ns) as freezes, StallWatch(freezes) as watch:
        yield watch


async def test_a_blocked_loop_is_seen_with_length_and_place(watch: StallWatch) -> None:
    """What stands on the loop for long is counted, in its bucket, under the line that held it."""
    watch.watch("main", asyncio.get_running_loop())
    await asyncio.sleep(0)
    hold(0.15)
    await eventually(lambda: held(watch, " hold"), 5, "the stall")
    ((where, count),) = [(where, count) for (_, where), count in watch.counts().items() if where.endswith(" hold")]
    assert where.startswith("test_stalls.py:") and count == 1
    assert turns(watch, "+Inf") - turns(watch, "0.1") >= 1


async def test_the_place_is_the_packages_own_line(watch: StallWatch) -> None:
    """A stall deep in somebody else's code, or a test's, is told by the line of this package that called it."""
    channel: Channel[int] = Channel(1, lambda _: hold(0.15) is None)
    watch.watch("main", asyncio.get_running_loop())
    await asyncio.sleep(0)
    channel.offer(1)
    channel.offer(2)  # no room: it asks what may be dropped, and that takes its time
    await eventually(lambda: held(watch, " _make_room"), 5, "the stall")
    assert not held(watch, " hold")
    assert any(where.startswith("streamer/channel.py:") for _, where in watch.counts())


async def test_short_turns_are_no_stalls_and_are_counted(watch: StallWatch) -> None:
    """Every turn is in the histogram, from the first whole one on."""
    watch.watch("main", asyncio.get_running_loop())
    await asyncio.sleep(0)
    for _ in range(500):
        await asyncio.sleep(0)
    hold(0.002)
    await asyncio.sleep(0)
    assert turns(watch, "+Inf") >= 501
    assert turns(watch, "+Inf") - turns(watch, "0.001") >= 1


async def test_each_loop_is_told_by_its_name(watch: StallWatch) -> None:
    """Two loops on two threads are watched at once; what holds one up is not said of the other."""
    watch.watch("main", asyncio.get_running_loop())
    with LoopThread("publish") as thread:
        watch.watch("publish", thread.loop)
        await thread.call(asyncio.sleep(0))  # it waits already, and is watched from its next turn on
        thread.post(hold, 0.15)
        await eventually(lambda: held(watch, " hold"), 5, "the stall")
    assert held(watch, " hold") == ["publish"]


async def test_after_the_block_a_loop_is_as_it_was(watch: StallWatch) -> None:
    """Nothing stays behind in a loop that is watched no longer."""
    loop: Any = asyncio.get_running_loop()
    with FreezeWatch() as freezes, StallWatch(freezes) as inner:
        inner.watch("main", loop)
        assert "select" in vars(loop._selector)
        await asyncio.sleep(0.001)
    assert "select" not in vars(loop._selector)
    await asyncio.sleep(0.001)


class Hands:
    """The watch's own work with a clock of the test's: one loop whose turns the test makes up.

    It stands for the loop, the loop's selector and the watch of freezes; `wait` is what its selector does.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 1000 * S
        self.place = "streamer/hub.py:1 send"
        self.frozen: list[tuple[int, int]] = []
        self.wait: Callable[[], None] = lambda: None
        self._selector = SimpleNamespace(select=lambda _: self.wait())
        monkeypatch.setattr(stalls_module, "monotonic_ns", lambda: self.now_ns)
        monkeypatch.setattr(stalls_module, "_place", lambda thread: self.place)
        self.watch = StallWatch(self)  # type: ignore[arg-type]
        self.watch.watch("main", self)  # type: ignore[arg-type]

    def frozen_ns(self, from_ns: int, to_ns: int) -> int:
        """As a `FreezeWatch` says it."""
        return sum(max(0, min(to_ns, end) - max(from_ns, begin)) for begin, end in self.frozen)

    def select(self, timeout_s: float | None, took_ms: int = 0) -> None:
        """The loop waits, at most so long as it says, and is let run again after `took_ms`."""

        def wait() -> None:
            for _ in range(took_ms // 20):
                self.now_ns += 20 * MS
                self.watch._tick()

        self.wait = wait
        self._selector.select(timeout_s)

    def stand(self, milliseconds: int) -> None:
        """One turn of this length; the watchdog ticks every 20 ms, and once after it."""
        self.select(0)
        for _ in range(milliseconds // 20):
            self.now_ns += 20 * MS
            self.watch._tick()
        self.now_ns += milliseconds % 20 * MS
        self.select(0)
        self.watch._tick()


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    """A watch whose time a test turns."""
    return Hands(monkeypatch)


def test_the_threshold_is_50_ms(hands: Hands) -> None:
    """A turn of 49 ms is none, one of 50 is a stall, and its place was seen."""
    hands.stand(49)
    assert hands.watch.counts() == {}
    hands.stand(50)
    assert hands.watch.counts() == {("main", "streamer/hub.py:1 send"): 1}


def test_a_stall_in_a_freeze_is_none(hands: Hands) -> None:
    """Time in which the process did not run is taken off; what is left is judged."""
    hands.frozen.append((hands.now_ns + 10 * MS, hands.now_ns + 490 * MS))
    hands.stand(500)
    assert hands.watch.counts() == {}
    hands.frozen.append((hands.now_ns, hands.now_ns + 100 * MS))
    hands.stand(300)
    assert sum(hands.watch.counts().values()) == 1
    buckets = dict(hands.watch.durations()["main"].buckets())
    assert buckets["0.25"] == buckets["+Inf"]


def test_a_loop_that_is_not_let_run_stalls_too(hands: Hands) -> None:
    """A loop that wakes long after it wanted to has kept everything on it waiting, without a line to blame."""

    hands.select(0.1, took_ms=200)
    hands.select(0)
    hands.watch._tick()
    assert hands.watch.counts() == {("main", NOT_RUN): 1}
    buckets = dict(hands.watch.durations()["main"].buckets())
    assert buckets["0.1"] == buckets["+Inf"]


def test_a_stall_that_nobody_saw_is_counted_too(hands: Hands) -> None:
    """Where the watchdog was held up as well, what is known is whether the loop ran."""
    hands.select(0)
    hands.now_ns += 60 * MS
    hands.select(0)
    hands.wait = lambda: setattr(hands, "now_ns", hands.now_ns + 60 * MS)
    hands._selector.select(0)
    hands.select(0)
    hands.watch._tick()
    assert hands.watch.counts() == {("main", UNSEEN): 1, ("main", NOT_RUN): 1}


def test_an_idle_loop_has_no_stall(hands: Hands) -> None:
    """A loop that waits for a file or a far timer, and gets neither for long, stands still for nobody."""
    for timeout in (None, 3600.0):
        hands.select(timeout, took_ms=60_000)
    hands.watch._tick()
    assert hands.watch.counts() == {}


def test_places_are_bounded(hands: Hands) -> None:
    """The 33rd place and those after it are counted together."""
    for index in range(40):
        hands.place = f"streamer/hub.py:{index} send"
        hands.stand(60)
    counts = hands.watch.counts()
    assert len(counts) == 33 and counts["main", OTHER] == 8 and sum(counts.values()) == 40


def test_long_stalls_are_logged_but_not_in_a_flood(hands: Hands, caplog: pytest.LogCaptureFixture) -> None:
    """A stall over 250 ms is a warning with its place; more within 10 s are summed up in the next one."""
    with caplog.at_level(logging.WARNING, "streamer.observe.stalls"):
        hands.stand(240)
        assert caplog.messages == []
        for _ in range(5):
            hands.stand(260)
        assert caplog.messages == ["the event loop main stood still for 260 ms at streamer/hub.py:1 send"]
        hands.select(None, took_ms=10_000)
        hands.stand(260)
    assert "(4 times more since the last such warning)" in caplog.messages[-1] and len(caplog.messages) == 2


def test_a_loop_that_hangs_is_told_while_it_does(hands: Hands, caplog: pytest.LogCaptureFixture) -> None:
    """After 5 s the log says where it hangs, once, because its end may never come."""
    hands.select(0)
    with caplog.at_level(logging.WARNING, "streamer.observe.stalls"):
        for _ in range(600):
            hands.now_ns += 20 * MS
            hands.watch._tick()
    (message,) = caplog.messages
    assert "has stood still for 5 s and still does, at streamer/hub.py:1 send" in message


def test_the_packages_folder_is_the_one_meant() -> None:
    """Places are shortened to paths from the package on."""
    assert Path(stalls_module.__file__).resolve().is_relative_to(stalls_module._PACKAGE)
    assert (stalls_module._PACKAGE / "service.py").is_file()
