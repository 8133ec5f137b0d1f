"""Windows: every hop answered for, gaps as coverage, never a shift."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.media import AudioChunk, EpochStart, Frame, Geometry, Progress, Window
from streamer.window import Windower, WindowPolicy

MS = 1_000_000
S = 1_000 * MS
GEOMETRY = Geometry(
    window_ns=2 * S,
    hop_ns=500 * MS,
    frame_rates=(2, 4),
    frame_size=8,
    sample_rate=16_000,
    patch_samples=15_600,
    patch_hop_ns=480 * MS,
)
BOUND = WindowPolicy(bound_ns=S, grace_ns=400 * MS)


def frame(media_ns: int, arrived_ns: int | None = None) -> Frame:
    return Frame(media_ns, 500 * MS, media_ns if arrived_ns is None else arrived_ns, np.zeros((8, 8, 3), np.uint8))


def sound(media_ns: int, length_ns: int = 100 * MS, value: float = 0.5) -> AudioChunk:
    count = length_ns * 16_000 // S
    return AudioChunk(media_ns, media_ns + length_ns, np.full(count, value, np.float32))


def windower(policy: WindowPolicy = BOUND, at_ns: int = 0) -> Windower:
    made = Windower("door", GEOMETRY, policy)
    made.begin("e1", EpochStart("start", at_ns, 7 * S))
    return made


def play(target: Windower, seconds: float, *, video: bool = True, audio: bool = True, at_ns: int = 0) -> list[Window]:
    """Feed a perfect camera for `seconds` in steps of 100 ms and collect what closes."""
    closed: list[Window] = []
    for step in range(round(seconds * 10)):
        now = at_ns + step * 100 * MS
        if video and step % 5 == 0:
            target.feed(frame(now))
        if audio:
            target.feed(sound(now))
        target.feed(Progress(now + 100 * MS if video else None, None, now + 100 * MS))
        closed += target.poll(now + 100 * MS)
    return closed


def test_first_window_ends_one_hop_after_first_media_and_then_one_each_hop() -> None:
    """An epoch's first window ends 0.5 s after its first media, the next ones every 0.5 s, seq from 0 without holes."""
    closed = play(windower(at_ns=3 * S), 5, at_ns=3 * S)
    assert [w.seq for w in closed] == list(range(10))
    assert [w.end_ns for w in closed] == [3 * S + (k + 1) * 500 * MS for k in range(10)]
    assert all(w.end_ns - w.start_ns == 2 * S and w.deadline_ns == w.end_ns + S for w in closed)


def test_coverage_grows_to_one_over_the_first_window() -> None:
    """The first window covers a quarter; from 2 s on everything is there."""
    closed = play(windower(), 4)
    assert [round(w.coverage.video, 2) for w in closed[:4]] == [0.25, 0.5, 0.75, 1.0]
    assert [round(w.coverage.audio, 2) for w in closed[:4]] == [0.25, 0.5, 0.75, 1.0]
    assert all(w.coverage.video == pytest.approx(1.0) and w.coverage.audio == pytest.approx(1.0) for w in closed[4:])


def test_full_window_holds_rate_times_length_pictures_and_whole_patches() -> None:
    """Two frames a second give four pictures a window; patches lie wholly within it."""
    for window in play(windower(), 6)[4:]:
        assert len(window.pictures) == 4
        assert 2 <= len(window.patches) <= 3
        assert all(window.start_ns <= p.media_ns and p.media_ns + 975 * MS <= window.end_ns for p in window.patches)


def test_one_modality_still_yields_every_window() -> None:
    """Without sound, and without picture, no window is missing, and the absent modality's coverage is 0."""
    mute = play(windower(), 4, audio=False)
    assert len(mute) == 8 and all(w.coverage.audio == 0.0 and not w.patches for w in mute)
    blind = play(windower(), 4, video=False)
    assert len(blind) == 8 and all(w.coverage.video == 0.0 and not w.pictures for w in blind)


def test_window_closes_at_grace_when_media_stops() -> None:
    """When nothing arrives any more, windows go on closing, each `grace` after its end, with less and less in them."""
    target = windower()
    play(target, 4)
    assert target.next_close_ns == 4 * S + 500 * MS + 400 * MS
    assert target.poll(4 * S + 899 * MS) == []
    late = target.poll(4 * S + 900 * MS)
    assert [w.end_ns for w in late] == [4 * S + 500 * MS]
    gone = target.poll(8 * S)
    assert [w.seq for w in gone] == list(range(9, 15))
    assert gone[-1].coverage.video < 0.2 and gone[-1].coverage.audio < 0.2


def test_a_silent_track_is_not_waited_for_after_a_second() -> None:
    """When sound stops while pictures go on, windows soon close with the pictures instead of waiting for their
    grace."""
    target = windower()
    play(target, 4)
    closed = play(target, 4, audio=False, at_ns=4 * S)
    assert [w.seq for w in closed] == list(range(8, 16))
    assert closed[-1].closed_ns - closed[-1].end_ns == 0
    assert closed[-1].coverage.audio < 0.01 and closed[-1].coverage.video == pytest.approx(1.0)


def test_hole_in_sound_is_coverage_not_a_shift() -> None:
    """A second without sound lowers coverage and leaves zeros in place; what follows stays at its own time."""
    target = windower()
    play(target, 2)
    play(target, 1, audio=False, at_ns=2 * S)
    closed = play(target, 3, at_ns=3 * S)
    at_4s = next(w for w in closed if w.end_ns == 4 * S)
    assert at_4s.coverage.audio == pytest.approx(0.5, abs=0.02)
    last = closed[-1]
    assert last.coverage.audio == pytest.approx(1.0) and all(np.all(p.samples == 0.5) for p in last.patches)


def test_late_frame_counts_for_windows_still_open() -> None:
    """A frame that comes after its own window closed is in the later windows that reach back to it, in order of
    time."""
    target = windower()
    play(target, 3)
    target.poll(4 * S + 900 * MS)
    before = target.last_seq
    target.feed(frame(3 * S + 200 * MS, arrived_ns=5 * S))
    target.feed(frame(3 * S, arrived_ns=5 * S))
    window = target.poll(5 * S + 400 * MS)[0]
    assert window.seq == before + 1
    times = [p.media_ns for p in window.pictures]
    assert times == sorted(times) and 3 * S in times and 3 * S + 200 * MS in times


def test_picture_and_patch_indices_never_repeat_across_epochs() -> None:
    """A token computed in one epoch can't be taken for another's in the next."""
    target = windower()
    first = play(target, 4)
    target.finish(4 * S)
    target.begin("e2", EpochStart("reconnect", 9 * S, 7 * S))
    second = play(target, 4, at_ns=9 * S)
    assert second[0].seq == 0 and second[0].epoch == "e2"
    assert {p.index for w in first for p in w.pictures}.isdisjoint(p.index for w in second for p in w.pictures)
    assert {p.index for w in first for p in w.patches}.isdisjoint(p.index for w in second for p in w.patches)


def test_finish_closes_what_was_captured_and_the_tail_on_request() -> None:
    """At a file's end the last, partly filled hop is answered too; at a disconnect only hops whose end was captured."""
    for tail, expected in ((False, 2), (True, 3)):
        target = windower(WindowPolicy(bound_ns=S, grace_ns=None))
        closed = play(target, 1.3) + target.finish(2 * S, tail=tail)
        assert len(closed) == expected
        assert target.epoch is None and target.poll(99 * S) == []


def test_padding_at_the_end_is_no_window_and_a_very_short_file_is_one() -> None:
    """Forty milliseconds past a hop's end (what AAC pads) make no further window; a file of forty milliseconds makes
    one."""
    for length_ms, expected in ((1040, 2), (1060, 3), (40, 1)):
        target = windower(WindowPolicy(bound_ns=S, grace_ns=None))
        target.feed(frame(0))
        target.feed(sound(0, length_ms * MS))
        target.feed(Progress(length_ms * MS, None, 0))
        assert len(target.poll(0) + target.finish(0, tail=True)) == expected


def test_slow_camera_is_fully_covered() -> None:
    """A camera of one frame a second loses nothing: each frame stands for its second."""
    target = windower()
    for second in range(6):
        target.feed(Frame(second * S, S, second * S, np.zeros((8, 8, 3), np.uint8)))
    assert target.poll(5 * S)[-1].coverage.video == pytest.approx(1.0)


def test_a_lost_frame_is_seen_in_coverage() -> None:
    """One of four sampled frames missing costs about a fifth of the window."""
    target = windower()
    for step in range(10):
        if step != 6:
            target.feed(frame(step * 500 * MS))
    window = target.poll(int(4.5 * S))[7]
    assert 0.75 < window.coverage.video < 0.9


def test_in_a_file_a_track_that_ends_early_does_not_hold_the_other_for_ever() -> None:
    """Sound that ends after 2 s of a 30 s file: windows go on closing while the pictures are read, not only at the
    end."""
    target = windower(WindowPolicy(bound_ns=S, grace_ns=None))
    play(target, 2)
    closed = play(target, 28, audio=False, at_ns=2 * S)
    assert [w.end_ns for w in closed] == [(5 + k) * 500 * MS for k in range(56)]
    # The first of them waited until the sound was 10 s behind, the last did not.
    assert closed[-1].coverage.video == pytest.approx(1.0) and target.finish(30 * S) == []


@given(
    jitters=st.lists(st.integers(-20, 20), min_size=60, max_size=60),
    drops=st.sets(st.integers(0, 59)),
    starts=st.integers(0, 10**15),
)
def test_whatever_arrives_every_hop_is_answered_once_and_in_time(
    jitters: list[int], drops: set[int], starts: int
) -> None:
    """With jitter and losses, seq has no hole, each window closes by its grace, and coverage stays within [0, 1]."""
    target = windower(at_ns=starts)
    closed: list[Window] = []
    for step, jitter in enumerate(jitters):
        now = starts + step * 100 * MS
        if step not in drops:
            if step % 5 == 0:
                target.feed(frame(max(starts, now + jitter * MS), now))
            target.feed(sound(max(starts, now + jitter * MS)))
        closed += target.poll(now)
    assert [w.seq for w in closed] == list(range(len(closed)))
    assert len(closed) >= (59 * 100 - 400) // 500 - 1
    for window in closed:
        assert 0.0 <= window.coverage.video <= 1.0 and 0.0 <= window.coverage.audio <= 1.0
        assert window.closed_ns <= window.end_ns + 400 * MS + 100 * MS
        assert all(len(p.samples) == 15_600 for p in window.patches)
