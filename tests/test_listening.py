"""Speech of a service with a scripted recogniser: what is told before it settles, and what is final."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest

from streamer.clock import HostClock, ManualClock
from streamer.config import StreamConfig
from streamer.ledger import Spoken
from streamer.listening import Listening, ListeningParts
from streamer.media import AudioChunk, EpochStart
from streamer.messages import SpeechMessage
from streamer.observe.metrics import Metrics
from streamer.pipeline import Ear
from streamer.speech.heard import SAMPLE_RATE, Heard, HeardWord, Hearing, SpeechOptions
from streamer.speechconfig import SpeechConfig, StreamSpeech
from tests.builders import MS, S
from tests.conftest import eventually as within

HELP = "said: help"
ENTRY = StreamConfig(source="whip", speech=True)


async def eventually(condition: Callable[[], bool]) -> None:
    # Dictionaries are read and processes started by machines that have other things to do.
    await within(condition, 60)


class ScriptedDesk:
    """Hears what the test says, and keeps what it was told."""

    def __init__(self, on_heard: Callable[[Heard], None]) -> None:
        self.on_heard = on_heard
        self.off: str | None = "not started"
        self.restarts = 0
        self.starts = 0
        self.streams: dict[str, SpeechOptions] = {}
        self.fed: list[str] = []
        self.ended: list[str] = []
        self.level = 0
        self.shed = False
        self.partials = True

    async def start(self) -> None:
        self.starts += 1
        self.off = None

    async def stop(self) -> None:
        self.off = "stopped"

    def put(self, stream: str, options: SpeechOptions) -> None:
        self.streams[stream] = options

    def feed(self, stream: str, chunk: AudioChunk) -> None:
        self.fed.append(stream)

    def end(self, stream: str) -> None:
        self.ended.append(stream)

    def remove(self, stream: str) -> None:
        self.streams.pop(stream, None)

    def ease(self, level: int) -> None:
        self.level = level

    def hearing(self, stream: str) -> Hearing:
        return Hearing(shed=self.shed, shed_ns=2 * S if self.shed else 0, partials=self.partials)


class KeptCaptions:
    """Keeps what is told before it settles."""

    def __init__(self) -> None:
        self.told = self.lost = 0
        self.messages: list[SpeechMessage] = []

    def start(self) -> None: ...

    async def stop(self) -> None: ...

    def tell(self, message: SpeechMessage) -> None:
        self.messages.append(message)

    def settled(self, stream: str) -> None: ...


class Room:
    def __init__(self, config: SpeechConfig, *, reads: bool = False) -> None:
        self.clock = ManualClock(100 * S)
        self.captions = KeptCaptions()
        self.desks: list[ScriptedDesk] = []
        self.listening = Listening(ListeningParts(config, self.clock, self.captions, self._desk, reads))
        self.spoken: list[tuple[str, Spoken]] = []
        self.listening.deliver = lambda stream, spoken: self.spoken.append((stream, spoken))
        self.level = 0

    def _desk(self, on_heard: Callable[[Heard], None]) -> ScriptedDesk:
        self.desks.append(ScriptedDesk(on_heard))
        return self.desks[-1]

    @property
    def desk(self) -> ScriptedDesk:
        return self.desks[-1]

    def ear(self, name: str, entry: StreamConfig = ENTRY) -> Ear:
        ear = self.listening.ear(name, entry, SAMPLE_RATE)
        assert ear is not None
        ear.begin(EpochStart("start", 90 * S, 1_000 * S))
        return ear

    async def on(self) -> None:
        await eventually(lambda: bool(self.desks) and self.desk.off is None)

    def hear(self, text: str, *, final: bool, utterance: int = 1, settled: int = 0, stream: str = "door") -> None:
        words = tuple(
            HeardWord(f" {word}", 95 * S + n * 300 * MS, 95 * S + (n + 1) * 300 * MS, 0.8)
            for n, word in enumerate(text.split())
        )
        count = len(words) if final else settled
        self.desk.on_heard(Heard(stream, utterance, "en", words, count, final, 95 * S, 97 * S))


@asynccontextmanager
async def room(*, reads: bool = False, **config: object) -> AsyncIterator[Room]:
    made = Room(SpeechConfig(**config), reads=reads)  # type: ignore[arg-type]
    running = asyncio.create_task(made.listening.run(lambda listens: made.level if listens else 0))
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await made.listening.stop()


async def test_nothing_is_there_before_a_stream_wants_it_and_after() -> None:
    """The recogniser is made for the first stream with speech, stopped after the last, and started again."""
    async with room() as made:
        assert made.listening.ear("yard", StreamConfig(source="whip"), SAMPLE_RATE) is None
        await asyncio.sleep(0)
        assert not made.desks
        made.ear("door", StreamConfig(source="whip", weight=3, speech=StreamSpeech(language="zh", denoise=True)))
        await made.on()
        assert made.desk.streams == {"door": SpeechOptions(3, True, "zh")}
        made.listening.forget("door")
        await eventually(lambda: made.desk.off is not None)
        made.ear("door")
        await made.on()
        assert len(made.desks) == 1 and made.desk.starts == 2


async def test_words_are_told_as_they_settle_and_once_final() -> None:
    """Partial words go to who listens now, redacted and without what may yet be a number; the final utterance is
    delivered once, with the same number and its keywords as labels and events that rest on text."""
    async with room(keywords=["help", "fire"]) as made:
        made.ear("door")
        await made.on()
        made.hear("please help me call 138 0013", final=False, settled=2)
        await eventually(lambda: len(made.captions.messages) == 1)
        (told,) = made.captions.messages
        assert told.text == "please help me" and not told.final and told.words == ["please", "help", "me"]
        made.hear("please help me call 138 0013 8000", final=True)
        await eventually(lambda: len(made.spoken) == 1)
        stream, spoken = made.spoken[0]
        assert stream == "door" and spoken.message.utterance == told.utterance and spoken.message.final
        assert spoken.speech.text == "please help me call [number]"
        assert spoken.message.start == spoken.speech.start == told.start == "1970-01-01T00:18:15.000Z"
        assert [(label.name, label.score, label.share.text) for label in spoken.labels] == [(HELP, 0.8, 1.0)]
        assert [(event.label, event.state) for event in spoken.events] == [(HELP, "open"), (HELP, "close")]
        assert made.listening.utterances == 1 and sum(count for _, count in made.listening.lag.buckets()[-1:]) == 7


async def test_what_is_taken_back_is_told_so() -> None:
    """A final utterance without words stands nowhere; what was shown of it is taken back."""
    async with room() as made:
        made.ear("door")
        await made.on()
        made.hear("well hmm there", final=False, utterance=3)
        await eventually(lambda: [message.text for message in made.captions.messages] == ["well hmm"])
        made.desk.on_heard(Heard("door", 3, "en", (), 0, True, 95 * S, 96 * S))
        await eventually(lambda: len(made.captions.messages) == 2)
        assert not made.spoken and (made.captions.messages[1].text, made.captions.messages[1].final) == ("", False)


async def test_streams_are_apart_and_one_that_has_gone_says_nothing() -> None:
    """Each stream's words are its own; what is heard of one that was removed goes nowhere."""
    async with room() as made:
        made.ear("door")
        made.ear("yard")
        await made.on()
        made.listening.forget("yard")
        made.hear("of the yard", final=True, stream="yard")
        made.hear("of the door", final=True, stream="door")
        await eventually(lambda: len(made.spoken) == 1)
        assert made.spoken[0][0] == "door"


async def test_an_ear_says_whether_it_is_listened_to() -> None:
    """Nobody listens before the recogniser is there, where it is off, and where sound is shed; its level is passed on,
    and sound of another rate is not listened to at all."""
    async with room() as made:
        ear = made.ear("door")
        assert ear.hearing is None
        await made.on()
        assert ear.hearing == Hearing()
        ear.feed(AudioChunk(0, 0, np.zeros(160, np.float32)))
        ear.end()
        ear.end()
        assert made.desk.fed == ["door"] and made.desk.ended == ["door"]
        made.level, made.desk.shed = 3, True
        await eventually(lambda: made.desk.level == 3)
        assert ear.hearing is not None and ear.hearing.shed and made.listening.shed_s == 2
        made.desk.off = "no weights"
        assert ear.hearing is None
        other = made.listening.ear("odd", ENTRY, 8_000)
        assert other is not None and other.hearing is None


async def test_words_outlive_the_process_that_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the process that writes is killed, the next utterance is written all the same, redacted, and once."""
    async with room() as made:
        made.ear("door")
        await made.on()
        made.hear("one two", final=True)
        await eventually(lambda: len(made.spoken) == 1)
        monkeypatch.setattr("streamer.ondemand.sys.executable", "/nonexistent/python")
        process = made.listening._dictation._process._process
        assert process is not None
        process.kill()
        await process.wait()
        made.hear("call 13800138000 now", final=True, utterance=2)
        await eventually(lambda: len(made.spoken) == 2)
        assert made.spoken[1][1].speech.text == "call [number] now"
        metrics = Metrics()
        made.listening.watch(metrics)
        text = metrics.render()[0].decode()
        assert "streamer_speech_plain_total 1.0" in text and "streamer_speech_lag_seconds_count" in text


async def test_utterances_of_two_services_have_different_numbers() -> None:
    """A service that starts later counts from further on."""
    first = Room(SpeechConfig())
    later = ManualClock(100 * S, HostClock().wall_ns())
    second = Listening(ListeningParts(SpeechConfig(), later, KeptCaptions(), ScriptedDesk))
    assert second._first > first.listening._first + 1_000_000


async def test_settled_words_can_be_read() -> None:
    """Where the network reads, an ear has the words that have settled, unmasked; those that are taken back go, and
    where it reads none there are none."""
    async with room(reads=True) as made:
        ear, other = made.ear("door"), made.ear("yard")
        await made.on()

        def read() -> list[str]:
            return [word.text for word in ear.words(95 * S, 97 * S)]

        made.hear("The dog barks", final=False, settled=2)
        await eventually(lambda: read() == ["the", "dog"])
        made.hear("The dog barked at 13800138000", final=True)
        await eventually(lambda: read() == ["the", "dog", "barked", "at", "13800138000"])
        made.hear("thank you", final=False, settled=1, utterance=2)
        await eventually(lambda: "thank" in read())
        made.hear("", final=True, utterance=2)
        await eventually(lambda: "thank" not in read())
        assert not other.words(0, 200 * S) and not ear.words(97 * S, 200 * S)
        ear.begin(EpochStart("reconnect", 99 * S, 1_000 * S))
        assert read() == []
    async with room() as made:
        ear = made.ear("door")
        await made.on()
        made.hear("the dog", final=True)
        await eventually(lambda: len(made.spoken) == 1)
        assert ear.words(0, 200 * S) == ()
