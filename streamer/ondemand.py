"""Processes for work that is seldom asked for: started at the first question, ended when none has come for a while.

Questions go to standard input and answers come from standard output, each MessagePack after its length; the first
message says what the process needs to begin. One question at a time; one that takes too long, or takes the process with
it, is lost, and the next one is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import struct
import sys
from collections.abc import Callable
from typing import BinaryIO, Generic, TypeVar

import msgspec

from streamer import child
from streamer.errors import StreamerError

log = logging.getLogger(__name__)

_LENGTH = struct.Struct("<I")
_STOP_S = 2.0
# Lower than the readers': what has a deadline comes first, whoever asks.
_NICE = 15

Answer = TypeVar("Answer")
Asked = TypeVar("Asked")


class NoAnswer(StreamerError):
    """The process failed, or `late`: took too long."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(repr(cause))
        self.late = isinstance(cause, TimeoutError)


class OnDemand(Generic[Answer]):
    """`python -m module` while it is asked something. Belongs to one event loop.

    starts: how often it was started.

    Args:
        what: what it is called in the log.
        kind: of what its answers are.
        idle_s: how long the process, and the memory that it has, outlast the last answer.
        answer_s: how long one may take, the start included.
    """

    def __init__(self, module: str, what: str, kind: type[Answer], *, idle_s: float, answer_s: float) -> None:
        self._module = module
        self._what = what
        self._kind = kind
        self._idle_s = idle_s
        self._answer_s = answer_s
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None
        self.starts = 0

    @property
    def pid(self) -> int | None:
        """The process's id while there is one."""
        process = self._process
        return None if process is None or process.returncode is not None else process.pid

    async def ask(self, beginning: object, question: object) -> Answer:
        """The answer; `beginning` is told to a process that is not there yet. Cancelled, it takes the process along.

        Raises:
            NoAnswer: there is none.
        """
        async with self._turn:
            if self._idle is not None:
                self._idle.cancel()
            try:
                async with asyncio.timeout(self._answer_s):
                    process = await self._running(beginning)
                    answer = msgspec.msgpack.decode(await _exchange(process, question), type=self._kind)
            except (OSError, EOFError, TimeoutError, msgspec.MsgspecError) as error:
                await self._kill()
                raise NoAnswer(error) from error
            except asyncio.CancelledError:
                await self._kill()
                raise
            self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._close_input)
            return answer

    async def aclose(self) -> None:
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
            log.warning("the process that %s does not stop: killed", self._what)
            await self._kill()
        self._process = None

    async def _running(self, beginning: object) -> asyncio.subprocess.Process:
        process = self._process
        if process is not None and process.returncode is None and not _closing(process):
            return process
        await self.aclose()
        process = self._process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", self._module],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=child.environment(),
            # Its own session: Ctrl-C in a terminal must reach the service alone, which ends this in its turn.
            start_new_session=True,
        )
        self.starts += 1
        _send(process, beginning)
        return process

    def _close_input(self) -> None:
        """Let it end: its memory is of more use to others."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _closing(process: asyncio.subprocess.Process) -> bool:
    return process.stdin is None or process.stdin.is_closing()


def _send(process: asyncio.subprocess.Process, message: object) -> None:
    assert process.stdin is not None
    body = msgspec.msgpack.encode(message)
    process.stdin.write(_LENGTH.pack(len(body)) + body)


async def _exchange(process: asyncio.subprocess.Process, question: object) -> bytes:
    assert process.stdin is not None and process.stdout is not None
    _send(process, question)
    await process.stdin.drain()
    (length,) = _LENGTH.unpack(await process.stdout.readexactly(_LENGTH.size))
    return await process.stdout.readexactly(length)


# -- in the process ----------------------------------------------------------------------------------------------------

Beginning = TypeVar("Beginning")


def answer_all(
    beginning: type[Beginning],
    asked: type[Asked],
    begin: Callable[[Beginning], Callable[[Asked], object]],
    *,
    nice: int = _NICE,
) -> None:
    """Answer what comes on standard input until it ends: `begin` takes the first message and gives who answers the
    others. At low priority: `nice` below the usual."""
    with contextlib.suppress(OSError):  # a sandbox may forbid it, and nothing depends on it
        os.nice(nice)
    with os.fdopen(os.dup(1), "wb") as answers, contextlib.suppress(BrokenPipeError):  # the service may have gone
        # What a library prints must not get in between the answers.
        os.dup2(2, 1)
        first = _read(sys.stdin.buffer)
        if first is None:
            return
        answer, decoder = begin(msgspec.msgpack.decode(first, type=beginning)), msgspec.msgpack.Decoder(asked)
        while (question := _read(sys.stdin.buffer)) is not None:
            body = msgspec.msgpack.encode(answer(decoder.decode(question)))
            answers.write(_LENGTH.pack(len(body)) + body)
            answers.flush()


def _read(stream: BinaryIO) -> bytes | None:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    body = stream.read(length)
    return body if len(body) == length else None
