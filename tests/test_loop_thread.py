"""The loop on a thread of its own goes on whatever the main loop does."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from streamer.loop_thread import LoopThread


async def test_posts_are_done_there_in_order() -> None:
    """What is posted runs on the other thread, first come first served, also from several threads."""
    done: list[int] = []
    with LoopThread("publish") as loop:
        for number in range(100):
            loop.post(done.append, number)

        async def thread() -> int:
            return threading.get_ident()

        assert await loop.call(thread()) == loop.ident != threading.get_ident()
        assert done == list(range(100))


async def test_it_turns_while_the_main_loop_stands_still() -> None:
    """A callback that blocks the main loop does not keep what was posted from being done."""
    done = threading.Event()
    with LoopThread("publish") as loop:
        loop.post(loop.loop.call_later, 0.05, done.set)
        began = time.monotonic()
        assert done.wait(5) and time.monotonic() - began < 5


async def test_errors_and_cancellations_pass_through() -> None:
    """An exception there is raised here, and a cancellation here ends the work there."""
    ended = threading.Event()

    async def fail() -> None:
        raise ValueError("no")

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with LoopThread("publish") as loop:
        with pytest.raises(ValueError, match="no"):
            await loop.call(fail())
        task = asyncio.create_task(loop.call(wait()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await asyncio.to_thread(ended.wait, 5)


async def test_posting_after_the_end_is_nothing_to_do() -> None:
    """Whoever posts to a loop that has ended gets no error, and nothing is done."""
    with LoopThread("publish") as loop:
        pass
    done: list[int] = []
    loop.post(done.append, 1)
    assert done == []
