"""The service as its users start it, in a process of its own, for the benchmarks that look at it from outside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from streamer.bench.processes import children
from streamer.errors import StreamerError

_START_S = 120.0
# Longer than the 5 s in which it should stop: how long it takes is for the benchmark to judge.
_STOP_S = 20.0
_LOG_LINES = 200


@dataclass(frozen=True, slots=True)
class Started:
    """A running service: its process, the address of its HTTP side (no final slash), of its subscribers' side, and the
    last lines that it wrote to standard error."""

    process: asyncio.subprocess.Process
    page: str
    websocket: str
    log: deque[str]

    @property
    def pid(self) -> int:
        """The main process's id."""
        return self.process.pid

    @property
    def hub(self) -> int | None:
        """The process id of its hub now, None while there is none."""
        return next((child for child, command in children(self.pid) if "streamer.hub" in command), None)

    @property
    def readers(self) -> list[int]:
        """The process ids of its reader processes now."""
        return [child for child, command in children(self.pid) if "streamer.sources.worker" in command]

    async def stop(self) -> int:
        """Ask it to end and give its exit code; it is killed if it does not."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)
            try:
                return await asyncio.wait_for(self.process.wait(), _STOP_S)
            except TimeoutError:
                self.process.kill()
        return await self.process.wait()


@asynccontextmanager
async def running_service(config: Mapping[str, object], redis_url: str) -> AsyncIterator[Started]:
    """Run `streamer run` with `config` (what a configuration file says) on free ports; stopped with the block.

    Raises:
        StreamerError: it did not start; the text is what it said last.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.yaml"
        path.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "streamer", "run", str(path), "--redis", redis_url],
            *["--http", "127.0.0.1:0", "--ws", "127.0.0.1:0"],
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "NO_COLOR": "1"},
        )
        started: Started | None = None
        reading: asyncio.Task[None] | None = None
        try:
            started = await _started(process)
            reading = asyncio.create_task(_read(process, started.log))
            yield started
        finally:
            await (started or Started(process, "", "", deque())).stop()
            if reading is not None:
                await reading


async def _started(process: asyncio.subprocess.Process) -> Started:
    assert process.stderr is not None
    said: deque[str] = deque(maxlen=_LOG_LINES)
    page = websocket = ""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START_S):
            while not (page and websocket) and (line := (await process.stderr.readline()).decode(errors="replace")):
                said.append(line)
                if found := re.search(r"^page\s+(http://\S+?)/?\s*$", line):
                    page = found[1]
                elif found := re.search(r"^websocket\s+(ws://\S+)", line):
                    websocket = found[1]
    if not (page and websocket):
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            process.kill()
        raise StreamerError("the service under measurement did not start: " + "".join(list(said)[-3:]).strip())
    return Started(process, page, websocket, said)


async def _read(process: asyncio.subprocess.Process, log: deque[str]) -> None:
    """Keeps the pipe from filling up."""
    assert process.stderr is not None
    async for line in process.stderr:
        log.append(line.decode(errors="replace"))
