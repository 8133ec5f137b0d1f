"""What a witness on a CPU tells, and what that explains."""

from __future__ import annotations

import os
import signal
import time

import pytest

from streamer.bench.witness import MachineStalls, machine_stalls, united
from tests.builders import MS


def test_stalls_of_several_cpus_count_once() -> None:
    """Spans that overlap or touch become one; others stay apart."""
    assert united([(50, 60), (10, 20), (15, 30), (30, 35), (52, 55)]) == [(10, 35), (50, 60)]


@pytest.mark.parametrize(
    ("acked_ms", "explained"),
    [(1110, True), (1221, False), (990, False)],
    ids=["no later than the stall was long", "later than that and its catching up", "in time"],
)
def test_what_a_stall_explains(acked_ms: int, explained: bool) -> None:
    """A segment captured at 0 and due at 1000 ms, a CPU that was away from 880 to 980 ms."""
    stalls = MachineStalls([])
    stalls._stalls = [(880 * MS, 980 * MS)]
    assert stalls.explains(0, 1000 * MS, acked_ms * MS) is explained


async def test_a_witness_tells_when_it_could_not_run() -> None:
    """One that is stopped for a while, which is what a CPU that is taken away looks like from inside, says from when to
    when; what is known stays known."""
    async with machine_stalls() as stalls:
        if not stalls.watched:
            pytest.skip("needs the privilege to run before all others (CAP_SYS_NICE)")
        pid = stalls._witnesses[0].pid
        began_ns = time.monotonic_ns()
        os.kill(pid, signal.SIGSTOP)
        while time.monotonic_ns() < began_ns + 150 * MS:  # the time that is to be seen, not one to be right by
            pass
        os.kill(pid, signal.SIGCONT)
        ended_ns = time.monotonic_ns()
        await stalls.refresh()
        assert stalls.frozen_ns(began_ns, ended_ns) >= 130 * MS
        known = list(stalls._stalls)
        await stalls.refresh()
        assert stalls._stalls[: len(known)] == known
