"""Stalls of event loops: how long each turn of a loop keeps everything else on it waiting, and where it stood.

A loop can't tell by itself that it stands still, and asking it all the time to answer costs more than it is worth: a
wake-up alone takes 15 to 200 us, depending on the machine. So its turns are measured where they begin and end, at the
selector, for less than a microsecond each: every stall is seen, with its whole length, and an idle loop stays asleep.
While one lasts, the watchdog's thread looks where that loop's thread is.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic_ns
from types import CodeType, FrameType
from typing import Any

from streamer.clock import NS_PER_MS, NS_PER_S
from streamer.observe.freeze import FreezeWatch
from streamer.observe.histogram import Histogram

log = logging.getLogger(__name__)

STALL_NS = 50 * NS_PER_MS
OTHER = "other"
UNSEEN = "unknown"
NOT_RUN = "waiting for the interpreter or a CPU"

_BOUNDS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
# Looked at before it counts as a stall, so that one tick of the watchdog falls into every stall.
_LOOK_NS = 25 * NS_PER_MS
_WARN_NS = 250 * NS_PER_MS
_STUCK_NS = 5 * NS_PER_S
_WARN_EVERY_NS = 10 * NS_PER_S
_PLACES = 32
# epoll counts in milliseconds, rounded up.
_ROUNDING_NS = 1 * NS_PER_MS
# More stalls than fit between two ticks of the watchdog.
_ENDED = 64
_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(slots=True, eq=False)
class _Loop:
    """One watched loop. The first part is written by its own thread, the second by the watchdog's.

    `begun_ns`: when the turn under way began, 0 while it waits for something to do; `due_ns`: when it will have waited
    long enough; `woke_ns`: when it was let run after that. `ended`: when a long turn began, was let run, and ended.
    """

    name: str
    thread: int = 0
    begun_ns: int = 0
    due_ns: int = 0
    woke_ns: int = 0
    turns: Histogram = field(default_factory=lambda: Histogram(_BOUNDS_S))
    ended: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=_ENDED))

    stalls: Histogram = field(default_factory=lambda: Histogram(_BOUNDS_S))
    looked_ns: int = 0
    looks: dict[str, int] = field(default_factory=dict)
    stuck_ns: int = 0
    places: dict[str, int] = field(default_factory=dict)
    warned_ns: int = -_WARN_EVERY_NS
    unwarned: int = 0

    def turn_ended(self, now_ns: int) -> None:
        """Count the turn under way; a long one is judged by the watchdog, who knows of freezes."""
        lasted_ns = now_ns - self.begun_ns
        if lasted_ns >= STALL_NS:
            self.ended.append((self.begun_ns, self.woke_ns, now_ns))
        else:
            self.turns.observe(lasted_ns / NS_PER_S)


class StallWatch:
    """`with FreezeWatch() as freezes, StallWatch(freezes) as stalls: stalls.watch("main", loop)`.

    A stall is a turn of over 50 ms; those in which the process was frozen are left out. Where: the innermost line of
    this package that the loop was in, else the innermost of all, as `file:line function`.
    """

    def __init__(self, freezes: FreezeWatch) -> None:
        self._freezes = freezes
        self._loops: list[_Loop] = []
        self._undo: list[Callable[[], None]] = []

    def __enter__(self) -> StallWatch:
        self._undo.append(self._freezes.follow(self._tick))
        return self

    def __exit__(self, *_: object) -> None:
        while self._undo:
            self._undo.pop()()

    def watch(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        """Measure the turns of `loop` from its next one on; may be called on any thread."""
        selector = getattr(loop, "_selector", None)
        if selector is None:
            # asyncio has no public place to hear of a loop's turns; a loop of another make may have none at all.
            log.warning("stalls of the loop %s can't be seen: it is no selector event loop", name)
            return
        watched = _Loop(name)
        self._loops.append(watched)
        selector.select = _measured(selector.select, watched)
        self._undo.append(lambda: delattr(selector, "select"))

    def durations(self) -> dict[str, Histogram]:
        """How long the turns of each loop took, freezes left out."""
        return {loop.name: loop.turns.plus(loop.stalls) for loop in self._loops}

    def counts(self) -> dict[tuple[str, str], int]:
        """How many stalls there were, by loop and place."""
        return {(loop.name, where): count for loop in self._loops for where, count in dict(loop.places).items()}

    # -- on the watchdog's thread ------------------------------------------------------------------------------------

    def _tick(self) -> None:
        for loop in self._loops:
            while loop.ended:
                self._judge(loop, *loop.ended.popleft())
            self._look(loop, monotonic_ns())

    def _judge(self, loop: _Loop, begun_ns: int, woke_ns: int, ended_ns: int) -> None:
        lasted_ns = ended_ns - begun_ns - self._freezes.frozen_ns(begun_ns, ended_ns)
        loop.stalls.observe(lasted_ns / NS_PER_S)
        if lasted_ns < STALL_NS:
            return
        looks = loop.looks if loop.looked_ns == begun_ns else {}
        # Who holds up a loop may hold up the watchdog too, and then nobody has looked.
        unseen = NOT_RUN if woke_ns - begun_ns > ended_ns - woke_ns else UNSEEN
        where = max(looks, key=looks.__getitem__, default=unseen)
        if where not in loop.places and len(loop.places) >= _PLACES:
            where = OTHER
        loop.places[where] = loop.places.get(where, 0) + 1
        if lasted_ns > _WARN_NS:
            self._warn(loop, ended_ns, f"stood still for {lasted_ns / NS_PER_MS:.0f} ms at {where}")

    def _look(self, loop: _Loop, now_ns: int) -> None:
        # Read once: the loop goes on meanwhile.
        begun_ns, due_ns = loop.begun_ns, loop.due_ns
        since_ns = begun_ns or due_ns
        if not since_ns or now_ns - since_ns < _LOOK_NS:
            return
        where = _place(loop.thread) if begun_ns else NOT_RUN
        if loop.begun_ns != begun_ns or loop.due_ns != due_ns:
            return  # it went on while we looked
        if loop.looked_ns != since_ns:
            loop.looked_ns, loop.looks = since_ns, {}
        if where in loop.looks or len(loop.looks) < _PLACES:
            loop.looks[where] = loop.looks.get(where, 0) + 1
        stuck_ns = now_ns - since_ns - _STUCK_NS
        if stuck_ns > 0 and loop.stuck_ns != since_ns and stuck_ns > self._freezes.frozen_ns(since_ns, now_ns):
            # It may never end, and then nothing else would tell.
            loop.stuck_ns = since_ns
            self._warn(loop, now_ns, f"has stood still for {_STUCK_NS // NS_PER_S} s and still does, at {where}")

    def _warn(self, loop: _Loop, now_ns: int, text: str) -> None:
        if now_ns - loop.warned_ns < _WARN_EVERY_NS:
            loop.unwarned += 1
            return
        before = f" ({loop.unwarned} times more since the last such warning)" if loop.unwarned else ""
        log.warning("the event loop %s %s%s", loop.name, text, before)
        loop.warned_ns, loop.unwarned = now_ns, 0


def _measured(select: Callable[[float | None], Any], loop: _Loop) -> Callable[[float | None], Any]:
    """`select` that tells `loop` when its turns begin and end: a turn lasts from one waiting to the next."""

    def measured(timeout: float | None = None) -> Any:
        now_ns = monotonic_ns()
        if loop.begun_ns:
            loop.turn_ended(now_ns)
        else:
            loop.thread = threading.get_ident()
        due_ns = 0 if timeout is None else now_ns + int(timeout * NS_PER_S) + _ROUNDING_NS
        # In this order, so that the watchdog never takes the last time to wait until for this one.
        loop.due_ns = due_ns
        loop.begun_ns = 0
        events = select(timeout)
        now_ns = loop.woke_ns = monotonic_ns()
        # Whoever waits for a turn doesn't care whether the loop is busy or is not let run.
        loop.begun_ns = due_ns if 0 < due_ns < now_ns else now_ns
        return events

    return measured


def _place(thread: int) -> str:
    """Where `thread` is now: the innermost line of this package within the callback that its loop runs."""
    frame: FrameType | None = sys._current_frames().get(thread)
    innermost = frame
    while frame is not None and frame.f_code.co_name != "_run_once":
        if Path(frame.f_code.co_filename).is_relative_to(_PACKAGE):
            return _shown(frame.f_code, frame.f_lineno)
        frame = frame.f_back
    return UNSEEN if innermost is None else _shown(innermost.f_code, innermost.f_lineno)


def _shown(code: CodeType, line: int) -> str:
    file = Path(code.co_filename)
    name = file.relative_to(_PACKAGE.parent) if file.is_relative_to(_PACKAGE) else file.name
    return f"{name}:{line} {code.co_name}"
