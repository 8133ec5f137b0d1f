"""A clip made ready to be sent over RTP: its H.264 and AAC packets, each cut into payloads, with their times.

Payload formats: RFC 6184 (H.264: single units and FU-A), RFC 3640 (AAC-hbr, one access unit a packet). Session
description: RFC 8866.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from streamer.errors import MediaError

MAX_PAYLOAD = 1400  # bytes: with its headers a packet stays below the 1,500 of Ethernet
_VIDEO_CLOCK = 90_000
_NAL_TYPE, _NAL_REFERENCE, _FU_A, _IDR = 0x1F, 0xE0, 28, 5
_SPS, _PPS = 7, 8


@dataclass(frozen=True, slots=True)
class Unit:
    """One picture or one AAC frame: when it is due, `ticks` of its track's clock after the clip's start, and its
    payloads. `keyframe`: a decoder can start here."""

    track: int
    ticks: int
    keyframe: bool
    payloads: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Track:
    """What a session description says of a track."""

    kind: str
    payload_type: int
    clock_rate: int
    attributes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Clip:
    """A whole clip in memory: its units by falling due, and its length, after which all tracks start again together."""

    tracks: tuple[Track, ...]
    units: tuple[Unit, ...]
    length_s: Fraction

    def due_s(self, unit: Unit) -> Fraction:
        """When a unit is due, in seconds after the clip's start."""
        return Fraction(unit.ticks, self.tracks[unit.track].clock_rate)

    def sdp(self) -> str:
        """The session description; the track with index N is at the control URL `trackN`."""
        lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=streamer", "c=IN IP4 0.0.0.0", "t=0 0", "a=control:*"]
        for index, track in enumerate(self.tracks):
            lines.append(f"m={track.kind} 0 RTP/AVP {track.payload_type}")
            lines += [f"a={attribute}" for attribute in track.attributes]
            lines.append(f"a=control:track{index}")
        return "\r\n".join(lines) + "\r\n"


def load(path: Path) -> Clip:
    """Read an MP4 with H.264 (no B-frames) and, if it has sound, AAC.

    Raises MediaError where it can't be read or holds anything else.
    """
    try:
        with av.open(str(path)) as container:
            return _read(container, path)
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(f"{path}: cannot read this clip ({error}); give the camera another") from error


def _read(container: av.container.InputContainer, path: Path) -> Clip:
    if not container.streams.video:
        raise MediaError(f"{path}: the local camera needs a clip with a picture")
    streams = [container.streams.video[0], *container.streams.audio[:1]]
    names = [stream.codec_context.name for stream in streams]
    if names[0] != "h264" or names[1:] not in ([], ["aac"]):
        raise MediaError(f"{path}: the local camera plays H.264 with AAC, and this is {' with '.join(names)}")
    heads = [bytes(stream.codec_context.extradata or b"") for stream in streams]
    tracks = [_video_track(heads[0], path)]
    tracks += [_audio_track(heads[1], stream.sample_rate) for stream in container.streams.audio[:1]]
    units: list[Unit] = []
    length_s = Fraction(0)
    for packet in container.demux(streams):
        if packet.pts is None or packet.time_base is None or packet.size == 0:
            continue
        index = streams.index(packet.stream)
        start_s = packet.pts * packet.time_base
        length_s = max(length_s, start_s + (packet.duration or 0) * packet.time_base)
        if start_s >= 0:  # an encoder's run-in lies before the clip
            payloads = _audio_payload(bytes(packet)) if index else _video_payloads(bytes(packet), heads[0])
            ticks = round(start_s * tracks[index].clock_rate)
            units.append(Unit(index, ticks, index == 0 and packet.is_keyframe, tuple(payloads)))
    units.sort(key=lambda unit: Fraction(unit.ticks, tracks[unit.track].clock_rate))
    return Clip(tuple(tracks), tuple(units), length_s)


def _video_track(head: bytes, path: Path) -> Track:
    sets = _parameter_sets(head)
    if not sets:
        raise MediaError(f"{path}: the H.264 in it has no parameter sets in its head; remux it to MP4")
    profile = sets[0][1:4].hex()
    encoded = ",".join(base64.b64encode(unit).decode("ascii") for unit in sets)
    return Track(
        "video",
        96,
        _VIDEO_CLOCK,
        (
            f"rtpmap:96 H264/{_VIDEO_CLOCK}",
            f"fmtp:96 packetization-mode=1; profile-level-id={profile}; sprop-parameter-sets={encoded}",
        ),
    )


def _audio_track(head: bytes, rate: int) -> Track:
    channels = (head[1] >> 3) & 0x0F if len(head) > 1 else 1  # AudioSpecificConfig, ISO/IEC 14496-3, 1.6.2.1
    mode = "streamtype=5; profile-level-id=1; mode=AAC-hbr; SizeLength=13; IndexLength=3; IndexDeltaLength=3"
    return Track(
        "audio", 97, rate, (f"rtpmap:97 MPEG4-GENERIC/{rate}/{channels}", f"fmtp:97 {mode}; config={head.hex()}")
    )


def _parameter_sets(head: bytes) -> list[bytes]:
    """SPS and PPS out of an AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1)."""
    sets: list[bytes] = []
    at = 5
    for count_mask in (0x1F, 0xFF):
        count = head[at] & count_mask if at < len(head) else 0
        at += 1
        for _ in range(count):
            size = int.from_bytes(head[at : at + 2], "big")
            sets.append(head[at + 2 : at + 2 + size])
            at += 2 + size
    return sets


def _video_payloads(packet: bytes, head: bytes) -> Iterator[bytes]:
    """The units of a picture, the parameter sets before each keyframe, long ones in fragments."""
    length_bytes = (head[4] & 3) + 1
    units = list(_units(packet, length_bytes))
    if any(unit[0] & _NAL_TYPE == _IDR for unit in units):
        units = [*_parameter_sets(head), *(unit for unit in units if unit[0] & _NAL_TYPE not in (_SPS, _PPS))]
    for unit in units:
        if len(unit) <= MAX_PAYLOAD:
            yield unit
            continue
        indicator, kind = (unit[0] & _NAL_REFERENCE) | _FU_A, unit[0] & _NAL_TYPE
        for start in range(1, len(unit), MAX_PAYLOAD - 2):
            piece = unit[start : start + MAX_PAYLOAD - 2]
            first, last = start == 1, start + len(piece) == len(unit)
            yield bytes([indicator, first << 7 | last << 6 | kind]) + piece


def _units(packet: bytes, length_bytes: int) -> Iterator[bytes]:
    at = 0
    while at + length_bytes < len(packet):
        size = int.from_bytes(packet[at : at + length_bytes], "big")
        at += length_bytes
        if size:
            yield packet[at : at + size]
        at += size


def _audio_payload(packet: bytes) -> Iterator[bytes]:
    """One access unit behind its AU header: 16 bits of header, 13 of size, 3 of index."""
    yield b"\x00\x10" + (len(packet) << 3).to_bytes(2, "big") + packet
