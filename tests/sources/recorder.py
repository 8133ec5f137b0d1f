"""Runs a source and keeps what it says, for tests that look at it afterwards."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from itertools import pairwise
from typing import Self

import numpy as np

from streamer.channel import Channel, ChannelClosed
from streamer.clock import HostClock
from streamer.config import StreamConfig
from streamer.media import AudioChunk, EpochStart, Frame, Progress, SourceEvent, SourceState, StateChange
from streamer.sources.machine import Policy
from streamer.sources.source import LiveSource, SourceSettings, droppable, open_source
from tests.conftest import eventually

S = 1_000_000_000
SETTINGS = SourceSettings(frame_size=64, sample_rate=16_000, frames_per_second=2)


class Recorder:
    """`async with Recorder(url) as tape:` keeps every event with the time it was taken from the channel."""

    def __init__(self, url: str, policy: Policy | None = None, *, rate: int = 2, **config: object) -> None:
        settings = SETTINGS if policy is None else replace(SETTINGS, policy=policy)
        entry = StreamConfig(source=url, frames_per_second=rate, **config)  # type: ignore[arg-type]
        self.source: LiveSource = open_source("camera", entry, settings, HostClock())
        self.channel: Channel[SourceEvent] = Channel(4096, droppable)
        self.events: list[tuple[int, SourceEvent]] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._take()), asyncio.create_task(self.source.run(self.channel))]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        for outcome in outcomes:
            assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome

    async def _take(self) -> None:
        while True:
            try:
                event = await self.channel.get()
            except ChannelClosed:
                return
            self.events.append((time.monotonic_ns(), event))

    @property
    def states(self) -> list[StateChange]:
        return [event for _, event in self.events if isinstance(event, StateChange)]

    @property
    def state(self) -> SourceState | None:
        return self.states[-1].state if self.states else None

    @property
    def epochs(self) -> list[EpochStart]:
        return [event for _, event in self.events if isinstance(event, EpochStart)]

    @property
    def frames(self) -> list[Frame]:
        return [event for _, event in self.events if isinstance(event, Frame)]

    @property
    def chunks(self) -> list[AudioChunk]:
        return [event for _, event in self.events if isinstance(event, AudioChunk)]

    @property
    def progress(self) -> list[Progress]:
        return [event for _, event in self.events if isinstance(event, Progress)]

    async def until(self, state: SourceState, timeout: float = 10.0, after: int = 0) -> StateChange:  # noqa: ASYNC109
        """Wait for a change to `state`, past the first `after` changes."""

        def found() -> StateChange | None:
            return next((change for change in self.states[after:] if change.state == state), None)

        return await eventually(found, timeout, f"state {state}; there were {self.states}") or self.states[-1]

    async def frames_more(self, count: int, timeout: float = 15.0) -> list[Frame]:  # noqa: ASYNC109
        """Wait for `count` frames more than there are now, and give those."""
        before = len(self.frames)
        await eventually(lambda: len(self.frames) >= before + count, timeout, f"{count} frames; {self.states}")
        return self.frames[before:]


def flash_to_beep_s(frames: list[Frame], chunks: list[AudioChunk]) -> list[float]:
    """How long after each flash its beep comes, by media time; flashes without a beep are left out."""
    bright = [(frame.media_ns / S, frame.rgb.mean() > 128) for frame in frames]
    flashes = [time_s for (_, before), (time_s, now) in pairwise([(0.0, True), *bright]) if now and not before]
    loud: list[float] = []
    for chunk in chunks:
        loud += [chunk.media_ns / S + int(index) / 16_000 for index in np.flatnonzero(np.abs(chunk.samples) > 0.1)]
    beeps = [time_s for before, time_s in pairwise([-1.0, *loud]) if time_s - before > 0.2]
    pairs = [min((beep - flash for beep in beeps), key=abs) for flash in flashes if beeps]
    return [offset for offset in pairs if abs(offset) < 0.45]
