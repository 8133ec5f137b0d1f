"""Speech in, words out, with the real models: what is said is written, what isn't said is not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from streamer.bench.spoken import read_sound, units
from streamer.media import AudioChunk
from streamer.speech.files import SpeechFiles
from streamer.speech.heard import Heard, SpeechOptions
from streamer.speech.lane import Lane
from streamer.speech.offline import transcribe
from streamer.speech.recognise import Recogniser
from streamer.speech.vad import STEP, VoiceDetector, VoiceState

Sound = NDArray[np.float32]
RATE = 16_000
CHUNK = 1600
NS = 1_000_000_000


def chunks(sound: Sound) -> Iterator[AudioChunk]:
    """The sound in tenths of a second, from media time 0 on."""
    for first in range(0, len(sound), CHUNK):
        yield AudioChunk(first * NS // RATE, 0, sound[first : first + CHUNK])


def listened(lane: Lane, **sounds: Sound) -> dict[str, list[Heard]]:
    """All that is heard of streams that sound at the same time, with a pass a stream each half second."""
    heard: dict[str, list[Heard]] = {name: [] for name in sounds}
    for name in sounds:
        lane.put(name, SpeechOptions())
    longest = max(map(len, sounds.values()))
    for count, first in enumerate(range(0, longest, CHUNK)):
        now_ns = first * NS // RATE
        for name, sound in sounds.items():
            if first < len(sound):
                lane.feed(name, now_ns, sound[first : first + CHUNK], now_ns)
        while count % 6 == 0 and lane.work(now_ns):
            pass
    for name in sounds:
        lane.end(name, 0)
    while lane.work(0):
        pass
    for one in lane.take():
        heard[one.stream].append(one)
    return heard


def texts(heard: list[Heard]) -> list[str]:
    """The final texts."""
    return [one.text for one in heard if one.final]


def test_english_and_mandarin_are_written_nearly_right(files: SpeechFiles, spoken: Callable[[str], Sound]) -> None:
    """Two clips in a row, in two languages: each utterance has its language, its words and its times."""
    english, chinese = spoken("en_sb_spk1_1"), spoken("zh_aishell_0764")
    heard = list(transcribe(chunks(np.concatenate([english, chinese])), files))
    assert [one.language for one in heard] == ["en", "zh"]
    assert units(heard[0].text, "en") == ["the", "child", "almost", "hurt", "the", "small", "dog"]
    wrong = sum(a != b for a, b in zip(units(heard[1].text, "zh"), "甚至出现交易几乎停滞的情况", strict=True))
    assert wrong <= 1
    for one in heard:
        times = [time for word in one.words for time in (word.start_ns, word.end_ns)]
        assert times == sorted(times) and one.start_ns <= times[0] and times[-1] <= one.end_ns + NS // 2
    assert heard[1].start_ns >= len(english) * NS // RATE


def test_interleaved_languages_give_the_same_text_as_alone(
    recogniser: Recogniser, detector: VoiceDetector, spoken: Callable[[str], Sound]
) -> None:
    """Streams share the models and nothing else: what is heard of each does not depend on the other, to the letter."""
    english, chinese = spoken("en_timit"), spoken("zh_cosy_prompt")
    together = listened(Lane(recogniser, detector), en=english, zh=chinese)
    alone = listened(Lane(recogniser, detector), en=english)
    alone |= listened(Lane(recogniser, detector), zh=chinese)
    assert together["en"] == alone["en"] and together["zh"] == alone["zh"]
    assert {one.language for one in together["zh"]} == {"zh"} and len(texts(together["en"])) == 1


def test_what_has_settled_stays_settled(
    recogniser: Recogniser, detector: VoiceDetector, spoken: Callable[[str], Sound]
) -> None:
    """Every later text of an utterance begins with the words that had settled, and most settle before it ends."""
    heard = listened(Lane(recogniser, detector), a=spoken("en_libri_1995"))["a"]
    assert len(heard) >= 4
    for before, after in itertools.pairwise(heard):
        if before.utterance == after.utterance:
            kept = [word.text.strip(" .,") for word in after.words[: before.settled]]
            assert kept == [word.text.strip(" .,") for word in before.words[: before.settled]]
    partial = max(one.settled for one in heard if not one.final)
    assert partial >= 0.6 * len(heard[-1].words)


def test_a_pass_that_goes_round_in_circles_says_it_once(recogniser: Recogniser, spoken: Callable[[str], Sound]) -> None:
    """Without silence after it this clip makes Whisper repeat itself; what is written stands once nevertheless."""
    sound = spoken("en_timit")[: -RATE // 2]
    written = recogniser._write(recogniser.encode(sound, 0.0), "en", ())
    assert written.text.lower().count("greasy") == 1


def test_text_continues_from_what_has_settled(recogniser: Recogniser, spoken: Callable[[str], Sound]) -> None:
    """Given the first words, a pass writes only those after them, with the same times."""
    sound = spoken("en_sb_spk1_1")
    encoded = recogniser.encode(sound)
    whole = recogniser.write(sound, encoded, "en")
    settled = [token for piece in whole.pieces[:3] for token in piece.tokens]
    rest = recogniser.write(sound, encoded, "en", settled)
    assert [piece.text for piece in rest.pieces] == [piece.text for piece in whole.pieces[3:]]
    assert [piece.start_s for piece in rest.pieces[1:]] == [piece.start_s for piece in whole.pieces[4:]]


def test_voices_are_found_whatever_the_chunks(detector: VoiceDetector, spoken: Callable[[str], Sound]) -> None:
    """Cut anyhow the sound gives the same likelihoods; two streams, each with its state, don't disturb each other."""
    sound, other = spoken("en_timit")[: STEP * 60], spoken("zh_baidu")[: STEP * 60]
    whole = detector.listen(VoiceState(), sound)
    mine, theirs = VoiceState(), VoiceState()
    parts = []
    for first in range(0, len(sound), 700):
        parts.append(detector.listen(mine, sound[first : first + 700]))
        detector.listen(theirs, other[first : first + 700])
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-4)
    assert whole.shape == (60,) and whole.max() > 0.9


def non_speech(shared_data: Path, every: int) -> Sound:
    """Every so manieth sound of things, weather, animals and machines, and the noises, one after another."""
    paths = sorted((shared_data / "esc10").rglob("*.*"))[::every]
    paths += sorted((shared_data / "speech").glob("noise_*"))[: 1 if every > 3 else 3]
    parts = [read_sound(path) for path in paths]
    return np.concatenate([np.concatenate([part, np.zeros(RATE // 2, np.float32)]) for part in parts])


def test_no_words_from_what_is_no_speech(files: SpeechFiles, shared_data: Path) -> None:
    """A minute and more of sounds, and a minute of silence, give no words at all."""
    sound = non_speech(shared_data, 16)
    assert len(sound) > 60 * RATE
    sound = np.concatenate([sound, np.zeros(60 * RATE, np.float32)])
    assert [one.text for one in transcribe(chunks(sound), files)] == []


@pytest.mark.prove
def test_no_words_from_ten_minutes_of_no_speech(files: SpeechFiles, shared_data: Path) -> None:
    """The long form, of which the ordinary run does a tenth: more than ten minutes of sounds give no words."""
    sound = non_speech(shared_data, 2)
    assert len(sound) > 600 * RATE
    assert [one.text for one in transcribe(chunks(sound), files)] == []


def test_denoised_speech_is_still_understood(files: SpeechFiles, spoken: Callable[[str], Sound]) -> None:
    """The suppressor, where a stream asks for it, leaves clear speech understandable."""
    heard = list(transcribe(chunks(spoken("en_sb_spk1_1")), files, SpeechOptions(denoise=True)))
    assert "small dog" in heard[0].text
