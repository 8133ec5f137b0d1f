"""A service of plain lists behind the HTTP side: what the server's tests and the page's tests steer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from streamer.config import StreamConfig, mask_url
from streamer.errors import StreamerError
from streamer.messages import CoverageBody, Segment, encode
from streamer.status import LabelInfo, Readiness, StreamStatus, Trace


@dataclass
class FakeControl:
    """Keeps what it is told; `broken` is raised by whatever would need the store. `levels`: streams that stand on the
    degrade ladder, with what is left out for them; `ways`: traces, the newest first."""

    entries: dict[str, StreamConfig] = field(default_factory=dict)
    past: dict[str, list[Segment]] = field(default_factory=dict)
    checks: dict[str, str] = field(default_factory=lambda: {"models": "ok", "store": "ok"})
    asked: list[tuple[str, str | None, str | None, int]] = field(default_factory=list)
    broken: Exception | None = None
    levels: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    ways: dict[str, list[Trace]] = field(default_factory=dict)

    def streams(self) -> list[StreamStatus]:
        return [self._status(name) for name in self.entries]

    def stream(self, name: str) -> StreamStatus | None:
        return self._status(name) if name in self.entries else None

    def _status(self, name: str) -> StreamStatus:
        entry = self.entries[name]
        level, degraded = self.levels.get(name, (0, []))
        return StreamStatus(
            name=name,
            source=mask_url(entry.source),
            state="live",
            since="2026-11-23T04:07:08.500Z",
            epoch="0192f1c6",
            group=entry.group,
            fps=25.0,
            lag_ms=31.5,
            drops={"late": 2},
            last_seq=41,
            coverage=CoverageBody(video=1.0, audio=0.98, text=0.0),
            degraded=degraded,
            level=level,
            weight=entry.weight,
        )

    async def put(self, name: str, entry: StreamConfig) -> Literal["created", "changed"]:
        if self.broken is not None:
            raise self.broken
        outcome: Literal["created", "changed"] = "changed" if name in self.entries else "created"
        self.entries[name] = entry
        return outcome

    async def delete(self, name: str) -> bool:
        return self.entries.pop(name, None) is not None

    def readiness(self) -> Readiness:
        return Readiness(ready=all(state == "ok" for state in self.checks.values()), checks=self.checks)

    def labels(self) -> list[LabelInfo]:
        if self.checks["models"] != "ok":
            raise StreamerError("the models are not loaded yet: ask again in a moment")
        return [LabelInfo(name="Dog", modalities=["video", "audio"]), LabelInfo(name="Rain", modalities=["audio"])]

    async def segments(
        self, name: str, since: str | None, until: str | None, limit: int
    ) -> tuple[list[bytes], str | None]:
        if self.broken is not None:
            raise self.broken
        self.asked.append((name, since, until, limit))
        found = self.past.get(name, [])
        following = found[limit].cursor if len(found) > limit else None
        return [encode(segment) for segment in found[:limit]], following or None

    def trace(self, name: str, seq: int, epoch: str | None) -> Trace | None:
        found = (way for way in self.ways.get(name, []) if way.seq == seq and epoch in (None, way.epoch))
        return next(found, None)

    def traces(self, name: str, limit: int) -> list[Trace]:
        return self.ways.get(name, [])[:limit]
