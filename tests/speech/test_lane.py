"""Who is listened to next, and what goes when there is too much: with a recogniser that takes no time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from streamer.speech.agreement import Piece
from streamer.speech.heard import SAMPLE_RATE, Heard, SpeechOptions
from streamer.speech.lane import Lane
from streamer.speech.vad import STEP, VoiceDetector

NS = 1_000_000_000
TENTH = SAMPLE_RATE // 10
WORD_S = 0.5


class LoudIsVoice:
    """Stands in for Silero: a step is a voice where it is not silent. It keeps its state where Silero does."""

    def listen(self, state: Any, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        sound = np.concatenate([state.rest, samples])
        steps = len(sound) // STEP
        state.rest = sound[steps * STEP :]
        return (np.abs(sound[: steps * STEP].reshape(steps, STEP)).max(axis=1) > 0.01).astype(np.float32)


@dataclass
class Written:
    """As the recogniser's."""

    pieces: tuple[Piece, ...]
    no_speech: float = 0.0


@dataclass
class Counting:
    """Stands in for Whisper: a word each half second, whose name is how loud it is; so a stream's loudness is its text.

    passes: how long the sound of each was, and how loud."""

    passes: list[tuple[float, float]] = field(default_factory=list)
    language: str = "en"

    def encode(self, samples: NDArray[np.float32]) -> Any:
        return samples

    def languages(self, sound: Any) -> dict[str, float]:
        return {self.language: 0.99, "ko": 0.01}

    def write(self, samples: NDArray[np.float32], sound: Any, language: str, settled: Any, before: Any) -> Written:
        loud = float(np.abs(samples).max())
        self.passes.append((len(samples) / SAMPLE_RATE, round(loud, 1)))
        count = int(len(samples) / SAMPLE_RATE / WORD_S)
        words = [Piece(f" w{loud:.1f}n{i}", i * WORD_S, (i + 1) * WORD_S, 0.9, (i,)) for i in range(count)]
        return Written(tuple(words[len(settled) :]))


class Streams:
    """A lane, and the time that passes while sound comes."""

    def __init__(self, **weights: float) -> None:
        self.writer = Counting()
        self.lane = Lane(self.writer, cast(VoiceDetector, LoudIsVoice()))
        self.now_ns = 0
        self.heard: list[Heard] = []
        for name, weight in weights.items():
            self.lane.put(name, SpeechOptions(weight=weight))

    def sound(self, seconds: float, *, work: int | None = None, **levels: float) -> None:
        """So much sound of each stream, at its level; `work`: at most so many passes each tenth of a second."""
        for _ in range(round(seconds * 10)):
            for name, level in levels.items():
                self.lane.feed(name, self.now_ns, np.full(TENTH, level, np.float32), self.now_ns)
            self.now_ns += NS // 10
            passes = 0
            while (work is None or passes < work) and self.lane.work(self.now_ns):
                passes += 1
            self.heard += self.lane.take()


def finals(heard: list[Heard], stream: str) -> list[Heard]:
    """The final results of a stream."""
    return [one for one in heard if one.stream == stream and one.final]


def test_words_settle_while_somebody_speaks_and_all_stand_in_the_final_text() -> None:
    """Partial results only add to what was settled; the final one begins with it, and its times are media times."""
    streams = Streams(a=1.0)
    streams.sound(4.0, a=0.5)
    streams.sound(1.5, a=0.0)
    partial, final = streams.heard[:-1], streams.heard[-1]
    assert len(partial) >= 3 and final.final and not any(one.final for one in partial)
    for before, after in zip(streams.heard, streams.heard[1:], strict=False):
        assert after.words[: before.settled] == before.words[: before.settled]
    assert final.settled == len(final.words) >= 7
    assert final.words[3].start_ns == final.start_ns + 3 * NS // 2
    assert 4 * NS <= final.end_ns + NS // 10 <= 4.2 * NS


def test_silence_costs_no_pass() -> None:
    """What isn't speech never reaches the recogniser."""
    streams = Streams(a=1.0)
    streams.sound(10.0, a=0.0)
    assert streams.writer.passes == [] and streams.heard == []


def test_a_pause_that_was_passed_over_needs_no_further_pass() -> None:
    """The final text is there when the pause has lasted, from the pass at its beginning."""
    streams = Streams(a=1.0)
    streams.sound(2.0, a=0.5)
    streams.sound(0.4, a=0.0)
    passes = len(streams.writer.passes)
    streams.sound(1.0, a=0.0)
    assert len(streams.writer.passes) == passes and streams.heard[-1].final


def test_interleaved_streams_are_served_in_turn_and_never_mixed() -> None:
    """Each text has its own stream's words alone, and both streams get passes."""
    streams = Streams(a=1.0, b=1.0)
    streams.sound(5.0, a=0.3, b=0.7, work=1)
    streams.sound(2.0, a=0.0, b=0.0)
    for name, level in (("a", "0.3"), ("b", "0.7")):
        texts = [one.text for one in streams.heard if one.stream == name]
        assert texts and all(f"w{level}" in word for text in texts for word in text.split())
    counts = [sum(loud == level for _, loud in streams.writer.passes) for level in (0.3, 0.7)]
    assert abs(counts[0] - counts[1]) <= 2


def test_partial_results_of_the_least_weighty_go_first() -> None:
    """With one pass in two seconds for two streams, the weightier keeps its partial results, both their final ones."""
    streams = Streams(light=0.5, heavy=2.0)
    for _ in range(5):
        streams.sound(1.9, light=0.3, heavy=0.7, work=0)
        streams.sound(0.1, light=0.3, heavy=0.7, work=1)
    hearing = streams.lane.hearing(streams.now_ns)
    assert hearing["heavy"].partials and not hearing["light"].partials
    streams.sound(2.0, light=0.0, heavy=0.0)
    assert len(finals(streams.heard, "heavy")) == 1
    assert sum(len(one.words) for one in finals(streams.heard, "light")) >= 18


def test_utterances_that_wait_too_long_are_shed_and_said() -> None:
    """Who can't be heard in time is left out, the least weighty first; how much it was is told."""
    streams = Streams(light=0.5, heavy=2.0)
    streams.sound(2.0, light=0.3, heavy=0.7, work=0)
    streams.sound(4.0, light=0.0, heavy=0.0, work=0)
    streams.sound(1.5, light=0.0, heavy=0.0, work=0)
    streams.sound(0.1, light=0.0, heavy=0.0)
    hearing = streams.lane.hearing(streams.now_ns)
    assert hearing["light"].shed and hearing["light"].shed_ns > NS
    assert streams.lane.stats.shed >= 1
    streams.sound(6.0, light=0.0, heavy=0.0)
    assert not streams.lane.hearing(streams.now_ns)["light"].shed


def test_levels_leave_out_more_and_more() -> None:
    """Level 1 ends partial results, 2 and 3 mute the least weighty streams, 4 all; and back."""
    streams = Streams(a=1.0, b=2.0, c=3.0)
    muted = []
    for level in range(5):
        streams.lane.ease(level, streams.now_ns)
        streams.sound(0.1, a=0.0, b=0.0, c=0.0)
        hearing = streams.lane.hearing(streams.now_ns)
        muted.append("".join(name for name, one in hearing.items() if one.shed))
        assert all(one.partials for one in hearing.values()) == (level == 0)
    assert muted == ["", "", "a", "ab", "abc"]
    streams.lane.ease(0, streams.now_ns)
    streams.sound(6.0, a=0.5, b=0.0, c=0.0)
    assert any(one.stream == "a" for one in streams.heard)


def test_numbers_never_come_twice() -> None:
    """Utterances of a stream are numbered on after its sound ended, after it was removed, and after other options."""
    streams = Streams(a=1.0)
    for again in range(3):
        streams.sound(1.5, a=0.5)
        if again == 0:
            streams.lane.end("a", streams.now_ns)
        elif again == 1:
            streams.lane.remove("a", streams.now_ns)
            streams.lane.put("a", SpeechOptions())
        else:
            streams.lane.put("a", SpeechOptions(weight=3.0))
    streams.sound(1.5, a=0.5)
    streams.sound(1.5, a=0.0)
    numbers = [one.utterance for one in finals(streams.heard, "a")]
    assert numbers == sorted(set(numbers)) and len(numbers) == 4


def test_a_hole_in_the_sound_ends_the_utterance() -> None:
    """After a second without sound the times of the next utterance are its own."""
    streams = Streams(a=1.0)
    streams.sound(2.0, a=0.5)
    streams.now_ns += NS
    streams.sound(2.0, a=0.5)
    streams.sound(1.5, a=0.0)
    first, second = finals(streams.heard, "a")
    assert first.end_ns <= 2 * NS and second.start_ns >= 3 * NS


def test_without_partial_results_utterances_are_short() -> None:
    """Words that come only at an utterance's end are no older than six seconds then, and a bit."""
    streams = Streams(a=1.0)
    streams.lane.ease(1, 0)
    streams.sound(30.0, a=0.5)
    lengths = [one.end_ns - one.start_ns for one in finals(streams.heard, "a")]
    assert len(lengths) >= 4 and max(lengths) <= 6.2 * NS


def test_memory_of_an_endless_voice_is_bounded() -> None:
    """Somebody who never pauses is cut into utterances that the recogniser can take."""
    streams = Streams(a=1.0)
    streams.sound(60.0, a=0.5)
    assert max(seconds for seconds, _ in streams.writer.passes) < 15.0
    assert len(finals(streams.heard, "a")) >= 4
