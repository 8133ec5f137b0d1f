"""One subscriber: what it wants, where its bytes go, and what waits for it while its socket takes none.

The queue is bounded. When it is full the oldest make room and are counted; once the socket takes bytes again the
subscriber is told what it missed (`gap`) before what is left. Queues hold references to items that all share, so a slow
subscriber costs pointers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streamer.hub.filters import Filter
from streamer.hub.item import FeedItem, message_frame
from streamer.messages import Gap

# A minute of eight streams' segments: what comes at once when the store returns, for a subscriber that takes its time.
QUEUE_CAPACITY = 1024


class Sink(Protocol):
    """Where a subscriber's bytes go."""

    @property
    def descriptor(self) -> int:
        """Of its socket; what is ready may be written to it directly."""
        ...

    @property
    def ready(self) -> bool:
        """Whether nothing waits before what is written to the socket now, and the connection is open."""
        ...

    def take(self, data: bytes) -> bool:
        """Take all of `data` without waiting; False, and nothing taken, while it is not ready."""
        ...

    def take_rest(self, data: bytes) -> None:
        """Take the end of what the socket has taken the beginning of, or none of, when it was ready."""
        ...


@dataclass(slots=True)
class FanoutStatistics:
    """Counts since the start: messages written to subscribers, messages that made room, gaps told."""

    sent: int = 0
    dropped: int = 0
    gaps: int = 0


@dataclass(slots=True, eq=False)
class Subscriber:
    """One subscriber: its filter, its sink, and what waits while the sink takes nothing."""

    filter: Filter
    sink: Sink
    statistics: FanoutStatistics
    capacity: int = QUEUE_CAPACITY
    compressed: bool = False
    _queue: deque[FeedItem] = field(default_factory=deque)
    _missed: tuple[str, str, int] | None = None

    def offer(self, items: Sequence[FeedItem], data: bytes) -> None:
        """Send `items`, whose frames are `data` one after the other, or keep them until the sink takes bytes again."""
        if self.sink.take(data):
            self.statistics.sent += len(items)
            return
        for item in items:
            self._keep(item)

    def _keep(self, item: FeedItem) -> None:
        self._queue.append(item)
        if len(self._queue) > self.capacity:
            gone = self._queue.popleft()
            first, _, count = self._missed or (gone.cursor, gone.cursor, 0)
            self._missed = (first, gone.cursor, count + 1)
            self.statistics.dropped += 1

    def tell(self, gap: Gap) -> None:
        """Say that something is missing, in its place among what is sent. One is enough while nothing gets through."""
        if not self._send_gap(gap):
            if self._missed is not None:
                self.statistics.dropped += len(self._queue)
            self._queue.clear()
            self._missed = (gap.first or "", gap.last or "", -1)

    def flush(self) -> None:
        """Write what waits as far as the sink takes it."""
        if self._missed is not None:
            first, last, count = self._missed
            if not self._send_gap(Gap(first=first or None, last=last or None, count=count if count >= 0 else None)):
                return
            self._missed = None
        while self._queue and self.sink.take(self._queue[0].framed(self.compressed)):
            self._queue.popleft()
            self.statistics.sent += 1

    def _send_gap(self, gap: Gap) -> bool:
        taken = self.sink.take(message_frame(gap))
        self.statistics.gaps += taken
        return taken

    @property
    def waiting(self) -> int:
        """Messages in its queue."""
        return len(self._queue)
