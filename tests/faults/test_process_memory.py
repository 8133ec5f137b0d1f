"""The engine runs out of memory, or fails otherwise: its batch is shed for that reason, and the rest goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from streamer import service as served
from streamer.commands.options import Options
from streamer.config import StreamConfig
from streamer.media import Scores, Window
from streamer.service import Service
from tests.cameras import ToolkitCamera
from tests.faults.books import account_of, nothing_wrong, of_stream, report, stored
from tests.stores import Valkey, until, valkey_fixture

__all__ = ["valkey_fixture"]

StartCamera = Callable[[Path], ToolkitCamera]


class Fragile:
    """The real engine, but for batches on which it is made to raise `error`."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.error: BaseException | None = None
        self.failed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(self, windows: Sequence[Window]) -> list[Scores]:
        if self.error is not None:
            self.failed += 1
            raise self.error
        return list(self._engine.run(windows))


async def test_the_engine_fails_for_a_while(
    valkey: Valkey, looping_clip: Path, toolkit_camera: StartCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the engine fails, every window of two streams is answered in time as shed for that reason; from the first
    batch after it there are labels again, in the same epoch, and nothing is late, missing or twice."""
    camera = toolkit_camera(looping_clip)
    engines: list[Fragile] = []

    def load(*arguments: Any) -> Fragile:
        engines.append(Fragile(real(*arguments)))
        return engines[-1]

    real = served.load
    monkeypatch.setattr(served, "load", load)
    options = Options(
        streams={name: StreamConfig(source=camera.url) for name in ("door", "yard")},
        redis_url=valkey.url,
        http=("127.0.0.1", 0),
        websocket=("127.0.0.1", 0),
    )
    async with Service(options).running():
        await until(lambda: has(valkey, "ok", 6), 20)
        (engine,) = engines
        for error in (MemoryError("cannot allocate 4 GB"), RuntimeError("the device was lost")):
            shed = await count(valkey, "shed")
            engine.error = error
            await until(lambda shed=shed: has(valkey, "shed", shed + 4), 10)
            engine.error, healed_s = None, time.monotonic()
            ok = await count(valkey, "ok")
            await until(lambda ok=ok: has(valkey, "ok", ok + 1), 10)
            report(f"labels after the engine no longer raises {type(error).__name__}", healed_s)
            await until(lambda ok=ok: has(valkey, "ok", ok + 4), 10)
    messages = await stored(valkey.url)
    nothing_wrong(account_of(messages))
    shed = [m for m in messages if m.get("status") == "shed"]
    assert {m["reason"] for m in shed} <= {"engine", "overload", "draining"}
    assert all(m["labels"] == [] and m["latency_ms"]["total"] <= m["bound_ms"] for m in shed)
    for name in ("door", "yard"):
        assert len({m["epoch"] for m in of_stream(messages, name)}) == 1
        assert [m for m in of_stream(messages, name) if m["reason"] == "engine"]
    assert engine.failed >= 2


async def count(valkey: Valkey, status: str) -> int:
    """How many segments of that status are stored."""
    return len([message for message in await stored(valkey.url) if message.get("status") == status])


async def has(valkey: Valkey, status: str, number: int) -> bool:
    """Whether so many segments of that status are stored."""
    await asyncio.sleep(0.05)
    return await count(valkey, status) >= number
