"""Speech of a file: every utterance once, whole, as fast as the machine can. Blocking."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from streamer.media import AudioChunk
from streamer.speech.files import SpeechFiles
from streamer.speech.heard import Heard, SpeechOptions
from streamer.speech.listener import Listener
from streamer.speech.passes import Passes
from streamer.speech.recognise import Recogniser
from streamer.speech.utterance import Utterance
from streamer.speech.vad import VoiceDetector


def transcribe(
    chunks: Iterator[AudioChunk], files: SpeechFiles, options: SpeechOptions | None = None, stream: str = ""
) -> Iterator[Heard]:
    """Each utterance of the sound when it is over, final, in order; 16 kHz mono."""
    recogniser = Recogniser(Path(files.model), threads=os.cpu_count() or 1)
    passes = Passes(recogniser)
    listener = Listener(stream, options or SpeechOptions(), VoiceDetector(Path(files.vad)))

    def heard(utterances: list[Utterance]) -> Iterator[Heard]:
        for utterance in utterances:
            if (final := passes.final(utterance, listener.language)) is not None:
                yield final

    for chunk in chunks:
        yield from heard(listener.feed(chunk.media_ns, chunk.samples))
    yield from heard(listener.stop())
