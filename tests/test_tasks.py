"""Background work ends with what it belongs to, and a fault in it is never silent."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from streamer.commands.options import Options
from streamer.errors import StreamerError
from streamer.service import Service
from streamer.tasks import background


async def test_a_fault_is_logged_and_told(caplog: pytest.LogCaptureFixture) -> None:
    """Work that raises is told by name at once, with its traceback in the log."""
    told = asyncio.Event()

    async def work() -> None:
        raise RuntimeError("a bug")

    async with contextlib.AsyncExitStack() as stack:
        await background(stack, work(), "worker", lambda name: told.set() if name == "worker" else None)
        await asyncio.wait_for(told.wait(), 5)
    assert "worker ended" in caplog.text and "a bug" in caplog.text


async def test_leaving_ends_the_work_and_is_no_fault() -> None:
    """Work that goes on for ever is cancelled when the stack is left, and nobody is told of a fault."""
    ended, faults = asyncio.Event(), list[str]()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with contextlib.AsyncExitStack() as stack:
        await background(stack, work(), "worker", faults.append)
        await asyncio.sleep(0)
    assert ended.is_set() and not faults


async def test_a_service_whose_part_failed_ends_with_an_error() -> None:
    """When the dispatcher is gone no window would be answered: the service says so and ends, to be started again."""
    service = Service(Options())
    service._fail("dispatcher")
    with pytest.raises(StreamerError, match="dispatcher failed"):
        await service.until_stopped()
