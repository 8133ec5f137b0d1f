"""Pictures as H.264 and HEVC cameras really send them: headers by themselves, and pictures in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import av


class Joiner:
    """Puts pictures together that arrive in several packets with one time stamp.

    FFmpeg's parser takes parameter sets for the beginning of a new picture, and some encoders repeat them before every
    slice. Only where that has been seen is a packet held back until the next one shows that it is whole.
    """

    def __init__(self) -> None:
        self._joins = False
        self._held: av.Packet[av.VideoStream] | None = None
        self._stamp_ns: int | None = None

    def feed(self, packet: av.Packet[av.VideoStream]) -> av.Packet[av.VideoStream] | None:
        """Take in the next packet, stamped; a whole picture, or None while it may go on."""
        is_part = packet.pts is not None and packet.pts == self._stamp_ns
        self._stamp_ns = packet.pts
        if not self._joins:
            self._joins = is_part
            return packet
        if is_part and self._held is not None:
            self._held = _joined(self._held, packet)
            return None
        whole, self._held = self._held, packet
        return whole

    def flush(self) -> av.Packet[av.VideoStream] | None:
        """The media ended or jumped: what is held is whole."""
        whole, self._held = self._held, None
        return whole


def _joined(first: av.Packet[av.VideoStream], second: av.Packet[av.VideoStream]) -> av.Packet[av.VideoStream]:
    whole = cast("av.Packet[av.VideoStream]", av.Packet(bytes(first) + bytes(second)))
    whole.pts, whole.dts, whole.time_base = first.pts, first.dts, first.time_base
    whole.is_keyframe = first.is_keyframe or second.is_keyframe
    return whole


def has_picture(packet: av.Packet[av.VideoStream], codec: str) -> bool:
    """Whether there is any part of a picture in a packet; some cameras send headers by themselves.

    By the types of its NAL units (H.264: ITU-T H.264 table 7-1; HEVC: ITU-T H.265 table 7-1), after start codes.
    """
    if codec not in ("h264", "hevc"):
        return True
    data = bytes(packet)
    units = [data[at + 3] for at in _finds(data, b"\x00\x00\x01") if at + 3 < len(data)]
    if not units:
        return True
    if codec == "h264":
        return any(1 <= unit & 0x1F <= 5 for unit in units)
    return any(unit >> 1 & 0x3F < 32 for unit in units)


def _finds(data: bytes, what: bytes) -> Iterator[int]:
    at = data.find(what)
    while at >= 0:
        yield at
        at = data.find(what, at + len(what))
