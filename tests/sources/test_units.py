"""Pictures that come in pieces are put together, whatever their stamps."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest

from streamer.sources.units import Joiner

HEADERS = b"\x00\x00\x01\x67\x42\x00\x15" + b"\x00\x00\x01\x68\xce"
FIRST, REST = b"\x00\x00\x01\x65\x88\x11", b"\x00\x00\x01\x65\x08\x22"
NEXT = b"\x00\x00\x01\x41\x9a\x33"


MS = 1_000_000


def joined(pieces: list[tuple[float, bytes]], codec: str = "h264") -> list[tuple[float, bytes]]:
    """What comes out of a joiner for these packets, with their stamps (ms)."""
    joiner, whole = Joiner(codec), []
    for stamp, data in pieces:
        packet = av.Packet(data)
        packet.pts, packet.time_base = round(stamp * MS), Fraction(1, 1000 * MS)
        whole += joiner.feed(packet)  # type: ignore[arg-type]
    return [((packet.pts or 0) / MS, bytes(packet)) for packet in [*whole, *joiner.flush()]]


def test_pieces_with_one_stamp_are_one_picture() -> None:
    """Headers by themselves, and slices behind repeated headers, belong to the picture whose stamp they bear."""
    pieces = [(0, FIRST), (0, HEADERS + REST), (40, NEXT), (80, NEXT), (120, HEADERS), (120, FIRST), (160, NEXT)]
    assert joined(pieces) == [
        (0, FIRST + HEADERS + REST),
        (40, NEXT),
        (80, NEXT),
        (120, HEADERS + FIRST),
        (160, NEXT),
    ]


def test_the_first_picture_is_put_together_without_a_stamp() -> None:
    """The first packet of a track may have been stamped by guess: what goes on with a picture is still its part."""
    assert joined([(-40, HEADERS + FIRST), (0, HEADERS + REST), (40, NEXT)]) == [
        (-40, HEADERS + FIRST + HEADERS + REST),
        (40, NEXT),
    ]


def test_a_clock_that_is_set_amid_a_picture_does_not_tear_it() -> None:
    """A sender report between two parts moves what follows by a little, back or forth; a picture whose beginning was
    lost is still not put to the one before."""
    pieces = [(0, FIRST), (0, REST), (40, NEXT), (80, FIRST), (79.7, HEADERS + REST), (119.7, FIRST), (121, REST)]
    assert joined([*pieces, (160, NEXT), (200, REST)]) == [
        (0, FIRST + REST),
        (40, NEXT),
        (80, FIRST + HEADERS + REST),
        (119.7, FIRST + REST),
        (160, NEXT),
        (200, REST),
    ]


def test_pictures_of_a_clock_that_stands_still_stay_apart() -> None:
    """A thousand pictures with the same stamp are a thousand, and none is ever held back for long."""
    assert joined([(0, NEXT)] * 1000) == [(0, NEXT)] * 1000
    assert joined([(0, FIRST), (0, REST), *[(0, NEXT)] * 1000]) == [(0, FIRST + REST), *[(0, NEXT)] * 1000]


@pytest.mark.parametrize("codec", ["mjpeg", "vp9", ""])
def test_of_other_codecs_nothing_is_held_back(codec: str) -> None:
    """What has no such pieces goes through packet by packet."""
    pieces = [(0, b"a"), (0, b"b"), (40, b"\x00\x00\x01\x65")]
    assert joined(pieces, codec) == pieces
