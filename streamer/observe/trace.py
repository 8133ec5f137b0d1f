"""What became of each stream's last segments, stage by stage: kept as cheaply as can be, put together when asked.

Told on the publishing thread, asked on others.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import get_args

from streamer.answer import Answer, BatchFacts
from streamer.messages import CoverageBody, Reason, Segment, Status
from streamer.publishing.backlog import Unit
from streamer.publishing.publish import Acknowledged
from streamer.status import StageName, Trace, TraceBatch, TraceStage

# Two minutes at two windows a second.
KEPT = 240
_STAGES: tuple[StageName, ...] = get_args(StageName)


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the store's acknowledgement told."""

    handed_ns: int
    sent_ns: int
    acked_ns: int
    cursor: str | None
    delivered_late: bool
    late: bool
    store_late: bool
    frozen_ns: int


@dataclass(slots=True, eq=False)
class _Record:
    """What is kept of a segment: numbers and small shared objects, neither pictures nor labels."""

    epoch: str
    seq: int
    start: str
    end: str
    captured_ns: int
    closed_ns: int
    deadline_ns: int
    started_ns: int
    finished_ns: int
    decided_ns: int
    pictures: int
    patches: int
    coverage: CoverageBody
    status: Status
    reason: Reason | None
    degraded: list[str]
    batch: BatchFacts | None
    stored: _Stored | None = None
    lost: bool = False


_Ring = OrderedDict[tuple[str, int], _Record]


class Traces:
    """The last 240 segments (two minutes) of every stream. Any thread may call any method."""

    def __init__(self) -> None:
        self._rings: dict[str, _Ring] = {}
        self._lock = threading.Lock()

    def answered(self, answer: Answer, segment: Segment, now_ns: int) -> None:
        """A window's answer became `segment`, which is handed to the publisher at `now_ns`."""
        window = answer.window
        record = _Record(
            epoch=window.epoch,
            seq=window.seq,
            start=segment.start,
            end=segment.end,
            captured_ns=window.end_ns,
            closed_ns=window.closed_ns,
            deadline_ns=window.deadline_ns,
            started_ns=answer.started_ns,
            finished_ns=answer.finished_ns,
            decided_ns=now_ns,
            pictures=len(window.pictures),
            patches=len(window.patches),
            coverage=segment.coverage,
            status=segment.status,
            reason=segment.reason,
            degraded=segment.degraded,
            batch=answer.batch,
        )
        with self._lock:
            ring = self._rings.get(window.stream)
            if ring is None:
                ring = self._rings[window.stream] = _Ring()
            ring[window.epoch, window.seq] = record
            if len(ring) > KEPT:
                ring.popitem(last=False)

    def written(self, acknowledged: Acknowledged, frozen_ns: int = 0) -> None:
        """A unit is in the store; `frozen_ns`: for how long the process did not run on the way there."""
        stored = _Stored(
            acknowledged.handed_ns,
            acknowledged.sent_ns,
            acknowledged.acked_ns,
            acknowledged.cursor or None,
            acknowledged.delivered_late,
            acknowledged.late,
            acknowledged.store_late,
            frozen_ns,
        )
        record = self._record(acknowledged.unit)
        if record is not None:
            record.stored = stored

    def dropped(self, unit: Unit) -> None:
        """A unit will never be in the store."""
        record = self._record(unit)
        if record is not None:
            record.lost = True

    def _record(self, unit: Unit) -> _Record | None:
        segment = unit.segment
        if segment is None:
            return None
        with self._lock:
            ring = self._rings.get(unit.stream)
            return None if ring is None else ring.get((segment.epoch, segment.seq))

    def find(self, stream: str, seq: int, epoch: str | None = None) -> Trace | None:
        """The trace of one segment, of the newest epoch that has it unless `epoch` names one; None where it is not
        kept (any more)."""
        if epoch is not None:
            with self._lock:
                record = self._rings.get(stream, _Ring()).get((epoch, seq))
            return None if record is None else _trace(stream, record)
        return next((_trace(stream, record) for record in self._newest_first(stream) if record.seq == seq), None)

    def recent(self, stream: str, count: int) -> list[Trace]:
        """Up to `count` traces, the newest first; none of a stream that is not known."""
        return [_trace(stream, record) for record in self._newest_first(stream)[:count]]

    def _newest_first(self, stream: str) -> list[_Record]:
        with self._lock:
            return list(reversed(self._rings.get(stream, _Ring()).values()))

    def forget(self, stream: str) -> None:
        """Free what is kept of `stream`: after its last answer."""
        with self._lock:
            self._rings.pop(stream, None)


def _trace(stream: str, record: _Record) -> Trace:
    stored = record.stored  # read once: it may come meanwhile
    stages = _stages(record, stored)
    batch = record.batch
    return Trace(
        stream=stream,
        epoch=record.epoch,
        seq=record.seq,
        start=record.start,
        end=record.end,
        captured_ns=record.captured_ns,
        bound_ns=record.deadline_ns - record.captured_ns,
        pictures=record.pictures,
        patches=record.patches,
        coverage=record.coverage,
        status=record.status,
        reason=record.reason,
        degraded=record.degraded,
        batch=None
        if batch is None
        else TraceBatch(batch.number, batch.windows, batch.pictures, batch.patches, batch.expected_ns),
        state="stored" if stored is not None else "lost" if record.lost else "waiting",
        stages=stages,
        total_ns=stages[-1].start_ns + stages[-1].duration_ns,
        cursor=None if stored is None else stored.cursor,
        delivered_late=stored is not None and stored.delivered_late,
        late=stored is not None and stored.late,
        store_late=stored is not None and stored.store_late,
        frozen_ns=0 if stored is None else stored.frozen_ns,
    )


def _stages(record: _Record, stored: _Stored | None) -> list[TraceStage]:
    """The stages so far, each from where the one before ended, so that nothing is counted twice or left out."""
    ends = [record.closed_ns, record.started_ns, record.finished_ns]
    ends += [record.decided_ns] if stored is None else [stored.handed_ns, stored.sent_ns, stored.acked_ns]
    # A camera's time stamps may place a capture after the arrival, and then the first stage took no time.
    marks = list(itertools.accumulate((record.captured_ns, *ends), max))
    spans = zip(_STAGES, itertools.pairwise(marks), strict=False)
    return [TraceStage(name, begin - record.captured_ns, end - begin) for name, (begin, end) in spans]
