"""When a publisher has to go, and when it is asked for a key frame; time is an argument."""

from __future__ import annotations

from streamer.sources.rtc_watch import KeyFrameRequests, Limits, Watch

MS = 1_000_000
S = 1_000_000_000


def run(
    watch: Watch, seconds: float, *, late_ns: int = 0, size: int = 1000, waits_ns: int = 0, from_s: float = 0
) -> str:
    """30 pictures a second of `size` bytes, each `late_ns` late; the first verdict against it."""
    for number in range(int(seconds * 30)):
        now_ns = int((from_s + number / 30) * S)
        watch.heard(now_ns, size)
        watch.frame("video", now_ns - late_ns, now_ns)
        if number % 8 == 0 and (why := watch.verdict(now_ns, waits_ns)) is not None:
            return why
    return ""


def test_a_publisher_on_time_may_stay() -> None:
    """Media that come as they are made give no reason to end."""
    watch = Watch()
    assert run(watch, 60) == "" and watch.lag_ns == 0 and 29_000 < watch.size_a_second < 31_000


def test_media_that_stay_late_end_the_session() -> None:
    """Over three seconds behind for over four seconds, by the network: cut, with the figure; a short delay is not."""
    watch = Watch()
    assert run(watch, 10) == ""
    assert run(watch, 3, late_ns=4 * S, from_s=10) == ""
    assert run(watch, 10, from_s=13) == ""
    why = run(watch, 10, late_ns=4 * S, from_s=23)
    assert "4.0 s late" in why


def test_media_that_wait_to_be_decoded_count_as_late() -> None:
    """What waits here is behind as much as what waits on the way."""
    assert "cut" in run(Watch(), 20, waits_ns=4 * S)


def test_a_flood_ends_the_session() -> None:
    """Over 4 MB a second for three seconds: cut; a burst of one second is not."""
    watch = Watch()
    assert run(watch, 1, size=500_000) == ""
    assert run(watch, 5, from_s=1) == ""
    assert "MB a second" in run(watch, 5, size=500_000, from_s=6)


def test_silence_ends_the_session_but_reports_do_not_count_as_silence() -> None:
    """Nothing at all for seven seconds: vanished. A publisher that pauses and still reports stays."""
    watch = Watch()
    run(watch, 1)
    for second in range(1, 60):
        watch.heard(second * S)
        assert watch.verdict(second * S, 0) is None
    assert watch.verdict(66 * S, 0) is None
    assert "vanished" in (watch.verdict(67 * S, 0) or "")


def test_before_anything_came_nothing_is_judged() -> None:
    """How long a publisher may take to connect is not decided here."""
    watch = Watch()
    assert watch.verdict(0, 0) is None and watch.verdict(100 * S, 0) is None


def test_key_frames_are_asked_for_at_most_twice_a_second_until_one_comes() -> None:
    """Wanted: at once, then every half second; not after one came, and not by itself."""
    requests = KeyFrameRequests(Limits().ask_ns)
    assert not requests.is_due(0)
    requests.want()
    assert [at for at in range(0, 2000, 100) if requests.is_due(at * MS)] == [0, 500, 1000, 1500]
    requests.came()
    assert not requests.is_due(3 * S)
    requests.want()
    assert requests.is_due(3 * S)
