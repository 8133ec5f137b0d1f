"""Decoding: what is left undecoded between samples, and that the samples are the same."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from streamer.decode import DecodeOptions, PictureConverter, VideoDecoder
from streamer.media import Frame, SourceStats
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
