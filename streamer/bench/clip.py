"""The clip that density is measured with: 720p30 H.264 at 2.5 Mb/s, a keyframe a second, no B-frames, AAC at 48 kHz."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from streamer.demo.reel import cache_dir, reel

_SIZE = (1280, 720)
_RATE = 30
_BIT_RATE = 2_500_000


def density_clip() -> Path:
    """The demo's clip brought to 720p30 at 2.5 Mb/s; made once (about a minute of one core) and kept in the cache.

    Raises:
        MediaError: the demo's clip can't be had.
    """
    source = reel().path
    path = cache_dir() / f"density-{source.stem}.mp4"
    if not path.is_file():
        making = path.with_suffix(f".{os.getpid()}.mp4")
        try:
            make(source, making)
            os.replace(making, path)
        finally:
            making.unlink(missing_ok=True)
    return path


def make(source: Path, target: Path) -> None:
    """Encode `source` (any media with picture and sound) into `target` as the module says."""
    with av.open(str(source)) as media, av.open(str(target), "w", format="mp4") as output:
        video = output.add_stream("libx264", rate=_RATE, options={"preset": "veryfast", "bf": "0", "g": str(_RATE)})
        video.width, video.height, video.pix_fmt = *_SIZE, "yuv420p"
        video.bit_rate = _BIT_RATE
        video.codec_context.options |= {"maxrate": str(_BIT_RATE), "bufsize": str(_BIT_RATE)}
        audio = output.add_stream("aac", rate=48_000)
        _copy(media, output, video, audio)


def _copy(media: InputContainer, output: av.container.OutputContainer, video: VideoStream, audio: AudioStream) -> None:
    resampler = av.AudioResampler(format="fltp", layout="stereo", rate=48_000)
    shown = 0
    for packet in media.demux(media.streams.video[0], media.streams.audio[0]):
        for frame in packet.decode():
            if isinstance(frame, av.VideoFrame):
                # The nearest earlier frame stands for each thirtieth of a second.
                while frame.time is not None and shown / _RATE <= frame.time:
                    scaled = frame.reformat(*_SIZE, format="yuv420p")
                    scaled.pts, scaled.time_base = shown, Fraction(1, _RATE)
                    output.mux(video.encode(scaled))
                    shown += 1
            elif isinstance(frame, av.AudioFrame):
                for resampled in resampler.resample(frame):
                    output.mux(audio.encode(resampled))
    output.mux(video.encode())
    output.mux(audio.encode())
