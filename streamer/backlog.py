"""What one stream has handed over and the store has not acknowledged: ordered, bounded, pure (no clock, no store).

A unit gets its ordinal when it is first sent; from then on it stays until the store has settled it, because it may be
written already. So ordinals have no holes, and the store can tell a unit that came too early. What makes room is always
a unit that was never sent; the next one that is sent tells the subscribers what is missing before it.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field

from msgspec.structs import replace

from streamer.clock import NS_PER_MS
from streamer.messages import FeedMessage, LatencyBody, Previous, Segment, StreamMessage, StreamState, encode
from streamer.store import Record

# A unit that was sent later than this says so in its latency; below it the estimate that it carries is good enough.
_NOTABLE_WAIT_NS = 20 * NS_PER_MS
# Epochs of which losses are told one by one; of a stream that lost more, the oldest are told as a sum.
_LOST_EPOCHS = 16


@dataclass(frozen=True, slots=True)
class Unit:
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


@dataclass(slots=True)
class Waiting:
    """A unit on its way to the store. `ordinal` is None until it is sent for the first time; times are monotonic."""

    unit: Unit
    handed_ns: int
    ordinal: int | None = None
    sent_ns: int = 0


@dataclass(slots=True)
class _Lost:
    """What of an epoch made room, and is not told yet."""

    epoch: str | None
    segments: int = 0
    others: int = 0
    first: int = -1
    last: int = -1

    def add(self, message: FeedMessage) -> None:
        """One more that will not be stored; segments come in order."""
        if not isinstance(message, Segment):
            self.others += 1
            return
        self.first = message.seq if not self.segments else self.first
        self.last = message.seq
        self.segments += 1

    def told(self) -> str:
        """What is missing, in words."""
        which = f" (seq {self.first} to {self.last})" if self.segments else ""
        return f"{self.segments} segments{which} and {self.others} other messages were not stored"


@dataclass(slots=True)
class Backlog:
    """One stream's units, oldest first. `span_ns` bounds the oldest's age, `capacity` their number.

    `owner`: what the store knows the writer by ('' until the stream is claimed). `settled`: the ordinal settled last.
    """

    stream: str
    span_ns: int
    capacity: int
    owner: str = ""
    settled: int = -1
    units: deque[Waiting] = field(default_factory=deque)
    _sent: int = 0
    _lost: dict[str | None, _Lost] = field(default_factory=dict)
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
            epoch = message.epoch if isinstance(message, Segment | StreamMessage) else None
            # Events and bare states belong to the epoch around them; None stands for "before any was named".
            key = epoch if epoch is not None else next(reversed(self._lost), None)
            self._lost.setdefault(key, _Lost(key)).add(message)
        while len(self._lost) > _LOST_EPOCHS:
            oldest = self._lost.pop(next(iter(self._lost)))
            heir = self._lost[next(iter(self._lost))]
            heir.others += oldest.segments + oldest.others

    def resume_from(self, epoch: str | None, seq: int) -> None:
        """What the store holds of a writer before this one; a new epoch names it as the one before."""
        if self._epoch is None and epoch is not None:
            self._epoch, self._seq = epoch, seq

    def head(self, count: int) -> list[Waiting]:
        """The oldest `count` units."""
        return list(itertools.islice(self.units, count))

    def records(self, waiting: Waiting, now_ns: int) -> list[Record]:
        """`waiting` encoded for the store, numbered if this is its first time. Call in order."""
        if waiting.ordinal is None:
            waiting.ordinal = self.settled + 1 + self._sent
            self._sent += 1
            waiting.unit = self._completed(waiting.unit)
            waiting.sent_ns = now_ns
        waited_ns = now_ns - waiting.handed_ns
        try:
            return [_record(message, waited_ns) for message in waiting.unit.messages]
        except (ValueError, TypeError, OverflowError) as error:
            # Text that is not Unicode (a name from a file system, say); trying for ever would hold up all streams.
            waiting.unit = Unit(self.stream, (self._unfit(waiting.unit, error),))
            return [_record(message, waited_ns) for message in waiting.unit.messages]

    def _unfit(self, unit: Unit, error: Exception) -> StreamMessage:
        lost = _Lost(self._epoch)
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
            for lost in self._lost.values()
        ]
        self._lost.clear()
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

    def settle(self) -> Waiting:
        """The oldest unit is in the store (or never will be): forget it."""
        waiting = self.units.popleft()
        assert waiting.ordinal is not None
        self.settled = waiting.ordinal
        self._sent -= 1
        return waiting


def _record(message: FeedMessage, waited_ns: int) -> Record:
    if isinstance(message, Segment):
        if waited_ns > _NOTABLE_WAIT_NS:
            message = replace(message, latency_ms=_with_wait(message.latency_ms, waited_ns))
        return Record("segment", encode(message), message.epoch, message.seq)
    if isinstance(message, StreamMessage):
        return Record("stream", encode(message), message.epoch or "", message.state)
    return Record("other", encode(message))


def _with_wait(latency: LatencyBody, waited_ns: int) -> LatencyBody:
    waited_ms = round(waited_ns / NS_PER_MS, 1)
    return replace(latency, publish=latency.publish + waited_ms, total=latency.total + waited_ms)
