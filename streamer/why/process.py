"""What explains labels, in a process of its own: started when somebody asks, ended when nobody has for a while.

Nothing of it can hold up a deadline: it has its own interpreter, a low priority, and one question at a time.
"""

from __future__ import annotations

import asyncio
import logging

from streamer.errors import StreamerError
from streamer.ondemand import NoAnswer, OnDemand
from streamer.why.explain import Asked, Explained, Graphs

log = logging.getLogger(__name__)

_MOST_WAITING = 4
_ANSWER_S = 20.0
_IDLE_S = 60.0


class Explaining:
    """`async with Explaining(graphs) as explaining: await explaining.explain(asked)`. Belongs to one event loop.

    Args:
        idle_s: how long the process, and the memory that it has, outlast the last question.
    """

    def __init__(self, graphs: Graphs, *, idle_s: float = _IDLE_S, answer_s: float = _ANSWER_S) -> None:
        self._graphs = graphs
        self._answer_s = answer_s
        self._process = OnDemand("streamer.why.worker", "explains labels", Explained, idle_s=idle_s, answer_s=answer_s)
        self._open: set[asyncio.Task[Explained]] = set()
        self.asked = 0
        self.refused = 0

    async def __aenter__(self) -> Explaining:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._process.aclose()

    @property
    def pid(self) -> int | None:
        """The process's id while there is one."""
        return self._process.pid

    @property
    def starts(self) -> int:
        """How often it was started."""
        return self._process.starts

    async def explain(self, asked: Asked) -> Explained:
        """The answer to one question. One is worked on at a time and four may wait.

        Raises:
            StreamerError: too many wait already, or the process failed.
        """
        if len(self._open) > _MOST_WAITING:
            self.refused += 1
            raise StreamerError("busy: too many ask what labels rest on; ask again in a moment")
        self.asked += 1
        task = asyncio.create_task(self._explain(asked), name="explain")
        self._open.add(task)
        task.add_done_callback(self._done)
        # Whoever asked may go away: the answer is still taken from the process, so that the next one gets its own.
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Explained]) -> None:
        self._open.discard(task)
        if not task.cancelled():
            task.exception()  # told to who asked, where anybody still does

    async def _explain(self, asked: Asked) -> Explained:
        try:
            return await self._process.ask(self._graphs, asked)
        except NoAnswer as error:
            cause = f"no answer within {self._answer_s:g} s" if error.late else f"{error}"
            log.error("what a label rests on could not be told: %s; the lines before this say why", cause)
            raise StreamerError("what this label rests on could not be worked out, see the log; ask again") from error
