"""Words of a live stream as the network's third modality, on real parts: a checkpoint's own graphs, a stream's life,
and a recogniser that hears what the test says."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from streamer import engine as engines
from streamer.answer import Answer, segment_of
from streamer.clock import HostClock, ManualClock, parse_rfc3339
from streamer.commands.label import Labelled, label
from streamer.commands.terminal import label_files
from streamer.commands.transcript import Transcript, sound_of
from streamer.decide import labels_of
from streamer.errors import WeightsError
from streamer.loop_thread import LoopThread
from streamer.media import (
    AudioChunk,
    Coverage,
    EpochStart,
    Progress,
    SaidWord,
    SourceEvent,
    StateChange,
    Window,
)
from streamer.messages import Segment
from streamer.pipeline import LiveStream, Surroundings
from streamer.scheduling.dispatch import Dispatcher
from streamer.scheduling.schedule import SchedulePolicy, Scheduler
from streamer.sources.replay import read_file
from streamer.speech.files import find_speech
from streamer.speech.heard import SAMPLE_RATE, Heard, HeardWord
from streamer.speech.offline import transcribe
from streamer.speech.writing import Writer
from streamer.speech.written import WritingSettings
from streamer.why.explain import Asked, Explained, Graphs
from streamer.why.jpeg import PictureEncoder
from streamer.why.kept import Kept
from streamer.why.reasons import Reasons
from streamer.why.variants import VariantExplainer
from tests.builders import MS, S
from tests.conftest import eventually
from tests.learned import NAMES, TALKING, learned_checkpoint, with_fusion
from tests.publishing.recorder import Recorder, publishing
from tests.test_listening import Room, room
from tests.test_pipeline import ScriptedSource

# Media from so far ahead of the clock that no deadline and no silence has anything to do with what happens.
AHEAD_NS = 3_600 * S
# The segment from which on windows hold as much sound as can be encoded.
FIRST = 2


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It hears and reads; windows of three seconds."""
    path = tmp_path_factory.mktemp("talking") / "talking.safetensors"
    recipe = with_fusion(replace(TALKING, video=None), "concat")
    return learned_checkpoint(path, recipe, vocabulary=("help", "me", "the", "dog", "country"))


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> engines.OnnxEngine:
    try:
        made = engines.load("cpu", None, model=str(checkpoint))
    except WeightsError as error:
        pytest.skip(f"no pretrained weights ({error}); bring them with: streamer weights")
    assert isinstance(made, engines.OnnxEngine)
    return made


def half(start_ns: int) -> list[SourceEvent]:
    """Half a second of noise, and the word that all of it is read."""
    noise = np.random.default_rng(start_ns % 97).normal(0, 0.1, SAMPLE_RATE // 2).astype(np.float32)
    return [AudioChunk(start_ns, start_ns, noise), Progress(None, start_ns + 500 * MS, start_ns)]


def said(*words: str, at_ns: int = 0) -> tuple[SaidWord, ...]:
    return tuple(
        SaidWord(word, at_ns + place * 200 * MS, at_ns + (place + 1) * 200 * MS) for place, word in enumerate(words)
    )


def window(words: tuple[SaidWord, ...] = (), start_ns: int = 0) -> Window:
    return Window("a", "e", 0, start_ns, start_ns + 3 * S, 0, 0, 0, (), (), Coverage(0.0, 1.0), (), words)


def text_share(segment: Segment) -> float:
    return max((one.share.text for one in segment.labels), default=0.0)


# -- the engine --------------------------------------------------------------------------------------------------------


def test_words_make_a_difference_by_what_and_when(engine: engines.OnnxEngine) -> None:
    """Known words count by their number in the checkpoint, unknown ones alike whatever they are; what was said before
    the window counts as said at its start. A window's company, with more words or none, changes nothing of it."""
    silent, known, other, unknown = (), said("the", "dog"), said("help", "me"), said("the", "cat")
    found = engine.run([window(words) for words in (silent, known, other, unknown)])
    assert len({tuple(np.round(scores.scores, 6)) for scores in found}) == 4
    for words, scores in zip((silent, known, other, unknown), found, strict=True):
        alone = engine.run([window(words)])[0]
        np.testing.assert_allclose(alone.scores, scores.scores, atol=1e-5)
        np.testing.assert_allclose(alone.shares, scores.shares, atol=1e-4)
        np.testing.assert_allclose(scores.shares.sum(axis=1), 1.0, atol=1e-5)
    assert found[1].basis is not None and [word.number for word in found[1].basis.text] == [3, 4]
    assert found[1].shares[:, 2].max() > 0
    again = engine.run([window(said("the", "mouse")), window(said("the", "dog", at_ns=9 * S), 9 * S)])
    assert np.allclose(again[0].scores, found[3].scores) and np.allclose(again[1].scores, found[1].scores)
    before, at_start = engine.run([window(said("dog", at_ns=-S)), window((SaidWord("dog", 0, 0),))])
    assert np.allclose(before.scores, at_start.scores)


def test_words_cost_what_the_engine_was_measured_with(engine: engines.OnnxEngine) -> None:
    """It is warmed up with windows that are full of words."""
    assert engine.geometry.reads_text
    costs = engine.warm_up(2)
    assert costs.window_ns >= 0 and costs.call_ns > 0


# -- a live stream -----------------------------------------------------------------------------------------------------


@dataclass
class Talk:
    """A stream that makes noise for a second, and then talks: `hear` is what the recogniser hears of it."""

    live: LiveStream
    source: ScriptedSource
    recorder: Recorder
    room: Room
    begin_ns: int

    async def segment(self, seq: int) -> Segment:
        """That one: its half second is played now."""
        events = half(self.begin_ns + seq * 500 * MS)
        self.source.say(*([EpochStart("start", self.begin_ns, 0)] if seq == 0 else []), *events)
        await eventually(lambda: len(self.recorder.segments) > seq)
        return self.recorder.segments[seq]

    async def hear(self, text: str, *, settled: int, final: bool = False, utterance: int = 1) -> None:
        """It says that, beginning with the stream; returns when that is known."""
        words = tuple(
            HeardWord(f" {word}", self.begin_ns + n * 100 * MS, self.begin_ns + (n + 1) * 100 * MS)
            for n, word in enumerate(text.split())
        )
        end_ns = self.begin_ns + len(words) * 100 * MS
        self.room.desk.on_heard(Heard("door", utterance, "en", words, settled, final, self.begin_ns, end_ns))
        known = text.split()[:settled]
        await eventually(lambda: [word.text for word in self.words()] == known, 60)

    def words(self) -> tuple[SaidWord, ...]:
        ear = self.live._ear
        assert ear is not None
        return ear.words(0, self.begin_ns + AHEAD_NS)


@asynccontextmanager
async def talking(engine: engines.OnnxEngine, *, listens: bool = True) -> AsyncIterator[Talk]:
    clock, recorder, source = HostClock(), Recorder(), ScriptedSource()
    async with room(reads=True) as made:
        ear = made.ear("door") if listens else None
        if listens:
            await made.on()
        with (
            LoopThread("publish") as loop,
            Dispatcher(
                engine,
                Scheduler(SchedulePolicy(), engine.warm_up(1)),
                clock,
                lambda: MS,
                lambda answer: loop.post(live.ledger.answer, answer),
            ) as dispatcher,
        ):
            around = Surroundings(
                clock=clock,
                geometry=engine.geometry,
                dispatcher=dispatcher,
                publishing=publishing(recorder, NAMES, clock, post=loop.post, call=loop.call),
                bound_ns=S,
                new_epoch=lambda: "epoch",
                droppable=lambda event: not isinstance(event, StateChange | EpochStart),
            )
            live = LiveStream("door", source, around, None, ear=ear)
            live.start()
            try:
                talk = Talk(live, source, recorder, made, clock.now_ns() + AHEAD_NS)
                for seq in range(FIRST):
                    await talk.segment(seq)
                yield talk
            finally:
                await live.stop("test over")
    engine.forget("door")


async def test_a_window_reads_the_words_that_have_settled_when_it_closes(engine: engines.OnnxEngine) -> None:
    """What is said before a window closes and settles after takes part in the next; words that are taken back take
    part no more; and labels go on without any."""
    async with talking(engine) as talk:
        assert text_share(await talk.segment(2)) == 0, "nothing was heard yet"
        await talk.hear("the dog barks", settled=0)
        assert text_share(await talk.segment(3)) == 0, "nothing has settled yet"
        await talk.hear("the dog barks", settled=2)
        assert text_share(await talk.segment(4)) > 0
        await talk.hear("", settled=0, final=True)
        assert text_share(await talk.segment(5)) == 0, "all of it was taken back"
        await talk.hear("help me", settled=2, final=True, utterance=2)
        assert text_share(await talk.segment(6)) > 0
        assert {segment.status for segment in talk.recorder.segments} == {"ok"}
        assert all(segment.labels for segment in talk.recorder.segments)
        read = [answer.scores.basis for answer in talk.recorder.answers if answer.scores is not None]
        assert [len(basis.text) for basis in read[FIRST:] if basis is not None] == [0, 0, 2, 0, 2]


async def test_words_are_out_of_reach_some_seconds_later(engine: engines.OnnxEngine) -> None:
    """A window of three seconds reads its own words and those of three seconds before it, and none after."""
    async with talking(engine) as talk:
        await talk.hear("dog", settled=1)
        segments = [await talk.segment(seq) for seq in range(FIRST, 14)]
        assert [text_share(segment) > 0 for segment in segments] == [True] * 10 + [False] * 2


async def test_without_speech_a_stream_says_so_once_and_labels_go_on(
    engine: engines.OnnxEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody listens: text is absent, exactly as where nothing is said, and one line of the log tells what would
    change that."""
    with caplog.at_level(logging.WARNING):
        async with talking(engine, listens=False) as talk:
            first, second = await talk.segment(2), await talk.segment(3)
    assert first.labels and second.labels and text_share(first) == text_share(second) == 0
    assert (first.status, first.coverage.text) == ("ok", 0.0)
    assert [record.getMessage() for record in caplog.records if "speech: true" in record.getMessage()] == [
        "stream door: the model reads what is said, and nobody listens here: it labels without; `speech: true` in the "
        "stream's entry has it listened to"
    ]


async def test_speech_that_comes_late_or_not_is_told(engine: engines.OnnxEngine) -> None:
    """Where words are told at the end of utterances alone, for want of computing power, windows are `degraded`, and
    sound was listened to all the same; where it is shed, that too is gone."""
    async with talking(engine) as talk:
        first = await talk.segment(2)
        assert (first.status, first.degraded, first.coverage.text) == ("ok", [], first.coverage.audio)
        talk.room.desk.partials = False
        late = await talk.segment(3)
        assert (late.status, late.degraded, late.coverage.text) == ("degraded", ["speech"], late.coverage.audio)
        assert talk.live.left_out == ["speech"]
        talk.room.desk.partials, talk.room.desk.shed = True, True
        gone = await talk.segment(4)
        assert (gone.status, gone.degraded, gone.coverage.text) == ("degraded", ["speech"], 0.0)
        talk.room.desk.shed = False
        assert talk.live.left_out == []


# -- a file ------------------------------------------------------------------------------------------------------------


def spoken(*words: tuple[str, int]) -> Iterator[Heard]:
    """Utterances of a word each, that begin at those times."""
    for number, (word, at_ns) in enumerate(words, 1):
        heard = HeardWord(f" {word}", at_ns, at_ns + 200 * MS, 0.9)
        yield Heard("x", number, "en", (heard,), 1, True, at_ns, at_ns + 200 * MS)


def test_a_file_s_words_take_part(engine: engines.OnnxEngine) -> None:
    """Every window of a file has the words within its reach, however far listening has to go ahead for them."""
    script = (("Help!", 700 * MS), ("dog", 9 * S))
    transcript = Transcript(spoken(*script), Writer(WritingSettings(reads=True)).write)

    def read() -> Iterator[SourceEvent]:
        yield EpochStart("start", 0, 0)
        for number in range(20):
            yield from half(number * 500 * MS)

    found: list[Labelled] = list(transcript.speaking(label("x", read, engine, None, transcript.words)))
    shares = {item.end_ns: text_share(item.segment) for item in found}
    for end_ns, share in list(shares.items())[FIRST:]:
        reached = [at_ns for _, at_ns in script if end_ns - 6 * S <= at_ns + 100 * MS < end_ns]
        assert (share > 0) == bool(reached), end_ns / S
    assert [item.segment.speech.text for item in found if item.segment.speech] == ["Help!", "dog"]


def test_what_people_really_say_is_read(engine: engines.OnnxEngine, shared_data: Path) -> None:
    """Recognition of a real talk, by the model that comes with streamer: its words are found in the checkpoint's
    vocabulary, at the time they were said, and have a share in labels."""
    files = find_speech()
    if isinstance(files, str):
        pytest.skip(f"no speech model: {files}; `streamer weights` fetches it")
    path, geometry = str(shared_data / "speech" / "en_jfk.flac"), engine.geometry
    rate = geometry.frame_rates[0]
    heard = transcribe(sound_of(path, geometry, rate), files)
    transcript = Transcript(heard, Writer(WritingSettings(reads=True)).write)
    read = label("x", lambda: read_file(Path(path), geometry, rate), engine, None, transcript.words)
    found = list(transcript.speaking(read))
    # "Ask not what your country can do for you, ask what you can do for your country."
    times = [word.middle_ns / S for word in transcript.words(0, 12 * S) if word.text == "country"]
    assert len(times) == 2 and 4 < times[0] < 6.5 and 9 < times[1] < 11.5
    assert max(text_share(item.segment) for item in found) > 0


def test_who_labels_a_file_without_listening_is_told(
    engine: engines.OnnxEngine, checkpoint: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on standard error says what would bring the words; the labels come all the same."""
    label_files((str(shared_data / "speech" / "en_jfk.flac"),), True, None, model=str(checkpoint))
    out, err = capsys.readouterr()
    assert err.count("--speech") == 1 and "reads what is said" in err
    assert len(out.splitlines()) > 10 and all('"text":0.0' in line for line in out.splitlines()[FIRST:])


# -- why ---------------------------------------------------------------------------------------------------------------


class Direct:
    """Explains in this process."""

    def __init__(self, engine: engines.OnnxEngine) -> None:
        self._explainer = VariantExplainer(Graphs(*engine.why_graphs))

    async def explain(self, asked: Asked) -> Explained:
        return self._explainer.explain(asked)


async def test_why_tells_when_the_words_were_said_that_count(engine: engines.OnnxEngine) -> None:
    """Each word is a moment with its own time and its part of what words count; share and score are those that were
    told; which words they were is not."""
    wall_ns = parse_rfc3339("2026-11-23T04:00:00Z")
    words = said("the", "dog", "cat", at_ns=-200 * MS)
    asked = replace(window(words), stream="door", wall_offset_ns=wall_ns, words=words)
    (scores,) = engine.run([asked])
    kept = Kept(ManualClock(), lambda _: False, PictureEncoder())
    answer = Answer(asked, "ok", None, scores, 0, 0)
    kept.answered(answer, segment_of(answer, labels_of(list(NAMES), scores), S, 0, 0), 0)
    engine.forget("door")
    labels = [(info.name, info.modalities) for info in engine.labels]
    reasons = Reasons(kept, Direct(engine), labels, engine.geometry, lambda _: False)
    place = int(scores.shares[:, 2].argmax())
    told = await reasons.why("door", 0, None, NAMES[place])
    assert told is not None
    assert told.share.text == pytest.approx(scores.shares[place, 2], abs=1e-3)
    assert told.score == pytest.approx(scores.scores[place], abs=1e-3)
    assert [moment.start[14:-1] for moment in told.text] == ["59:59.800", "00:00.000", "00:00.200"]
    assert sum(moment.mass for moment in told.text) == pytest.approx(1.0, abs=1e-3)
    assert kept.size > 3 * 150
    kept.forget("door")
    assert kept.size == 0
