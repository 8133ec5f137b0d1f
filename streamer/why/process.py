"""What explains labels, in a process of its own: started when somebody asks, ended when nobody has for a while.

Nothing of it can hold up a deadline: it has its own interpreter, a low priority, and one question at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from typing import NoReturn

import msgspec

from streamer import child
from streamer.errors import StreamerError
from streamer.why.explain import Asked, Explained, Graphs
from streamer.why.worker import LENGTH

log = logging.getLogger(__name__)

_MOST_WAITING = 4
_ANSWER_S = 20.0
_IDLE_S = 60.0
_STOP_S = 2.0


class Explaining:
    """`async with Explaining(graphs) as explaining: await explaining.explain(asked)`. Belongs to one event loop.

    Args:
        idle_s: how long the process, and the memory that it has, outlast the last question.
    """

    def __init__(self, graphs: Graphs, *, idle_s: float = _IDLE_S, answer_s: float = _ANSWER_S) -> None:
        self._graphs = graphs
        self._idle_s = idle_s
        self._answer_s = answer_s
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._open: set[asyncio.Task[Explained]] = set()
        self._idle: asyncio.TimerHandle | None = None
        self.asked = 0
        self.refused = 0
        self.starts = 0

    async def __aenter__(self) -> Explaining:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._end()

    @property
    def pid(self) -> int | None:
        """The process's id while there is one."""
        process = self._process
        return None if process is None or process.returncode is not None else process.pid

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
        async with self._turn:
            if self._idle is not None:
                self._idle.cancel()
            try:
                async with asyncio.timeout(self._answer_s):
                    process = await self._running()
                    body = await _exchange(process, msgspec.msgpack.encode(asked))
                answer = msgspec.msgpack.decode(body, type=Explained)
            except (OSError, EOFError, TimeoutError, msgspec.MsgspecError) as error:
                await self._failed(error)
            except asyncio.CancelledError:
                await self._kill()
                raise
            self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._close_input)
            return answer

    async def _running(self) -> asyncio.subprocess.Process:
        process = self._process
        if process is not None and process.returncode is None and not _closing(process):
            return process
        await self._end()
        process = self._process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "streamer.why.worker"],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=child.environment(),
            # Its own session: Ctrl-C in a terminal must reach the service alone, which ends this in its turn.
            start_new_session=True,
        )
        self.starts += 1
        _send(process, msgspec.msgpack.encode(self._graphs))
        return process

    def _close_input(self) -> None:
        """Let it end: its memory is of more use to others."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    async def _failed(self, error: Exception) -> NoReturn:
        cause = f"no answer within {self._answer_s:g} s" if isinstance(error, TimeoutError) else f"{error!r}"
        log.error("what a label rests on could not be told: %s; the lines before this say why", cause)
        await self._kill()
        raise StreamerError("what this label rests on could not be worked out, see the log; ask again") from error

    async def _end(self) -> None:
        """End it in peace, or else by force."""
        if self._idle is not None:
            self._idle.cancel()
        process = self._process
        if process is None:
            return
        self._close_input()
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            log.warning("the process that explains labels does not stop: killed")
            await self._kill()
        self._process = None

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _closing(process: asyncio.subprocess.Process) -> bool:
    return process.stdin is None or process.stdin.is_closing()


def _send(process: asyncio.subprocess.Process, body: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(LENGTH.pack(len(body)) + body)


async def _exchange(process: asyncio.subprocess.Process, question: bytes) -> bytes:
    assert process.stdin is not None and process.stdout is not None
    _send(process, question)
    await process.stdin.drain()
    (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
    return await process.stdout.readexactly(length)
