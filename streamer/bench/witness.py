"""`python -m streamer.bench.witness CPU`: when the machine took this CPU away from all that runs on it.

A guest's CPU stands still when its host runs something else there. What holds the interpreter's lock on it then keeps
every thread waiting, while the process goes on using CPU time on another one, so that it can't tell such a stall from
its own slowness. A process that may go before all others on one CPU, and only sleeps, can: it is woken late for no
other reason. It needs the privilege to ask for such a priority (CAP_SYS_NICE).

Each line on standard input is answered with `{"stalls"}`, the begin and end of each in nanoseconds of the monotonic
clock, since the line before; the first line that it writes by itself says whether it is `permitted`.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import AsyncIterator

from streamer.bench.workers import Worker, say, worker
from streamer.observe.freeze import Freezes

_TICK_NS = 5_000_000
# What is shorter the margins before every deadline are there for.
_WORTH_TELLING_NS = 20_000_000
_KEPT = 10_000


class MachineStalls(Freezes):
    """When at least one CPU of the machine stood still, as told by witnesses. Without any, never."""

    def __init__(self, witnesses: list[Worker]) -> None:
        self._witnesses = witnesses
        self._stalls: list[tuple[int, int]] = []

    @property
    def watched(self) -> bool:
        """Whether anybody looks."""
        return bool(self._witnesses)

    async def refresh(self) -> None:
        """Ask the witnesses for what has happened up to now.

        Raises:
            StreamerError: one of them has ended.
        """
        stalls = [(begin, end) for witness in self._witnesses for begin, end in (await witness.ask())["stalls"]]
        self._stalls = united([*self._stalls, *stalls])[-_KEPT:]

    def frozen_ns(self, from_ns: int, to_ns: int) -> int:
        """Nanoseconds within `[from_ns, to_ns)` in which a CPU stood still."""
        return sum(max(0, min(to_ns, end) - max(from_ns, begin)) for begin, end in self._stalls)


def united(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same time in spans that are in order and apart."""
    whole: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if whole and begin <= whole[-1][1]:
            whole[-1] = (whole[-1][0], max(whole[-1][1], end))
        else:
            whole.append((begin, end))
    return whole


@contextlib.asynccontextmanager
async def machine_stalls() -> AsyncIterator[MachineStalls]:
    """A witness on each CPU that this process may use, for as long as the block lasts; none where one is refused.

    Raises:
        StreamerError: one could not be started.
    """
    async with contextlib.AsyncExitStack() as stack:
        witnesses = []
        for cpu in sorted(os.sched_getaffinity(0)):
            witnesses.append(await stack.enter_async_context(worker("streamer.bench.witness", str(cpu))))
        permitted = [(await witness.line())["permitted"] for witness in witnesses]
        yield MachineStalls(witnesses if all(permitted) else [])


def main(cpu: int) -> int:
    """Run as a process."""
    permitted = True
    try:
        os.sched_setaffinity(0, {cpu})
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        permitted = False
    say(permitted=permitted)
    stalls: list[tuple[int, int]] = []
    while True:
        due_ns = time.monotonic_ns() + _TICK_NS
        asked, _, _ = select.select([0], [], [], _TICK_NS / 1e9)
        now_ns = time.monotonic_ns()
        if now_ns - due_ns >= _WORTH_TELLING_NS and len(stalls) < _KEPT:
            stalls.append((due_ns, now_ns))
        if asked:
            if not os.read(0, 1 << 16):
                return 0
            say(stalls=stalls)
            stalls = []


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
