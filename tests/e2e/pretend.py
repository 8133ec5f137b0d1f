"""Segments of a stream that never was, for the page to show: a street with a dog, cars, rain and somebody speaking."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import av
import numpy as np

from streamer.messages import CoverageBody, Label, LatencyBody, Segment, Share
from tests.fake_control import FakeControl

HOP_S = 0.5
BOUND_MS = 1000
# Name; when it comes, as period and part of it in seconds; how much it is seen and heard.
_CAST = (
    ("Dog", 47.0, 17.0, 0.44, 0.56),
    ("Car", 31.0, 12.0, 0.8, 0.2),
    ("Rain", 400.0, 300.0, 0.05, 0.95),
    ("Speech", 61.0, 20.0, 0.0, 1.0),
    ("Bicycle", 83.0, 9.0, 1.0, 0.0),
    ("Street light", 1000.0, 1000.0, 1.0, 0.0),
    ("Siren", 190.0, 14.0, 0.1, 0.9),
)


def moment(at: datetime) -> str:
    """`at` as the wire writes it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def street(stream: str, number: int, end: datetime, **changes: Any) -> Segment:
    """Segment `number`, whose window ends at `end`; the same for the same arguments."""
    second = number * HOP_S
    labels = []
    for index, (name, period, lasts, video, audio) in enumerate(_CAST):
        phase = (second + 13 * index) % period
        if phase < lasts:
            rise = math.sin(math.pi * (phase + 0.25) / lasts) ** 0.5
            score = rise * (0.72 + 0.22 * math.sin(number / 3 + index) * 0.5) * (0.4 if name == "Street light" else 1.0)
            if score >= 0.05:
                labels.append(Label(name, round(score, 2), Share(video, audio, 0.0)))
    labels.sort(key=lambda label: -label.score)
    queue, compute = 12 + 9 * math.sin(number / 5) ** 2, 62 + 30 * math.sin(number / 7) ** 4
    ingest, publish = 31 + 6 * math.sin(number), 3.2
    settings: dict[str, Any] = {
        "stream": stream,
        "epoch": "0192f1c6",
        "seq": number,
        "cursor": f"{int(end.timestamp() * 1000)}-0@5f3a",
        "start": moment(end - timedelta(seconds=2)),
        "end": moment(end),
        "status": "ok",
        "labels": labels,
        "coverage": CoverageBody(1.0, 1.0, 0.0),
        "latency_ms": LatencyBody(ingest + queue + compute + publish, ingest, queue, compute, publish),
        "bound_ms": BOUND_MS,
    }
    return Segment(**(settings | changes))


def troubled(stream: str, seq: int, end: datetime) -> Segment:
    """As `street`, with a stretch that was shed, one with less work, lost packets, and a reconnect."""
    segment = street(stream, seq, end)
    phase = seq % 240
    changes: dict[str, Any] = {}
    if 60 <= phase < 76:
        changes = {"status": "degraded", "degraded": ["frames"]}
    elif 76 <= phase < 88:
        late = LatencyBody(960.0, 31.0, 925.8, 0.0, 3.2)
        changes = {"status": "shed", "reason": "overload", "labels": [], "latency_ms": late}
    elif 120 <= phase < 150:
        changes = {"coverage": CoverageBody(0.75, 0.4 if phase < 135 else 1.0, 0.0)}
    elif phase >= 190:
        changes = {"epoch": "0192f2d7", "seq": phase - 190}
    return street(stream, seq, end, **changes) if changes else segment


def picture() -> bytes:
    """A square picture, as the service keeps them: sky over a street."""
    rows, columns = np.mgrid[0:224, 0:224].astype(np.float32) / 223
    sky = np.stack([90 + 80 * rows, 120 + 60 * rows, 170 - 30 * rows], axis=-1)
    street_ = np.stack([60 + 30 * columns, 62 + 28 * columns, 66 + 20 * columns], axis=-1)
    picture = np.where((rows > 0.55)[..., None], street_, sky).astype(np.uint8)
    out = BytesIO()
    with av.open(out, "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width = stream.height = 224
        stream.pix_fmt = "yuvj420p"
        for packet in (*stream.encode(av.VideoFrame.from_ndarray(picture)), *stream.encode()):
            container.mux(packet)
    return out.getvalue()


class PastControl(FakeControl):
    """A service whose store answers for times and cursors as the real one does."""

    async def segments(
        self, name: str, since: str | None, until: str | None, limit: int
    ) -> tuple[list[bytes], str | None]:
        everything = self.past.get(name, [])
        lower, upper = _place(everything, since), _place(everything, until)
        self.past[name] = everything[lower : upper if until is not None else None]
        try:
            found, following = await super().segments(name, since, until, limit)
        finally:
            self.past[name] = everything
        return found, following


def _place(segments: list[Segment], bound: str | None) -> int:
    """The index of the first segment that is not before `bound`, a time or a cursor."""
    if bound is None:
        return 0
    if "@" in bound:
        place = int(bound.split("-")[0])
        return sum(int(str(segment.cursor).split("-")[0]) < place for segment in segments)
    since = datetime.fromisoformat(bound)
    return sum(datetime.fromisoformat(segment.start) < since for segment in segments)
