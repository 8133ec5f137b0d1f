"""Where sources are made: from a stream's entry in the configuration to what reads it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from streamer.clock import Clock
from streamer.config import IceServer, StreamConfig, check_stream
from streamer.decode import DecodeOptions
from streamer.errors import UserError
from streamer.sources.assembly import Target
from streamer.sources.device import DeviceOpener
from streamer.sources.files import parse_file
from streamer.sources.inputs import Opener
from streamer.sources.live import LiveSource as LiveSource
from streamer.sources.live import MakeReader
from streamer.sources.live import droppable as droppable
from streamer.sources.machine import Policy
from streamer.sources.published import PublishedSource, Terms
from streamer.sources.reader import Reader
from streamer.sources.replay import FileOpener
from streamer.sources.rtsp import RtspOpener


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """What every source is made for: picture size and sample rate of the checkpoint, frames a second, patience, and the
    servers that help publishers to be reached."""

    frame_size: int
    sample_rate: int
    frames_per_second: int
    decode: DecodeOptions = field(default_factory=DecodeOptions)
    policy: Policy = field(default_factory=Policy)
    ice_servers: tuple[IceServer, ...] = ()


def open_source(
    name: str, config: StreamConfig, settings: SourceSettings, clock: Clock, make_reader: MakeReader = Reader
) -> LiveSource:
    """The source of one stream; nothing is connected before it runs. `make_reader` says where its media are read.

    Raises:
        UserError: the stream's entry names no usable source.
    """
    for fault in check_stream(config):
        raise UserError(f"stream {name}: {fault.text}")
    target = Target(
        settings.frame_size,
        settings.sample_rate,
        config.frames_per_second or settings.frames_per_second,
        replace(settings.decode, looks=config.people != "off"),
    )
    if config.source == "whip":
        terms = Terms(config.video, config.audio, config.takeover, settings.ice_servers)
        return PublishedSource(name, terms, target, clock, settings.policy, make_reader)
    return LiveSource(name, _opener(name, config), target, clock, settings.policy, make_reader=make_reader)


def _opener(name: str, config: StreamConfig) -> Opener:
    scheme, _, rest = config.source.partition(":")
    scheme = scheme.lower()
    if scheme in ("rtsp", "rtsps"):
        return RtspOpener(config.source, config.transport, video=config.video, audio=config.audio)
    if scheme == "file":
        return FileOpener(parse_file(config.source), video=config.video, audio=config.audio)
    if scheme == "device":
        return DeviceOpener(rest, video=config.video, audio=config.audio)
    raise UserError(f"stream {name}: {scheme} sources can't be read; use rtsp://, rtsps://, file:, device: or whip")
