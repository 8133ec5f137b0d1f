"""What a stream's account stands on in unit tests: a recording outlet, on a publishing loop or on the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamer.answer import Answer
from streamer.clock import Clock, HostClock
from streamer.ledger import Publishing
from streamer.messages import FeedMessage, Segment
from tests.builders import MS, S


@dataclass
class Recorder:
    """Outlet and watcher: keeps what was published, in order, and every answer."""

    messages: list[FeedMessage] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    deadlines: list[int | None] = field(default_factory=list)
    typical_ns: int = MS

    def publish(self, stream: str, messages: Sequence[FeedMessage], deadline_ns: int | None = None) -> None:
        self.messages += messages
        self.deadlines.append(deadline_ns)

    def answered(self, answer: Answer, segment: Segment, now_ns: int) -> None:
        self.answers.append(answer)

    def of(self, kind: type) -> list[FeedMessage]:
        return [message for message in self.messages if isinstance(message, kind)]

    @property
    def segments(self) -> list[Segment]:
        return [message for message in self.messages if isinstance(message, Segment)]


def publishing(
    recorder: Recorder,
    names: Sequence[str] = ("Dog",),
    clock: Clock | None = None,
    *,
    post: Callable[..., None] | None = None,
    call: Callable[[Coroutine[Any, Any, None]], Awaitable[None]] | None = None,
) -> Publishing:
    """On the test's own loop, unless `post` and `call` are another's."""
    return Publishing(
        clock=clock or HostClock(),
        names=list(names),
        outlet=recorder,
        watchers=(recorder,),
        bound_ns=S,
        post=post or asyncio.get_running_loop().call_soon_threadsafe,
        call=call or _here,
    )


async def _here(work: Coroutine[Any, Any, None]) -> None:
    await work
