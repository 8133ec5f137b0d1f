"""Telling a camera that sends late from a reader that reads late."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from streamer.media import Effort
from streamer.sources.pace import Pace

S = 1_000_000_000
MS = 1_000_000
_PICTURE_NS = 40 * MS
_GOP = 25


@dataclass
class Reader:
    """A reader in simulated time, of a camera with 25 pictures a second whose packets come `delay_ns` late.

    A picture that the pace allows costs `work_ns`, every packet `handling_ns`.
    """

    work_ns: int = 0
    handling_ns: int = 100_000
    delay_ns: int = 20 * MS
    pace: Pace = field(default_factory=Pace)
    now_ns: int = 0
    number: int = 0
    allowed: list[Effort] = field(default_factory=list)
    lags_ns: list[int] = field(default_factory=list)
    fresh: list[bool] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        until_ns = self.now_ns + int(seconds * S)
        while self.now_ns < until_ns:
            media_ns = self.number * _PICTURE_NS
            asked_ns = self.now_ns
            self.now_ns = max(asked_ns, media_ns + self.delay_ns)
            self.pace.read(asked_ns, self.now_ns)
            self.pace.place(media_ns)
            self.allowed.append(self.pace.allows)
            self.lags_ns.append(self.now_ns - media_ns)
            self.fresh.append(self.pace.is_fresh)
            is_key = self.number % _GOP == 0
            decodes = self.pace.allows == "all" or (self.pace.allows == "keyframes" and is_key)
            self.now_ns += self.handling_ns + (self.work_ns if decodes else 0)
            self.number += 1


@given(work_ms=st.integers(1, 2000))
def test_the_lag_is_bounded_whatever_a_picture_costs(work_ms: int) -> None:
    """However much there is too much to do, the reader is behind by no more than a second and two pictures' work, and
    it has caught up within 2 s of the work becoming light."""
    reader = Reader(work_ms * MS)
    reader.run(60)
    assert max(reader.lags_ns) <= S + 2 * work_ms * MS
    if work_ms < 35:
        assert set(reader.allowed) == {"all"}
    reader.work_ns = MS
    reader.run(2)
    mark = len(reader.allowed)
    reader.run(5)
    assert set(reader.allowed[mark:]) == {"all"} and max(reader.lags_ns[mark:]) < 100 * MS


@given(delay_ms=st.integers(0, 5000))
def test_a_late_camera_costs_no_picture(delay_ms: int) -> None:
    """What comes late over the network is fresh, and all of it is decoded."""
    reader = Reader(10 * MS, delay_ns=delay_ms * MS)
    reader.run(20)
    assert set(reader.allowed) == {"all"} and set(reader.fresh) == {True}


def test_what_waited_is_not_fresh() -> None:
    """While a reader catches up on what came when it had no time, what it reads did not come just now."""
    reader = Reader(MS)
    reader.run(5)
    reader.now_ns += 4 * S
    mark = len(reader.fresh)
    reader.run(0.1)
    assert len(reader.fresh) > mark + 50 and not any(reader.fresh[mark:])
    reader.run(2)
    assert reader.fresh[-1] and reader.lags_ns[-1] < 100 * MS


def test_slow_reads_do_not_hide_too_much_work() -> None:
    """A reader whose every read takes a while, because others have the processor, is still seen to fall behind."""
    reader = Reader(100 * MS, handling_ns=2 * MS)
    steps: deque[int] = deque(maxlen=500)
    for _ in range(500):
        reader.now_ns += 5 * MS  # it was ready, and waited for its turn
        reader.run(0.001)
        steps.append(reader.lags_ns[-1])
    assert max(steps) < 2 * S
