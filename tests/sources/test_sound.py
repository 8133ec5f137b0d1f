"""Sound: chunks without seams, gaps that stay gaps."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import av
import numpy as np

from streamer.media import AudioChunk, SourceStats
from streamer.sources.sound import AudioDecoder
from tests.media_factory import Spec

S = 1_000_000_000
MS = 1_000_000
Clips = Callable[..., Path]


def hear(path: Path, shift_ns: Callable[[int], int] = lambda _: 0) -> list[AudioChunk]:
    """The chunks of a file's sound; packet `number` is moved by `shift_ns(number)`."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        decoder = AudioDecoder(stream, 16_000, SourceStats())
        base = stream.time_base
        assert base is not None
        chunks = []
        for number, packet in enumerate(container.demux(stream)):
            if packet.size:
                assert packet.pts is not None
                chunks += decoder.feed(packet, int(packet.pts * base * S) + shift_ns(number), 0)
        return chunks + decoder.flush(0)


def test_sound_comes_in_chunks_of_a_tenth_second_without_seams(clips: Clips) -> None:
    """Chunks of about 100 ms follow each other to the sample, and the tone runs through them."""
    chunks = hear(clips("tone.mkv", Spec(seconds=3.0, video=None)))
    assert all(90 * MS <= len(chunk.samples) * S // 16_000 <= 130 * MS for chunk in chunks[1:-2])
    samples = np.concatenate([chunk.samples for chunk in chunks]).astype(np.float64)[4_000:40_000]
    # A sine obeys x[n+1] = 2 cos(w) x[n] - x[n-1]: a seam or a lost sample breaks it.
    rest = samples[2:] + samples[:-2] - 2 * np.cos(2 * np.pi * 440 / 16_000) * samples[1:-1]
    assert np.abs(rest).max() < 0.02


def test_a_gap_in_the_stamps_stays_a_gap(clips: Clips) -> None:
    """A second missing in the middle is missing in the chunks' media time, and nothing is stretched over it."""
    chunks = hear(clips("tone.mkv", Spec(seconds=3.0, video=None)), lambda number: S if number >= 60 else 0)
    steps = [b.media_ns - a.media_ns - len(a.samples) * S // 16_000 for a, b in pairwise(chunks)]
    gaps = [step for step in steps if step > 50 * MS]
    assert len(gaps) == 1 and abs(gaps[0] - S) < 30 * MS


def test_jitter_of_the_stamps_makes_no_gaps(clips: Clips) -> None:
    """Stamps that tremble by a few milliseconds do not tear the sound."""
    chunks = hear(clips("tone.mkv", Spec(seconds=3.0, video=None)), lambda number: (number % 3) * 3 * MS)
    assert all(len(chunk.samples) >= 1400 for chunk in chunks[1:-2])


def test_sound_before_an_epoch_is_cut_off_to_the_sample(clips: Clips) -> None:
    """After a restart at 1.2345 s the first chunk begins there."""
    with av.open(str(clips("tone.mkv", Spec(seconds=3.0, video=None)))) as container:
        stream = container.streams.audio[0]
        decoder = AudioDecoder(stream, 16_000, SourceStats())
        decoder.restart(1_234_500_000)
        chunks = []
        for packet in container.demux(stream):
            if packet.size:
                assert packet.pts is not None and stream.time_base is not None
                chunks += decoder.feed(packet, int(packet.pts * stream.time_base * S), 0)
    assert abs(chunks[0].media_ns - 1_234_500_000) < 100_000
