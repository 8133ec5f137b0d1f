"""What was heard, given to who writes it down, in order a stream; nothing final is lost on the way.

Of what still changes only the newest of each stream waits, and goes first where time is short. Where the process that
writes fails, what is final is written plainly here instead.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from streamer.ondemand import NoAnswer, OnDemand
from streamer.speech.heard import Heard
from streamer.speech.written import ToWrite, WritingSettings, Written
from streamer.tasks import cancelled, watched

log = logging.getLogger(__name__)

# Reading the dictionaries takes half a second, and several on a machine that has much to do.
_ANSWER_S = 30.0
# It is ended when nobody is listened to any more, and not before.
_IDLE_S = 30 * 86_400.0
# Final utterances that wait: half a minute's of a hundred streams in which everybody speaks.
_MOST_FINAL = 1024

_OnWritten = Callable[[Heard, Written], None]


class Dictation:
    """Belongs to one event loop. `on_written` gets what was given to `take`, without the partial texts that were
    overtaken.

    failures: utterances that were written without dictionaries. skipped: partial texts that were overtaken.
    """

    def __init__(self, settings: WritingSettings, on_written: _OnWritten) -> None:
        self._settings = settings
        self._on_written = on_written
        self._process = OnDemand(
            "streamer.speech.scribe", "writes down speech", Written, idle_s=_IDLE_S, answer_s=_ANSWER_S
        )
        self._finals: deque[Heard] = deque()
        self._partials: dict[str, Heard] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.failures = 0
        self.skipped = 0

    @property
    def pid(self) -> int | None:
        """The process's id while there is one."""
        return self._process.pid

    def start(self) -> None:
        """Begin; the process comes with the first words."""
        self._task = watched(self._work(), "dictation")

    async def stop(self) -> None:
        """End at once: what waits is written plainly."""
        if self._task is not None:
            await cancelled(self._task)
            self._task = None
        await self._process.aclose()
        while self._finals:
            self._plainly(self._finals.popleft())
        self._partials.clear()

    def take(self, heard: Heard) -> None:
        """Have it written down; never waits."""
        before = self._partials.pop(heard.stream, None)
        self.skipped += before is not None
        if heard.final:
            self._finals.append(heard)
            if len(self._finals) > _MOST_FINAL:
                oldest = self._finals[1]  # the one before it is being written
                del self._finals[1]
                self._plainly(oldest)
        else:
            self._partials[heard.stream] = heard
        self._wake.set()

    def forget(self, stream: str) -> None:
        """No partial text of `stream` is of interest any more."""
        self._partials.pop(stream, None)

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            while (heard := self._next()) is not None:
                await self._write(heard)
            await self._wake.wait()

    def _next(self) -> Heard | None:
        if self._finals:
            return self._finals[0]
        return self._partials.pop(next(iter(self._partials)), None) if self._partials else None

    async def _write(self, heard: Heard) -> None:
        try:
            written = await self._process.ask(self._settings, _to_write(heard))
        except NoAnswer as error:
            log.error(
                "what was heard could not be written down as it should be: %s; the lines before this say why", error
            )
            self._failed(heard)
            return
        if heard.final:
            self._finals.popleft()
        self._tell(heard, written)

    def _failed(self, heard: Heard) -> None:
        # What is not final comes again, with more words.
        if heard.final:
            self._plainly(self._finals.popleft())

    def _plainly(self, heard: Heard) -> None:
        from streamer.speech.writing import write_plainly  # with its libraries: seldom needed in this process

        self.failures += 1
        self._tell(heard, write_plainly(self._settings, _to_write(heard)))

    def _tell(self, heard: Heard, written: Written) -> None:
        try:
            self._on_written(heard, written)
        except Exception:  # Whoever listens fails by itself: the next utterance is written all the same.
            log.exception("an utterance of %s was not passed on", heard.stream)


def _to_write(heard: Heard) -> ToWrite:
    settled = sum(len(word.text) for word in heard.words[: heard.settled])
    text = "".join(word.text for word in heard.words)
    return ToWrite(text, heard.language, growing=not heard.final, settled=settled)
