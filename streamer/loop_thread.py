"""An event loop on a thread of its own, for work that must go on whatever holds up the main loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from streamer.turns import ask_for_short_turns

Result = TypeVar("Result")
_JOIN_S = 5.0


class LoopThread:
    """`with LoopThread("publish") as loop:`; `post` and `call` from any thread, first come first served."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self) -> None:
        ask_for_short_turns()
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def __enter__(self) -> LoopThread:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.post(self._loop.stop)
        self._thread.join(_JOIN_S)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop itself, to be watched."""
        return self._loop

    @property
    def ident(self) -> int:
        """The thread's identifier."""
        assert self._thread.ident is not None, "not started"
        return self._thread.ident

    def post(self, action: Callable[..., object], *arguments: object) -> None:
        """Have `action` done there, soon, in the order of posting; nothing where the loop has ended."""
        with contextlib.suppress(RuntimeError):  # "Event loop is closed": nobody is left to do it for
            self._loop.call_soon_threadsafe(action, *arguments)

    async def call(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run `work` there and wait for its result, from another loop; a cancellation here cancels it there."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))
