"""Bounded channels: a capacity is required, what happens when it is full is said, and what was dropped is counted.

An unbounded queue turns overload into latency that nobody sees; a bounded one turns it into a number. The shape
follows trio's memory channels (capacity up front, statistics with a peak).
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """A snapshot: items waiting now, the most that ever waited, items dropped for want of room, the capacity."""

    depth: int
    peak: int
    dropped: int
    capacity: int


class ChannelClosed(Exception):
    """The channel was closed and everything in it has been taken."""


class Channel(Generic[T]):
    """Many writers on any thread, one reader on the event loop.

    `offer` never blocks and may be called from any thread. When the channel is full, the oldest item for which
    `droppable(item)` is true makes room; if none is, the new item is dropped when it is droppable itself, and
    otherwise refused (`offer` returns False and the writer must deal with it).
    """

    def __init__(self, capacity: int, droppable: Callable[[T], bool] = lambda _: True) -> None:
        if capacity < 1:
            raise ValueError(f"a channel needs a capacity of at least 1, not {capacity}")
        self._capacity = capacity
        self._droppable = droppable
        self._items: deque[T] = deque()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Future[None] | None = None
        self._closed = False
        self._peak = 0
        self._dropped = 0

    def offer(self, item: T) -> bool:
        """Append `item`, making room as the class says. False when the item was refused or the channel is closed."""
        with self._lock:
            if self._closed:
                return False
            accepted = len(self._items) < self._capacity or self._make_room(item)
            if not accepted:
                return False
            self._items.append(item)
            self._peak = max(self._peak, len(self._items))
            self._signal()
            return True

    def _make_room(self, item: T) -> bool:
        for index, waiting in enumerate(self._items):
            if self._droppable(waiting):
                del self._items[index]
                self._dropped += 1
                return True
        if self._droppable(item):
            self._dropped += 1
        return False

    def _signal(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_resolve, wake)

    async def get(self) -> T:
        """The oldest item; waits for one.

        Raises:
            ChannelClosed: closed, and nothing is left.
        """
        while True:
            with self._lock:
                if self._items:
                    return self._items.popleft()
                if self._closed:
                    raise ChannelClosed
                self._loop = asyncio.get_running_loop()
                wake = self._wake = self._loop.create_future()
            await wake

    def drain(self) -> list[T]:
        """Everything waiting, oldest first, without waiting."""
        with self._lock:
            items = list(self._items)
            self._items.clear()
            return items

    def close(self) -> None:
        """Refuse further items; the reader still gets what waits. Any thread, any number of times."""
        with self._lock:
            self._closed = True
            self._signal()

    @property
    def statistics(self) -> ChannelStatistics:
        """Depth, peak, dropped and capacity at this moment."""
        with self._lock:
            return ChannelStatistics(len(self._items), self._peak, self._dropped, self._capacity)


def _resolve(wake: asyncio.Future[None]) -> None:
    if not wake.done():
        wake.set_result(None)
