"""A service of plain lists behind the HTTP side: what the server's tests and the page's tests steer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from streamer.config import IceServer, StreamConfig, mask_url
from streamer.errors import ConflictError, StreamerError, UserError
from streamer.messages import CoverageBody, Segment, Share, encode
from streamer.status import HeatMap, LabelInfo, Moment, Publication, Readiness, StreamStatus, Trace, Why
from tests.fake_alerts import FakeAlerts

ANSWER = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"


@dataclass
class FakeControl:
    """Keeps what it is told; `broken` is raised by whatever would need the store. `levels`: streams that stand on the
    degrade ladder, with what is left out for them; `ways`: traces, the newest first. `sessions`: the fragments that
    each session of a publisher got, by stream and session; `servers`: its ICE servers; `pictures`: JPEGs kept, by
    stream, the newest last; `reasons`: what labels rest on; `alerting`: alerts and rules; `alert_pictures`:
    their pictures, by alert and name."""

    entries: dict[str, StreamConfig] = field(default_factory=dict)
    past: dict[str, list[Segment]] = field(default_factory=dict)
    checks: dict[str, str] = field(default_factory=lambda: {"models": "ok", "store": "ok"})
    asked: list[tuple[str, str | None, str | None, int]] = field(default_factory=list)
    broken: Exception | None = None
    levels: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    ways: dict[str, list[Trace]] = field(default_factory=dict)
    sessions: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    servers: list[IceServer] = field(default_factory=list)
    pictures: dict[str, list[bytes]] = field(default_factory=dict)
    reasons: list[Why] = field(default_factory=list)
    alerting: FakeAlerts = field(default_factory=FakeAlerts)
    alert_pictures: dict[tuple[str, str], bytes] = field(default_factory=dict)

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
            preview=entry.preview,
            picture=(1280, 720),
            people=entry.people,
            zones={place: zone.area for place, zone in entry.zones.items()},
            lines={place: line.along for place, line in entry.lines.items()},
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

    async def publish(self, name: str, offer: str) -> Publication:
        if self.broken is not None:
            raise self.broken
        if self.entries[name].source != "whip":
            raise ConflictError(f"{name} has a source of its own: set `source: whip`")
        if "\nm=" not in offer:
            raise UserError("the offer names no track: send video or sound")
        running = self.sessions.setdefault(name, {})
        if running and not self.entries[name].takeover:
            raise ConflictError(f"somebody publishes {name} already")
        running.clear()
        session = f"session-{len(offer)}-of-{name}"
        running[session] = []
        return Publication(session=session, answer=ANSWER)

    async def unpublish(self, name: str, session: str) -> bool:
        return self.sessions.get(name, {}).pop(session, None) is not None

    async def trickle(self, name: str, session: str, fragment: str) -> bool:
        if session not in self.sessions.get(name, {}):
            return False
        if "a=" not in fragment:
            raise UserError("the fragment holds no candidate")
        self.sessions[name][session].append(fragment)
        return True

    def ice_servers(self) -> list[IceServer]:
        return self.servers

    async def why(self, name: str, seq: int, epoch: str | None, label: str) -> Why | None:
        if self.broken is not None:
            raise self.broken
        if label not in ("Dog", "Rain"):
            raise UserError(f"label: the model has no {label!r}")
        found = (why for why in self.reasons if (why.stream, why.seq, why.label) == (name, seq, label))
        return next((why for why in found if epoch in (None, why.epoch)), None)

    async def alert_picture(self, alert: str, name: str) -> bytes | None:
        return self.alert_pictures.get((alert, name))

    async def picture(self, name: str, index: int | None) -> bytes | None:
        kept = self.pictures.get(name, [])
        if index is None:
            return kept[-1] if kept else None
        return kept[index] if index < len(kept) else None


def reason(seq: int) -> Why:
    """What the label Dog of a segment of `door` rests on: the second of two pictures, at its middle, and one sound."""
    moments = [
        Moment(start=f"2026-11-23T04:07:0{8 + i}.500Z", end=f"2026-11-23T04:07:0{9 + i}.000Z", score=0.4, mass=0.5)
        for i in range(2)
    ]
    heat = HeatMap(
        at=moments[1].start, rows=2, columns=2, values=[0.0, 0.2, 1.0, 0.4], picture="/v1/streams/door/pictures/0"
    )
    return Why(
        stream="door", epoch="0192f1c6", seq=seq, start="2026-11-23T04:07:08.500Z", end="2026-11-23T04:07:10.500Z",
        label="Dog", score=0.93, share=Share(0.44, 0.56, 0.0), video=moments, audio=moments[:1], heat=heat,
    )  # fmt: skip
