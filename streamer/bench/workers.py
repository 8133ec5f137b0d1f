"""A benchmark's helper processes: started as modules of this package, spoken to in lines of JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys
from collections.abc import AsyncIterator
from typing import Any

from streamer.errors import StreamerError

_END_S = 10.0
# A line may hold a message as text.
_LONGEST_LINE = 1 << 20


class Worker:
    """A helper process: `ask` it something and get its answer, or wait for a `line` that it writes by itself."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self._process = process
        self._name = name

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def tell(self, **command: object) -> None:
        """Send a command that has no answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def line(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """Its next line.

        Raises:
            StreamerError: it ended, or said nothing for `timeout_s`.
        """
        assert self._process.stdout is not None
        try:
            raw = await asyncio.wait_for(self._process.stdout.readline(), timeout_s)
        except TimeoutError:
            raise StreamerError(f"the benchmark's {self._name} said nothing for {timeout_s:g} s") from None
        if not raw:
            raise StreamerError(f"the benchmark's {self._name} ended; the lines before this say why")
        found: dict[str, Any] = json.loads(raw)
        return found

    async def ask(self, timeout_s: float = 60.0, **command: object) -> dict[str, Any]:
        """Send a command and return the answer; errors as `line` raises them."""
        self.tell(**command)
        return await self.line(timeout_s)


@contextlib.asynccontextmanager
async def worker(module: str, *words: str) -> AsyncIterator[Worker]:
    """A helper process running `python -m module words...`, ended with the block: closing its input asks it to."""
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", module, *words],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE,
    )
    try:
        yield Worker(process, " ".join([module.rpartition(".")[2], *words]))
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _END_S)
        except TimeoutError:
            process.kill()
            await process.wait()


def allow_files() -> int:
    """Raise this process's limit of open files to what the system allows, and return it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def say(**answer: object) -> None:
    """A helper's answer, as a line on its standard output."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
