"""Real weights and real sound for the tests of speech."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from streamer.bench.spoken import read_sound
from streamer.speech.files import SpeechFiles, find_speech
from streamer.speech.recognise import Recogniser
from streamer.speech.vad import VoiceDetector

Sound = NDArray[np.float32]


@pytest.fixture(scope="session")
def files() -> SpeechFiles:
    """Whisper base and Silero, fetched once."""
    found = find_speech()
    if isinstance(found, str):
        pytest.skip(f"no speech model: {found}; `streamer weights` fetches it")
    return found


@pytest.fixture(scope="session")
def recogniser(files: SpeechFiles) -> Recogniser:
    """Whisper base on one core."""
    return Recogniser(Path(files.model), threads=1)


@pytest.fixture(scope="session")
def detector(files: SpeechFiles) -> VoiceDetector:
    """Silero."""
    return VoiceDetector(Path(files.vad))


@pytest.fixture(scope="session")
def spoken(shared_data: Path) -> Callable[[str], Sound]:
    """A clip of speech by its name: float32 `[n]`, 16 kHz mono, with a second of silence after it."""

    def clip(name: str) -> Sound:
        sound = read_sound(shared_data / "speech" / f"{name}.flac")
        return np.concatenate([sound, np.zeros(16_000, np.float32)])

    return clip
