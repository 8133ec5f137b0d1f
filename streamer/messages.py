"""The messages of the wire, as tagged unions: what the store holds and subscribers read.

Every message has `type`; `cursor` is put in when a message leaves the feed, because only the store knows it.
Encoding is `msgspec.json`; an unset cursor is left out.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

Status = Literal["ok", "degraded", "shed"]
Reason = Literal["overload", "no_media", "engine", "draining"]
EventState = Literal["open", "update", "close"]
AlertState = Literal["firing", "cleared"]
Severity = Literal["info", "warning", "critical"]
Posture = Literal["standing", "sitting", "lying"]
StreamState = Literal["connecting", "live", "stalled", "reconnecting", "ended", "failed"]

MAX_LABELS = 20
MIN_SCORE = 0.05


class Share(Struct, frozen=True):
    """What part of a label rests on each modality; sums to 1."""

    video: float
    audio: float
    text: float


class Label(Struct, frozen=True):
    """A label of a segment: `score` is a calibrated probability."""

    name: str
    score: float
    share: Share


class Speech(Struct, frozen=True, omit_defaults=True):
    """Words that settled since the segment before, with their own times (RFC 3339).

    language: ISO 639-1. tags: the words' parts of speech in the letters of the ICTCLAS tag set, "" where nobody knows;
    left out where no word has one.
    """

    text: str
    language: str
    words: list[str]
    final: bool
    start: str
    end: str
    tags: list[str] = []


class Person(Struct, frozen=True, omit_defaults=True):
    """Somebody in the picture as they were last seen in this window. Places are fractions of the picture's width and
    height from its top left corner.

    track: the same number for the same person for as long as they are followed, and never again in this epoch. box:
    left, top, right, bottom. points: x, y, score of the 17 points of the body in the order of COCO. zones: those of the
    configuration that they stand in.
    """

    track: int
    score: float
    box: tuple[float, float, float, float]
    points: list[tuple[float, float, float]] = []
    posture: Posture | None = None
    zones: list[str] = []


class People(Struct, frozen=True):
    """Who is in the picture: how many, and (`list`), unless the configuration asks for the number alone, where and how
    each of them is."""

    count: int
    each: list[Person] | UnsetType = field(default=UNSET, name="list")


class CoverageBody(Struct, frozen=True):
    """The fraction of the window that was really there, a modality."""

    video: float
    audio: float
    text: float


class LatencyBody(Struct, frozen=True):
    """Milliseconds from capture of the window's end; the stages add up to `total`.

    `publish` is what publishing is expected to take (the median of late), because a message is written before it is
    acknowledged.
    """

    total: float
    ingest: float
    queue: float
    compute: float
    publish: float


class Segment(Struct, frozen=True, tag="segment", tag_field="type", kw_only=True):
    """One window's answer."""

    v: int = 1
    stream: str
    epoch: str
    seq: int
    cursor: str | UnsetType = UNSET
    start: str
    end: str
    status: Status
    reason: Reason | None = None
    degraded: list[str] = []
    delivered_late: bool = False
    labels: list[Label] = []
    speech: Speech | None = None
    people: People | None = None
    coverage: CoverageBody
    latency_ms: LatencyBody
    bound_ms: int


class Event(Struct, frozen=True, tag="event", tag_field="type", kw_only=True):
    """A label's interval over segments: opened, updated when its score rises, closed. `end` is None while it lasts."""

    stream: str
    cursor: str | UnsetType = UNSET
    id: str
    label: str
    state: EventState
    start: str
    end: str | None
    score: float


class SpeechMessage(Struct, frozen=True, tag="speech", tag_field="type", kw_only=True, omit_defaults=True):
    """An utterance so far, or (`final`) all of it; it replaces what was said of the same utterance before. What is not
    final has no cursor; one that is not final and has no text takes back what was said of it.

    utterance: of a stream each has its own number, which grows, over restarts of the service as well. The rest as in a
    segment.
    """

    stream: str
    cursor: str | UnsetType = UNSET
    utterance: int
    text: str
    words: list[str]
    language: str
    final: bool
    start: str
    end: str
    tags: list[str] = []


class Previous(Struct, frozen=True):
    """The epoch before and the last `seq` in it (-1 where it had none)."""

    epoch: str
    last_seq: int


class StreamMessage(Struct, frozen=True, tag="stream", tag_field="type", kw_only=True):
    """A stream changed its state or began a new epoch."""

    stream: str
    cursor: str | UnsetType = UNSET
    state: StreamState
    reason: str | None = None
    epoch: str | None = None
    previous: Previous | None = None


class AlertSegment(Struct, frozen=True):
    """The segment at which a rule fired or cleared."""

    epoch: str
    seq: int


class Alert(Struct, frozen=True, tag="alert", tag_field="type", kw_only=True):
    """A rule fired, or what it fired for is over; both have the same `id`.

    `since`: when what the rule asks for began, `at`: when it had lasted as long as the rule wants, or was over (media
    time, RFC 3339). `late_ms`: from `at` until it was recorded. `key`: what it stands for: of the same rule and key one
    alert fires at a time. `labels`: those that the rule names, then the likeliest of the segment. `text`: what the
    rule's template makes of it. `link`: the page at that moment. `pictures`: where snapshots can be had, where the rule
    asks for them.
    """

    v: int = 1
    stream: str
    cursor: str | UnsetType = UNSET
    id: str
    rule: str
    state: AlertState
    severity: Severity
    key: str
    group: str | None = None
    since: str
    at: str
    late_ms: float
    labels: list[Label] = []
    words: list[str] = []
    segment: AlertSegment | None = None
    text: str
    link: str | None = None
    pictures: list[str] = []


class Hello(Struct, frozen=True, tag="hello", tag_field="type", kw_only=True):
    """The first message of a subscription: where the feed stands now."""

    version: int
    streams: list[str]
    cursor: str


class Gap(Struct, frozen=True, tag="gap", tag_field="type", kw_only=True):
    """What this subscriber did not get: cursors of the first and last message missed, and how many (None: unknown)."""

    first: str | None
    last: str | None
    count: int | None


FeedMessage = Segment | Event | StreamMessage | SpeechMessage
WireMessage = Segment | Event | StreamMessage | SpeechMessage | Alert | Hello | Gap

_encoder = msgspec.json.Encoder()


def encode(message: WireMessage) -> bytes:
    """UTF-8 JSON of `message`, on one line."""
    return _encoder.encode(message)
