"""How soon a thread of this process gets a processor when it has something to do and others are using them all.

Linux's scheduler (EEVDF, from 6.6 on) gives everybody the same share, and lets whoever asks for short turns have them
sooner. A thread that does a little, often, and by a deadline loses nothing by asking.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

# sched_setattr(2), which the C library has no function for before glibc 2.41.
_NUMBERS = {"x86_64": 314, "aarch64": 274}
# struct sched_attr: size, policy (0: the normal one), flags, nice, priority, runtime, deadline, period.
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")


def ask_for_short_turns(turn_ns: int = 100_000) -> bool:
    """Ask the kernel for turns of `turn_ns` (100,000 is the least) for the calling thread; whether it heard.

    It needs no privilege. Kernels before 6.12 and other systems don't know it, and nothing changes there.
    """
    number = _NUMBERS.get(os.uname().machine) if sys.platform == "linux" else None
    if number is None:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, 0, 0, nice, 0, turn_ns, 0, 0)
    return bool(ctypes.CDLL(None).syscall(number, 0, ctypes.c_char_p(attributes), 0) == 0)
