"""`python -m streamer.bench.sleeper`: how late the machine lets a process run that does nothing but sleep.

What an event loop is late by on the same machine at the same time is no more its own doing than that. Each line on
standard input is answered with `{"worst_ms"}`, the worst since the line before.
"""

from __future__ import annotations

import os
import select
import sys
import time

from streamer.bench.workers import say

_TICK_S = 0.001


def main() -> int:
    """Run as a process."""
    worst_s = 0.0
    while True:
        due_s = time.monotonic() + _TICK_S
        asked, _, _ = select.select([0], [], [], _TICK_S)
        worst_s = max(worst_s, time.monotonic() - due_s)
        if asked:
            if not os.read(0, 1 << 16):
                return 0
            say(worst_ms=round(worst_s * 1000, 3))
            worst_s = 0.0


if __name__ == "__main__":
    sys.exit(main())
