"""What the HTTP side tells of the service: the state of its streams, what it can name, whether it is ready, and what
became of single segments."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from streamer.messages import CoverageBody, Reason, Share, Status, StreamState


class StreamStatus(Struct, frozen=True, kw_only=True):
    """One stream now.

    source: masked. `since`: when it entered `state` (RFC 3339). `lag_ms`: how late the newest frame arrived. `drops`:
    items not used since the stream was added, by reason. `last_seq`, `coverage`: of the last segment, None before it.
    `level`: its step on the degrade ladder, 0 where nothing is left out; `degraded`: what is left out for it now.
    `weight`: its share of the computing power where there is not enough for all, relative to the others'. `preview`:
    pictures of it may be shown. `picture`: width and height of the camera's own pictures, None before the first.
    `people`: whether they are looked for, and what is told of them. `speech`: what is said is written down. `zones`:
    corners, and `lines`: points, by name, x and y in fractions of the picture; who crosses a line from its left to its
    right, seen along it, enters.
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
    degraded: list[str] = []
    level: int = 0
    weight: float = 1.0
    preview: bool = False
    picture: tuple[int, int] | None = None
    people: Literal["off", "presence", "count"] = "off"
    speech: bool = False
    zones: dict[str, list[list[float]]] = {}
    lines: dict[str, list[list[float]]] = {}


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


StageName = Literal["ingest", "queue", "compute", "order", "send", "store"]


class TraceStage(Struct, frozen=True):
    """A part of a segment's way. `start_ns` counts from the capture of its window's end; a stage begins where the one
    before ended.

    ingest: until the window was closed. queue: until computing began. compute. order: until the message was handed to
    the publisher, which waits for the stream's earlier windows. send: until it was sent. store: until the store
    acknowledged it.
    """

    name: StageName
    start_ns: int
    duration_ns: int


class TraceBatch(Struct, frozen=True):
    """The batch that a window was computed in: its number since the start, what was in it, and what it was expected to
    take at most."""

    number: int
    windows: int
    pictures: int
    patches: int
    expected_ns: int


class Trace(Struct, frozen=True, kw_only=True):
    """One segment's way through every stage.

    `start`, `end`: of its window, RFC 3339. `captured_ns`: when its window's end was captured, on the service's
    monotonic clock; all other times count from there, and the stages' durations add up to `total_ns`. `bound_ns`: the
    deadline. `pictures`, `patches`: what the window held. `batch`: None where nothing was computed.

    `state`: `waiting` until the store has acknowledged it, then `stored`; `lost` where it never will be. A segment that
    is not `stored` has no stages `send` and `store`. `cursor`: its place in the feed. `late`: acknowledged past the
    deadline; `store_late`: for want of the store; `frozen_ns`: how long the whole process did not run meanwhile.
    """

    stream: str
    epoch: str
    seq: int
    start: str
    end: str
    captured_ns: int
    bound_ns: int
    pictures: int
    patches: int
    coverage: CoverageBody
    status: Status
    reason: Reason | None
    degraded: list[str]
    batch: TraceBatch | None
    state: Literal["waiting", "stored", "lost"]
    stages: list[TraceStage]
    total_ns: int
    cursor: str | None = None
    delivered_late: bool = False
    late: bool = False
    store_late: bool = False
    frozen_ns: int = 0


class Publication(Struct, frozen=True, kw_only=True):
    """What a publisher over WebRTC is answered: the session's own name, and the SDP answer to its offer."""

    session: str
    answer: str


class Moment(Struct, frozen=True, kw_only=True):
    """A picture, a piece of sound or a word of a window: `start` to `end` (RFC 3339) is what it stands for.

    score: the label's probability in it alone, before calibration. `mass`: its part in what the window's label rests
    on; the masses of a modality add up to 1, or are all 0 where the modality has no say in the label.
    """

    start: str
    end: str
    score: float
    mass: float


class HeatMap(Struct, frozen=True, kw_only=True):
    """Where in the picture the label is: `rows` times `columns` numbers in [0, 1], row by row from the top left.

    at: when the picture was taken (RFC 3339). `picture`: path of the picture itself, as JPEG.
    """

    at: str
    rows: int
    columns: int
    values: list[float]
    picture: str


class Why(Struct, frozen=True, kw_only=True):
    """What one label of one segment rests on.

    share: as in the segment. `video`, `audio`, `text`: the window's moments, oldest first; of words only when they were
    said, which may be before the window. `heat`: over the picture that counts most; None where `note` says why (no
    picture may be shown, none is kept, none took part).
    """

    stream: str
    epoch: str
    seq: int
    start: str
    end: str
    label: str
    score: float
    share: Share
    video: list[Moment]
    audio: list[Moment]
    text: list[Moment] = []
    heat: HeatMap | None = None
    note: str | None = None
