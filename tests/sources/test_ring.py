"""The ring of encoded pictures: whole groups, within its bounds, nothing when it is off."""

from __future__ import annotations

import av
import pytest

from streamer.footage import Footage
from streamer.media import SourceStats
from streamer.sources.ring import Bounds, PacketRing, joined, parts

S = 1_000_000_000
WALL = 1_700_000_000 * S


class Camera:
    """Sends ten pictures a second to a ring, a key frame first and then each `group` pictures, 1000 bytes each."""

    def __init__(self, bounds: Bounds, group: int = 10) -> None:
        self.stats = SourceStats()
        self.ring = PacketRing(self.stats, bounds)
        self.ring.describe(av.CodecContext.create("h264", "r"))
        self.ring.begin(WALL)
        self.group = group
        self.sent = 0

    def send(self, count: int) -> None:
        for _ in range(count):
            packet = av.Packet(self.sent.to_bytes(2, "big") * 500)
            packet.is_keyframe = self.sent % self.group == 0
            self.ring.add(packet, self.sent * S // 10, self.sent * S // 10)  # type: ignore[arg-type]
            self.sent += 1

    def recall(self, begin_s: float, end_s: float) -> list[int]:
        """Which pictures there are of that time."""
        found = self.ring.between(WALL + round(begin_s * S), WALL + round(end_s * S))
        return [] if found is None else [int.from_bytes(picture.data[:2], "big") for picture in found.pictures]


def test_off_it_holds_nothing() -> None:
    """Nothing is kept before it is switched on, and everything is dropped at once when it is switched off."""
    camera = Camera(Bounds())
    camera.send(20)
    assert camera.recall(0, 10) == [] and camera.stats.kept_bytes == 0
    camera.ring.switch(True)
    camera.send(20)
    assert camera.recall(0, 10) == list(range(20, 40)) and camera.stats.kept_bytes > 20_000
    camera.ring.switch(False)
    assert camera.recall(0, 10) == [] and camera.stats.kept_bytes == 0
    camera.send(20)
    assert camera.recall(0, 10) == []


def test_closed_it_never_holds_anything_again() -> None:
    """A connection that ended leaves nothing, whatever its owner asks for afterwards."""
    camera = Camera(Bounds())
    camera.ring.switch(True)
    camera.send(5)
    camera.ring.close()
    camera.ring.switch(True)
    camera.send(20)
    assert camera.recall(0, 10) == []


def test_it_begins_with_a_key_frame() -> None:
    """Switched on in the middle of a group, it waits for the next one."""
    camera = Camera(Bounds())
    camera.send(3)
    camera.ring.switch(True)
    camera.send(10)
    assert camera.recall(0, 10) == [10, 11, 12]


@pytest.mark.parametrize("bounds", [Bounds(age_ns=3 * S), Bounds(size=36 * 1200)])
def test_whole_groups_go_the_oldest_first(bounds: Bounds) -> None:
    """Bounded by age or by bytes, it holds the last few groups, each from its key frame on, and is never above."""
    camera = Camera(bounds)
    camera.ring.switch(True)
    for _ in range(200):
        camera.send(1)
        assert camera.stats.kept_bytes <= bounds.size
        kept = camera.recall(0, 100)
        assert kept[0] % 10 == 0 and kept[-1] == camera.sent - 1 and len(kept) <= 40
        assert (kept[-1] - kept[0]) * S // 10 <= bounds.age_ns
    assert len(kept) > 20 and camera.stats.kept_lost == 0


def test_a_group_that_is_too_long_is_lost_whole() -> None:
    """Where key frames are further apart than the bound, there is nothing until the next one, and it counts."""
    camera = Camera(Bounds(age_ns=3 * S), group=100)
    camera.ring.switch(True)
    camera.send(50)
    assert camera.recall(0, 100) == [] and camera.stats.kept_lost == 1 and camera.stats.kept_bytes == 0
    camera.send(60)
    assert camera.recall(0, 100) == list(range(100, 110))


def test_what_shows_a_moment() -> None:
    """Of a moment it gives what is needed to decode it: from the key frame before to a little after, and of a time
    before all that is kept the first there is."""
    camera = Camera(Bounds())
    camera.ring.switch(True)
    camera.send(50)
    assert camera.recall(2.55, 2.55) == [20, 21, 22, 23, 24, 25, 26, 27]
    assert camera.recall(1.5, 3.0) == list(range(10, 33))
    assert camera.recall(-5, -5) == [0]
    assert camera.recall(99, 99) == list(range(40, 50))


def test_headers_by_themselves_belong_to_their_picture() -> None:
    """A packet of headers and the key frame it is for, both called key frames, are one group."""
    camera = Camera(Bounds(size=3000))
    camera.ring.switch(True)
    for data in (b"headers", b"picture"):
        packet = av.Packet(data)
        packet.is_keyframe = True
        camera.ring.add(packet, S, S)  # type: ignore[arg-type]
    found = camera.ring.between(WALL + S, WALL + S)
    assert found is not None and [picture.data for picture in found.pictures] == [b"headers", b"picture"]


def test_in_pieces_and_together_again() -> None:
    """Cut into pieces for the way and joined again, it is what it was."""
    camera = Camera(Bounds())
    camera.ring.switch(True)
    camera.send(50)
    found = camera.ring.between(WALL, WALL + 9 * S)
    assert found is not None
    pieces = list(parts(found, 4500))
    assert len(pieces) == 10 and all(len(piece.pictures) == 5 for piece in pieces)
    assert joined(pieces) == found and isinstance(found, Footage) and joined([]) is None
