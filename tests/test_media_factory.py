"""The clips that other tests measure with are what they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import pytest

from tests.media_factory import (
    EIGHT_K,
    HEVC_10_BIT,
    ONE_PIXEL,
    SOUND_8_KHZ,
    SOUND_96_KHZ,
    SURROUND,
    Spec,
    Witness,
    flash_and_beep,
    loopable,
    make,
    not_media,
    remuxed,
    truncated,
    with_resolution_change,
)


def witness(path: Path) -> Witness:
    found = Witness()
    with av.open(str(path)) as container:
        for frame in container.decode():
            (found.see if isinstance(frame, av.VideoFrame) else found.hear)(frame)
    return found


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("clip.mp4", Spec()),
        ("clip.mkv", Spec()),
        ("clip.ts", Spec()),
        ("hevc.mkv", Spec(video="libx265", audio="libopus")),
        ("mjpeg.mov", Spec(video="mjpeg", pix_fmt="yuvj420p", audio="pcm_mulaw", sample_rate=8_000)),
        ("ac3.mkv", Spec(audio="ac3")),
        ("rate.mp4", Spec(sample_rate=96_000)),
    ],
)
@pytest.mark.parametrize("beep_after_s", [0.0, 0.1, -0.06])
def test_beeps_come_when_they_should(tmp_path: Path, name: str, spec: Spec, beep_after_s: float) -> None:
    """In every container and codec the beep is where it was put, within 1 ms."""
    found = witness(flash_and_beep(tmp_path / name, replace(spec, seconds=2.8), beep_after_s=beep_after_s))
    assert found.flashes_s == pytest.approx([0.48, 1.48, 2.48], abs=0.001)
    assert found.offsets_s() == pytest.approx([beep_after_s] * 3, abs=0.001)


def test_loopable_tracks_end_together(tmp_path: Path) -> None:
    """Picture and sound of a loopable clip are of exactly one length, both from 0."""
    with av.open(str(loopable(tmp_path / "loop.mp4", blocks=2))) as container:
        ends = [stream.duration * stream.time_base for stream in container.streams]
        assert ends[0] == ends[1] == pytest.approx(1.92)
        assert [stream.start_time for stream in container.streams] == [0, 0]


def test_extremes(tmp_path: Path) -> None:
    """One pixel, 8K, ten bits, 8 kHz, 96 kHz and 5.1 come out as ordered."""
    expected = {
        "pixel.mkv": (ONE_PIXEL, lambda stream: (stream.width, stream.height) == (1, 1)),
        "8k.mkv": (replace(EIGHT_K, seconds=0.04), lambda stream: (stream.width, stream.height) == (7680, 4320)),
        "ten.mkv": (HEVC_10_BIT, lambda stream: stream.codec_context.pix_fmt == "yuv420p10le"),
        "8khz.mov": (SOUND_8_KHZ, lambda stream: stream.sample_rate == 8_000),
        "96khz.mkv": (SOUND_96_KHZ, lambda stream: stream.sample_rate == 96_000),
        "surround.mkv": (SURROUND, lambda stream: stream.channels == 6),
    }
    for name, (spec, holds) in expected.items():
        with av.open(str(make(tmp_path / name, spec))) as container:
            assert holds(container.streams[0]), name
            assert next(container.decode(container.streams[0])).pts is not None


def test_late_sound(tmp_path: Path) -> None:
    """Sound that is to come late comes then, within one AAC frame."""
    with av.open(str(make(tmp_path / "late.mp4", Spec(audio_from_s=1.0)))) as container:
        first = next(packet for packet in container.demux(audio=0) if packet.pts >= 0)
        assert float(first.pts * first.time_base) == pytest.approx(1.0, abs=0.022)


def test_resolution_changes_in_mid_stream(tmp_path: Path) -> None:
    """One track, two sizes, in their order."""
    with av.open(str(with_resolution_change(tmp_path / "sizes.ts"))) as container:
        sizes = [(frame.width, frame.height) for frame in container.decode(video=0)]
    assert sizes == [(320, 240)] * 25 + [(640, 360)] * 25


def test_remuxed_changes_times(tmp_path: Path) -> None:
    """A copy's times are what the change made of them, and a dropped packet is gone."""
    source = make(tmp_path / "clip.mkv", Spec(audio=None))

    def jump(packet: av.Packet) -> bool:
        if packet.pts >= 1000:  # Matroska counts milliseconds
            packet.pts += 10_000
            packet.dts += 10_000
        return packet.pts != 400

    with av.open(str(remuxed(source, tmp_path / "jump.mkv", jump))) as container:
        times = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    assert len(times) == 49
    assert max(times) == 11_960


def test_truncated_opens_and_then_breaks(tmp_path: Path) -> None:
    """Half an MP4 whose index stands first still opens, and holds about half its pictures."""
    source = make(tmp_path / "clip.mp4", Spec(muxer_options=(("movflags", "faststart"),)))
    with av.open(str(truncated(source, tmp_path / "half.mp4"))) as container:
        assert 10 < sum(1 for packet in container.demux(video=0) if packet.size) < 40


def test_what_is_no_media_does_not_open(tmp_path: Path) -> None:
    """Text, HTML, noise, an empty file and a folder are refused by FFmpeg."""
    for name, path in not_media(tmp_path).items():
        with pytest.raises(av.error.FFmpegError):
            av.open(str(path))
            pytest.fail(f"{name} opened")
