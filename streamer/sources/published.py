"""A live source that somebody publishes to: it waits, answers who comes, and reads what they send until they leave."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, replace
from random import random

from streamer.clock import Clock
from streamer.config import IceServer
from streamer.errors import ConflictError, StreamerError, UserError
from streamer.sources.assembly import Target
from streamer.sources.faults import Fault
from streamer.sources.live import AnyReader, LiveSource, MakeReader
from streamer.sources.machine import Machine, Policy
from streamer.sources.sdp_fragment import parse_fragment
from streamer.sources.whip import WhipOpener
from streamer.status import Publication

# An answer takes milliseconds here, up to 5 s where ICE servers are asked, and a process more where none is there yet.
_ANSWER_S = 10.0
_HANGING = 3


@dataclass(frozen=True, slots=True, repr=False)
class Terms:
    """What publishers of one stream are taken on. `takeover`: a second one ends the first, who would otherwise stay."""

    video: bool
    audio: bool
    takeover: bool
    servers: tuple[IceServer, ...] = ()


@dataclass(slots=True)
class _Candidate:
    """A publisher that waits for its answer."""

    reader: AnyReader
    answer: asyncio.Future[str]


class PublishedSource(LiveSource):
    """A stream whose source is `whip`; its methods belong to the event loop that runs it."""

    def __init__(
        self, name: str, terms: Terms, target: Target, clock: Clock, policy: Policy, make_reader: MakeReader
    ) -> None:
        super().__init__(name, _opener(terms, ""), target, clock, policy, random, make_reader)
        self._terms = terms
        self._candidate: _Candidate | None = None
        self._session: tuple[str, str] | None = None  # its name, and the offer it began with
        self._turn = asyncio.Lock()

    def _new_machine(self) -> Machine:
        return Machine(self._policy, self._clock.now_ns(), self._chance, awaits=True)

    async def publish(self, offer: str) -> Publication:
        """Begin a session with the publisher whose SDP offer this is.

        Raises:
            UserError: the offer can't be used; a publisher that is there stays.
            ConflictError: another publishes, sends, and may stay.
            StreamerError: it can't be answered now.
        """
        async with self._turn:
            self._check_free()
            reader, answer = await self._answered(offer)
            with self._lock:
                if self._channel is None:
                    reader.stop()
                    raise StreamerError("the stream was removed or changed meanwhile; publish anew")
                self._replace(reader)
                session = secrets.token_urlsafe(16)
                self._session = (session, offer)
            self._wake_loop()
            return Publication(session=session, answer=answer)

    def unpublish(self, session: str) -> bool:
        """End a session; False where there is none of that name."""
        with self._lock:
            if self._session is None or self._session[0] != session:
                return False
            self._tell(self._machine.lost(self._clock.now_ns(), "the publisher left"))
            self._abandon()
        self._wake_loop()
        return True

    def trickle(self, session: str, fragment: str) -> bool:
        """Try more addresses of the publisher's; False where there is no such session.

        Raises:
            UserError: the fragment can't be used, or asks for an ICE restart.
        """
        with self._lock:
            known, reader = self._session, self._reader
        if known is None or known[0] != session or reader is None:
            return False
        reader.tell(parse_fragment(fragment, known[1]))
        return True

    def _check_free(self) -> None:
        with self._lock:
            if self._channel is None:
                raise StreamerError("the stream is not running now; try again in a moment")
            self._abandoned = [reader for reader in self._abandoned if reader.is_alive]
            if len(self._abandoned) >= _HANGING:
                raise StreamerError("earlier sessions of this stream are still being closed; try again in a moment")
            # One that sends nothing may be gone without a word, and come back as somebody else.
            may_stay = self._reader is not None and self._machine.state != "stalled"
            if may_stay and not self._terms.takeover:
                raise ConflictError("somebody publishes this stream already; end that session, or set takeover: true")

    async def _answered(self, offer: str) -> tuple[AnyReader, str]:
        settings = replace(self._settings, opener=_opener(self._terms, offer))
        reader = self._make_reader(settings, self, self._wake_loop)
        future = asyncio.get_running_loop().create_future()
        with self._lock:
            self._candidate = _Candidate(reader, future)
        try:
            reader.start()
            async with asyncio.timeout(_ANSWER_S):
                return reader, await future
        except TimeoutError:
            raise StreamerError("the offer could not be answered in time; try again") from None
        except OSError as error:
            raise StreamerError(f"no process could be started to receive it: {error.strerror}; try again") from None
        finally:
            with self._lock:
                self._candidate = None
            if not future.done() or future.cancelled() or future.exception() is not None:
                reader.stop()
                with self._lock:
                    self._abandoned.append(reader)

    def _replace(self, reader: AnyReader) -> None:
        now_ns = self._clock.now_ns()
        if self._reader is not None:
            self._tell(self._machine.lost(now_ns, "another publisher took over"))
            self._abandon()
        self._reader = reader
        reader.keep(self._keeps)
        self._machine.opened(now_ns)

    def _abandon(self) -> None:
        self._session = None
        super()._abandon()

    # -- from the reader's thread --------------------------------------------------------------------------------

    def answered(self, reader: object, answer: str) -> None:
        """The offer of the publisher that waits has an answer."""
        self._settle(reader, answer)

    def over(self, reader: object, fault: Fault | None) -> None:
        """The reader ended: before there was an answer, or because the publisher has left or was cut."""
        text = "the publisher left" if fault is None else fault.text
        refused = UserError(text) if fault is not None and fault.permanent else StreamerError(text)
        if not self._settle(reader, refused):
            # Whatever was wrong with this one, the next may do better.
            super().over(reader, Fault(text, permanent=False))

    def _settle(self, reader: object, outcome: str | Exception) -> bool:
        with self._lock:
            candidate, loop = self._candidate, self._loop
            if candidate is None or candidate.reader is not reader or loop is None:
                if reader is self._reader and not isinstance(outcome, str):
                    self._session = None
                return False
        loop.call_soon_threadsafe(_resolve, candidate.answer, outcome)
        return True


def _resolve(future: asyncio.Future[str], outcome: str | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, str):
        future.set_result(outcome)
    else:
        future.set_exception(outcome)


def _opener(terms: Terms, offer: str) -> WhipOpener:
    return WhipOpener(offer, terms.video, terms.audio, terms.servers)
