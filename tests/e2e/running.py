"""The service as its users start it, in a process of its own, and what a test asks of it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from websockets.asyncio.client import connect

_START_S = 90.0


@dataclass
class Running:
    """A running service: its addresses, its process, and its log so far."""

    page: str
    websocket: str
    process: asyncio.subprocess.Process
    session: aiohttp.ClientSession
    log: list[str] = field(default_factory=list)

    @property
    def children(self) -> list[psutil.Process]:
        """The processes that it started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def rss_mb(self) -> float:
        """Resident memory of the main process in MB."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / 1e6

    async def get(self, path: str) -> Any:
        """The JSON at `path`."""
        async with self.session.get(self.page + path) as answer:
            return await answer.json(content_type=None)

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and JSON body of a request with a JSON body."""
        async with self.session.request(method, self.page + path, json=body) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if "json" in answer.content_type else text

    async def messages(self, query: str = "") -> AsyncIterator[dict[str, Any]]:
        """What a subscriber gets, `hello` first."""
        async with connect(f"{self.websocket}{query}") as peer:
            async for raw in peer:
                yield json.loads(raw)

    async def first(self, count: int, kind: str, query: str = "", within_s: float = 20.0) -> list[dict[str, Any]]:
        """The first `count` messages of one type."""
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(within_s):
            async for message in self.messages(query):
                if message["type"] == kind:
                    found.append(message)
                if len(found) == count:
                    break
        return found

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it and give its exit code."""
        self.process.send_signal(number)
        return await self.process.wait()


@asynccontextmanager
async def service(
    *arguments: str,
    config: Path | None = None,
    env: dict[str, str] | None = None,
    http: str = "127.0.0.1:0",
    ws: str = "127.0.0.1:0",
) -> AsyncIterator[Running]:
    """`streamer run` with these arguments, on free ports if none are named; killed with its children if the test did
    not stop it."""
    command = [sys.executable, "-m", "streamer", "--verbose", "run", *([str(config)] if config else []), *arguments]
    process = await asyncio.create_subprocess_exec(
        *command,
        *("--http", http, "--ws", ws),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "NO_COLOR": "1", **(env or {})},
    )
    async with aiohttp.ClientSession() as session:
        running = Running("", "", process, session)
        reader = asyncio.create_task(_read(running))
        try:
            async with asyncio.timeout(_START_S):
                while not running.websocket:
                    if process.returncode is not None:
                        raise AssertionError("the service ended: " + "".join(running.log[-5:]))
                    await asyncio.sleep(0.02)
            yield running
        finally:
            if process.returncode is None:
                children = running.children
                process.kill()
                await process.wait()
                for child in children:
                    if child.is_running():
                        child.kill()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)


async def _read(running: Running) -> None:
    assert running.process.stderr is not None
    async for raw in running.process.stderr:
        line = raw.decode(errors="replace")
        running.log.append(line)
        if found := re.search(r"^page\s+(http://\S+?)/\s*$", line):
            running.page = found[1]
        if found := re.search(r"^websocket\s+(ws://\S+)", line):
            running.websocket = found[1]
