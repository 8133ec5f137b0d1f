"""The clips that benchmarks send: the demo's, brought to the size, rate and codecs that each of them is about."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.frame import PictureType
from av.video.stream import VideoStream

from streamer.demo.reel import cache_dir, reel

_SOUND_RATE = 48_000
# Never within a clip: senders over WebRTC have no key frames but the first and those that they are asked for.
_NEVER = "100000"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a clip is encoded.

    name, suffix: of its file. rate: pictures a second. bit_rate: of the pictures. seconds: how much of the source, None
    all of it.
    """

    name: str
    suffix: str
    size: tuple[int, int]
    rate: int
    bit_rate: int
    video: str
    audio: str
    options: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None


# 720p30 H.264 without B-frames, a key frame a second, with AAC.
DENSITY = Recipe(
    name="density-720p30",
    suffix=".mp4",
    size=(1280, 720),
    rate=30,
    bit_rate=2_500_000,
    video="libx264",
    audio="aac",
    options={"preset": "veryfast", "bf": "0", "g": "30"},
)


def published(codec: Literal["h264", "vp8"], *, large: bool = False) -> Recipe:
    """What a browser's camera sends: 480p30 in H.264 or VP8, one key frame, with Opus.

    `large`: ten seconds of 2160p30, for senders of more than can be decoded: to decode one of its packets takes much
    longer than to send or to receive it.
    """
    size, bit_rate, seconds = ((3840, 2160), 3_000_000, 10.0) if large else ((854, 480), 1_200_000, None)
    effort = {"preset": "veryfast"} if large else {"preset": "ultrafast", "profile": "baseline"}
    tuned = {
        "h264": {**effort, "tune": "zerolatency", "bf": "0", "sc_threshold": "0"},
        "vp8": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "auto-alt-ref": "0"},
    }[codec]
    return Recipe(
        name=f"published-{codec}-{size[1]}p30",
        suffix={"h264": ".mp4", "vp8": ".webm"}[codec],
        size=size,
        rate=30,
        bit_rate=bit_rate,
        video={"h264": "libx264", "vp8": "libvpx"}[codec],
        audio="libopus",
        options={**tuned, "g": _NEVER},
        seconds=seconds,
    )


def made(recipe: Recipe) -> Path:
    """The demo's clip as `recipe` says; made once (up to a minute of one core) and kept in the cache.

    Raises:
        MediaError: the demo's clip can't be had.
    """
    source = reel().path
    path = cache_dir() / f"{recipe.name}-{source.stem}{recipe.suffix}"
    if not path.is_file():
        making = path.with_suffix(f".{os.getpid()}{recipe.suffix}")
        try:
            make(source, making, recipe)
            os.replace(making, path)
        finally:
            making.unlink(missing_ok=True)
    return path


def make(source: Path, target: Path, recipe: Recipe) -> None:
    """Encode `source` (any media with picture and sound) into `target`."""
    with av.open(str(source)) as media, av.open(str(target), "w") as output:
        video = output.add_stream(recipe.video, rate=recipe.rate, options=dict(recipe.options))
        assert isinstance(video, VideoStream)
        video.width, video.height, video.pix_fmt = *recipe.size, "yuv420p"
        video.bit_rate = recipe.bit_rate
        video.codec_context.options |= {"maxrate": str(recipe.bit_rate), "bufsize": str(recipe.bit_rate)}
        audio = output.add_stream(recipe.audio, rate=_SOUND_RATE)
        assert isinstance(audio, AudioStream)
        _copy(media, output, video, audio, recipe)


def _copy(
    media: InputContainer,
    output: av.container.OutputContainer,
    video: VideoStream,
    audio: AudioStream,
    recipe: Recipe,
) -> None:
    samples = "flt" if recipe.audio == "libopus" else "fltp"
    resampler = av.AudioResampler(format=samples, layout="stereo", rate=_SOUND_RATE)
    audio.layout, audio.format = "stereo", samples
    shown = 0
    for packet in media.demux(media.streams.video[0], media.streams.audio[0]):
        if recipe.seconds is not None and packet.dts is not None and packet.dts * packet.time_base > recipe.seconds:
            break
        for frame in packet.decode():
            if isinstance(frame, av.VideoFrame):
                # The nearest earlier frame stands for each place of the new rate.
                while frame.time is not None and shown / recipe.rate <= frame.time:
                    scaled = frame.reformat(*recipe.size, format="yuv420p")
                    scaled.pts, scaled.time_base = shown, Fraction(1, recipe.rate)
                    scaled.pict_type = PictureType.NONE  # else a key frame of the source would be one here
                    output.mux(video.encode(scaled))
                    shown += 1
            elif isinstance(frame, av.AudioFrame):
                for resampled in resampler.resample(frame):
                    output.mux(audio.encode(resampled))
    output.mux(video.encode())
    output.mux(audio.encode())
