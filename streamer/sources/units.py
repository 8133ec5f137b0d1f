"""Pictures as H.264 and HEVC cameras really send them: headers by themselves, and pictures in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import av

_WITH_UNITS = ("h264", "hevc")
# So many packets of a track are held back to see whether its pictures come in pieces.
_TRIAL = 2
# Parts of one picture may stand this far apart: the clock of a track is set whenever more is known of it, also between
# two of them. Pictures of even 120 a second are further from each other.
_APART_NS = 4_000_000


class Joiner:
    """Puts pictures together that arrive in several packets with one time stamp, or nearly so.

    FFmpeg's parser takes parameter sets for the beginning of a new picture, and some encoders repeat them before every
    slice. Only at the beginning and where that has been seen is a packet held back until the next one shows that it is
    whole. What begins a picture by its own word is no part of the one before: a camera whose clock stands still stamps
    all of them alike.

    Args:
        codec: as `units_of` gives it.
    """

    def __init__(self, codec: str) -> None:
        self._codec = codec
        self._joins = codec in _WITH_UNITS
        self._trial = _TRIAL if self._joins else 0
        self._last: av.Packet[av.VideoStream] | None = None  # what is held, or went out before
        self._held: av.Packet[av.VideoStream] | None = None
        self._stamp_ns: int | None = None

    def feed(self, packet: av.Packet[av.VideoStream]) -> list[av.Packet[av.VideoStream]]:
        """Take in the next packet, stamped; the pictures that are whole now."""
        is_part = self._codec in _WITH_UNITS and self._is_part(packet)
        self._stamp_ns = packet.pts
        if is_part:
            self._joins, self._trial = True, 0
        if not self._joins:
            self._last = packet
            return [packet]
        if is_part and self._held is not None:
            self._last = self._held = _joined(self._held, packet)
            return []
        whole = self.flush()
        self._last = self._held = packet
        if self._trial:
            self._trial -= 1
            self._joins = self._trial > 0
        return whole if self._joins else [*whole, *self.flush()]

    def _is_part(self, packet: av.Packet[av.VideoStream]) -> bool:
        if self._last is None or packet.pts is None or self._stamp_ns is None:
            return False
        is_near = abs(packet.pts - self._stamp_ns) <= _APART_NS
        if not is_near and not self._trial:
            return False
        begins = _begins_picture(packet, self._codec)
        if is_near:
            return not begins or not has_picture(self._last, self._codec)
        return begins is False  # the first packet of a track may have no stamp

    def flush(self) -> list[av.Packet[av.VideoStream]]:
        """The media ended or jumped: what is held is whole."""
        whole, self._held = self._held, None
        return [] if whole is None else [whole]


def units_of(context: av.VideoCodecContext) -> str:
    """The codec's name where its units stand behind start codes; empty for pictures in files, which are whole and keep
    units by their length (their extradata begins with the version of its record, ISO/IEC 14496-15)."""
    return "" if (context.extradata or b"")[:1] == b"\x01" else context.name


def _joined(first: av.Packet[av.VideoStream], second: av.Packet[av.VideoStream]) -> av.Packet[av.VideoStream]:
    whole = cast("av.Packet[av.VideoStream]", av.Packet(bytes(first) + bytes(second)))
    whole.pts, whole.dts, whole.time_base = first.pts, first.dts, first.time_base
    whole.is_keyframe = first.is_keyframe or second.is_keyframe
    return whole


def has_picture(packet: av.Packet[av.VideoStream], codec: str) -> bool:
    """Whether there is any part of a picture in a packet; some cameras send headers by themselves.

    By the types of its NAL units (H.264: ITU-T H.264 table 7-1; HEVC: ITU-T H.265 table 7-1), after start codes.
    """
    if codec not in _WITH_UNITS:
        return True
    data = bytes(packet)
    units = [data[at + 3] for at in _finds(data, b"\x00\x00\x01") if at + 3 < len(data)]
    return not units or any(_is_slice(unit, codec) for unit in units)


def _begins_picture(packet: av.Packet[av.VideoStream], codec: str) -> bool | None:
    """Whether the first slice in a packet is the first of its picture: one bit behind the unit's header says so. None
    where there is no slice, or none that is known."""
    if codec not in _WITH_UNITS:
        return None
    data, header = bytes(packet), 1 if codec == "h264" else 2
    for at in _finds(data, b"\x00\x00\x01"):
        if at + 3 + header < len(data) and _is_slice(data[at + 3], codec):
            return bool(data[at + 3 + header] & 0x80)
    return None


def _is_slice(unit: int, codec: str) -> bool:
    return 1 <= unit & 0x1F <= 5 if codec == "h264" else unit >> 1 & 0x3F < 32


def _finds(data: bytes, what: bytes) -> Iterator[int]:
    at = data.find(what)
    while at >= 0:
        yield at
        at = data.find(what, at + len(what))
