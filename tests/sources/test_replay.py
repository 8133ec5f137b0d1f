"""Files at full speed: every format in, aligned frames and sound out, one clear error where there is nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from streamer.errors import MediaError, UserError
from streamer.media import AudioChunk, EpochStart, Frame, Geometry, Progress
from streamer.sources.replay import media_duration_ns, read_file
from tests import media_factory as factory
from tests.media_factory import Spec

S = 1_000_000_000
MS = 1_000_000
GEOMETRY = Geometry(2 * S, S // 2, (2, 4), 224, 16_000, 15_600, 480 * MS)
Clips = Callable[..., Path]


@dataclass
class Read:
    """Everything that a file gave."""

    frames: list[Frame] = field(default_factory=list)
    chunks: list[AudioChunk] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    epochs: list[EpochStart] = field(default_factory=list)
    error: MediaError | None = None

    @property
    def sound_s(self) -> float:
        return sum(len(chunk.samples) for chunk in self.chunks) / GEOMETRY.sample_rate

    @property
    def sound_end_s(self) -> float:
        last = self.chunks[-1]
        return last.media_ns / S + len(last.samples) / GEOMETRY.sample_rate


def read(path: Path, frames_per_second: int = 2) -> Read:
    result = Read()
    kinds = {Frame: result.frames, AudioChunk: result.chunks, Progress: result.progress, EpochStart: result.epochs}
    try:
        for event in read_file(path, GEOMETRY, frames_per_second):
            kinds[type(event)].append(event)  # type: ignore[attr-defined]
    except MediaError as error:
        result.error = error
    return result


def test_a_clip_gives_two_frames_a_second_and_all_its_sound(clips: Clips) -> None:
    """Media time from 0, pictures each half second as uint8 RGB of the checkpoint's size, sound without a gap."""
    result = read(clips("plain.mp4", Spec(seconds=4.0)))
    assert result.error is None
    assert result.epochs == [EpochStart("start", 0, 0)]
    assert len(result.frames) == 8
    assert all(abs(frame.media_ns - index * S // 2) <= 20 * MS for index, frame in enumerate(result.frames))
    assert all(frame.rgb.shape == (224, 224, 3) and frame.rgb.dtype == np.uint8 for frame in result.frames)
    assert all(frame.duration_ns == S // 2 for frame in result.frames)
    assert abs(result.sound_s - 4.0) < 0.03
    ends = [chunk.media_ns + len(chunk.samples) * S // 16_000 for chunk in result.chunks]
    assert all(abs(after.media_ns - end) < MS for end, after in zip(ends, result.chunks[1:], strict=False))
    assert all(chunk.samples.dtype == np.float32 and np.abs(chunk.samples).max() <= 1 for chunk in result.chunks)


def test_four_frames_a_second(clips: Clips) -> None:
    """At 4 a second the distance is a quarter second, to within a picture."""
    result = read(clips("plain.mp4", Spec(seconds=4.0)), 4)
    steps = [b.media_ns - a.media_ns for a, b in pairwise(result.frames)]
    assert len(result.frames) == 16
    assert all(abs(step - 250 * MS) <= 40 * MS for step in steps)


def test_progress_never_passes_a_frame_that_comes_later(clips: Clips) -> None:
    """What progress says was read is complete: no frame or sound of before it follows."""
    for name, spec in (("plain.mp4", Spec(seconds=4.0)), ("mjpeg.mkv", Spec(video="mjpeg", pix_fmt="yuvj420p"))):
        reached = {"video": -1, "audio": -1}
        for event in read_file(clips(name, spec), GEOMETRY, 2):
            if isinstance(event, Progress):
                reached = {"video": event.video_ns or 0, "audio": event.audio_ns or 0}
            elif isinstance(event, Frame):
                assert event.media_ns >= reached["video"]
            elif isinstance(event, AudioChunk):
                assert event.media_ns >= reached["audio"] - MS


FORMATS = {
    "h264_aac.mp4": Spec(),
    "h264_opus.mkv": Spec(audio="libopus"),
    "mjpeg_mulaw.mov": Spec(video="mjpeg", pix_fmt="yuvj420p", audio="pcm_mulaw", sample_rate=8_000),
    "mjpeg_alaw.mov": Spec(video="mjpeg", pix_fmt="yuvj420p", audio="pcm_alaw", sample_rate=8_000),
    "hevc_aac.mkv": Spec(video="libx265"),
    "hevc10_aac.mkv": replace(factory.HEVC_10_BIT, audio="aac"),
    "mp2.mkv": Spec(audio="mp2"),
    "ac3_51.mkv": Spec(audio="ac3", layout="5.1(side)"),
    "aac_96k.mkv": Spec(sample_rate=96_000),
    "stereo.mkv": Spec(layout="stereo"),
    "ts.ts": Spec(),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_its_length(clips: Clips, name: str) -> None:
    """What cameras and archives send decodes to the length it has, both tracks from the start."""
    result = read(clips(name, FORMATS[name]))
    assert result.error is None
    assert len(result.frames) == 4
    assert result.frames[0].media_ns < 60 * MS
    assert abs(result.sound_end_s - 2.0) < 0.06
    assert abs(result.sound_s - 2.0) < 0.1


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("8k.mov", Spec(video=None, audio="pcm_mulaw", sample_rate=8_000)),
        ("96k.mkv", Spec(video=None, sample_rate=96_000)),
        ("stereo_sound.mkv", Spec(video=None, layout="stereo", audio="libopus")),
        ("51_sound.mkv", Spec(video=None, audio="ac3", layout="5.1(side)")),
        ("16k_passthrough.mkv", Spec(video=None, audio="pcm_f32le", sample_rate=16_000)),
    ],
)
def test_sound_keeps_its_loudness_and_pitch(clips: Clips, name: str, spec: Spec) -> None:
    """440 Hz at a third of full scale in every channel is 440 Hz at a third in mono, from any rate and layout."""
    result = read(clips(name, spec))
    assert result.error is None and not result.frames
    samples = np.concatenate([chunk.samples for chunk in result.chunks])[3_200:24_000]
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert abs(np.argmax(spectrum) * 16_000 / len(samples) - 440) < 2
    assert abs(np.sqrt(2 * np.mean(samples.astype(np.float64) ** 2)) - 1 / 3) < 0.03


def test_a_picture_of_one_pixel_and_one_of_33_million(clips: Clips) -> None:
    """1 x 1 and 8K are pictures like any other."""
    for name, spec in (("one.mkv", replace(factory.ONE_PIXEL, audio=None)), ("8k.mp4", factory.EIGHT_K)):
        result = read(clips(name, spec))
        assert result.error is None
        assert result.frames and result.frames[0].rgb.shape == (224, 224, 3)


def test_colours_arrive_as_they_were(clips: Clips) -> None:
    """Stripes of a known colour are within a few levels of it after encoding, decoding and scaling."""
    result = read(clips("colours.mkv", Spec(seconds=1.0, size=(640, 360), audio=None)))
    expected = factory.pattern(0.0, (224, 224)).astype(int)
    middle = np.abs(result.frames[0].rgb.astype(int) - expected)[8:-8, 8:-8]
    assert middle.mean() < 6


@pytest.mark.parametrize("beep_after_s", [0.0, 0.12, -0.2])
def test_sound_and_picture_are_aligned(clips: Clips, beep_after_s: float, tmp_path: Path) -> None:
    """A beep made a known time after its flash is found that long after it, within 20 ms."""
    path = factory.flash_and_beep(tmp_path / "flash.mp4", Spec(seconds=4.0), beep_after_s=beep_after_s)
    offsets = flash_to_beep(read(path, 25))
    assert len(offsets) >= 3
    assert all(abs(offset - beep_after_s) < 0.02 for offset in offsets)


def flash_to_beep(result: Read) -> list[float]:
    """How long after each flash its beep comes, by the media time of frames and samples."""
    bright = [(frame.media_ns / S, frame.rgb.mean() > 128) for frame in result.frames]
    flashes = [time for (_, before), (time, now) in pairwise([(0.0, False), *bright]) if now and not before]
    loud: list[float] = []
    for chunk in result.chunks:
        loud += [chunk.media_ns / S + int(index) / 16_000 for index in np.flatnonzero(np.abs(chunk.samples) > 0.1)]
    beeps = [time for before, time in pairwise([-1.0, *loud]) if time - before > 0.2]
    return [min((beep - flash for beep in beeps), key=abs) for flash in flashes if beeps]


def test_sound_that_starts_late_starts_late(clips: Clips) -> None:
    """A track that begins 1.5 s into the file has media time from there on."""
    result = read(clips("late.mkv", Spec(seconds=3.0, audio_from_s=1.5)))
    assert abs(result.chunks[0].media_ns - 1500 * MS) < 30 * MS


def test_a_track_that_appears_late_in_a_transport_stream_is_found(tmp_path: Path) -> None:
    """A transport stream announces tracks as they come: sound that begins long after the start is heard."""
    spec = Spec(seconds=14.0, audio_from_s=12.0, fps=5, gop=5)
    result = read(factory.make(tmp_path / "late.ts", spec))
    assert result.error is None
    assert abs(result.sound_s - 2.0) < 0.2
    assert 11.9 < result.chunks[0].media_ns / S < 12.2


def test_a_change_of_resolution_in_mid_stream(tmp_path: Path) -> None:
    """Pictures that change size go on as pictures of the checkpoint's size."""
    path = factory.with_resolution_change(tmp_path / "sizes.ts", ((320, 240), (640, 360), (160, 120)))
    result = read(path)
    assert result.error is None
    assert len(result.frames) >= 5
    assert max(frame.media_ns for frame in result.frames) > 2 * S


def test_a_change_of_sample_rate_and_channels_in_mid_stream(tmp_path: Path) -> None:
    """Sound that changes its rate and layout goes on, in its place."""
    joined = tmp_path / "joined.aac"
    parts = [("a.aac", 48_000, "mono"), ("b.aac", 22_050, "stereo")]
    with joined.open("wb") as file:
        for name, rate, layout in parts:
            spec = Spec(seconds=2.0, video=None, sample_rate=rate, layout=layout)
            file.write(factory.make(tmp_path / name, spec).read_bytes())
    result = read(joined)
    assert result.error is None
    assert abs(result.sound_s - 4.0) < 0.2


def test_stamps_that_start_over_begin_a_new_epoch(tmp_path: Path) -> None:
    """Two transport streams one after the other: a second epoch in which media time goes on."""
    one = factory.make(tmp_path / "one.ts", Spec(seconds=3.0))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(one.read_bytes() * 2)
    result = read(joined)
    assert [epoch.reason for epoch in result.epochs] == ["start", "jump"]
    assert abs(result.epochs[1].media_ns - 3 * S) < 100 * MS
    assert 11 <= len(result.frames) <= 13
    assert all(b.media_ns > a.media_ns for a, b in pairwise(result.frames))


def test_missing_stamps_are_filled_in(tmp_path: Path) -> None:
    """Pictures without time stamps are counted on from those before."""
    source = factory.make(tmp_path / "whole.mkv", Spec(seconds=3.0, audio=None))
    bare = tmp_path / "bare.h264"
    with av.open(str(source)) as original, av.open(str(bare), "w", format="h264") as copy:
        stream = copy.add_stream_from_template(original.streams.video[0])
        for packet in original.demux():
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    result = read(bare)
    assert result.error is None
    assert 5 <= len(result.frames) <= 7


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("text", "text file"),
        ("html", "web page"),
        ("empty", "empty"),
        ("noise", "no media file"),
        ("folder", "directory"),
    ],
)
def test_what_is_no_media_is_told_in_one_line(tmp_path: Path, kind: str, words: str) -> None:
    """One line that names the file, what it is instead, and what to do."""
    path = factory.not_media(tmp_path)[kind]
    result = read(path)
    assert result.error is not None and not result.frames
    text = str(result.error)
    assert (str(path) in text and words in text and "\n" not in text and ";" in text) or ":" in text


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """A path that leads nowhere is named."""
    with pytest.raises(MediaError, match=r"gone\.mp4: no such file"):
        list(read_file(tmp_path / "gone.mp4", GEOMETRY, 2))


@pytest.mark.parametrize("name", ["whole.mkv", "whole.mp4"])
def test_a_truncated_file_gives_what_is_there_then_breaks_off(tmp_path: Path, name: str) -> None:
    """Everything before the cut is delivered; then the error says where it breaks off."""
    options = (("movflags", "faststart"),) if name.endswith("mp4") else ()
    whole = factory.make(tmp_path / name, Spec(seconds=12.0, muxer_options=options))
    result = read(factory.truncated(whole, tmp_path / f"cut_{name}"))
    assert result.error is not None and "breaks off after" in str(result.error)
    assert 8 <= len(result.frames) <= 16
    assert result.sound_s > 3


def test_a_file_cut_before_its_index_says_so(tmp_path: Path) -> None:
    """An MP4 whose index was never written can't be opened, and the error says why."""
    whole = factory.make(tmp_path / "whole.mp4", Spec(seconds=4.0))
    with pytest.raises(MediaError, match="cut off before its index"):
        list(read_file(factory.truncated(whole, tmp_path / "cut.mp4"), GEOMETRY, 2))


def test_damaged_packets_cost_only_themselves(tmp_path: Path) -> None:
    """Garbage in the middle of a transport stream is dropped; what follows is read."""
    whole = factory.make(tmp_path / "whole.ts", Spec(seconds=8.0)).read_bytes()
    middle = len(whole) // 2
    damaged = bytearray(whole)
    damaged[middle : middle + 8_000] = np.random.default_rng(1).bytes(8_000)
    path = tmp_path / "damaged.ts"
    path.write_bytes(damaged)
    result = read(path)
    assert result.error is None
    assert len(result.frames) >= 12
    assert result.frames[-1].media_ns > 7 * S


def test_one_track_that_ends_early_does_not_hold_up_the_other(tmp_path: Path) -> None:
    """When sound ends and the picture goes on, progress of sound follows at a distance."""

    def short(packet: av.Packet[Any]) -> bool:
        assert packet.pts is not None
        return packet.stream.type == "video" or packet.pts * packet.time_base < 2

    whole = factory.make(tmp_path / "whole.mkv", Spec(seconds=20.0, fps=5, gop=5))
    result = read(factory.remuxed(whole, tmp_path / "short.mkv", short))
    last = result.progress[-1]
    assert last.audio_ns is not None and last.video_ns is not None
    assert last.video_ns > 19 * S and last.audio_ns >= last.video_ns - 10 * S - 100 * MS


def test_the_duration_of_a_file(clips: Clips, tmp_path: Path) -> None:
    """What the file says of its length; an error where it can't be opened."""
    duration_ns = media_duration_ns(clips("plain.mp4", Spec(seconds=4.0)))
    assert duration_ns is not None and abs(duration_ns - 4 * S) < 50 * MS
    with pytest.raises(UserError):
        media_duration_ns(factory.not_media(tmp_path)["text"])


def test_a_playlist_opens_nothing_else(tmp_path: Path) -> None:
    """A file that names other files or addresses is not followed."""
    clip = factory.make(tmp_path / "secret.ts", Spec(seconds=1.0))
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n")
    result = read(playlist)
    assert result.error is not None and not result.frames


def test_real_files_decode_to_their_length(shared_data: Path) -> None:
    """What archives really hold, from MPEG-1 to AV1, has as many frames and as much sound as it is long."""
    for path in sorted((shared_data / "formats").iterdir()):
        result = read(path)
        assert result.error is None, path.name
        duration_ns = media_duration_ns(path)
        assert duration_ns is not None
        assert abs(len(result.frames) - duration_ns / (S / 2)) <= 3, path.name
        if result.chunks:
            assert abs(result.sound_end_s - duration_ns / S) < 0.3, path.name
