"""The host's wall clock jumps, back and forth, under a running service: nothing that is promised hangs on it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from streamer import service as served
from streamer.clock import ManualClock, epoch_ids
from streamer.commands.options import Options
from streamer.config import StreamConfig
from streamer.service import Service
from tests.cameras import ToolkitCamera
from tests.faults.books import account_of, nothing_wrong, of_stream, report, stored
from tests.stores import Valkey, until, valkey_fixture

__all__ = ["valkey_fixture"]

StartCamera = Callable[[Path], ToolkitCamera]
HOUR_NS = 3600 * 1_000_000_000


class JumpingClock:
    """The host's clocks, with a wall clock that can be set."""

    offset_ns = 0

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        return time.time_ns() + self.offset_ns


@pytest.mark.parametrize("jump_ns", [-HOUR_NS, HOUR_NS, -400 * 24 * HOUR_NS])
def test_epochs_are_named_in_order_whatever_the_clock_does(jump_ns: int) -> None:
    """Each name is later than all before, after a jump of the wall clock as well."""
    clock = ManualClock()
    names = epoch_ids(clock)
    first = [next(names) for _ in range(3)]
    clock._wall_offset_ns += jump_ns
    clock.advance(1_000_000)
    after = [next(names) for _ in range(3)]
    assert [*first, *after] == sorted({*first, *after})


async def test_a_wall_clock_that_jumps(
    valkey: Valkey, looping_clip: Path, toolkit_camera: StartCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set ahead by an hour and then back by two within an epoch, and still so at a reconnect: no segment is late,
    missing or twice, none is marked as delivered late, the epochs' names grow, and every cursor stays a place to
    resume from."""
    camera, clock = toolkit_camera(looping_clip), JumpingClock()
    monkeypatch.setattr(served, "HostClock", lambda: clock)
    options = Options(
        streams={"door": StreamConfig(source=camera.url)},
        redis_url=valkey.url,
        http=("127.0.0.1", 0),
        websocket=("127.0.0.1", 0),
    )

    async def holds(count: int) -> bool:
        return len(of_stream(await stored(valkey.url), "door")) >= count

    service = Service(options)
    async with service.running():
        await until(lambda: holds(3), 20)
        for offset_ns in (HOUR_NS, -HOUR_NS):
            clock.offset_ns = offset_ns
            before = len(of_stream(await stored(valkey.url), "door"))
            await until(lambda before=before: holds(before + 2), 10)
        jumped_s = time.monotonic()
        camera.restart()
        await until(lambda: holds(before + 6), 15)
        report("four segments after the jumps and a restart of the camera", jumped_s)
        page, _ = await service.segments("door", None, None, 1000)
        seqs = [(found["epoch"], found["seq"]) for found in map(json.loads, page)]
        assert len(seqs) >= 11 and seqs == sorted(seqs)
    messages = await stored(valkey.url)
    nothing_wrong(account_of(messages))
    assert not [m for m in messages if m.get("delivered_late")]
    epochs = list(dict.fromkeys(m["epoch"] for m in of_stream(messages, "door")))
    assert len(epochs) == 2 and epochs == sorted(epochs)
