"""The queue between receiving and decoding: its bounds, what goes when it is full, and that it can be waited on."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from streamer.sources.rtc_queue import Bounds, FrameQueue, Received

MS = 1_000_000
S = 1_000_000_000


def picture(number: int, *, is_key: bool = False, size: int = 10, at_ns: int | None = None) -> Received:
    arrived_ns = number * 33 * MS if at_ns is None else at_ns
    return Received("video", bytes(size), arrived_ns, None, arrived_ns, is_key)


def sound(number: int, size: int = 10) -> Received:
    return Received("audio", bytes(size), number * 20 * MS, None, number * 20 * MS, True)


def drained(queue: FrameQueue) -> list[Received]:
    found = []
    while (frame := queue.get(0)) is not None:
        found.append(frame)
    return found


def test_a_queue_that_is_read_loses_nothing() -> None:
    """Frames come out in the order they went in, and nothing is counted."""
    queue = FrameQueue()
    frames = [picture(0, is_key=True), sound(0), picture(1), sound(1)]
    assert [queue.put(frame) for frame in frames] == [False] * 4
    assert drained(queue) == frames and queue.take_dropped() == {}


def test_a_full_queue_drops_up_to_the_next_key_frame() -> None:
    """The oldest pictures go as far as the key frame that waits behind them; sound stays, no key frame is asked for."""
    queue = FrameQueue(Bounds(frames=6, size=1000, span_ns=100 * S))
    frames = [picture(0, is_key=True), picture(1), sound(0), picture(2, is_key=True), picture(3), picture(4)]
    assert not any(queue.put(frame) for frame in frames)
    assert not queue.put(picture(5))
    assert drained(queue) == [*frames[2:], picture(5)] and queue.take_dropped() == {"overflow": 2}
    assert queue.take_dropped() == {}


def test_without_a_key_frame_pictures_are_left_out_until_one_comes() -> None:
    """All pictures go, and until a key frame comes one is asked for; with it pictures come again."""
    queue = FrameQueue(Bounds(frames=3, size=1000, span_ns=100 * S))
    for number in range(3):
        assert not queue.put(picture(number, is_key=number == 0))
    assert queue.put(picture(3))
    assert queue.put(picture(4))
    assert queue.put(sound(9))
    assert not queue.put(picture(5, is_key=True))
    assert not queue.put(picture(6))
    assert [frame.arrived_ns for frame in drained(queue)] == [180 * MS, 165 * MS, 198 * MS]
    assert queue.take_dropped() == {"overflow": 5}


def test_age_bounds_it_too() -> None:
    """What is older than the bound against the newest goes, however few they are."""
    queue = FrameQueue(Bounds(frames=100, size=1000, span_ns=2 * S))
    queue.put(picture(0, is_key=True, at_ns=0))
    queue.put(picture(1, is_key=True, at_ns=1 * S))
    assert not queue.put(picture(2, at_ns=2 * S + 1))
    assert [frame.arrived_ns for frame in drained(queue)] == [1 * S, 2 * S + 1]


_FRAMES = st.lists(
    st.builds(
        lambda is_video, is_key, size: (is_video, is_key, size), st.booleans(), st.booleans(), st.integers(1, 400)
    ),
    max_size=120,
)


@given(_FRAMES)
def test_the_bounds_hold_whatever_comes(frames: list[tuple[bool, bool, int]]) -> None:
    """Never more frames, bytes or time than said; what went in came out or was counted; and no picture comes out after
    one that was dropped, but a key frame."""
    bounds = Bounds(frames=10, size=1500, span_ns=300 * MS)
    queue = FrameQueue(bounds)
    sent = [
        Received("video" if is_video else "audio", bytes(size), at, None, at * 20 * MS, is_key or not is_video)
        for at, (is_video, is_key, size) in enumerate(frames)
    ]
    for frame in sent:
        queue.put(frame)
        assert queue.peak[0] <= bounds.frames and queue.peak[1] <= bounds.size
        waiting = queue._waiting
        assert not waiting or waiting[-1].arrived_ns - waiting[0].arrived_ns <= bounds.span_ns
    out = drained(queue)
    assert len(out) + queue.take_dropped().get("overflow", 0) == len(sent)
    videos = [frame.pts_ns for frame in sent if frame.kind == "video"]
    kept = [frame for frame in out if frame.kind == "video"]
    for frame in kept:
        before = videos[: videos.index(frame.pts_ns)]
        assert frame.is_key or not before or before[-1] in {other.pts_ns for other in kept}


def test_a_reader_that_waits_is_woken() -> None:
    """`get` returns as soon as a picture comes, or the queue is closed; what waits can still be got then."""
    queue = FrameQueue()
    found: list[Received | None] = []
    reader = threading.Thread(target=lambda: found.append(queue.get(30)))
    reader.start()
    queue.put(picture(0))
    reader.join(5)
    assert found == [picture(0)]
    queue.put(sound(1))
    queue.close()
    queue.put(sound(2))
    assert not queue.is_over and queue.get(30) == sound(1)
    assert queue.get(30) is None and queue.is_over
