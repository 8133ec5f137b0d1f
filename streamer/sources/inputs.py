"""Opened connections as the reader wants them: which tracks there are, and their packets one after another."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Protocol, TypeAlias, cast, runtime_checkable

import av
from av.container import InputContainer

from streamer.media import SourceStats
from streamer.sources.axis import Stamp
from streamer.sources.faults import SourceFault
from streamer.sources.sdp_fragment import Trickle
from streamer.sources.timeline import Alignment
from streamer.sources.tracks import Tracks, VideoTrack

Packet: TypeAlias = "av.Packet[av.VideoStream] | av.Packet[av.AudioStream]"

# FFmpeg writes addresses with their passwords into its log: it stays off, errors come as exceptions.
av.logging.set_level(None)


@dataclass(frozen=True, slots=True)
class Arrived:
    """A packet that no demuxer of FFmpeg's made: its track's index, when it arrived, and its sender's wall time of it,
    None where no report has told."""

    packet: Packet
    index: int
    arrived_ns: int
    wall_ns: int | None


class Input(Protocol):
    """One open connection, file or device.

    delays_pictures: a picture's packet comes out only when the next one begins (FFmpeg's parsers on RTP).
    """

    tracks: Tracks
    alignment: Alignment
    delays_pictures: bool

    def packets(self, stop: threading.Event) -> Iterator[Packet | Arrived]:
        """Packets of the chosen tracks as they arrive; ends early when `stop` is set, as soon as the next one comes."""
        ...

    def close(self) -> None:
        """Free everything. Only by the thread that reads."""
        ...


@runtime_checkable
class Conversation(Protocol):
    """An input that somebody has to be answered for: who sends comes to us, and can be asked for something.

    answer: what it was answered.
    """

    answer: str

    def tell(self, trickle: Trickle) -> None:
        """Pass on what the sender added to what it said first. Any thread."""
        ...

    def attend(self, stats: SourceStats, *, lacks_key_frame: bool) -> None:
        """Called with every packet: count what did not come this far, and ask for a key frame where one is lacking."""
        ...


class Opener(Protocol):
    """Opens connections to one source, on the reader's thread.

    endless: the end of the media is a loss, not an end.
    """

    @property
    def endless(self) -> bool: ...

    def open(self, stop: threading.Event) -> Input:
        """Connect.

        Raises:
            SourceFault, av.FFmpegError: no connection, or nothing in it that can be decoded.
        """
        ...


def choose(container: InputContainer, *, video: bool, audio: bool) -> Tracks:
    """The tracks to read; the others are not delivered.

    Raises:
        SourceFault: there is none that can be decoded.
    """
    best_video = _best(container, "video") if video else None
    best_audio = _best(container, "audio") if audio else None
    tracks = Tracks(
        best_video if isinstance(best_video, av.VideoStream) else None,
        best_audio if isinstance(best_audio, av.AudioStream) else None,
    )
    chosen = {stream.index for stream in (tracks.video, tracks.audio) if stream is not None}
    if not chosen:
        raise SourceFault(_nothing(container, video=video, audio=audio), permanent=True)
    for stream in container.streams:
        if stream.index not in chosen:
            stream.discard = av.stream.Discard.all
    return tracks


def _best(container: InputContainer, kind: Literal["video", "audio"]) -> av.stream.Stream | None:
    # FFmpeg's choice leaves out a track of which nothing came yet, though it is announced.
    announced = [stream for stream in container.streams if stream.type == kind]
    for stream in (container.streams.best(kind), *announced):
        if stream is not None and stream.codec_context is not None:
            return stream
    return None


def _nothing(container: InputContainer, *, video: bool, audio: bool) -> str:
    wanted = " or ".join(kind for kind, on in (("video", video), ("sound", audio)) if on)
    there = sorted({stream.type for stream in container.streams if stream.codec_context is not None})
    found = f"only {', '.join(there)}" if there else "nothing that can be decoded"
    return f"no {wanted} track in it, {found}; name another source or switch the other track on"


def demux(container: InputContainer, tracks: Tracks) -> Iterator[Packet]:
    """The packets of `tracks`, without the empty ones that only flush decoders."""
    streams = [stream for stream in (tracks.video, tracks.audio) if stream is not None]
    for packet in container.demux(streams):
        if packet.size:
            yield cast("Packet", packet)


class Stamper:
    """Makes the stamps of a connection's packets; what does not change is asked of FFmpeg once."""

    def __init__(self, tracks: Tracks, *, delays_pictures: bool = False) -> None:
        self._tracks: dict[int, tuple[str, int, int, bool]] = {}
        self._order = _Order(tracks.video, trusts_dts=not delays_pictures)
        self._video_index = None if tracks.video is None else tracks.video.index
        for name, stream in (("video", tracks.video), ("audio", tracks.audio)):
            if stream is not None:
                base = stream.time_base or Fraction(1, 1000)
                delayed = delays_pictures and name == "video"
                self._tracks[stream.index] = (name, base.numerator, base.denominator, delayed)

    def stamp(self, arrival: Packet | Arrived, arrived_ns: int, *, fresh: bool = True, reports: bool = False) -> Stamp:
        """The packet's time stamps, with itself as payload; `reports`: and what sender reports say, which costs."""
        if isinstance(arrival, Arrived):
            packet, index, arrived_ns, wall_ns = arrival.packet, arrival.index, arrival.arrived_ns, arrival.wall_ns
            fresh = True  # that is when it came, whenever it is read
        else:
            packet, index = arrival, arrival.stream_index
            wall_ns = _reported_wall_ns(packet) if reports else None
        track, num, den, delayed = self._tracks[index]
        dts = packet.dts
        if index == self._video_index:
            dts = self._order.dts(packet.pts, dts)
        return Stamp(track, packet.pts, dts, num, den, arrived_ns, wall_ns, delayed, fresh, packet)


class _Order:
    """The dts of pictures that are reordered, where it is missing or made up.

    A dts is the least pts that is still to come, which the last few tell if pictures are reordered by no more than the
    decoder says. Matroska has none at the start of a track, and RTP none at all.
    """

    def __init__(self, stream: VideoTrack | None, *, trusts_dts: bool) -> None:
        self._context = None if stream is None else stream.codec_context
        self._trusts = trusts_dts
        self._step = 0
        self._recent: list[int] = []
        if stream is not None and stream.time_base and stream.guessed_rate:
            self._step = round(1 / (stream.guessed_rate * stream.time_base))

    def dts(self, pts: int | None, dts: int | None) -> int | None:
        depth = 0 if self._context is None else self._context.reorder_depth
        if not depth or pts is None or (dts is not None and self._trusts):
            return dts
        if not self._recent:
            self._recent = [pts - count * self._step for count in range(1, depth + 1)]
        self._recent = sorted([*self._recent, pts])[-depth - 1 :]
        return self._recent[0]


def _reported_wall_ns(packet: Packet) -> int | None:
    """The camera's wall time of a packet by its last sender report, None before the first.

    FFmpeg's `AVProducerReferenceTime`: microseconds since 1970 as a 64-bit integer, then flags.
    """
    if not packet.has_sidedata("prft"):
        return None
    (microseconds,) = struct.unpack_from("=q", bytes(packet.get_sidedata("prft")))
    return int(microseconds) * 1000
