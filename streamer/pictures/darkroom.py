"""The process in which pictures are decoded and blurred: started when one is asked for, ended when none has been for a
while. One at a time; a picture that takes too long, or takes the process with it, is lost, and the next one is not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from pathlib import Path

import msgspec

from streamer import child
from streamer.errors import StreamerError
from streamer.pictures.job import LENGTH, Developed, Job

log = logging.getLogger(__name__)

# The longest clip takes half a minute of a core; where others are busy it has a fraction of one.
_ANSWER_S = 180.0
_IDLE_S = 60.0
_STOP_S = 2.0


class Darkroom:
    """`async with Darkroom() as darkroom: await darkroom.develop(detector, job)`. Belongs to one event loop.

    Args:
        idle_s: how long the process, and the memory that it has, outlast the last picture.
        answer_s: how long one picture or clip may take.
    """

    def __init__(self, *, idle_s: float = _IDLE_S, answer_s: float = _ANSWER_S) -> None:
        self._idle_s = idle_s
        self._answer_s = answer_s
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None
        self.starts = 0

    async def __aenter__(self) -> Darkroom:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    @property
    def pid(self) -> int | None:
        """The process's id while there is one."""
        process = self._process
        return None if process is None or process.returncode is not None else process.pid

    async def develop(self, detector: Path, job: Job) -> Developed:
        """What became of `job`; cancelled, it takes the process along.

        Args:
            detector: its weights, for a process that is not there yet.

        Raises:
            StreamerError: the process failed, or took too long.
        """
        async with self._turn:
            if self._idle is not None:
                self._idle.cancel()
            try:
                async with asyncio.timeout(self._answer_s):
                    process = await self._running(detector)
                    answer = msgspec.msgpack.decode(await _exchange(process, job), type=Developed)
            except (OSError, EOFError, TimeoutError, msgspec.MsgspecError) as error:
                await self._kill()
                cause = f"not made within {self._answer_s:g} s" if isinstance(error, TimeoutError) else repr(error)
                raise StreamerError(f"the process that makes pictures failed: {cause}") from error
            except asyncio.CancelledError:
                await self._kill()
                raise
            self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._close_input)
            return answer

    async def _running(self, detector: Path) -> asyncio.subprocess.Process:
        process = self._process
        if process is not None and process.returncode is None and not _closing(process):
            return process
        await self._end()
        process = self._process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "streamer.pictures"],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=child.environment(),
            # Its own session: Ctrl-C in a terminal must reach the service alone, which ends this in its turn.
            start_new_session=True,
        )
        self.starts += 1
        _send(process, str(detector).encode())
        return process

    def _close_input(self) -> None:
        """Let it end: its memory is of more use to others."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

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
            log.warning("the process that makes pictures does not stop: killed")
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


async def _exchange(process: asyncio.subprocess.Process, job: Job) -> bytes:
    assert process.stdin is not None and process.stdout is not None
    _send(process, msgspec.msgpack.encode(job))
    await process.stdin.drain()
    (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
    return await process.stdout.readexactly(length)
