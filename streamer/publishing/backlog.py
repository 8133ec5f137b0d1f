"""What one stream has handed over and the store has not acknowledged: ordered, bounded, pure (no clock, no store).

A unit gets its ordinal when it is first sent; from then on it stays until the store has settled it, because it may be
written already. So ordinals have no holes, and the store can tell a unit that came too early. What makes room is always
a unit that was never sent; the next one that is sent tells the subscribers what is missing before it.

What was settled is kept for some seconds more: a store that lost what it had acknowledged (a replica took over that had
not got it yet, a file that was not yet on the disk, an emptied store) gets it again.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field

from msgspec import Struct
from msgspec.structs import replace

from streamer.clock import NS_PER_MS, NS_PER_S
from streamer.messages import FeedMessage, LatencyBody, Previous, Segment, StreamMessage, StreamState, encode
from streamer.publishing.losses import Losses, Lost, bereft
from streamer.storage.records import Claim, Record, UnitRecord

# A unit that was sent later than this says so in its latency; below it the estimate that it carries is good enough.
_NOTABLE_WAIT_NS = 20 * NS_PER_MS
# What was settled is kept for this long, and so many units of a stream at most: replicas and files are behind by less.
_KEPT_NS = 5 * NS_PER_S
_KEPT_UNITS = 64


class Unit(Struct, frozen=True):
    """Messages of one stream that are written together or not at all, in this order; at most one is a segment.

    `deadline_ns`: the segment's, on the host's monotonic clock.
    """

    stream: str
    messages: tuple[FeedMessage, ...]
    deadline_ns: int | None = None

    @property
    def segment(self) -> Segment | None:
        """The unit's segment, if it has one."""
        return next((message for message in self.messages if isinstance(message, Segment)), None)


class Waiting(Struct):
    """A unit on its way to the store. `ordinal` is None until it is sent for the first time; times are monotonic.

    `records`: what was sent last. `again`: it was settled before, and the store lost it; only its records are left.
    """

    unit: Unit
    handed_ns: int
    ordinal: int | None = None
    sent_ns: int = 0
    records: tuple[Record, ...] = ()
    again: bool = False


class _Kept(Struct, frozen=True, gc=False):
    """A settled unit, should the store lose it."""

    ordinal: int
    settled_ns: int
    deadline_ns: int | None
    records: tuple[Record, ...]


@dataclass(slots=True)
class Backlog:
    """One stream's units, oldest first. `span_ns` bounds the oldest's age, `capacity` their number.

    `owner`: what the store knows the writer by ('' until the stream is claimed). `settled`: the ordinal settled last,
    `store`: the identity of the store that settled it.
    """

    stream: str
    span_ns: int
    capacity: int
    owner: str = ""
    settled: int = -1
    store: str = ""
    units: deque[Waiting] = field(default_factory=deque)
    _sent: int = 0
    _kept: deque[_Kept] = field(default_factory=lambda: deque(maxlen=_KEPT_UNITS))
    _losses: Losses = field(default_factory=Losses)
    _epoch: str | None = None
    _seq: int = -1
    _state: StreamState = "live"

    def add(self, unit: Unit, now_ns: int) -> list[Unit]:
        """Append `unit`; returns the units that made room for it, oldest first."""
        self.units.append(Waiting(unit, now_ns))
        gone: list[Unit] = []
        # Never the newest: a stream always has its last word.
        while self._sent < len(self.units) - 1 and self._excessive(self.units[self._sent], now_ns):
            gone.append(self.units[self._sent].unit)
            del self.units[self._sent]
            self._mourn(gone[-1])
        return gone

    def _excessive(self, oldest: Waiting, now_ns: int) -> bool:
        return len(self.units) > self.capacity or now_ns - oldest.handed_ns > self.span_ns

    def _mourn(self, unit: Unit) -> None:
        for message in unit.messages:
            if isinstance(message, StreamMessage):
                self._state = message.state
        self._losses.add(unit.messages)

    def resume_from(self, epoch: str | None, seq: int) -> None:
        """What the store holds of a writer before this one; a new epoch names it as the one before."""
        if self._epoch is None and epoch is not None:
            self._epoch, self._seq = epoch, seq

    def head(self, count: int) -> list[Waiting]:
        """The oldest `count` units."""
        return list(itertools.islice(self.units, count))

    def records(self, waiting: Waiting, now_ns: int) -> tuple[Record, ...]:
        """`waiting` encoded for the store, numbered if this is its first time. Call in order."""
        if waiting.again:
            return waiting.records
        if waiting.ordinal is None:
            waiting.ordinal = self.settled + 1 + self._sent
            self._sent += 1
            waiting.unit = self._completed(waiting.unit)
            waiting.sent_ns = now_ns
        waited_ns = now_ns - waiting.handed_ns
        try:
            in_time = waiting.unit.deadline_ns is not None and now_ns <= waiting.unit.deadline_ns
            waiting.records = tuple([_record(message, waited_ns, in_time) for message in waiting.unit.messages])
        except (ValueError, TypeError, OverflowError) as error:
            # Text that is not Unicode (a name from a file system, say); trying for ever would hold up all streams.
            waiting.unit = Unit(self.stream, (self._unfit(waiting.unit, error),))
            waiting.records = (_record(waiting.unit.messages[0], waited_ns),)
        return waiting.records

    def unit_record(self, waiting: Waiting, now_ns: int, deadline_us: int | None) -> UnitRecord:
        """`waiting` for the store, with its deadline on the store's clock. Call in order."""
        resent = waiting.ordinal is not None and not waiting.again
        records = self.records(waiting, now_ns)
        ordinal = waiting.ordinal or 0
        place = (self.stream, self.owner, ordinal, ordinal - 1)
        return UnitRecord(*place, records, deadline_us, waiting.again, resent)

    def _unfit(self, unit: Unit, error: Exception) -> StreamMessage:
        lost = Lost(self._epoch)
        for message in unit.messages:
            lost.add(message)
        return StreamMessage(stream=self.stream, state=self._state, reason=f"{type(error).__name__}: {lost.told()}")

    def _completed(self, unit: Unit) -> Unit:
        told = [
            StreamMessage(
                stream=self.stream,
                state=self._state,
                reason=f"store_away: {lost.told()}",
                epoch=lost.epoch or self._epoch,
            )
            for lost in self._losses.take()
        ]
        messages = tuple(self._follow(message) for message in (*told, *unit.messages))
        return Unit(unit.stream, messages, unit.deadline_ns)

    def _follow(self, message: FeedMessage) -> FeedMessage:
        """Keep track of epoch, seq and state, and name the epoch before where a message begins one and does not say."""
        if isinstance(message, StreamMessage):
            self._state = message.state
            if message.epoch is not None and message.epoch != self._epoch:
                if message.previous is None and self._epoch is not None:
                    message = replace(message, previous=Previous(self._epoch, self._seq))
                self._epoch, self._seq = message.epoch, -1
        elif isinstance(message, Segment):
            self._epoch, self._seq = message.epoch, message.seq
        return message

    def settle(self, store: str, now_ns: int) -> Waiting:
        """The oldest unit is in the store of the identity `store`: keep it a while longer."""
        waiting = self.units.popleft()
        assert waiting.ordinal is not None
        self.settled, self.store = waiting.ordinal, store
        self._sent -= 1
        self._kept.append(_Kept(waiting.ordinal, now_ns, waiting.unit.deadline_ns, waiting.records))
        while self._kept[0].settled_ns < now_ns - _KEPT_NS:
            self._kept.popleft()
        return waiting

    @property
    def rewritable(self) -> int:
        """The ordinal before the first one that could be written again."""
        return self._kept[0].ordinal - 1 if self._kept else self.settled

    def fall_back(self, claim: Claim, now_ns: int) -> int:
        """The store holds no more than `claim`, its answer, says: write again what it lost, and tell what can't be.

        Returns the number of units that wait in addition now.
        """
        lost = self.rewritable > claim.written
        again: list[Waiting] = []
        while self._kept and self._kept[-1].ordinal > claim.written:
            kept = self._kept.pop()
            unit = Unit(self.stream, (), kept.deadline_ns)
            again.append(Waiting(unit, now_ns, kept.ordinal, now_ns, kept.records, again=True))
        self.units.extendleft(again)
        self._sent += len(again)
        self.settled -= len(again)
        if lost:
            self._tell_bereft(claim)
        return len(again)

    def _tell_bereft(self, claim: Claim) -> None:
        """Put the news of what the store lost for good before the oldest unit."""
        first = self.units[0]
        segment = next((record for record in first.records if record.kind == "segment"), None)
        epoch = segment.epoch if segment is not None else self._epoch
        told = StreamMessage(stream=self.stream, state=self._state, reason=bereft(claim, segment), epoch=epoch)
        if first.again:
            first.records = (_record(told, 0), *first.records)
        else:
            first.unit = Unit(self.stream, (told, *first.unit.messages), first.unit.deadline_ns)

    def unsettled(self) -> list[Unit]:
        """The units that were never in the store."""
        return [waiting.unit for waiting in self.units if not waiting.again]


def _record(message: FeedMessage, waited_ns: int, in_time: bool = False) -> Record:
    if isinstance(message, Segment):
        if waited_ns > _NOTABLE_WAIT_NS:
            message = replace(message, latency_ms=_with_wait(message.latency_ms, waited_ns))
        if in_time and message.latency_ms.total > message.bound_ms:
            message = replace(message, latency_ms=_within(message.latency_ms, message.bound_ms))
        return Record("segment", encode(message), message.epoch, message.seq)
    if isinstance(message, StreamMessage):
        return Record("stream", encode(message), message.epoch or "", message.state)
    return Record("other", encode(message))


def _within(latency: LatencyBody, bound_ms: int) -> LatencyBody:
    """What publishing usually takes may be more than is left, and is no reason to say that a segment is late: should it
    be, it is marked where it is written."""
    publish = round(max(latency.publish - (latency.total - bound_ms), 0.0), 1)
    return replace(latency, publish=publish, total=float(bound_ms))


def _with_wait(latency: LatencyBody, waited_ns: int) -> LatencyBody:
    waited_ms = round(waited_ns / NS_PER_MS, 1)
    return replace(latency, publish=latency.publish + waited_ms, total=latency.total + waited_ms)
