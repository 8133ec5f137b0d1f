"""How whisper_streaming does it (Machacek et al. 2023), for comparison: the method, with this project's model.

The sound since the last cut goes through faster-whisper whole, padded to 30 s, each time a second more has come; words
that two passes in a row agree on are published; past 15 s it is cut at the end of a published sentence or segment. One
model serves the streams in turn. Time is simulated: sound comes at its own pace, each pass takes what it took here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamer.bench.spoken import Track
from streamer.speech.heard import SAMPLE_RATE

_CHUNK_S = 1.0
_TRIM_S = 15.0
_NEAR_S = 0.1


@dataclass(slots=True)
class _Growing:
    """One stream. offset_s: where its buffer begins in its track."""

    track: Track
    offset_s: float = 0.0
    passed_s: float = 0.0
    published: list[tuple[str, float]] = field(default_factory=list)
    before: list[tuple[str, float, float]] = field(default_factory=list)
    lags_s: list[float] = field(default_factory=list)

    def take(self, words: Sequence[tuple[str, float, float]], now_s: float) -> None:
        """Words of a pass, each with its times in the track: publish what the pass before wrote as well."""
        last_s = self.published[-1][1] if self.published else 0.0
        fresh = [word for word in words if word[1] > last_s - _NEAR_S]
        agreed = 0
        for one, other in zip(fresh, self.before, strict=False):
            if one[0].strip().casefold() != other[0].strip().casefold():
                break
            agreed += 1
        for text, _, end_s in fresh[:agreed]:
            self.published.append((text, end_s))
            self.lags_s.append(now_s - end_s)
        self.before = fresh[agreed:]


@dataclass(frozen=True, slots=True)
class Grown:
    """What came of it: how far behind each word was, seconds; the text of each track."""

    lags_s: list[float]
    texts: list[str]


def whisper_streaming(tracks: Sequence[Track], model: Path, threads: int, most_s: float) -> Grown:
    """The tracks, up to `most_s` of each, by that method."""
    from faster_whisper import WhisperModel

    whisper = WhisperModel(str(model), device="cpu", compute_type="int8", cpu_threads=threads)
    streams = [_Growing(track) for track in tracks]
    now_s = 0.0
    while True:
        waiting = [stream for stream in streams if _come_s(stream, now_s, most_s) - stream.passed_s >= _CHUNK_S]
        if not waiting:
            if now_s >= most_s:
                break
            now_s += 0.05
            continue
        stream = min(waiting, key=lambda one: one.passed_s)
        now_s += _pass(whisper, stream, _come_s(stream, now_s, most_s), now_s)
    texts = ["".join([text for text, _ in one.published] + [text for text, _, _ in one.before]) for one in streams]
    return Grown([lag for stream in streams for lag in stream.lags_s], texts)


def _come_s(stream: _Growing, now_s: float, most_s: float) -> float:
    return min(now_s, most_s, len(stream.track.sound) / SAMPLE_RATE)


def _pass(whisper: Any, stream: _Growing, come_s: float, now_s: float) -> float:
    """One pass over the stream's buffer; how long it took, seconds."""
    began = time.perf_counter()
    sound = stream.track.sound[round(stream.offset_s * SAMPLE_RATE) : round(come_s * SAMPLE_RATE)]
    before = "".join(text for text, end_s in stream.published if end_s <= stream.offset_s)[-200:]
    segments, _ = whisper.transcribe(
        sound,
        language=stream.track.language,
        beam_size=5,
        word_timestamps=True,
        condition_on_previous_text=True,
        initial_prompt=before or None,
    )
    found = list(segments)
    words = [
        (word.word, stream.offset_s + word.start, stream.offset_s + word.end)
        for segment in found
        for word in segment.words or ()
        if segment.no_speech_prob <= 0.9
    ]
    took_s = time.perf_counter() - began
    stream.take(words, now_s + took_s)
    stream.passed_s = come_s
    _trim(stream, come_s, [stream.offset_s + segment.end for segment in found[:-1]])
    return took_s


def _trim(stream: _Growing, come_s: float, ends_s: Sequence[float]) -> None:
    """Cut the buffer after the last whole segment that is published."""
    if come_s - stream.offset_s <= _TRIM_S or not stream.published:
        return
    published_s = stream.published[-1][1]
    if done := [end_s for end_s in ends_s if end_s <= published_s]:
        stream.offset_s = done[-1]
