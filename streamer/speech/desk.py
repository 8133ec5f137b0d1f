"""The service's side of the process that listens: sound goes there through bounded channels, words come back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from streamer.child import ChildProcess
from streamer.media import AudioChunk
from streamer.speech.backlog import Backlog
from streamer.speech.files import SpeechFiles, find_speech
from streamer.speech.heard import Heard, Hearing, SpeechOptions
from streamer.speech.talk import LENGTH, Ease, End, ListenSettings, Put, Said, Sound, SpeechReport, Told, framed, packed

log = logging.getLogger(__name__)

# Everybody else comes first when it loads its model, and there may be much to do at a service's start.
_START_S, _MOST_FAILURES, _POLL_S = 120.0, 3, 0.05
# Loading the model, and one pass, never take this long, whatever else the machine does.
_SILENT_S = 60.0
# What the transport may hold beside what the kernel does: a second or two of sound of a few streams.
_HIGH_WATER = 1 << 16
_SHED_TOLD_NS = 5_000_000_000
# A pass gains little from more cores than this.
_MOST_THREADS = 4


class SpeechSettings(msgspec.Struct, frozen=True):
    """model: as `find_speech`; weights: a folder with the weights, None: they are fetched."""

    model: str | None = None
    weights: str | None = None
    threads: int | None = None


class SpeechProcess:
    """A `SpeechDesk` whose work is done by a child process. Belongs to one event loop.

    When that process ends it is started again; what was settled of the utterances in progress becomes final, the rest
    of them is lost.

    Args:
        on_heard: gets what is heard, in order for each stream, on the loop.
    """

    def __init__(self, settings: SpeechSettings, on_heard: Callable[[Heard], None]) -> None:
        self._settings = settings
        self._on_heard = on_heard
        self._child: _Listening | None = None
        self._off: str | None = "speech has not been started"
        self._options: dict[str, SpeechOptions] = {}
        self._level = 0
        self._backlog = Backlog()
        self._hearing: dict[str, Hearing] = {}
        self._lost_at_ns: dict[str, int] = {}
        self._numbers: dict[str, int] = {}
        self._open: dict[str, Heard] = {}
        self._wake = asyncio.Event()
        self._talk: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Find the model, fetching it where it is not here yet, and start to listen; `off` says whether that worked."""
        weights = None if self._settings.weights is None else Path(self._settings.weights)
        found = await asyncio.to_thread(find_speech, self._settings.model, weights)
        if isinstance(found, str):
            self._off = found
            log.error("speech is off: %s", found)
            return
        threads = self._settings.threads or min(_MOST_THREADS, os.cpu_count() or 1)
        child = self._child = _Listening(found, threads, self._connect)
        child.insist()
        if await _came_up(child):
            self._off = None
            return
        await self.stop()
        self._off = "the speech process did not come up; the lines it wrote before this say why"
        log.error("speech is off: %s", self._off)

    async def stop(self) -> None:
        """End the process; safe to call twice."""
        child, self._child = self._child, None
        if child is not None:
            await child.stop()
            child.close()
        await self._hang_up()
        self._off = "speech has been stopped"

    @property
    def off(self) -> str | None:
        """Why nothing is recognised; None: it works."""
        return self._off

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        return None if self._child is None else self._child.pid

    @property
    def restarts(self) -> int:
        """How often the process had to be started again."""
        return 0 if self._child is None else self._child.restarts

    @property
    def report(self) -> SpeechReport | None:
        """The process's counters; None: it is not there (yet)."""
        return None if self._child is None else self._child.report

    @property
    def waiting(self) -> int:
        """Messages that wait to be taken by the process."""
        return len(self._backlog)

    def put(self, stream: str, options: SpeechOptions) -> None:
        """Listen to `stream` from now on, or with other options."""
        if self._options.get(stream) != options:
            self._options[stream] = options
            self._tell(self._putting(stream))

    def feed(self, stream: str, chunk: AudioChunk) -> None:
        """Sound of a stream that was put. Never blocks: the oldest that waits is shed for it."""
        if stream in self._options and self._off is None and len(chunk.samples):
            self._tell(Sound(stream, chunk.media_ns, packed(chunk.samples)))

    def end(self, stream: str) -> None:
        """Sound ends here: the utterance in progress becomes final."""
        if stream in self._options:
            self._tell(End(stream))

    def remove(self, stream: str) -> None:
        """As `end`, and no more sound follows."""
        if self._options.pop(stream, None) is not None:
            self._tell(End(stream, removed=True))
            self._hearing.pop(stream, None)
            self._lost_at_ns.pop(stream, None)
            self._backlog.forget(stream)

    def ease(self, level: int) -> None:
        """How much is to be left out, for all streams: 0 to 4."""
        if level != self._level:
            self._level = level
            self._tell(Ease(level))

    def hearing(self, stream: str) -> Hearing:
        """How `stream` is listened to."""
        told = self._hearing.get(stream, Hearing())
        lost_ns = self._backlog.lost_ns.get(stream, 0)
        is_losing = time.monotonic_ns() - self._lost_at_ns.get(stream, -_SHED_TOLD_NS) < _SHED_TOLD_NS
        return Hearing(told.heard_to_ns, told.shed or is_losing, told.shed_ns + lost_ns, told.partials)

    def _tell(self, message: Told) -> None:
        if self._child is None:
            return
        if self._backlog.add(message) and isinstance(message, Sound):
            self._lost_at_ns[message.stream] = time.monotonic_ns()
        self._wake.set()

    def _putting(self, stream: str) -> Put:
        options = self._options[stream]
        number = self._numbers.get(stream, 0) + 1
        return Put(stream, number, options.weight, options.denoise, options.language)

    # -- a process that starts, the first or a further one -------------------------------------------------------------

    def _connect(self, ours: socket.socket) -> None:
        if self._talk is not None:
            self._talk.cancel()
        self._backlog.clear()
        for heard in list(self._open.values()):
            self._take(_settled(heard))
        self._talk = asyncio.create_task(self._converse(ours), name="speech-talk")
        for stream in self._options:
            self._tell(self._putting(stream))
        if self._level:
            self._tell(Ease(self._level))

    async def _hang_up(self) -> None:
        if self._talk is not None:
            self._talk.cancel()
            await asyncio.gather(self._talk, return_exceptions=True)
            self._talk = None

    async def _converse(self, ours: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.transport.set_write_buffer_limits(high=_HIGH_WATER)
        listening = asyncio.create_task(self._listen(reader), name="speech-listen")
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while (message := self._backlog.take()) is not None:
                    writer.write(framed(message))
                    await writer.drain()
        except ConnectionError:
            log.warning("the process that listens to speech has gone")  # it is started again by who watches it
        finally:
            listening.cancel()
            writer.transport.abort()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        decoder = msgspec.msgpack.Decoder(Said)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):  # it has gone, and is started again
            while True:
                (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                said = decoder.decode(await reader.readexactly(length))
                if said.hearing is not None:
                    self._hearing = said.hearing
                for heard in said.heard:
                    self._take(heard)

    def _take(self, heard: Heard) -> None:
        self._numbers[heard.stream] = max(heard.utterance, self._numbers.get(heard.stream, 0))
        if heard.final:
            self._open.pop(heard.stream, None)
        else:
            self._open[heard.stream] = heard
        self._on_heard(heard)


async def _came_up(child: _Listening) -> bool:
    """Whether it reports before it has failed too often, or too much time has passed."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START_S):
            while child.restarts < _MOST_FAILURES:
                if child.report is not None:
                    return True
                await asyncio.sleep(_POLL_S)
    return False


def _settled(heard: Heard) -> Heard:
    """A partial result as all there will be of it."""
    words = heard.words[: heard.settled]
    end_ns = words[-1].end_ns if words else heard.end_ns
    return Heard(heard.stream, heard.utterance, heard.language, words, len(words), True, heard.start_ns, end_ns)


class _Listening(ChildProcess[SpeechReport]):
    """`python -m streamer.speech`, with a socket of its own each time it starts."""

    def __init__(self, files: SpeechFiles, threads: int, on_start: Callable[[socket.socket], None]) -> None:
        super().__init__("streamer.speech", "speech process", SpeechReport, _SILENT_S)
        self._files = files
        self._threads = threads
        self._on_start = on_start
        self._theirs: socket.socket | None = None

    def settings(self) -> ListenSettings:
        """What a child that starts now is told."""
        assert self._theirs is not None
        return ListenSettings(self._files, self._theirs.fileno(), self._threads)

    def inherited(self) -> Sequence[int]:
        """Its end of a new socket; the other end is handed to who talks to it."""
        self.close()
        ours, self._theirs = socket.socketpair()
        ours.setblocking(False)
        self._on_start(ours)
        return (self._theirs.fileno(),)

    def close(self) -> None:
        """Let go of its end."""
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None
