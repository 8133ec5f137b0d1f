"""What one live stream needs, each part measured alone on one core: the floor under the service's cost."""

from __future__ import annotations

import time
from pathlib import Path

from streamer.decode import DecodeOptions
from streamer.engine import Engine, load
from streamer.media import AudioChunk, Coverage, EpochStart, Frame, Patch, Picture, SourceEvent, Window
from streamer.sources.replay import read_file
from streamer.window import Windower, WindowPolicy

_NS = 1_000_000_000
_EVERYTHING = DecodeOptions(lazy=False, skip_loop_filter=False, skip_unreferenced=False, threads=1)


def alone(clip: Path) -> dict[str, float]:
    """Cores that each part of one live stream of `clip` takes by itself.

    `decode`: demuxing, decoding and converting as the service does it; `frames` and `sound`: the encoders, a call a
    picture and a patch, without the fusion; `fusion`: from tokens to scores, a call a window. `decode_all` is what
    decoding costs without the
    short cuts (every picture, with the loop filter): for comparison, in no sum.
    """
    engine = load("cpu", None, threads=1)
    engine.warm_up(1)
    rate = engine.geometry.frame_rates[0]
    costs = {"decode": _decoding(clip, engine, rate, DecodeOptions(threads=1))}
    costs |= _encoding(clip, engine, rate)
    return costs


def decoding(clip: Path) -> float:
    """Cores that decoding one live stream of `clip` takes as the service does it."""
    engine = load("cpu", None, threads=1)
    return _decoding(clip, engine, engine.geometry.frame_rates[0], DecodeOptions(threads=1))


def decoding_everything(clip: Path) -> float:
    """Cores that decoding one live stream takes without any short cut."""
    engine = load("cpu", None, threads=1)
    return _decoding(clip, engine, engine.geometry.frame_rates[0], _EVERYTHING)


def _decoding(clip: Path, engine: Engine, rate: int, options: DecodeOptions) -> float:
    # Process time and not the thread's: the decoder may have threads of its own.
    began, newest_ns = time.process_time(), 1
    for event in read_file(clip, engine.geometry, rate, options):
        if isinstance(event, Frame):
            newest_ns = event.media_ns
    return (time.process_time() - began) / (newest_ns / _NS)


def _encoding(clip: Path, engine: Engine, rate: int) -> dict[str, float]:
    """Cores for the encoders and the fusion of one stream, from the windows of the clip itself."""
    windows = _windows(list(read_file(clip, engine.geometry, rate)), engine)
    seconds = len(windows) * engine.geometry.hop_ns / _NS
    pictures = {picture.index: picture for window in windows for picture in window.pictures}
    patches = {patch.index: patch for window in windows for patch in window.patches}
    frames = _timed(engine, [_only(index, pictures=(picture,)) for index, picture in enumerate(pictures.values())])
    sound = _timed(engine, [_only(index, patches=(patch,)) for index, patch in enumerate(patches.values())])
    # With every token in its ring already, a window costs only its fusion.
    engine.run([windows[-1]])
    fusion = _timed(engine, [windows[-1]] * len(windows), forget=False)
    share = fusion / len(windows)
    return {
        "frames": (frames - share * len(pictures)) / seconds,
        "sound": (sound - share * len(patches)) / seconds,
        "fusion": fusion / seconds,
    }


def _timed(engine: Engine, windows: list[Window], *, forget: bool = True) -> float:
    began = time.process_time()
    for window in windows:
        engine.run([window])
    spent = time.process_time() - began
    if forget:
        engine.forget("alone")
    return spent


def _only(index: int, pictures: tuple[Picture, ...] = (), patches: tuple[Patch, ...] = ()) -> Window:
    return Window("alone", "0", index, 0, 1, 0, 0, 0, pictures, patches, Coverage(1.0, 1.0))


def _windows(events: list[SourceEvent], engine: Engine) -> list[Window]:
    windower = Windower("alone", engine.geometry, WindowPolicy(bound_ns=0, grace_ns=None))
    windows: list[Window] = []
    for event in events:
        if isinstance(event, EpochStart):
            windower.begin("0", event)
        elif isinstance(event, Frame | AudioChunk):
            windower.feed(event)
            windows += windower.poll(0)
    return windows
