"""How far behind words are: streams of real speech, fed in real time to the process that listens, words timed as they
settle; how wrong the text is beside the same model run offline over each whole file; and beside it whisper_streaming's
method on the same sound."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np

from streamer.bench.conditions import conditions
from streamer.bench.growing import whisper_streaming
from streamer.bench.spoken import Track, read_clips, tracks_of
from streamer.clock import NS_PER_S
from streamer.errors import StreamerError
from streamer.media import AudioChunk
from streamer.speech.desk import SpeechProcess, SpeechSettings
from streamer.speech.files import find_speech
from streamer.speech.heard import SAMPLE_RATE, Heard, SpeechOptions

_CHUNK = SAMPLE_RATE // 10
# After the last sound: a pause that ends the last utterance, and its pass.
_AFTER_S = 4.0
_BASELINE_S = 40.0
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Asked:
    """clips: folder with `transcripts.tsv`. talk: the part of the time that each stream speaks. baseline: measure
    whisper_streaming's method, too."""

    clips: Path
    streams: int
    seconds: float
    talk: float = 1.0
    baseline: bool = True
    weights: Path | None = None


@dataclass(slots=True)
class _Listener:
    """What was published of all streams, and how long after it was said."""

    texts: dict[str, list[str]] = field(default_factory=dict)
    lags_s: list[float] = field(default_factory=list)
    taken_back: int = 0
    _told: dict[tuple[str, int], int] = field(default_factory=dict)

    def take(self, heard: Heard) -> None:
        """Sound is fed with the time at which it is said for its media time."""
        now_ns = time.monotonic_ns()
        key = heard.stream, heard.utterance
        for word in heard.words[self._told.get(key, 0) : heard.settled]:
            self.lags_s.append((now_ns - word.end_ns) / NS_PER_S)
        self.taken_back += heard.final and not heard.words
        self._told[key] = max(self._told.get(key, 0), heard.settled)
        if heard.final:
            self.texts.setdefault(heard.stream, []).append(heard.text)


def run(asked: Asked, as_json: bool) -> None:
    """Measure and print.

    Raises:
        StreamerError: the model, or the clips, can't be had.
    """
    tracks = tracks_of(read_clips(asked.clips), asked.streams, asked.seconds, asked.talk)
    found = find_speech(None, asked.weights)
    if isinstance(found, str):
        raise StreamerError(found)
    before = os.getloadavg()[0]
    result: dict[str, object] = asyncio.run(_live(tracks, asked))
    load = {"before": before, "after": os.getloadavg()[0]}
    result |= _errors("offline", tracks, _offline(tracks, Path(found.model)))
    if asked.baseline:
        grown = whisper_streaming(tracks, Path(found.model), os.cpu_count() or 1, min(_BASELINE_S, asked.seconds))
        result["baseline"] = {"whisper_streaming": _lags(grown.lags_s)}
    result |= {"load": load, "command": "streamer " + " ".join(sys.argv[1:]), **conditions()}
    _report(result)
    if as_json:
        click.echo(json.dumps(result, ensure_ascii=False))


async def _live(tracks: Sequence[Track], asked: Asked) -> dict[str, object]:
    listener = _Listener()
    desk = SpeechProcess(SpeechSettings(weights=None if asked.weights is None else str(asked.weights)), listener.take)
    await desk.start()
    try:
        if desk.off is not None:
            raise StreamerError(desk.off)
        for index in range(len(tracks)):
            desk.put(_name(index), SpeechOptions())
        feeds = asyncio.gather(*(_feed(desk, _name(index), track) for index, track in enumerate(tracks)))
        without = await _without_partials(desk, len(tracks), feeds)
        report = desk.report
        shed_s = sum(desk.hearing(_name(index)).shed_ns for index in range(len(tracks))) / NS_PER_S
        return {
            "streams": len(tracks),
            "seconds": asked.seconds,
            "talk": asked.talk,
            **_lags(listener.lags_s),
            **_errors("live", tracks, [" ".join(listener.texts.get(_name(i), [])) for i in range(len(tracks))]),
            "shed_s": round(shed_s, 2),
            "without_partials": without,
            "shed_utterances": report.shed if report is not None else 0,
            "taken_back": listener.taken_back,
            "busy": report.busy if report is not None else None,
            "passes": report.partials + report.finals if report is not None else 0,
        }
    finally:
        await desk.stop()


async def _without_partials(desk: SpeechProcess, streams: int, feeds: asyncio.Future[list[None]]) -> float:
    """The part of the streams' time, until they are fed, in which words were told only at an utterance's end."""
    seen, told = 0, 0
    while not feeds.done():
        await asyncio.wait([feeds], timeout=_LOOK_S)
        seen += streams
        told += sum(desk.hearing(_name(index)).partials for index in range(streams))
    await feeds
    return round(1 - told / seen, 3)


async def _feed(desk: SpeechProcess, name: str, track: Track) -> None:
    """The track at its own pace, each chunk when it has been said, then a pause."""
    sound = np.concatenate([track.sound, np.zeros(round(_AFTER_S * SAMPLE_RATE), np.float32)])
    began_ns = time.monotonic_ns()
    for first in range(0, len(sound), _CHUNK):
        chunk = sound[first : first + _CHUNK]
        said_ns = began_ns + (first + len(chunk)) * NS_PER_S // SAMPLE_RATE
        await asyncio.sleep(max(0.0, (said_ns - time.monotonic_ns()) / NS_PER_S))
        desk.feed(name, AudioChunk(began_ns + first * NS_PER_S // SAMPLE_RATE, time.monotonic_ns(), chunk))


def _offline(tracks: Sequence[Track], model: Path) -> list[str]:
    """Each track whole, as faster-whisper does it by itself."""
    from faster_whisper import WhisperModel

    whisper = WhisperModel(str(model), device="cpu", compute_type="int8", cpu_threads=os.cpu_count() or 1)
    texts = []
    for track in tracks:
        segments, _ = whisper.transcribe(track.sound, language=track.language)
        texts.append(" ".join(segment.text for segment in segments))
    return texts


def _name(index: int) -> str:
    return f"s{index}"


def _lags(lags_s: Sequence[float]) -> dict[str, object]:
    if not lags_s:
        return {"lag_p50_s": None, "lag_p95_s": None, "lag_max_s": None, "words": 0}
    p50, p95, longest = (round(float(value), 2) for value in np.quantile(lags_s, [0.5, 0.95, 1.0]))
    return {"lag_p50_s": p50, "lag_p95_s": p95, "lag_max_s": longest, "words": len(lags_s)}


def _errors(what: str, tracks: Sequence[Track], texts: Sequence[str]) -> dict[str, object]:
    """The mean error of each language's tracks."""
    errors: dict[str, list[float]] = {}
    for track, text in zip(tracks, texts, strict=True):
        errors.setdefault(track.language, []).append(track.error(text))
    return {f"error_{language}_{what}": round(sum(all_) / len(all_), 3) for language, all_ in sorted(errors.items())}


def _report(result: dict[str, object]) -> None:
    click.echo(f"{result['streams']} streams, {result['seconds']} s, each speaks {result['talk']:.0%} of the time")
    click.echo(f"words behind    p50 {result['lag_p50_s']} s, p95 {result['lag_p95_s']} s, of {result['words']}")
    baseline = result.get("baseline")
    if isinstance(baseline, dict):
        other = baseline["whisper_streaming"]
        click.echo(f"whisper_streaming's method: p50 {other['lag_p50_s']} s, p95 {other['lag_p95_s']} s")
    for name, value in result.items():
        if name.startswith("error_"):
            click.echo(f"{name:22} {value:.1%}")
    click.echo(f"words at an utterance's end only: {result['without_partials']:.0%} of the time")
    click.echo(f"shed {result['shed_s']} s, taken back {result['taken_back']}; load {result['load']}")
