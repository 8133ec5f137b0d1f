"""What the HTTP side tells of the service: the state of its streams, what it can name, whether it is ready."""

from __future__ import annotations

from msgspec import Struct

from streamer.messages import CoverageBody, StreamState


class StreamStatus(Struct, frozen=True, kw_only=True):
    """One stream now.

    source: masked. `since`: when it entered `state` (RFC 3339). `lag_ms`: how late the newest frame arrived. `drops`:
    items not used since the stream was added, by reason. `last_seq`, `coverage`: of the last segment, None before it.
    """

    name: str
    source: str
    state: StreamState
    reason: str | None = None
    since: str
    epoch: str | None = None
    group: str | None = None
    fps: float = 0.0
    lag_ms: float = 0.0
    drops: dict[str, int] = {}
    reconnects: int = 0
    last_seq: int | None = None
    coverage: CoverageBody | None = None


class LabelInfo(Struct, frozen=True, kw_only=True):
    """A name that can appear, and the modalities that can raise it (`video`, `audio`, `text`)."""

    name: str
    modalities: list[str]


class Readiness(Struct, frozen=True, kw_only=True):
    """Whether segments are answered and published now; `checks` says of each part `ok` or what it lacks."""

    ready: bool
    checks: dict[str, str]


class Info(Struct, frozen=True, kw_only=True):
    """What a page needs to know first: where the websocket is (on the host that serves the page), and the bound."""

    version: str
    websocket_port: int
    websocket_path: str
    bound_ms: int
