"""RTP time on one axis: before reports, by reports, and as clocks drift, wrap and are set."""

from __future__ import annotations

from streamer.sources.rtc_clock import Axis, TrackClock, ntp_ns

S = 1_000_000_000
MS = 1_000_000
WALL_NS = 1_795_406_830 * S


def ntp(wall_ns: int) -> int:
    return ((wall_ns // S + 2_208_988_800) << 32) | ((wall_ns % S << 32) // S)


def test_ntp_is_read_as_it_is_written() -> None:
    """Seconds since 1900 and a fraction of 2**32 are nanoseconds since 1970."""
    assert abs(ntp_ns(ntp(WALL_NS + 123_456_789)) - WALL_NS - 123_456_789) <= 1


def test_each_track_counts_from_its_first_packet_before_reports() -> None:
    """Without a report a track's time begins at 0 and has no wall time."""
    clock = TrackClock(90_000, Axis())
    assert clock.place(5_000_000) == (0, None)
    assert clock.place(5_000_000 + 9_000) == (100 * MS, None)


def test_reports_bring_two_tracks_onto_one_axis() -> None:
    """What was captured at the same moment stands at the same place once both were reported, whatever their origins."""
    axis = Axis()
    video, audio = TrackClock(90_000, axis), TrackClock(48_000, axis)
    video.place(1_000_000)
    audio.place(77)
    video.report(ntp(WALL_NS), 1_000_000)
    audio.report(ntp(WALL_NS + 300 * MS), 77 + 480)  # its first packet was captured 290 ms later
    (seen_ns, seen_wall_ns), (heard_ns, heard_wall_ns) = video.place(1_000_000 + 90_000), audio.place(77 + 48_000)
    assert abs(seen_ns - S) < MS and abs(heard_ns - S - 290 * MS) < MS
    assert seen_wall_ns is not None and abs(seen_wall_ns - WALL_NS - S) < MS
    assert heard_wall_ns is not None and abs(heard_wall_ns - WALL_NS - S - 290 * MS) < MS


def test_time_goes_on_where_32_bits_wrap() -> None:
    """The stamp after 2**32 - 1 is a tick later, and packets from before the wrap may come after it."""
    clock = TrackClock(48_000, Axis())
    clock.place(2**32 - 480)
    assert clock.place(480)[0] == 20 * MS
    assert clock.place(2**32 - 240)[0] == 5 * MS


def test_a_drifting_clock_is_followed_in_small_steps() -> None:
    """Reports that say the track runs 100 ppm fast move it by that and no more, and a noisy one moves it little."""
    axis = Axis()
    clock = TrackClock(48_000, axis)
    clock.place(0)
    clock.report(ntp(WALL_NS), 0)
    for second in range(1, 601):
        clock.place(second * 48_005)
        clock.report(ntp(WALL_NS + second * S), second * 48_005)
    place_ns, wall_ns = clock.place(600 * 48_005)
    assert wall_ns is not None and abs(wall_ns - WALL_NS - 600 * S) < 2 * MS and abs(place_ns - 600 * S) < 2 * MS
    clock.report(ntp(WALL_NS + 600 * S + 400 * MS), 600 * 48_005)
    assert abs(clock.place(600 * 48_005)[0] - place_ns) <= 5 * MS


def test_a_clock_that_was_set_is_believed_the_second_time() -> None:
    """One report that is over a second off changes nothing; two do, at once."""
    clock = TrackClock(90_000, Axis())
    clock.place(0)
    clock.report(ntp(WALL_NS), 0)
    clock.report(ntp(WALL_NS + 3600 * S), 0)
    assert clock.place(0)[0] == 0
    clock.report(ntp(WALL_NS + 3600 * S), 0)
    assert abs(clock.place(0)[0] - 3600 * S) < MS


def test_a_sender_without_a_clock_is_not_believed() -> None:
    """A report whose wall time is 0 (RFC 3550 section 6.4.1) is none."""
    clock = TrackClock(90_000, Axis())
    clock.place(0)
    clock.report(0, 0)
    assert clock.place(90_000) == (S, None)
