"""What has been kept for long enough, whatever the store's clock did meanwhile. Pure.

Entry ids hold the store's clock as it stood at writing, and never go back: after a clock that was ahead has been set
right, what is written goes on under the ids of that future. By their ids such entries would be kept for as much longer
as the clock was ahead, which may be years. So it is noted down which entry was the newest when, by our own clock.
"""

from __future__ import annotations

from collections import deque

from streamer.cursor import START, EntryId

# How many notes there are over the time of retention: entries are kept for so much of it longer at most.
_NOTES = 128


class Outlived:
    """How far a feed has been kept for long enough."""

    def __init__(self) -> None:
        self._notes: deque[tuple[int, EntryId]] = deque(maxlen=2 * _NOTES)
        self._over = START

    def at(self, now_ns: int, newest: EntryId, retention_ns: int) -> EntryId:
        """The feed's `newest` entry is this now: the first one that is to be kept still. `now_ns` is monotonic."""
        if self._notes and newest < self._notes[-1][1]:  # another feed
            self._notes.clear()
            self._over = START
        if not self._notes or now_ns - self._notes[-1][0] >= retention_ns // _NOTES:
            self._notes.append((now_ns, newest))
        while self._notes and now_ns - self._notes[0][0] > retention_ns:
            self._over = self._notes.popleft()[1].next()
        return self._over
