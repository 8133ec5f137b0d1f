"""Short turns: asked for by a thread for itself alone, without privilege, and harmless where nobody knows them."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import threading

import pytest

from streamer.turns import ask_for_short_turns

_SCHED_GETATTR = 315  # on x86-64


def turn_ns() -> int:
    """What the kernel has noted for the calling thread."""
    attributes = ctypes.create_string_buffer(48)
    assert ctypes.CDLL(None).syscall(_SCHED_GETATTR, 0, attributes, 48, 0) == 0
    return int(struct.unpack("=IIQiIQQQ", attributes.raw)[5])


@pytest.mark.skipif(os.uname().machine != "x86_64" or sys.platform != "linux", reason="reads Linux's figure on x86-64")
def test_a_thread_that_asks_gets_them_and_no_other() -> None:
    """Its policy and niceness stay as they were, and so do the turns of the thread that started it."""
    before, found = turn_ns(), {}

    def ask() -> None:
        found["niceness"] = os.getpriority(os.PRIO_PROCESS, 0)
        found["heard"] = ask_for_short_turns()
        found["turn_ns"], found["policy"] = turn_ns(), os.sched_getscheduler(0)
        found["niceness after"] = os.getpriority(os.PRIO_PROCESS, 0)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    if not found["heard"]:
        pytest.skip("this kernel knows no short turns: Linux 6.12 does")
    assert found["turn_ns"] == 100_000
    assert found["policy"] == os.SCHED_OTHER
    assert found["niceness after"] == found["niceness"]
    assert turn_ns() == before


def test_a_machine_that_knows_nothing_of_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call is made whose number is not known there."""
    monkeypatch.setattr("streamer.turns._NUMBERS", {})
    assert not ask_for_short_turns()
