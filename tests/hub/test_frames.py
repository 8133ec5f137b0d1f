"""Frames are those of RFC 6455 and RFC 7692, as another implementation reads them."""

from __future__ import annotations

import zlib

from hypothesis import given
from hypothesis import strategies as st

from streamer.hub.frames import WINDOW_BITS, compressed_frame, text_frame


def unpacked(frame: bytes) -> tuple[int, bytes]:
    """The first byte and the payload of a frame that is all there is."""
    length, header = frame[1], 2
    if length == 126:
        length, header = int.from_bytes(frame[2:4], "big"), 4
    elif length == 127:
        length, header = int.from_bytes(frame[2:10], "big"), 10
    assert len(frame) == header + length
    return frame[0], frame[header:]


# Lengths around the limits of the three forms of the length field, and contents that compress well or not at all.
payloads = st.one_of(
    st.binary(max_size=300).map(lambda data: data.hex().encode()),
    st.builds(lambda data, times: data * times, st.binary(min_size=1, max_size=40), st.integers(0, 1750)),
    st.sampled_from([0, 125, 126, 65_535, 65_536]).map(bytes),
)


@given(payloads)
def test_a_frame_holds_its_payload(payload: bytes) -> None:
    """A text frame, final and unmasked."""
    assert unpacked(text_frame(payload)) == (0x81, payload)


@given(payloads)
def test_a_compressed_frame_unpacks_to_the_same(payload: bytes) -> None:
    """By itself and with the smallest window a subscriber can have, so that one frame serves all."""
    first, packed = unpacked(compressed_frame(text_frame(payload)))
    assert first == 0xC1
    inflate = zlib.decompressobj(wbits=-WINDOW_BITS)
    assert inflate.decompress(packed + b"\x00\x00\xff\xff") == payload
    assert inflate.unconsumed_tail == inflate.unused_data == b""
