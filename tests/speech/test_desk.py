"""The process that listens: sound goes there, words come back; it is killed, stopped and starved."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from streamer.media import AudioChunk
from streamer.speech.desk import SpeechProcess, SpeechSettings
from streamer.speech.files import SpeechFiles, find_speech
from streamer.speech.heard import Heard, SpeechOptions
from tests.conftest import eventually

Sound = NDArray[np.float32]
RATE, CHUNK, NS = 16_000, 1600, 1_000_000_000
# The machine may be busy with anything else, and the process is the last to get its turn.
LONG_S, AGAIN_S = 120.0, 8.0


class Desk:
    """A running process, and what was heard."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.process = SpeechProcess(SpeechSettings(threads=1), self.heard.append)

    def say(self, stream: str, sound: Sound, from_ns: int = 0) -> None:
        """All of it at once."""
        for first in range(0, len(sound), CHUNK):
            self.process.feed(stream, AudioChunk(from_ns + first * NS // RATE, 0, sound[first : first + CHUNK]))

    async def say_until_heard(self, stream: str, sound: Sound, from_ns: int = 0) -> Heard:
        """Say it again and again until it is heard: on a machine that has no time for it an utterance is shed."""
        before = len(self.finals(stream))
        for again in range(int(LONG_S / AGAIN_S)):
            self.say(stream, sound, from_ns + again * 60 * NS)
            with contextlib.suppress(AssertionError):
                await eventually(lambda: len(self.finals(stream)) > before, AGAIN_S)
                return self.finals(stream)[before]
        raise AssertionError(f"nothing heard of {stream}: {self.process.report}, {self.process.hearing(stream)}")

    def finals(self, stream: str) -> list[Heard]:
        """The stream's final results."""
        return [one for one in self.heard if one.stream == stream and one.final]


@pytest.fixture
async def desk(files: SpeechFiles) -> AsyncIterator[Desk]:
    """Started; stopped at the end."""
    made = Desk()
    await made.process.start()
    assert made.process.off is None
    yield made
    await made.process.stop()
    assert made.process.off is not None and made.process.pid is None


async def test_two_streams_are_heard_each_for_itself_and_a_killed_process_comes_back(
    desk: Desk, spoken: Callable[[str], Sound]
) -> None:
    """Words of both languages arrive under their streams' names; after SIGKILL listening goes on with new numbers, what
    was settled became final, and what was waiting is counted as shed."""
    process = desk.process
    process.put("en", SpeechOptions())
    process.put("zh", SpeechOptions(language="zh"))
    english, chinese = spoken("en_sb_spk1_1"), spoken("zh_aishell_0764")
    first, other = await asyncio.gather(desk.say_until_heard("en", english), desk.say_until_heard("zh", chinese))
    assert "small dog" in first.text and first.language == "en" and other.language == "zh"
    heard_to_ns = process.hearing("en").heard_to_ns
    assert heard_to_ns is not None and heard_to_ns % (60 * NS) == len(english) * NS // RATE

    pid = process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: process.restarts == 1 and process.pid not in (None, pid), LONG_S, "a new process")
    second = await desk.say_until_heard("en", english, 7200 * NS)
    assert "small dog" in second.text and second.utterance > first.utterance and second.start_ns >= 7200 * NS


async def test_an_utterance_in_progress_at_a_crash_ends_with_what_had_settled(
    desk: Desk, spoken: Callable[[str], Sound]
) -> None:
    """Nothing that was told stays open for ever."""
    process = desk.process
    process.put("en", SpeechOptions())
    sound = spoken("en_libri_1995")[: 8 * RATE]
    for first in range(0, len(sound), CHUNK):
        process.feed("en", AudioChunk(first * NS // RATE, 0, sound[first : first + CHUNK]))
        await asyncio.sleep(0.05)
    await eventually(lambda: any(one.settled >= 2 for one in desk.heard), LONG_S, "settled words")
    assert not desk.finals("en")
    pid = process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: desk.finals("en"), LONG_S, "its end")
    told = [one for one in desk.heard if not one.final][-1]
    assert desk.finals("en")[0].words == told.words[: told.settled]


async def test_a_process_that_stands_still_costs_bounded_memory_and_says_shed(
    desk: Desk, spoken: Callable[[str], Sound]
) -> None:
    """With the process stopped, an hour of sound leaves a few seconds of it waiting here; when it goes on, so does
    listening."""
    process = desk.process
    process.put("en", SpeechOptions())
    pid = process.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    before = psutil.Process().memory_info().rss
    minute = np.zeros(60 * RATE, np.float32)
    for count in range(60):
        desk.say("en", minute, count * 60 * NS)
        await asyncio.sleep(0)
    assert process.waiting <= 60
    assert psutil.Process().memory_info().rss - before < 50e6
    hearing = process.hearing("en")
    assert hearing.shed and hearing.shed_ns > 3500 * NS
    os.kill(pid, signal.SIGCONT)
    await eventually(lambda: process.waiting == 0, LONG_S, "what waited to be taken")
    assert "small dog" in (await desk.say_until_heard("en", spoken("en_sb_spk1_1"), 7200 * NS)).text


async def test_without_a_model_speech_is_off_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that can't be had cost speech alone: no error, a reason, and sound that is fed goes nowhere."""
    monkeypatch.setenv("STREAMER_CACHE", str(tmp_path / "cache"))
    process = SpeechProcess(SpeechSettings(weights=str(tmp_path / "none")), lambda heard: None)
    await process.start()
    assert process.off is not None and str(tmp_path / "none") in process.off
    process.put("a", SpeechOptions())
    process.feed("a", AudioChunk(0, 0, np.zeros(1600, np.float32)))
    assert process.waiting == 0
    await process.stop()


async def test_a_model_that_cannot_be_loaded_turns_speech_off(tmp_path: Path) -> None:
    """It is tried a few times, and not for ever."""
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    process = SpeechProcess(SpeechSettings(model=str(tmp_path)), lambda heard: None)
    await process.start()
    assert process.off is not None and "did not come up" in process.off
    assert process.pid is None


def test_a_model_of_ones_own_is_a_folder(files: SpeechFiles, tmp_path: Path) -> None:
    """A path with the right files is taken; another is refused with what it lacks; a size is looked for by its name."""
    assert find_speech(files.model) == files
    why = find_speech(str(tmp_path))
    assert isinstance(why, str) and "model.bin" in why
    (tmp_path / "whisper-tiny").symlink_to(files.model)
    found = find_speech("tiny", tmp_path)
    assert isinstance(found, SpeechFiles) and found.model == str(tmp_path / "whisper-tiny")
