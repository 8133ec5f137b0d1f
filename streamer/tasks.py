"""Work that goes on in the background for as long as something else does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine

log = logging.getLogger(__name__)


async def background(
    stack: contextlib.AsyncExitStack, work: Coroutine[None, None, None], name: str, on_fault: Callable[[str], None]
) -> None:
    """Run `work` until the stack is left; see `watched`. `on_fault` gets the name where it fails."""
    stack.push_async_callback(cancelled, watched(work, name, on_fault))


def watched(
    work: Coroutine[None, None, None], name: str, on_fault: Callable[[str], None] | None = None
) -> asyncio.Task[None]:
    """Begin `work`. A fault in it is logged when it happens, because nobody awaits it, and `on_fault` gets the name."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("%s ended", name, exc_info=error)
            if on_fault is not None:
                on_fault(name)

    task = asyncio.create_task(work, name=name)
    task.add_done_callback(ended)
    return task


async def cancelled(task: asyncio.Task[None]) -> None:
    """End a task, and wait until it has ended."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
