"""Speech of a running service, put together: who listens, who writes down, and where the words go.

All of it is there for as long as a stream wants speech, and nothing of it before or after. None of it waits for
anything that a segment needs, and no segment waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from streamer.clock import NS_PER_S, Clock, rfc3339
from streamer.config import StreamConfig
from streamer.ledger import Spoken
from streamer.media import AudioChunk, EpochStart, SaidWord
from streamer.messages import MIN_SCORE, Event, EventState, Label, Share, Speech, SpeechMessage
from streamer.observe.histogram import Histogram
from streamer.observe.metrics import Metrics
from streamer.pipeline import Ear
from streamer.speech.dictation import Dictation
from streamer.speech.heard import SAMPLE_RATE, Heard, Hearing, SpeechDesk, SpeechOptions
from streamer.speech.reading import Reading, read_words
from streamer.speech.written import WritingSettings, Written
from streamer.speechconfig import SpeechConfig, StreamSpeech, keyword_labels

log = logging.getLogger(__name__)

_FOLLOW_S = 0.25
_LAG_BOUNDS_S = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0)
# Epochs whose words may still come.
_EPOCHS = 8
_SAID = Share(video=0.0, audio=0.0, text=1.0)


class Desk(SpeechDesk, Protocol):
    """What listens, with its life. It can be started again after it was stopped."""

    @property
    def restarts(self) -> int: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Telling(Protocol):
    """Where words go that have not settled."""

    @property
    def told(self) -> int: ...

    @property
    def lost(self) -> int: ...

    def start(self) -> None: ...

    async def stop(self) -> None: ...

    def tell(self, message: SpeechMessage) -> None: ...

    def settled(self, stream: str) -> None: ...


@dataclass(frozen=True, slots=True)
class ListeningParts:
    """What it is put together from. `captions`: where words go that have not settled. `desk`: makes what listens;
    given who is told of what it hears. `reads`: the words are read by the network, too."""

    config: SpeechConfig
    clock: Clock
    captions: Telling
    desk: Callable[[Callable[[Heard], None]], Desk]
    reads: bool = False


def desk_of(config: SpeechConfig, weights: Path | None) -> Callable[[Callable[[Heard], None]], Desk]:
    """Makes what listens, in a process of its own. weights: a folder with them; None: they are fetched."""

    def make(on_heard: Callable[[Heard], None]) -> Desk:
        from streamer.speech.desk import SpeechProcess, SpeechSettings  # not where nobody wants speech

        return SpeechProcess(SpeechSettings(config.model, None if weights is None else str(weights)), on_heard)

    return make


@dataclass(slots=True)
class _Ear:
    """One stream's. offsets: where epochs begin in media time, and what makes wall time of that. reading: its words for
    the network. shown: the utterance of which something was told that has not settled; counted: so many words of the
    utterance `of` have been told."""

    name: str
    listening: Listening
    options: SpeechOptions
    offsets: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_EPOCHS))
    reading: Reading = field(default_factory=Reading)
    is_fed: bool = False
    shown: int = -1
    of: int = -1
    counted: int = 0

    @property
    def hearing(self) -> Hearing | None:
        return self.listening.hearing(self.name)

    def begin(self, start: EpochStart) -> None:
        self.offsets.append((start.media_ns, start.wall_offset_ns))
        self.reading.begin(start.media_ns)

    def feed(self, chunk: AudioChunk) -> None:
        self.is_fed = True
        self.listening.feed(self.name, chunk)

    def end(self) -> None:
        if self.is_fed:
            self.is_fed = False
            self.listening.end(self.name)

    def words(self, start_ns: int, end_ns: int) -> tuple[SaidWord, ...]:
        return self.reading.between(start_ns, end_ns)

    def wall(self, media_ns: int) -> str:
        """Media time as people read it; an utterance belongs to the epoch in which it began."""
        begun = [offset for start_ns, offset in self.offsets if start_ns <= media_ns]
        offset = begun[-1] if begun else self.offsets[0][1] if self.offsets else 0
        return rfc3339(media_ns + offset)


class Listening:
    """Belongs to one event loop.

    Attributes:
        deliver: is given the final utterances of streams.
        lag: from the end of a word to when it is told, in seconds.
    """

    def __init__(self, parts: ListeningParts) -> None:
        config = parts.config
        self._parts = parts
        self._settings = WritingSettings(
            script=config.script,
            redact=config.redact,
            keywords=tuple(config.keywords),
            fuzzy=config.fuzzy,
            dictionary=tuple(config.dictionary),
            reads=parts.reads,
        )
        self._labels = dict(zip(config.keywords, keyword_labels(config.keywords), strict=True))
        self._desk: Desk | None = None
        self._dictation = Dictation(self._settings, self._written)
        self._is_on = False
        self._ears: dict[str, _Ear] = {}
        self._changed = asyncio.Event()
        # A service that starts again counts on from where no earlier one has been, and a page can tell them apart.
        self._first = parts.clock.wall_ns() // NS_PER_S * 1_000_000
        self._shed_ns = 0
        self.deliver: Callable[[str, Spoken], None] = lambda stream, spoken: None
        self.lag = Histogram(_LAG_BOUNDS_S)
        self.utterances = 0
        self.words = 0
        self.level = 0

    # -- life --------------------------------------------------------------------------------------------------------

    async def run(self, level: Callable[[bool], int]) -> None:
        """Start and stop what listens as streams come and go, until cancelled. `level` is told whether there are any,
        and says how much is to be left out (0 to 4)."""
        while True:
            self._changed.clear()
            if bool(self._ears) != self._is_on:
                await (self._start() if self._ears else self.stop())
            self._ease(level(bool(self._ears)))
            try:
                async with asyncio.timeout(_FOLLOW_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _start(self) -> None:
        if self._desk is None:
            self._desk = self._parts.desk(self._dictation.take)
        self._is_on = True
        for name, ear in self._ears.items():
            self._desk.put(name, ear.options)
        self._dictation.start()
        self._parts.captions.start()
        await self._desk.start()
        log.info("speech is listened to")

    async def stop(self) -> None:
        """End all of it; it can be started again. Safe to call twice."""
        if not self._is_on or self._desk is None:
            return
        self._is_on = False
        await self._desk.stop()
        await self._dictation.stop()
        await self._parts.captions.stop()

    def _ease(self, level: int) -> None:
        self.level = level
        if self._desk is not None and self._is_on:
            self._desk.ease(level)

    # -- streams -----------------------------------------------------------------------------------------------------

    def ear(self, name: str, entry: StreamConfig, sample_rate: int) -> Ear | None:
        """Who listens to stream `name` from now on; None: its entry wants no speech. sample_rate: of its sound."""
        if not entry.speech:
            return None
        own = entry.speech if isinstance(entry.speech, StreamSpeech) else StreamSpeech()
        config = self._parts.config
        options = SpeechOptions(
            weight=entry.weight,
            denoise=config.denoise if own.denoise is None else own.denoise,
            language=own.language or config.language,
        )
        ear = _Ear(name, self, options)
        if sample_rate != SAMPLE_RATE:
            log.error("stream %s: speech wants sound of %d Hz, and the model %d", name, SAMPLE_RATE, sample_rate)
            return ear
        self._ears[name] = ear
        if self._desk is not None and self._is_on:
            self._desk.put(name, options)
        self._changed.set()
        return ear

    def forget(self, name: str) -> None:
        """Stream `name` has gone, or begins anew: what was being said goes with it."""
        if self._ears.pop(name, None) is None:
            return
        if self._desk is not None:
            self._shed_ns += self._desk.hearing(name).shed_ns
            self._desk.remove(name)
        self._dictation.forget(name)
        self._parts.captions.settled(name)
        self._changed.set()

    def hearing(self, name: str) -> Hearing | None:
        """How `name` is listened to; None: it is not."""
        desk = self._desk
        if desk is None or not self._is_on or desk.off is not None or name not in self._ears:
            return None
        return desk.hearing(name)

    def feed(self, name: str, chunk: AudioChunk) -> None:
        """Sound of a stream. Never waits."""
        if self._desk is not None and self._is_on:
            self._desk.feed(name, chunk)

    def end(self, name: str) -> None:
        """A stream's sound ends here; more may follow."""
        if self._desk is not None and self._is_on:
            self._desk.end(name)

    # -- words -------------------------------------------------------------------------------------------------------

    def _written(self, heard: Heard, written: Written) -> None:
        ear = self._ears.get(heard.stream)
        if ear is None:  # it has gone meanwhile
            return
        if self._parts.reads:
            ear.reading.put(heard.utterance, read_words(heard, written))
        if heard.final:
            self._parts.captions.settled(heard.stream)
            if written.words:
                self._count(ear, heard, len(heard.words))
                self.utterances += 1
                self.words += len(written.words)
                self.deliver(heard.stream, self._spoken(ear, heard, written))
            elif ear.shown == heard.utterance:
                self._parts.captions.tell(self._message(ear, heard, Written(), final=False))
        elif written.words or ear.shown == heard.utterance:
            ear.shown = heard.utterance
            self._count(ear, heard, heard.settled)
            self._parts.captions.tell(self._message(ear, heard, written, final=False))

    def _count(self, ear: _Ear, heard: Heard, told: int) -> None:
        """The first `told` words are told now."""
        if ear.of != heard.utterance:
            ear.of, ear.counted = heard.utterance, 0
        now_ns = self._parts.clock.now_ns()
        for word in heard.words[ear.counted : told]:
            self.lag.observe(max(0, now_ns - word.end_ns) / NS_PER_S)
        ear.counted = max(ear.counted, told)

    def _message(self, ear: _Ear, heard: Heard, written: Written, *, final: bool) -> SpeechMessage:
        return SpeechMessage(
            stream=heard.stream,
            utterance=self._first + heard.utterance,
            text=written.text,
            words=list(written.words),
            language=heard.language,
            final=final,
            start=ear.wall(heard.start_ns),
            end=ear.wall(heard.end_ns),
            tags=list(written.tags) if any(written.tags) else [],
        )

    def _spoken(self, ear: _Ear, heard: Heard, written: Written) -> Spoken:
        message = self._message(ear, heard, written, final=True)
        speech = Speech(
            text=message.text,
            language=message.language,
            words=message.words,
            final=True,
            start=message.start,
            end=message.end,
            tags=message.tags,
        )
        score = _score(heard)
        names = [self._labels[keyword] for keyword in written.said]
        labels = tuple(Label(name, score, _SAID) for name in names)
        events = tuple(
            _event(message, place, label, state) for place, label in enumerate(labels) for state in ("open", "close")
        )
        return Spoken(message, speech, labels, events)

    # -- figures -----------------------------------------------------------------------------------------------------

    @property
    def shed_s(self) -> float:
        """Seconds of sound that was not listened to for want of computing power."""
        desk = self._desk
        now_ns = 0 if desk is None else sum(desk.hearing(name).shed_ns for name in list(self._ears))
        return (self._shed_ns + now_ns) / NS_PER_S

    def watch(self, metrics: Metrics) -> None:
        """Show its figures among the service's."""
        watch, dictation, captions = metrics.watch, self._dictation, self._parts.captions
        metrics.watch_durations("speech_lag_seconds", "From the end of a word to when it is told.", lambda: self.lag)
        watch("speech_streams", "Streams that are listened to.", lambda: len(self._ears))
        watch("speech_level", "How much of listening is left out, 0 to 4.", lambda: self.level)
        watch("speech_utterances", "Final utterances with words.", lambda: self.utterances, counter=True)
        watch("speech_words", "Words in final utterances.", lambda: self.words, counter=True)
        watch("speech_shed_seconds", "Sound that was not listened to.", lambda: self.shed_s, counter=True)
        watch("speech_captions", "Texts told before they settled.", lambda: captions.told, counter=True)
        watch("speech_captions_lost", "Such texts overtaken or not taken.", lambda: captions.lost, counter=True)
        watch("speech_plain", "Utterances without dictionaries.", lambda: dictation.failures, counter=True)
        watch(
            "speech_restarts",
            "Times the process that listens was replaced.",
            lambda: 0 if self._desk is None else self._desk.restarts,
            counter=True,
        )


def _score(heard: Heard) -> float:
    """How sure the recogniser is of an utterance: the mean of its words."""
    mean = sum(word.probability for word in heard.words) / max(1, len(heard.words))
    return round(min(1.0, max(MIN_SCORE, mean)), 4)


def _event(message: SpeechMessage, place: int, label: Label, state: EventState) -> Event:
    return Event(
        stream=message.stream,
        id=f"u{message.utterance}-{place}",
        label=label.name,
        state=state,
        start=message.start,
        end=message.end if state == "close" else None,
        score=label.score,
    )
