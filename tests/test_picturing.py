"""Pictures of alerts in a service: streams keep what rules ask for, and what fires gets its picture."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from streamer.alertconfig import AlertConfig, OutboxConfig
from streamer.alerts.outbox.keeper import Outbox
from streamer.alerts.records import Fired, Recorded
from streamer.alerts.text import alert_message
from streamer.channel import Channel
from streamer.clock import HostClock
from streamer.config import Config, StreamConfig
from streamer.media import EpochStart, Frame, SourceEvent
from streamer.observe.metrics import Metrics
from streamer.picturing import Picturing
from streamer.sources.pool import ReaderPool
from streamer.sources.source import LiveSource, SourceSettings, droppable, open_source
from tests.conftest import eventually
from tests.pictures.conftest import detector_path, pictures_in, talkers

__all__ = ["detector_path", "talkers"]

RULE = AlertConfig(name="people", when="true", stream="stud*", snapshot=True)
OTHER = AlertConfig(name="noise", when="true")


class Studio:
    """One stream at work beside an outbox and a configuration that a test changes."""

    def __init__(self, folder: Path, source: LiveSource) -> None:
        self.source = source
        self.config = Config(alerts=[RULE, OTHER], outbox=OutboxConfig(path=str(folder / "alerts.sqlite3")))
        self.outbox = Outbox.open(folder / "alerts.sqlite3")
        self.metrics = Metrics()
        streams = {"studio": SimpleNamespace(source=source)}
        self.picturing = Picturing(lambda: self.config, lambda: streams, HostClock(), self.metrics)  # type: ignore[arg-type, return-value]
        self.channel: Channel[SourceEvent] = Channel(4096, droppable)
        self.events: list[SourceEvent] = []

    def now_ns(self) -> int:
        """The last sample's time, as its segment would have it; 0 before there is one."""
        self.events += self.channel.drain()
        offset_ns = next((event.wall_offset_ns for event in self.events if isinstance(event, EpochStart)), 0)
        return max((event.media_ns + offset_ns for event in self.events if isinstance(event, Frame)), default=0)

    def fire(self, alert: str, rule: AlertConfig) -> None:
        """Record that `rule` fired now."""
        now_ns = self.now_ns()
        fired = Fired(alert, rule.name, "studio", "studio", None, "firing", "warning", now_ns, now_ns)
        self.outbox.record([Recorded(alert_message(fired, rule, now_ns, None))], HostClock().wall_ns())

    def counted(self, name: str) -> float:
        """A figure of ours in the metrics."""
        lines = self.metrics.render()[0].decode().splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(f"streamer_alert_{name} "))


@pytest.fixture
def studio(
    tmp_path: Path, toolkit_camera: Callable[[Path], object], talkers: Path, detector_path: Path
) -> Iterator[Studio]:
    settings = SourceSettings(frame_size=64, sample_rate=16_000, frames_per_second=2)
    url = toolkit_camera(talkers).url  # type: ignore[attr-defined]
    with ReaderPool(1) as pool:
        made = Studio(tmp_path, open_source("studio", StreamConfig(source=url), settings, HostClock(), pool.reader))
        yield made
        made.outbox.close()


async def test_what_fires_gets_its_picture(studio: Studio, tmp_path: Path) -> None:
    """A rule that asks has its stream's ring kept, and its alert a snapshot; one that does not ask has none; an alert
    from before the start has none; and when no rule asks any more the ring is dropped, and the picture stays."""
    studio.fire("a" * 16, RULE)
    running = asyncio.create_task(studio.source.run(studio.channel))
    try:
        async with studio.picturing.running():
            await eventually(lambda: studio.source.stats.kept_bytes and studio.now_ns(), 20)
            await eventually(lambda: studio.picturing._row is not None, 5, "a first look at the outbox")
            studio.fire("b" * 16, OTHER)
            studio.fire("c" * 16, RULE)
            folder = tmp_path / "pictures"
            await eventually(lambda: folder.is_dir() and any(folder.glob("c*.jpg")), 30)
            data = await studio.picturing.picture("c" * 16, "snapshot.jpg")
            assert data is not None and pictures_in(data)[0].shape == (360, 640, 3)
            assert [path.name for path in folder.iterdir()] == [f"{'c' * 16}.snapshot.jpg"]
            assert studio.counted("pictures_made_total") == 1 and studio.counted("ring_bytes") > 0

            studio.config = replace(studio.config, alerts=[OTHER])
            await eventually(lambda: not studio.source.stats.kept_bytes, 5)
            assert await studio.source.footage(0, 1 << 62) is None
            assert await studio.picturing.picture("c" * 16, "snapshot.jpg") == data
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_nobody_asks(studio: Studio, tmp_path: Path) -> None:
    """Without a rule that asks nothing is kept and no folder is made."""
    studio.config = replace(studio.config, alerts=[OTHER])
    running = asyncio.create_task(studio.source.run(studio.channel))
    try:
        async with studio.picturing.running():
            await eventually(lambda: studio.now_ns(), 20)
            for alert in "bc":
                studio.fire(alert * 16, OTHER)
                await studio.picturing._look()
            assert studio.source.stats.kept_bytes == 0 and not (tmp_path / "pictures").exists()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
