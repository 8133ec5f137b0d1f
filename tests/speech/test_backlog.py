"""What waits for the process that listens is bounded, and says what was lost."""

from __future__ import annotations

import numpy as np

from streamer.speech.backlog import Backlog
from streamer.speech.talk import Ease, End, Sound, packed, unpacked

SECOND = bytes(2 * 16_000)
NS = 1_000_000_000


def test_the_oldest_sound_of_that_stream_makes_room_and_the_next_says_so() -> None:
    """Four seconds of a stream wait at most; other streams and messages lose nothing."""
    backlog = Backlog(4 * NS)
    backlog.add(Sound("b", 0, SECOND))
    backlog.add(End("a"))
    lost = [backlog.add(Sound("a", at * NS, SECOND)) for at in range(6)]
    assert lost == [0, 0, 0, 0, NS, NS]
    taken = [backlog.take() for _ in range(len(backlog))]
    assert taken[:2] == [Sound("b", 0, SECOND), End("a")]
    assert [(m.media_ns // NS, m.lost_ns) for m in taken[2:] if isinstance(m, Sound)] == [
        (2, 2 * NS), (3, 0), (4, 0), (5, 0)
    ]  # fmt: skip
    assert backlog.take() is None and backlog.lost_ns == {"a": 2 * NS}


def test_what_is_taken_makes_room() -> None:
    """Only what waits counts."""
    backlog = Backlog(2 * NS)
    for at in range(20):
        assert backlog.add(Sound("a", at * NS, SECOND)) == 0
        backlog.take()


def test_cleared_sound_is_counted() -> None:
    """With a process that ends goes what it was to hear."""
    backlog = Backlog()
    backlog.add(Sound("a", 0, SECOND))
    backlog.add(Ease(1))
    backlog.clear()
    assert len(backlog) == 0 and backlog.lost_ns == {"a": NS}


def test_sound_travels_as_16_bits() -> None:
    """Packed and unpacked it is the same to a part in 32,767; what is too loud is clipped."""
    sound = np.array([0.0, 0.5, -1.0, 1.0, 3.0], np.float32)
    np.testing.assert_allclose(unpacked(packed(sound)), [0.0, 0.5, -1.0, 1.0, 1.0], atol=1 / 32_767)
