"""A clock that ticks on time: an event loop's own timers are rounded up to the next millisecond but one."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import struct
import time
from collections.abc import Awaitable, Callable, Iterator

from streamer.clock import NS_PER_S


@contextlib.contextmanager
def ticks(period_ns: int) -> Iterator[Callable[[], Awaitable[None]]]:
    """Gives what waits for the next tick of a kernel timer (Linux, timerfd_create(2)); ticks missed are one.

    Raises:
        OSError: the kernel gives no timer.
    """
    # Python itself has these calls from 3.13 on.
    libc = ctypes.CDLL(None, use_errno=True)
    timer = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    period = struct.pack("qq", *divmod(period_ns, NS_PER_S))
    if timer < 0 or libc.timerfd_settime(timer, 0, period + period, None):
        raise OSError(ctypes.get_errno(), "no timer")
    loop, ticked = asyncio.get_running_loop(), asyncio.Event()

    def tick() -> None:
        os.read(timer, 8)
        ticked.set()

    async def next_tick() -> None:
        await ticked.wait()
        ticked.clear()

    loop.add_reader(timer, tick)
    try:
        yield next_tick
    finally:
        loop.remove_reader(timer)
        os.close(timer)
