"""One stream's account: every window that was accepted gets its one segment, in order, with what must be said between.

Belongs to the publishing loop, where nothing else runs, so that an answer's way to the store is never behind a
camera's media or a caller's request.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from msgspec.structs import replace

from streamer.answer import Answer, InOrder, segment_of, shed
from streamer.clock import Clock
from streamer.decide import EventDetector, EventPolicy, labels_of, likeliest
from streamer.media import Window
from streamer.messages import Event, FeedMessage, Label, Segment, Speech, SpeechMessage
from streamer.people.watch import Findings, PeopleWatch


class Outlet(Protocol):
    """Where units of messages go: in order a stream, never waiting, bounded by the outlet itself."""

    @property
    def typical_ns(self) -> int:
        """What publishing usually takes of late."""
        ...

    def publish(self, stream: str, messages: Sequence[FeedMessage], deadline_ns: int | None = None) -> None: ...


class Watcher(Protocol):
    """Is told of every answer (metrics, traces)."""

    def answered(self, answer: Answer, segment: Segment, now_ns: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Publishing:
    """What every stream's account needs of its surroundings.

    `post` has something done on the publishing loop and `call` waits for its result, from another loop.
    """

    clock: Clock
    names: list[str]
    outlet: Outlet
    watchers: Sequence[Watcher]
    bound_ns: int
    post: Callable[..., None]
    call: Callable[[Coroutine[Any, Any, None]], Awaitable[None]]


# Utterances that wait for a segment: more than a minute's of somebody who speaks fast, where none comes.
_MOST_SPOKEN = 64


@dataclass(frozen=True, slots=True)
class Spoken:
    """A final utterance: as a message, as a segment has it, the labels of what was listened for in it, and the events
    of those."""

    message: SpeechMessage
    speech: Speech
    labels: tuple[Label, ...] = ()
    events: tuple[Event, ...] = ()


class Ledger:
    """All methods belong to the publishing loop; only `last_segment` is read elsewhere.

    Args:
        people: watches who is in the picture; None: nobody does.
    """

    def __init__(self, stream: str, around: Publishing, people: PeopleWatch | None = None) -> None:
        self._stream = stream
        self._around = around
        self._people = people
        self._detector = EventDetector(stream, around.names, EventPolicy())
        self._order = InOrder()
        self._settled = asyncio.Event()
        # Utterances that no segment has had yet, oldest first. Each stands in one, whatever becomes of its window;
        # where no segment comes for so long that they are too many, the oldest have been told as messages at least.
        self._spoken: deque[Spoken] = deque(maxlen=_MOST_SPOKEN)
        self.last_segment: Segment | None = None

    def expect(self, window: Window) -> None:
        """`window` is accepted: its answer will come."""
        self._order.expect(window)

    def answer(self, answer: Answer) -> None:
        """Take the answer of one of this stream's windows, and publish what is next in order."""
        self._order.answer(answer)
        self._flush()

    def say(self, *messages: FeedMessage) -> None:
        """Publish `messages` after every window expected so far."""
        self._order.then(lambda: self._publish(messages))
        self._flush()

    def speak(self, spoken: Spoken) -> None:
        """Publish an utterance now, and once more in the next segment."""
        self._spoken.append(spoken)
        self._publish((spoken.message, *spoken.events))

    def end_epoch(self) -> None:
        """What lasts ends here: the events that are open close after every window expected so far."""
        self._order.then(self._close_events)
        self._flush()

    async def settle(self, timeout_s: float) -> None:
        """Return when everything expected has gone out; after `timeout_s` what is missing is shed."""
        self._settled.clear()
        self._flush()
        try:
            async with asyncio.timeout(timeout_s):
                await self._settled.wait()
        except TimeoutError:
            for window in self._order.unanswered():
                self._order.answer(shed(window, "draining", self._around.clock.now_ns()))
            self._flush()

    def _flush(self) -> None:
        for ready in self._order.release():
            if isinstance(ready, Answer):
                self._tell(ready)
            else:
                ready()
        if not len(self._order):
            self._settled.set()

    def _tell(self, answer: Answer) -> None:
        around, window = self._around, answer.window
        labels = [] if answer.scores is None else labels_of(around.names, answer.scores)
        found = self._look_at_people(answer)
        spoken = self._spoken.popleft() if self._spoken else None
        # What was shed has no labels, whatever was said: its words and events tell.
        said = spoken.labels if spoken is not None and answer.status != "shed" else ()
        labels = likeliest([*labels, *found.labels, *said]) if found.labels or said else labels
        now_ns = around.clock.now_ns()
        segment = segment_of(answer, labels, around.bound_ns, now_ns, around.outlet.typical_ns, found.people)
        if spoken is not None:
            segment = replace(segment, speech=spoken.speech)
        if answer.scores is not None:
            events = self._detector.update(window, answer.scores.scores)
        elif answer.reason == "no_media":
            events = self._detector.nothing_there(window)
        else:
            events = []
        self.last_segment = segment
        for watcher in around.watchers:
            watcher.answered(answer, segment, now_ns)
        self._publish((segment, *events, *found.events), window.deadline_ns)

    def _look_at_people(self, answer: Answer) -> Findings:
        if self._people is None:
            return Findings()
        if answer.scores is not None:
            return self._people.update(answer.window, answer.scores)
        return self._people.nothing_there(answer.window) if answer.reason == "no_media" else Findings()

    def _close_events(self) -> None:
        events = self._detector.finish()
        if self._people is not None:
            events += self._people.finish()
        if events:
            self._publish(events)

    def _publish(self, messages: Sequence[FeedMessage], deadline_ns: int | None = None) -> None:
        self._around.outlet.publish(self._stream, messages, deadline_ns)
