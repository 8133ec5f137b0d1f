"""Decoding: which pictures are sampled, what is left undecoded for it, and that the pictures are the same."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.decode import AudioDecoder, DecodeOptions, Grid, PictureConverter, VideoDecoder
from streamer.media import AudioChunk, Frame, SourceStats
from tests import media_factory as factory
from tests.media_factory import Spec

S = 1_000_000_000
MS = 1_000_000
EVERYTHING = DecodeOptions(lazy=False, skip_loop_filter=False, skip_unreferenced=False)
Clips = Callable[..., Path]


def sample(
    path: Path, options: DecodeOptions, frames_per_second: int = 2, drop: Callable[[int], bool] = lambda _: False
) -> tuple[list[Frame], SourceStats]:
    """The samples of a file's picture track, and what they cost; packets for which `drop(number)` is true get lost."""
    stats = SourceStats()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = VideoDecoder(stream, 64, frames_per_second, options, stats)
        base = stream.time_base
        assert base is not None
        frames = []
        for number, packet in enumerate(container.demux(stream)):
            if not packet.size or drop(number):
                continue
            assert packet.pts is not None
            media_ns = int(packet.pts * base * S)
            order_ns = media_ns if packet.dts is None else int(packet.dts * base * S)
            for frame in decoder.feed(packet, media_ns, order_ns, media_ns):
                reach_ns = decoder.reach_ns
                assert reach_ns is not None
                frames.append(frame)
        return frames + decoder.flush(0), stats


def with_b_frames(path: Path, seconds: float = 6.0, gop: int = 50) -> Path:
    """H.264 as archives hold it: three B pictures in a row, references among them, open groups."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 320, 240, "yuv420p", gop
        stream.options = {
            "preset": "veryfast",
            "bf": "3",
            "x264-params": "open-gop=1:scenecut=0:b-adapt=0:b-pyramid=normal",
        }
        for index in range(int(seconds * 25)):
            frame = av.VideoFrame.from_ndarray(factory.pattern(index / 25, (320, 240)), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


# -- the grid ----------------------------------------------------------------------------------------------------------


@given(
    interval_ms=st.integers(10, 400),
    frames_per_second=st.sampled_from([1, 2, 4]),
    gop=st.integers(1, 120),
    jitter=st.integers(0, 8),
)
def test_samples_keep_their_distance(interval_ms: int, frames_per_second: int, gop: int, jitter: int) -> None:
    """However pictures and key frames fall, samples are a period apart to within an eighth and a picture."""
    grid, period_ns = Grid(frames_per_second), S // frames_per_second
    taken = []
    for index in range(600):
        media_ns = index * interval_ms * MS + (index * 7919 % (jitter + 1)) * MS
        is_key = gop * interval_ms * MS >= period_ns // 2 and index % gop == 0
        if grid.is_due(media_ns, is_key, min(interval_ms * MS // 2, grid.reach_ns)):
            grid.take(media_ns, is_key, None)
            taken.append(media_ns)
    slack_ns = period_ns // 8 + (interval_ms + jitter) * MS
    steps = [b - a for a, b in pairwise(taken)]
    assert all(step >= period_ns - slack_ns for step in steps)
    if interval_ms * MS < period_ns:
        assert all(step <= period_ns + slack_ns for step in steps)
    else:
        assert len(taken) == 600


def test_the_grid_comes_into_step_with_key_frames() -> None:
    """Key frames a whole number of periods apart end up being samples, by steps of at most an eighth of a period."""
    grid = Grid(2)
    grid.restart(0)
    keys = [310 * MS + second * S for second in range(20)]
    taken = []
    for index in range(20 * 50):
        media_ns = index * 20 * MS + 10 * MS
        is_key = media_ns in keys
        if grid.is_due(media_ns, is_key, 10 * MS):
            following = next((key for key in keys if key > media_ns), None)
            grid.take(media_ns, is_key, following)
            taken.append(media_ns)
    assert set(keys[4:]) <= set(taken)
    assert all(abs(b - a - 500 * MS) <= 83 * MS for a, b in pairwise(taken))


def test_a_gap_does_not_bring_a_volley_of_samples() -> None:
    """After a hole the next sample is a period after the first picture behind it."""
    grid = Grid(2)
    grid.restart(0)
    taken = [ms for ms in [*range(0, 1000, 40), *range(5000, 7000, 40)] if _take(grid, ms)]
    assert taken[:2] == [0, 480] or taken[:2] == [0, 520]
    behind = [ms for ms in taken if ms >= 5000]
    assert all(abs(b - a - 500) <= 40 for a, b in pairwise(behind))


def _take(grid: Grid, ms: int) -> bool:
    due = grid.is_due(ms * MS, False, 20 * MS)
    if due:
        grid.take(ms * MS, False, None)
    return due


# -- pictures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames_per_second", [2, 4])
def test_lazy_decoding_gives_the_same_pictures_for_less(clips: Clips, frames_per_second: int) -> None:
    """What is left undecoded changes no sample: same times, same pixels; and at 2 a second half is left."""
    path = clips("lazy.mkv", Spec(seconds=6.0, gop=25, audio=None))
    full, full_stats = sample(path, EVERYTHING, frames_per_second)
    lazy, lazy_stats = sample(path, DecodeOptions(skip_loop_filter=False), frames_per_second)
    assert [frame.media_ns for frame in lazy] == [frame.media_ns for frame in full]
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(lazy, full, strict=True))
    assert full_stats.frames_decoded == 150
    assert lazy_stats.frames_decoded <= (90 if frames_per_second == 2 else 130)


@pytest.mark.parametrize("gop", [12, 50, 250])
def test_pictures_that_are_reordered_are_sampled_alike(tmp_path: Path, gop: int) -> None:
    """B pictures and open groups: leaving out what is not referred to changes no sample."""
    path = with_b_frames(tmp_path / "b.mkv", gop=gop)
    full, full_stats = sample(path, EVERYTHING)
    lazy, lazy_stats = sample(path, DecodeOptions(skip_loop_filter=False))
    every, _ = sample(path, EVERYTHING, 25)
    assert len(every) == 150
    assert len(full) in (12, 13) and len(lazy) in (12, 13)
    assert all(440 * MS <= b.media_ns - a.media_ns <= 560 * MS for a, b in pairwise(lazy))
    pictures = {frame.media_ns: frame.rgb for frame in every}
    assert all(np.array_equal(frame.rgb, pictures[frame.media_ns]) for frame in lazy)
    assert lazy_stats.frames_decoded < 0.75 * full_stats.frames_decoded


def test_only_samples_of_motion_jpeg_are_decoded(clips: Clips) -> None:
    """Where every picture stands alone, as many are decoded as are used."""
    path = clips("mjpeg25.mkv", Spec(seconds=6.0, video="mjpeg", pix_fmt="yuvj420p", audio=None))
    frames, stats = sample(path, DecodeOptions())
    assert len(frames) == 12
    assert stats.frames_decoded <= 14


def test_without_the_loop_filter_pictures_are_nearly_the_same(shared_data: Path) -> None:
    """At the encoder's size the unfiltered pictures are within 1.5 levels on average, 30 dB and more."""
    path = shared_data / "av_clips" / "dog_bark_1.mp4"
    full, _ = sample(path, EVERYTHING)
    quick, _ = sample(path, DecodeOptions(lazy=False))
    for ours, theirs in zip(quick, full, strict=True):
        error = ours.rgb.astype(float) - theirs.rgb.astype(float)
        assert 10 * np.log10(255**2 / max(np.mean(error**2), 1e-9)) > 30


def test_lost_packets_cost_pictures_not_the_stream(clips: Clips) -> None:
    """With every seventh packet lost, samples go on to the end and at about their rate."""
    path = clips("lazy.mkv", Spec(seconds=6.0, gop=25, audio=None))
    frames, _ = sample(path, DecodeOptions(), drop=lambda number: number % 7 == 3)
    assert len(frames) >= 10
    assert frames[-1].media_ns > 5 * S


def test_decoding_begins_with_a_key_frame(clips: Clips) -> None:
    """Pictures before the first key frame are dropped and counted; the first sample is the key frame."""
    path = clips("lazy.mkv", Spec(seconds=6.0, gop=25, audio=None))
    frames, stats = sample(path, DecodeOptions(), drop=lambda number: number < 10)
    assert frames[0].media_ns == S
    assert stats.drops["no_keyframe"] == 15


def test_a_new_epoch_samples_from_its_beginning(clips: Clips) -> None:
    """After a restart nothing older than the epoch's beginning is sampled, and decoding goes on without a key frame."""
    stats = SourceStats()
    frames: list[Frame] = []
    with av.open(str(clips("lazy.mkv", Spec(seconds=6.0, gop=25, audio=None)))) as container:
        stream = container.streams.video[0]
        decoder = VideoDecoder(stream, 64, 2, DecodeOptions(), stats)
        for number, packet in enumerate(container.demux(stream)):
            if not packet.size:
                continue
            shift_ns = 100 * S if number >= 60 else 0
            if number == 60:
                decoder.restart(102_400 * MS)
                frames.clear()
            media_ns = number * 40 * MS + shift_ns
            frames += decoder.feed(packet, media_ns, media_ns, media_ns)
    assert frames[0].media_ns == 102_400 * MS
    assert all(abs(b.media_ns - a.media_ns - 500 * MS) <= 83 * MS for a, b in pairwise(frames))


def test_giving_up_to_the_next_key_frame(clips: Clips) -> None:
    """A decoder that is too far behind drops what waits, counts it, and comes back with the next key frame."""
    stats = SourceStats()
    frames: list[Frame] = []
    with av.open(str(clips("lazy.mkv", Spec(seconds=6.0, gop=25, audio=None)))) as container:
        stream = container.streams.video[0]
        decoder = VideoDecoder(stream, 64, 2, DecodeOptions(), stats)
        for number, packet in enumerate(container.demux(stream)):
            if packet.size:
                if number == 80:
                    decoder.skip_to_key()
                frames += decoder.feed(packet, number * 40 * MS, number * 40 * MS, 0)
    assert not [frame for frame in frames if 3200 * MS <= frame.media_ns < 4 * S]
    assert 4 * S in [frame.media_ns for frame in frames]
    assert stats.drops["no_keyframe"] == 20


def test_a_picture_of_absurd_size_is_refused(tmp_path: Path) -> None:
    """A header that claims hundreds of millions of pixels is refused before memory is asked for."""
    data = bytearray(
        (
            factory.make(tmp_path / "small.mkv", Spec(seconds=0.2, video="mjpeg", pix_fmt="yuvj420p", audio=None))
        ).read_bytes()
    )
    at = data.find(b"\xff\xc0")
    while at >= 0:
        data[at + 5 : at + 9] = b"\x40\x00\x40\x00"
        at = data.find(b"\xff\xc0", at + 1)
    path = tmp_path / "huge.mkv"
    path.write_bytes(data)
    frames, stats = sample(path, DecodeOptions())
    assert not frames
    assert stats.drops["corrupt"] >= 1


@pytest.mark.parametrize(("width", "height"), [(640, 360), (240, 320), (64, 64), (1, 1), (1000, 3)])
def test_crop_keeps_shape_and_squash_keeps_everything(width: int, height: int) -> None:
    """Cropping gives the middle square, squashing the whole picture; both of the size asked for."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 4] = 255
    picture = av.VideoFrame.from_ndarray(image, format="rgb24")
    squashed = PictureConverter(64, "squash")(picture)
    cropped = PictureConverter(64, "crop")(picture)
    assert squashed.shape == cropped.shape == (64, 64, 3)
    if width == 640:
        assert abs(squashed.mean() - 255 / 4) < 8
        assert cropped[:, 16:].max() < 40


# -- sound -------------------------------------------------------------------------------------------------------------


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
