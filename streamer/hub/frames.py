"""Websocket frames as a server sends them, made once for any number of subscribers. Pure.

permessage-deflate (RFC 7692) is agreed on without context takeover and with the smallest window there is (9 bits), so
that one compressed frame can be read by all who asked for compression, whatever window their own side has.
"""

from __future__ import annotations

import struct
import zlib

WINDOW_BITS = 9
# An empty ping (RFC 6455, section 5.5.2).
PING_FRAME = b"\x89\x00"

_TEXT, _COMPRESSED = 0x81, 0xC1
# What an empty stored block adds at the end, which RFC 7692, section 7.2.1, has taken off.
_BLOCK_END = b"\x00\x00\xff\xff"


def text_frame(payload: bytes) -> bytes:
    """`payload` (UTF-8) as one unmasked final text frame of RFC 6455, section 5.2."""
    return _frame(_TEXT, payload)


def compressed_frame(frame: bytes) -> bytes:
    """A frame of `text_frame` compressed by RFC 7692 (its first reserved bit says so)."""
    deflate = zlib.compressobj(wbits=-WINDOW_BITS)
    payload = deflate.compress(frame[{126: 4, 127: 10}.get(frame[1], 2) :]) + deflate.flush(zlib.Z_SYNC_FLUSH)
    return _frame(_COMPRESSED, payload.removesuffix(_BLOCK_END))


def _frame(first: int, payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        return struct.pack("!BB", first, length) + payload
    if length < 65536:
        return struct.pack("!BBH", first, 126, length) + payload
    return struct.pack("!BBQ", first, 127, length) + payload
