"""Small clips made in-process with PyAV: known pictures, known sounds, the codecs it bundles, and broken files.

Times count from the first picture. Both tracks start at 0 exactly: what an encoder puts before that is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Painter = Callable[[float, tuple[int, int]], NDArray[np.uint8]]
"""Time in seconds and (width, height) -> uint8 RGB `[height, width, 3]`."""
Player = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Times in seconds `[n]` -> samples `[n]` in [-1, 1]."""

BEEP_HZ = 1000.0
FLASH_S = 0.08


def pattern(time_s: float, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Coloured stripes that move to the right by a tenth of the width a second."""
    width, height = size
    across = (np.arange(width) / max(width, 1) - time_s / 10) % 1.0
    row = np.stack([across * 255, (1 - across) * 255, np.full(width, 128)], axis=1)
    return np.broadcast_to(row.astype(np.uint8), (height, width, 3)).copy()


def tone(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """440 Hz at a third of full scale."""
    return np.sin(2 * np.pi * 440 * times_s) / 3


def silence(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Digital silence."""
    return np.zeros_like(times_s)


@dataclass(frozen=True)
class Spec:
    """What to make. `video` and `audio` name encoders (`libx264`, `libx265`, `mjpeg`, `libsvtav1`; `aac`, `libopus`,
    `pcm_mulaw`, `pcm_alaw`, `ac3`, `mp2`) or are None for a clip without that track. `audio_from_s`: the sound starts
    so late. The container follows the file's suffix; `.mkv` takes all of these but G.711, which `.mov` takes."""

    seconds: float = 2.0
    video: str | None = "libx264"
    size: tuple[int, int] = (320, 240)
    fps: int = 25
    gop: int = 25
    pix_fmt: str = "yuv420p"
    audio: str | None = "aac"
    sample_rate: int = 48_000
    layout: str = "mono"
    audio_from_s: float = 0.0
    paint: Painter = pattern
    play: Player = tone
    muxer_options: tuple[tuple[str, str], ...] = ()


def make(path: Path, spec: Spec = Spec()) -> Path:
    """Encode `spec` into `path` and give it back."""
    with av.open(str(path), "w", options=dict(spec.muxer_options)) as output:
        video = _video_stream(output, spec) if spec.video is not None else None
        audio = _audio_stream(output, spec) if spec.audio is not None else None
        for second in range(
            int(np.ceil(spec.seconds))
        ):  # a second of each in turn, so that the muxer need not hold much
            if video is not None:
                for frame in _pictures(spec, second):
                    output.mux(video.encode(frame))
            if audio is not None:
                for samples in _sounds(spec, second, audio.codec_context.format.name):
                    _mux_from(output, audio.encode(samples), round(spec.audio_from_s * spec.sample_rate))
        if video is not None:
            output.mux(video.encode(None))
        if audio is not None:
            _mux_from(output, audio.encode(None), round(spec.audio_from_s * spec.sample_rate))
    return path


def _video_stream(output: av.container.OutputContainer, spec: Spec) -> av.VideoStream:
    stream = output.add_stream(spec.video, rate=spec.fps)
    stream.width, stream.height = spec.size
    stream.pix_fmt = spec.pix_fmt
    stream.gop_size = spec.gop
    if spec.video == "libx264":
        stream.options = {"preset": "ultrafast", "tune": "zerolatency", "bf": "0", "sc_threshold": "0"}
    elif spec.video == "libx265":
        stream.options = {"preset": "ultrafast", "tune": "zerolatency", "x265-params": "log-level=error:bframes=0"}
    return stream


def _audio_stream(output: av.container.OutputContainer, spec: Spec) -> av.AudioStream:
    stream = output.add_stream(spec.audio, rate=spec.sample_rate)
    stream.layout = spec.layout
    return stream


def _pictures(spec: Spec, second: int) -> Iterator[av.VideoFrame]:
    last = min(round(spec.seconds * spec.fps), (second + 1) * spec.fps)
    for index in range(second * spec.fps, last):
        frame = av.VideoFrame.from_ndarray(spec.paint(index / spec.fps, spec.size), format="rgb24")
        frame = frame.reformat(format=spec.pix_fmt)
        frame.pts, frame.time_base = index, Fraction(1, spec.fps)
        yield frame


def _sounds(spec: Spec, second: int, sample_format: str) -> Iterator[av.AudioFrame]:
    """The second's sound in frames of 20 ms; encoders that want other sizes gather them."""
    step = spec.sample_rate // 50
    channels = av.AudioLayout(spec.layout).nb_channels
    stop = min(round(spec.seconds * spec.sample_rate), (second + 1) * spec.sample_rate)
    start = max(second * spec.sample_rate, round(spec.audio_from_s * spec.sample_rate))
    resampler = av.AudioResampler(format=sample_format, layout=spec.layout, rate=spec.sample_rate)
    for first in range(start, stop, step):
        times = (first + np.arange(min(step, stop - first))) / spec.sample_rate
        samples = np.tile(spec.play(times).astype(np.float32), (channels, 1))
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=spec.layout)
        frame.sample_rate, frame.pts, frame.time_base = spec.sample_rate, first, Fraction(1, spec.sample_rate)
        yield from resampler.resample(frame)


def _mux_from(output: av.container.OutputContainer, packets: list[av.Packet], first: int) -> None:
    """An encoder's run-in comes before the first sample, and would give the track a start of its own."""
    output.mux([packet for packet in packets if packet.pts is not None and packet.pts >= first])


def flash_and_beep(path: Path, spec: Spec = Spec(), *, every_s: float = 1.0, beep_after_s: float = 0.0) -> Path:
    """A white picture of 80 ms and a beep of 80 ms of 1 kHz every `every_s`, from 0.48 s on; each beep starts
    `beep_after_s` after its flash (before it where negative). Everything else is black and silent."""

    def lit(time_s: float) -> bool:
        return time_s >= 0.48 and (time_s - 0.48 + 1e-6) % every_s < FLASH_S

    def paint(time_s: float, size: tuple[int, int]) -> NDArray[np.uint8]:
        return np.full((size[1], size[0], 3), 255 if lit(time_s) else 0, np.uint8)

    def play(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        since = times_s - 0.48 - beep_after_s + 1e-6
        loud = (since >= 0) & (since % every_s < FLASH_S)
        return np.where(loud, np.sin(2 * np.pi * BEEP_HZ * times_s) / 2, 0.0)

    return make(path, replace(spec, paint=paint, play=play))


class Witness:
    """Finds the flashes and beeps of a decoded clip: feed it frames in any order of tracks, then ask."""

    def __init__(self) -> None:
        self.flashes_s: list[float] = []
        self.beeps_s: list[float] = []
        self.video_s: list[float] = []
        self.audio_s: list[float] = []
        self._dark = True
        self._loud_until_s = -1.0

    def see(self, frame: av.VideoFrame) -> None:
        """A flash is noted at the first bright picture after a dark one."""
        time_s = float(frame.pts * frame.time_base)
        bright = frame.to_ndarray(format="gray").mean() > 128
        if bright and self._dark:
            self.flashes_s.append(time_s)
        self._dark = not bright
        self.video_s.append(time_s)

    def hear(self, frame: av.AudioFrame) -> None:
        """A beep is noted at its first loud sample, 0.2 s of quiet or more before it."""
        time_s = float(frame.pts * frame.time_base)
        samples = np.abs(frame.to_ndarray().astype(np.float64)).reshape(-1, frame.samples).max(axis=0)
        full_scale = {"s16": 32768.0, "s16p": 32768.0}.get(frame.format.name, 1.0)
        for index in np.flatnonzero(samples > 0.1 * full_scale):
            at_s = time_s + int(index) / frame.sample_rate
            if at_s - self._loud_until_s > 0.2:
                self.beeps_s.append(at_s)
            self._loud_until_s = at_s
        self.audio_s.append(time_s)

    def offsets_s(self) -> list[float]:
        """For every flash that has a beep within 0.4 s: how much later the beep is."""
        pairs = [
            (flash, min(self.beeps_s, key=lambda beep: abs(beep - flash))) for flash in self.flashes_s if self.beeps_s
        ]
        return [beep - flash for flash, beep in pairs if abs(beep - flash) < 0.4]


def loopable(path: Path, blocks: int = 6, spec: Spec = Spec()) -> Path:
    """Flashes and beeps whose tracks end at the same moment (`blocks` of 0.96 s, one flash each), so that a looping
    server keeps them together: 0.96 s are 24 pictures at 25 fps and 45 AAC frames at 48 kHz."""
    return flash_and_beep(path, replace(spec, seconds=blocks * 0.96), every_s=0.96)


def with_resolution_change(path: Path, sizes: tuple[tuple[int, int], ...] = ((320, 240), (640, 360))) -> Path:
    """An MPEG-TS whose H.264 picture changes its size every second."""
    with av.open(str(path), "w", format="mpegts") as output:
        stream = _video_stream(output, Spec())
        for second, size in enumerate(sizes):
            encoder = av.CodecContext.create("libx264", "w")
            encoder.width, encoder.height = size
            encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", Fraction(1, 25), Fraction(25)
            encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "bf": "0"}
            spec = Spec(seconds=len(sizes), size=size)
            for frame in (*_pictures(spec, second), None):
                for packet in encoder.encode(frame):
                    packet.stream = stream
                    output.mux(packet)
    return path


def remuxed(source: Path, path: Path, change: Callable[[av.Packet], bool]) -> Path:
    """A copy without re-encoding. `change` may set a packet's `pts` and `dts`, and drops it by giving False."""
    with av.open(str(source)) as original, av.open(str(path), "w") as copy:
        streams = {stream.index: copy.add_stream_from_template(stream) for stream in original.streams}
        for packet in original.demux():
            if packet.dts is None or not change(packet):
                continue
            packet.stream = streams[packet.stream.index]
            copy.mux(packet)
    return path


def truncated(source: Path, path: Path, keep: float = 0.5) -> Path:
    """The first part of a file's bytes. An MP4 still opens afterwards only if made with `movflags=faststart`."""
    whole = source.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    return path


def not_media(folder: Path) -> dict[str, Path]:
    """Files that are no media at all, by name: `text`, `html`, `empty`, `noise`, `folder`."""
    files = {
        "text": (folder / "notes.mp4", b"Dear camera,\nthis is a letter.\n" * 40),
        "html": (folder / "page.mp4", b"<!doctype html><html><body><h1>404 Not Found</h1></body></html>\n"),
        "empty": (folder / "empty.mp4", b""),
        "noise": (folder / "noise.mp4", np.random.default_rng(0).bytes(20_000)),
    }
    for path, content in files.values():
        path.write_bytes(content)
    directory = folder / "folder.mp4"
    directory.mkdir(exist_ok=True)
    return {name: path for name, (path, _) in files.items()} | {"folder": directory}


ONE_PIXEL = Spec(seconds=1.0, video="libx264", size=(1, 1), pix_fmt="yuv444p")
EIGHT_K = Spec(seconds=0.2, size=(7680, 4320), audio=None)
SOUND_8_KHZ = Spec(video=None, audio="pcm_mulaw", sample_rate=8_000)
SOUND_96_KHZ = Spec(video=None, sample_rate=96_000)
SURROUND = Spec(video=None, audio="ac3", layout="5.1(side)")
HEVC_10_BIT = Spec(video="libx265", pix_fmt="yuv420p10le")
