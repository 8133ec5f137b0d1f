"""Decoding: what is left undecoded between samples, and that the samples are the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.decode import DecodeOptions, VideoDecoder
from streamer.media import Effort, Frame, SourceStats
from streamer.sources.picture import PictureConverter
from tests import media_factory as factory
from tests.media_factory import Spec

S = 1_000_000_000
MS = 1_000_000
EVERYTHING = DecodeOptions(lazy=False, skip_loop_filter=False, skip_unreferenced=False)
Clips = Callable[..., Path]
_PICTURES: dict[Path, dict[int, NDArray[np.uint8]]] = {}


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


@settings(max_examples=25, deadline=None)
@given(lost=st.sets(st.integers(1, 149), max_size=10))
def test_no_lost_packet_brings_a_wrong_picture(clips: Clips, lost: set[int]) -> None:
    """Whichever pictures get lost on the way, every sample is the very picture that the camera made; and pictures are
    there again from the next key frame on."""
    path = clips("sent.ts", Spec(seconds=6.0, gop=25, audio=None))
    if path not in _PICTURES:
        _PICTURES[path] = {frame.media_ns: frame.rgb for frame in sample(path, EVERYTHING, 25)[0]}
    frames, _ = sample(path, DecodeOptions(skip_loop_filter=False), drop=lambda number: number in lost)
    assert all(np.array_equal(frame.rgb, _PICTURES[path][frame.media_ns]) for frame in frames)
    begin_ns = min(_PICTURES[path])
    key_lost = {number // 25 for number in lost if number % 25 == 0}
    seen = {(frame.media_ns - begin_ns) // S for frame in frames}
    assert seen >= set(range(6)) - key_lost


def test_where_key_frames_are_far_apart_what_refers_to_a_lost_picture_counts_half(clips: Clips) -> None:
    """With the next key frame 4 s away, pictures behind a lost one are used, and stand for half their time up to it."""
    path = clips("far.ts", Spec(seconds=14.0, gop=100, audio=None))
    frames, stats = sample(path, DecodeOptions(), drop=lambda number: number == 230)
    begin_ns = frames[0].media_ns
    halved = [frame for frame in frames if frame.duration_ns < 500 * MS]
    assert [(frame.media_ns - begin_ns) // S for frame in halved[:1]] == [9]
    assert all(9 * S < frame.media_ns - begin_ns < 12 * S for frame in halved) and 4 <= len(halved) <= 6
    assert "corrupt" not in stats.drops


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
    """A decoder that is eased for a moment drops what waits, counts it, and comes back with the next key frame."""
    stats = SourceStats()
    frames: list[Frame] = []
    with av.open(str(clips("lazy.mkv", Spec(seconds=6.0, gop=25, audio=None)))) as container:
        stream = container.streams.video[0]
        decoder = VideoDecoder(stream, 64, 2, DecodeOptions(), stats)
        for number, packet in enumerate(container.demux(stream)):
            if packet.size:
                decoder.ease("keyframes" if number == 80 else "all", "overload")
                frames += decoder.feed(packet, number * 40 * MS, number * 40 * MS, 0)
    assert not [frame for frame in frames if 3200 * MS <= frame.media_ns < 4 * S]
    assert 4 * S in [frame.media_ns for frame in frames]
    assert 20 <= stats.drops["overload"] <= 25 and "no_keyframe" not in stats.drops


def test_a_sender_that_can_be_asked_for_a_key_frame_should_be_while_one_is_lacking(clips: Clips) -> None:
    """Before the first packet and while all goes well none is lacking; in the midst of a group one is, and while key
    frames alone are decoded; the size of the pictures is known once one was sampled."""
    stats = SourceStats()
    with av.open(str(clips("lazy.mkv", Spec(seconds=6.0, gop=25, audio=None)))) as container:
        stream = container.streams.video[0]
        decoder = VideoDecoder(stream, 64, 2, DecodeOptions(), stats)
        assert not decoder.lacks_key_frame and stats.picture is None
        lacking: list[int] = []
        for number, packet in enumerate(container.demux(stream)):
            if packet.size and number >= 10:
                decoder.ease("keyframes" if 80 <= number < 90 else "all", "eased")
                decoder.feed(packet, number * 40 * MS, number * 40 * MS, 0)
                lacking += [number] if decoder.lacks_key_frame else []
    assert lacking == [*range(10, 25), *range(80, 100)]  # key frames are every 25
    assert stats.picture == (320, 240)


# -- easing ------------------------------------------------------------------------------------------------------------


@dataclass
class Eased:
    """What came of a clip decoded under changing efforts: each sample with the number of the packet that brought it."""

    frames: list[tuple[int, Frame]] = field(default_factory=list)
    keys_ns: list[int] = field(default_factory=list)
    stats: SourceStats = field(default_factory=SourceStats)


def ease(path: Path, effort: Callable[[int], Effort]) -> Eased:
    """Decode the picture track of a file, with the effort that `effort(number)` gives before each packet. How far it
    is read never falls back, and with less than all effort it is never behind the newest packet."""
    found, reached_ns = Eased(), -S
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = VideoDecoder(stream, 64, 2, DecodeOptions(skip_loop_filter=False), found.stats)
        assert stream.time_base is not None
        for number, packet in enumerate(packet for packet in container.demux(stream) if packet.size):
            assert packet.pts is not None
            media_ns = int(packet.pts * stream.time_base * S)
            order_ns = 0 if packet.dts is None else int(packet.dts * stream.time_base * S)  # the first in Matroska
            if packet.is_keyframe:
                found.keys_ns.append(media_ns)
            decoder.ease(effort(number), "eased")
            found.frames += [(number, frame) for frame in decoder.feed(packet, media_ns, order_ns, media_ns)]
            assert decoder.reach_ns is not None
            assert effort(number) == "all" or decoder.reach_ns == order_ns
            assert decoder.reach_ns >= reached_ns - decoder.interval_ns
            reached_ns = decoder.reach_ns
    return found


def test_key_frames_alone(clips: Clips, tmp_path: Path) -> None:
    """Eased to key frames nothing else is decoded; each is a sample, comes with its own packet, and is the picture that
    decoding everything gives; what is left out is counted."""
    for path in (clips("lazy.mkv", Spec(seconds=6.0, gop=25, audio=None)), with_b_frames(tmp_path / "b.mkv", gop=25)):
        pictures = {frame.media_ns: frame.rgb for frame in sample(path, EVERYTHING, 25)[0]}
        eased = ease(path, lambda _: "keyframes")
        assert [frame.media_ns for _, frame in eased.frames] == eased.keys_ns
        assert [number for number, _ in eased.frames] == list(range(0, 150, 25))
        assert all(np.array_equal(frame.rgb, pictures[frame.media_ns]) for _, frame in eased.frames)
        assert eased.stats.frames_decoded == 6 and eased.stats.drops == {"eased": 144}
        assert {frame.duration_ns for _, frame in eased.frames[1:]} == {S}


def test_no_picture_at_all(clips: Clips) -> None:
    """Eased to none nothing is decoded, and how far the track is read goes on."""
    eased = ease(clips("lazy.mkv", Spec(seconds=6.0, gop=25, audio=None)), lambda _: "none")
    assert not eased.frames and eased.stats.frames_decoded == 0 and eased.stats.drops == {"eased": 150}


def test_key_frames_closer_than_samples_are_thinned_out(clips: Clips) -> None:
    """Where every picture is a key frame, easing to key frames decodes no more of them than are sampled."""
    path = clips("mjpeg25.mkv", Spec(seconds=6.0, video="mjpeg", pix_fmt="yuvj420p", audio=None))
    eased = ease(path, lambda _: "keyframes")
    assert 12 <= len(eased.frames) <= 13 and eased.stats.frames_decoded <= 13


def test_all_effort_begins_again_with_a_key_frame(clips: Clips) -> None:
    """Back at all effort the next key frame is the next sample, and the packets up to it count as eased."""
    path = clips("lazy.mkv", Spec(seconds=6.0, gop=25, audio=None))
    eased = ease(path, lambda number: "none" if 30 <= number < 60 else "all")
    times = [frame.media_ns for _, frame in eased.frames]
    assert not [media_ns for media_ns in times if 1200 * MS <= media_ns < 3 * S]
    assert 3 * S in times and all(b - a <= 600 * MS for a, b in pairwise(t for t in times if t >= 3 * S))
    assert 45 <= eased.stats.drops["eased"] <= 50 and "no_keyframe" not in eased.stats.drops


def test_a_key_frame_is_waited_for_as_long_as_they_are_apart(clips: Clips) -> None:
    """Where key frames are 16 s apart, coming back in the midst brings no picture before the next one."""
    path = clips("long.mkv", Spec(seconds=34.0, gop=400, size=(64, 48), audio=None))
    eased = ease(path, lambda number: "none" if 420 <= number < 430 else "all")
    assert eased.keys_ns == [0, 16 * S, 32 * S]
    assert not [frame for _, frame in eased.frames if 17 * S <= frame.media_ns < 32 * S]
    assert eased.frames[-1][1].media_ns >= 32 * S


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.dictionaries(st.integers(0, 149), st.sampled_from(["all", "keyframes", "none"]), max_size=12))
@pytest.mark.parametrize("reordered", [False, True])
def test_no_turn_of_effort_brings_a_wrong_picture(
    clips: Clips, tmp_path_factory: pytest.TempPathFactory, reordered: bool, turns: dict[int, Effort]
) -> None:
    """However efforts follow one another, every sample is the very picture that decoding everything gives."""
    path = clips("lazy.mkv", Spec(seconds=6.0, gop=25, audio=None))
    if reordered:
        path = tmp_path_factory.getbasetemp() / "turns-b.mkv"
        if not path.is_file():
            with_b_frames(path, gop=25)
    if path not in _PICTURES:
        _PICTURES[path] = {frame.media_ns: frame.rgb for frame in sample(path, EVERYTHING, 25)[0]}
    efforts: list[Effort] = ["all"]
    for number in range(150):
        efforts.append(turns.get(number, efforts[-1]))
    eased = ease(path, lambda number: efforts[number + 1])
    for _, frame in eased.frames:
        assert np.array_equal(frame.rgb, _PICTURES[path][frame.media_ns])


# -- odd pictures -----------------------------------------------------------------------------------------------------


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
