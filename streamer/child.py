"""Processes of the service's own: what each needs to be this package too, and how one is kept running.

A child reads its settings as one line of JSON from standard input and ends when that is closed, so it never outlives
who started it; they travel there and not on the command line because they may hold passwords. On standard output it
writes a report once a second, a line of JSON each.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, Self, TypeVar

import msgspec

import streamer
from streamer.errors import StreamerError

log = logging.getLogger(__name__)

_START_S = 15.0
_STOP_S = 4.0
# A child that reports nothing for this long (once a second is usual) is hung.
SILENT_S = 15.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0
# One that lasted this long was healthy: the next failure is a new one.
_HEALTHY_S = 10.0

Report = TypeVar("Report", bound=msgspec.Struct)


def environment() -> dict[str, str]:
    """Ours, with this package importable there even where it was found through the working directory."""
    paths = [str(Path(streamer.__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


class ChildProcess(Generic[Report]):
    """`python -m MODULE`, started, told its settings, watched, and started again when it dies or hangs.

    Args:
        module: what is run.
        name: what it is called in the log.
        report: the shape of its reports.
        silent_s: it is hung where it reports nothing for so long.
    """

    def __init__(self, module: str, name: str, report: type[Report], silent_s: float = SILENT_S) -> None:
        self._module = module
        self._name = name
        self._shape = report
        self._silent_s = silent_s
        self._process: asyncio.subprocess.Process | None = None
        self._first_report = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        self._stopping = False
        self._insists = False
        self.restarts = 0
        self.report: Report | None = None

    def settings(self) -> msgspec.Struct:
        """What a child that starts now is told."""
        raise NotImplementedError

    def inherited(self) -> Sequence[int]:
        """File descriptors that the child gets."""
        return ()

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    @property
    def running(self) -> bool:
        """Whether it was started, and not stopped since."""
        return self._supervisor is not None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the child and wait until it reports.

        Raises:
            StreamerError: it did not come up.
        """
        self._begin()
        assert self._supervisor is not None
        reported = asyncio.create_task(self._first_report.wait())
        await asyncio.wait([reported, self._supervisor], timeout=_START_S, return_when=asyncio.FIRST_COMPLETED)
        reported.cancel()
        if not self._first_report.is_set():
            await self.stop()
            raise StreamerError(f"the {self._name} did not come up; the lines it wrote before this say why")

    def insist(self) -> None:
        """Start the child without waiting, and again and again should it not come up."""
        self._insists = True
        self._begin()

    async def tell(self) -> None:
        """Give the running child the settings of now, on a line of their own; one that starts later has them anyway."""
        process = self._process
        if process is not None and process.returncode is None and process.stdin is not None:
            with contextlib.suppress(ConnectionError):
                process.stdin.write(msgspec.json.encode(self.settings()) + b"\n")
                await process.stdin.drain()

    async def stop(self) -> None:
        """Let the child finish what it is doing, then end it; safe to call twice. It can be started again."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), _STOP_S)
            except TimeoutError:
                log.warning("the %s does not stop: killed", self._name)
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
            self._supervisor = None

    def _begin(self) -> None:
        self._stopping = False
        self._first_report.clear()
        self._supervisor = asyncio.create_task(self._supervise(), name=f"{self._name}-process")

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        while not self._stopping:
            began = loop.time()
            code = await self._run()
            self.report = None
            if self._stopping or not (self._first_report.is_set() or self._insists):
                return
            self.restarts += 1
            pause_s = _FIRST_PAUSE_S if loop.time() - began > _HEALTHY_S else min(2 * pause_s, _LONGEST_PAUSE_S)
            log.error("the %s ended with code %s; starting it again in %.1f s", self._name, code, pause_s)
            await asyncio.sleep(pause_s)

    async def _run(self) -> int:
        process = self._process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", self._module],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=self.inherited(),
            env=environment(),
            # Its own session: Ctrl-C in a terminal must reach the service alone, which stops its children in its turn.
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            await self.tell()
            await self._listen(process.stdout)
            return await process.wait()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise

    async def _listen(self, reports: asyncio.StreamReader) -> None:
        """Take reports until the child ends; end it when none come any more, for then it does nothing else either."""
        try:
            while line := await asyncio.wait_for(reports.readline(), self._silent_s):
                self.report = msgspec.json.decode(line, type=self._shape)
                self._first_report.set()
        except TimeoutError:
            log.error("the %s has not reported for %g s: killed", self._name, self._silent_s)
            if self._process is not None:
                self._process.kill()
