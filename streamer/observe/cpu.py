"""CPU time by kind of thread, so that what a stream costs can be told by stage while the service runs."""

from __future__ import annotations

import threading
from pathlib import Path

_TASKS = Path("/proc/self/task")


def thread_seconds() -> dict[str, float]:
    """CPU seconds of this process's living Python threads, summed by the part of their name before `:` or `_`.

    The reader threads are named `source:NAME`, the engine's `engine_0`; the event loop is the main thread. Native
    threads
    without a Python name are left out (the process's total has them). Empty where there is no Linux `/proc`.
    """
    seconds: dict[str, float] = {}
    for thread in threading.enumerate():
        kind = "loop" if thread is threading.main_thread() else thread.name.replace("_", ":").partition(":")[0]
        try:
            # Read by thread id from /proc and not through pthread clocks: those crash on a thread that has just ended.
            used_ns = int((_TASKS / str(thread.native_id) / "schedstat").read_text(encoding="ascii").split()[0])
        except (OSError, ValueError, IndexError):
            continue
        seconds[kind] = seconds.get(kind, 0.0) + used_ns / 1e9
    return seconds
