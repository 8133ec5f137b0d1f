"""What the publisher tells of its doings, and to whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from streamer.clock import NS_PER_MS, NS_PER_S
from streamer.publishing.backlog import Unit

# Before every deadline this much is kept free for threads to wake (see scheduling.dispatch).
_KEPT_FREE_NS = 50 * NS_PER_MS


class Acknowledged(Struct, frozen=True):
    """A unit that is in the store. Times on the host's monotonic clock.

    Attributes:
        handed_ns, sent_ns, acked_ns: when it was handed over, first sent and acknowledged.
        delivered_late: what its JSON says, decided by the store's clock at writing.
        duplicate: an earlier answer was lost, and it had been written then.
        cursor: of its segment, or of its last message where it has none; '' where it is a duplicate.
        store_ns: how long between hand-over and acknowledgement the store was away, or slow (a round trip may take as
            long as usual).
        store_spans: the same as begin and end of each stretch.
        stalled_ns, stalled_early_ns: how long between the two this process's own loop stood still in round trips and
            may have missed an answer by it; all of that, and the part before the deadline.
    """

    unit: Unit
    handed_ns: int
    sent_ns: int
    acked_ns: int
    delivered_late: bool
    duplicate: bool
    cursor: str
    store_ns: int
    stalled_ns: int = 0
    stalled_early_ns: int = 0
    store_spans: tuple[tuple[int, int], ...] = ()

    @property
    def late(self) -> bool:
        """Its deadline had passed when the store acknowledged it."""
        return self.unit.deadline_ns is not None and self.acked_ns > self.unit.deadline_ns

    @property
    def store_late(self) -> bool:
        """Late, and only because of the store: with it there and quick this unit would have been in time, and without
        our own stalls it would not. Stalls no longer than what is kept free for them before every deadline don't count:
        the store has used that up."""
        deadline_ns = self.unit.deadline_ns
        if deadline_ns is None or not self.late:
            return False
        own_ns = self.acked_ns - self.handed_ns - self.store_ns - self.stalled_ns
        # Stalls after the deadline delay nothing that would have been done by then.
        in_time_but_for_it = self.handed_ns + own_ns + self.stalled_early_ns <= deadline_ns
        stalled_ns = self.stalled_ns if self.stalled_ns > _KEPT_FREE_NS else 0
        return in_time_but_for_it and self.acked_ns - stalled_ns > deadline_ns


class PublishHooks(Protocol):
    """What the publisher tells of its doings; called on the event loop, must return at once and not raise."""

    def on_written(self, acknowledged: Acknowledged) -> None:
        """A unit is in the store."""

    def on_dropped(self, unit: Unit) -> None:
        """A unit made room in a full backlog, or its stream belongs to another writer: it will never be stored."""

    def on_fenced(self, stream: str) -> None:
        """Another writer has taken over `stream`; nothing of it is published from here until `open` is called again."""


class Silent:
    """Hooks of which nobody hears."""

    def on_written(self, acknowledged: Acknowledged) -> None:
        """Nobody listens."""

    def on_dropped(self, unit: Unit) -> None:
        """Nobody listens."""

    def on_fenced(self, stream: str) -> None:
        """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Outage:
    """The store does not take what is published: since when (monotonic), why, and how much waits."""

    since_ns: int
    reason: str
    waiting: int


@dataclass(frozen=True, slots=True)
class PublishConfig:
    """How long and how much the store keeps, and how much is kept here for a stream while the store is away."""

    retention_ns: int = 3600 * NS_PER_S
    max_memory_bytes: int = 512 * 1024 * 1024
    span_ns: int = 60 * NS_PER_S
    capacity: int = 2048


@dataclass(slots=True)
class PublisherStatistics:
    """Counts since the start.

    `duplicates`: units found written already when they were sent again. `rewritten`: units written again after the
    store had lost them; they are in no other count.
    """

    written: int = 0
    duplicates: int = 0
    rewritten: int = 0
    store_late: int = 0
    late: int = 0
    dropped: int = 0
    fenced: int = 0
    outages: int = 0
    used_bytes: int = 0
