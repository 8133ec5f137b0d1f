"""Media time from time stamps and arrivals: anchoring, alignment, drift, jumps; all simulated."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.sources.axis import Stamp
from streamer.sources.timeline import Alignment, Placed, Timeline

S = 1_000_000_000
MS = 1_000_000
HOUR = 3600 * S


@dataclass
class Track:
    """A simulated track: a packet every `interval_ns` of true time, stamped by a clock that runs `ppm` too fast.

    `stamp_from_ns`: what its first packet is stamped. `delay_ns`: the least time on the way; `jitter_ns`: random more.
    """

    name: str
    interval_ns: int
    base: int = 90_000
    ppm: float = 0.0
    stamp_from_ns: int = 0
    captured_from_ns: int = 0
    delay_ns: int = 5 * MS
    jitter_ns: int = 0
    late: Callable[[int], int] = lambda _: 0
    edit: Callable[[int, int], int | None] = lambda _, ticks: ticks
    reported_after_ns: int | None = None
    delayed: bool = False
    seed: random.Random = field(default_factory=lambda: random.Random(7))

    def packets(self, until_ns: int) -> Iterator[tuple[int, int, Stamp]]:
        """(arrival, capture, stamp) in order of arrival."""
        arrived_before_ns = 0
        count = 0
        while (captured_ns := self.captured_from_ns + count * self.interval_ns) < until_ns:
            since_ns = captured_ns - self.captured_from_ns
            stamp_ns = self.stamp_from_ns + int(since_ns * (1 + self.ppm / 1e6))
            ticks = self.edit(count, stamp_ns * self.base // S)
            delay_ns = self.delay_ns + int(self.seed.expovariate(1) * self.jitter_ns) + self.late(captured_ns)
            arrived_ns = max(arrived_before_ns, captured_ns + delay_ns)
            arrived_before_ns = arrived_ns
            wall_ns = None
            if self.reported_after_ns is not None and captured_ns >= self.reported_after_ns:
                wall_ns = captured_ns + 1_700_000_000 * S
            stamp = Stamp(self.name, ticks, ticks, 1, self.base, arrived_ns, wall_ns, self.delayed, True, captured_ns)
            yield arrived_ns, captured_ns, stamp
            count += 1


def run(tracks: list[Track], until_ns: int, alignment: Alignment = "reports") -> list[Placed]:
    """What a timeline makes of the tracks' packets in order of arrival; `payload` is the true capture time."""
    timeline = Timeline(alignment)
    placed: list[Placed] = []
    streams = [((a, i, s) for a, _, s in track.packets(until_ns)) for i, track in enumerate(tracks)]
    for _, _, stamp in heapq.merge(*streams, key=lambda item: item[:2]):
        placed += timeline.feed(stamp)
    return placed + timeline.flush()


def errors(placed: list[Placed], track: str, after_ns: int = 0) -> list[int]:
    """By how much media time is later than capture, packet by packet."""
    chosen = [item for item in placed if item.stamp.track == track and item.stamp.payload >= after_ns]
    return [item.media_ns - item.stamp.payload for item in chosen]


def video(**changes: object) -> Track:
    return Track(**{"name": "video", "interval_ns": 40 * MS, **changes})  # type: ignore[arg-type]


def audio(**changes: object) -> Track:
    return Track(**{"name": "audio", "interval_ns": 20 * MS, "base": 48_000, **changes})  # type: ignore[arg-type]


def epochs(placed: list[Placed]) -> list[Placed]:
    return [item for item in placed if item.epoch is not None]


# -- anchoring ---------------------------------------------------------------------------------------------------------


def test_media_time_is_capture_time_by_the_quickest_packets() -> None:
    """Media time is arrival less what the packet was slower than the quickest one: capture plus the least delay."""
    placed = run([video(jitter_ns=20 * MS)], 20 * S)
    late = errors(placed, "video", after_ns=11 * S)
    assert max(abs(error - 5 * MS) for error in late) < 3 * MS


def test_it_waits_a_fifth_of_a_second_then_lets_everything_out_in_order() -> None:
    """Nothing comes out for 200 ms; then every packet does, once, in the order it came."""
    timeline = Timeline("stamps")
    counts = []
    for arrived_ns, _, stamp in video().packets(S):
        out = timeline.feed(stamp)
        counts.append((arrived_ns, len(out)))
    first = next(arrived_ns for arrived_ns, count in counts if count)
    assert 200 * MS <= first - counts[0][0] <= 240 * MS
    assert sum(count for _, count in counts) == len(counts)


def test_a_burst_of_stored_media_does_not_move_the_anchor() -> None:
    """Two seconds that a server had stored come at once: media time is that of the live edge, and what is over half
    a second older is preroll."""
    arrival = 2 * S

    def stored(captured_ns: int) -> int:
        return max(0, arrival - captured_ns)

    placed = run([video(late=stored), audio(late=stored)], 6 * S)
    assert max(abs(error - 5 * MS) for error in errors(placed, "video")) < 2 * MS
    start = epochs(placed)
    assert len(start) == 1 and start[0].epoch is not None
    edge_ns = max(item.stamp.payload for item in placed if item.preroll) + 5 * MS
    assert start[0].epoch.media_ns >= edge_ns
    used = [item for item in placed if not item.preroll]
    assert min(item.media_ns for item in used) == start[0].epoch.media_ns
    assert 1500 * MS <= min(item.stamp.payload for item in used) <= 2 * S


def test_a_burst_that_takes_longer_than_settling_is_waited_for() -> None:
    """A slow link brings the stored media over half a second: the anchor waits until the burst is over."""

    def slow(captured_ns: int) -> int:
        return max(0, 2 * S + captured_ns // 5 - captured_ns)

    placed = run([video(late=slow)], 8 * S)
    assert len(epochs(placed)) == 1
    live = [item for item in placed if item.stamp.payload > 4 * S]
    assert max(abs(item.media_ns - item.stamp.payload - 5 * MS) for item in live) < 25 * MS


def test_missing_first_stamps_are_counted_back() -> None:
    """FFmpeg gives the first pictures of an RTP session no stamp: they get the ones before the first that has one."""
    placed = run([video(edit=lambda count, ticks: None if count < 2 else ticks)], S)
    spacing = [b.media_ns - a.media_ns for a, b in pairwise(placed)]
    assert all(abs(step - 40 * MS) < MS for step in spacing)


def test_the_reported_wall_time_of_the_camera_is_told() -> None:
    """Where sender reports come in time, the epoch says how the camera's wall clock relates to media time."""
    start = epochs(run([video(reported_after_ns=0)], S))[0].epoch
    assert start is not None and start.wall_offset_ns is not None
    assert abs(start.wall_offset_ns - 1_700_000_000 * S) < 10 * MS
    silent = epochs(run([video()], S))[0].epoch
    assert silent is not None and silent.wall_offset_ns is None


def test_a_packet_held_back_by_a_parser_is_not_taken_for_a_late_one() -> None:
    """A picture that comes out when the next begins is timed by when it began itself: one interval before."""
    held = run([video(delayed=True, delay_ns=45 * MS)], 20 * S)
    plain = run([video(delay_ns=5 * MS)], 20 * S)
    assert abs(errors(held, "video")[-1] - errors(plain, "video")[-1]) < MS


# -- alignment ---------------------------------------------------------------------------------------------------------


def test_tracks_of_a_file_keep_their_alignment_exactly() -> None:
    """Stamps of one axis are mapped by one offset: however the arrivals differ, the difference of stamps is kept."""
    placed = run([video(delay_ns=50 * MS, jitter_ns=30 * MS), audio(delay_ns=3 * MS)], 30 * S, "stamps")
    for item in placed:
        assert item.stamp.pts is not None
    aligned = [error for track in ("video", "audio") for error in errors(placed, track, after_ns=12 * S)]
    assert max(aligned) - min(aligned) < MS


def test_before_any_report_tracks_are_aligned_by_their_arrivals() -> None:
    """Each track counts from its own first packet until a report comes: their stamps say nothing of each other."""
    tracks = [video(stamp_from_ns=0, captured_from_ns=700 * MS), audio(stamp_from_ns=0)]
    placed = run(tracks, 10 * S)
    last = [errors(placed, track)[-1] for track in ("video", "audio")]
    assert abs(last[0] - last[1]) < 2 * MS


@pytest.mark.parametrize("shifted", ["video", "audio"])
def test_reports_align_the_tracks_without_a_new_epoch(shifted: str) -> None:
    """The track whose first report comes last is shifted onto the common axis: media time flows on, aligned exactly."""
    # The sound is slow on its way: by arrivals alone it would be placed 60 ms too late.
    skew_ns = 300 * MS

    def onto_the_axis(count: int, ticks: int) -> int:
        late = count >= 150 if shifted == "video" else count >= 400
        return ticks + (skew_ns * (90_000 if shifted == "video" else 48_000) // S if late else 0)

    moved = {"captured_from_ns": skew_ns, "edit": onto_the_axis, "reported_after_ns": 6 * S + skew_ns}
    if shifted == "video":
        tracks = [video(**moved), audio(delay_ns=65 * MS, reported_after_ns=2 * S)]
    else:
        moved["reported_after_ns"] = 8 * S + skew_ns
        tracks = [video(reported_after_ns=2 * S), audio(delay_ns=65 * MS, **moved)]
    placed = run(tracks, 30 * S)
    assert len(epochs(placed)) == 1
    before = errors(placed, "audio", after_ns=2 * S)[0] - errors(placed, "video", after_ns=2 * S)[0]
    assert abs(before - 60 * MS) < 3 * MS
    for after_ns in (10 * S, 29 * S):
        skew = errors(placed, "audio", after_ns)[0] - errors(placed, "video", after_ns)[0]
        assert abs(skew) < 3 * MS


def test_a_report_that_comes_after_a_pause_explains_no_pause() -> None:
    """Packets that were lost just before the first report are missing, and move no media time."""

    def without_a_second(track: Track) -> Iterator[tuple[int, Stamp]]:
        for arrived_ns, captured_ns, stamp in track.packets(12 * S):
            if not 3 * S <= captured_ns < 4 * S:
                yield arrived_ns, stamp

    timeline, placed = Timeline("reports"), []
    tracks = [video(reported_after_ns=4 * S), audio(reported_after_ns=4 * S)]
    for _, stamp in heapq.merge(*map(without_a_second, tracks), key=lambda item: item[0]):
        placed += timeline.feed(stamp)
    assert len(epochs(placed)) == 1
    assert max(abs(error) for track in ("video", "audio") for error in errors(placed, track)) < 30 * MS


def test_reports_that_contradict_the_arrivals_are_not_believed() -> None:
    """A camera whose reports put its tracks 5 s apart is aligned by arrivals, in one epoch."""
    broken = audio(stamp_from_ns=5 * S, reported_after_ns=0)
    placed = run([video(reported_after_ns=0), broken], 60 * S)
    assert len(epochs(placed)) == 1
    assert abs(errors(placed, "audio")[-1] - errors(placed, "video")[-1]) < 5 * MS


def test_a_track_that_appears_late_joins_in() -> None:
    """Sound that begins after ten seconds finds its place, without a new epoch."""
    for alignment in ("stamps", "reports"):
        late = audio(captured_from_ns=10 * S, stamp_from_ns=10 * S if alignment == "stamps" else 0)
        placed = run([video(), late], 20 * S, alignment)
        assert len(epochs(placed)) == 1
        assert abs(errors(placed, "audio")[-1] - errors(placed, "video")[-1]) < 3 * MS


def test_a_late_track_whose_first_stamp_is_missing_joins_in() -> None:
    """The first picture of a track that appears late has no stamp: it passes through, and the next find their place."""
    late = video(captured_from_ns=5 * S, edit=lambda count, ticks: None if count == 0 else ticks)
    placed = run([audio(), late], 15 * S)
    assert len(epochs(placed)) == 1
    assert max(abs(error) for error in errors(placed, "video")) < 20 * MS


def test_parts_of_one_picture_stay_together() -> None:
    """Two packets with one stamp, headers and picture, have one media time, and leave the others where they are."""
    timeline, placed = Timeline("reports"), []
    for arrived_ns, _, stamp in video(delayed=True, delay_ns=45 * MS).packets(10 * S):
        placed += timeline.feed(stamp)
        if stamp.payload % S == 0:
            placed += timeline.feed(Stamp("video", stamp.pts, stamp.dts, 1, 90_000, arrived_ns, None, True, True, -1))
    for before, after in pairwise(placed):
        if after.stamp.payload == -1:
            assert after.media_ns == before.media_ns
    whole = [item for item in placed if item.stamp.payload >= 0]
    assert max(abs(item.media_ns - item.stamp.payload - 5 * MS) for item in whole) < 5 * MS


# -- drift -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("video_ppm", "audio_ppm"), [(0, 200), (0, -200), (150, -150), (-100, -100)])
def test_sound_and_picture_stay_together_for_eight_hours(video_ppm: float, audio_ppm: float) -> None:
    """Clocks that drift against each other and the host, with jitter on the way: never 20 ms apart, never behind."""
    tracks = [
        video(interval_ns=500 * MS, ppm=video_ppm, jitter_ns=8 * MS),
        audio(interval_ns=250 * MS, ppm=audio_ppm, jitter_ns=8 * MS, seed=random.Random(11)),
    ]
    placed = run(tracks, 8 * HOUR)
    assert len(epochs(placed)) == 1
    errors_at: dict[str, dict[int, int]] = {"video": {}, "audio": {}}
    for item in placed:
        errors_at[item.stamp.track][item.stamp.payload // S] = item.media_ns - item.stamp.payload
    after = [second for second in errors_at["video"] if second > 20]
    assert max(abs(errors_at["video"][second] - errors_at["audio"][second]) for second in after) < 20 * MS
    assert max(abs(errors_at["video"][second]) for second in after) < 30 * MS


def test_shared_time_follows_the_host_for_eight_hours() -> None:
    """With reports the tracks stay aligned to the last sample, and together follow the host's clock."""
    tracks = [
        video(interval_ns=500 * MS, ppm=120, jitter_ns=8 * MS, reported_after_ns=0),
        audio(interval_ns=250 * MS, ppm=120, jitter_ns=8 * MS, reported_after_ns=0, seed=random.Random(11)),
    ]
    placed = run(tracks, 8 * HOUR)
    assert len(epochs(placed)) == 1
    tail = placed[-100:]
    assert max(abs(item.media_ns - item.stamp.payload) for item in tail) < 20 * MS
    apart = {track: [item for item in tail if item.stamp.track == track][-1] for track in ("video", "audio")}
    skews = [item.media_ns - item.stamp.payload for item in apart.values()]
    assert abs(skews[0] - skews[1]) < MS


def test_media_time_flows_evenly_while_it_follows() -> None:
    """The offset moves by small steps: the distance of pictures never changes by more than a tenth."""
    placed = run([video(ppm=200, jitter_ns=15 * MS)], 120 * S)
    steps = [b.media_ns - a.media_ns for a, b in pairwise(placed)]
    assert all(abs(step - 40 * MS) <= 4 * MS for step in steps)


# -- jumps -------------------------------------------------------------------------------------------------------------


def jumping(by_s: float, at: int = 200) -> Callable[[int, int], int | None]:
    return lambda count, ticks: ticks + int(by_s * 90_000) if count >= at else ticks


@pytest.mark.parametrize("by_s", [-3600, -5, -1.5, 1.5, 30, 100_000])
def test_a_jump_of_the_stamps_is_a_new_epoch(by_s: float) -> None:
    """Stamps that leap by over a second begin a new epoch, in which media time is right again."""
    placed = run([video(edit=jumping(by_s))], 20 * S)
    found = epochs(placed)
    assert [item.epoch.jump for item in found if item.epoch is not None] == [False, True]
    assert max(abs(error) for error in errors(placed, "video")) < 200 * MS


@pytest.mark.parametrize("by_s", [-0.6, 0.6])
def test_a_small_leap_is_no_new_epoch(by_s: float) -> None:
    """Under a second media time is drawn back smoothly."""
    placed = run([video(edit=jumping(by_s))], 60 * S)
    assert len(epochs(placed)) == 1
    assert abs(errors(placed, "video")[-1]) < 50 * MS


def test_one_absurd_stamp_is_passed_over() -> None:
    """A single stamp from nowhere is replaced by the expected one."""
    placed = run([video(edit=lambda count, ticks: 123_456_789_000 if count == 100 else ticks)], 10 * S)
    assert len(epochs(placed)) == 1
    assert max(abs(error) for error in errors(placed, "video")) < 20 * MS


@pytest.mark.parametrize("bits", [32, 33])
def test_counters_that_wrap_flow_on(bits: int) -> None:
    """A 32- or 33-bit counter that starts over is no jump."""
    start_ns = ((1 << bits) - 90_000 * 5) * S // 90_000
    placed = run([video(stamp_from_ns=start_ns, edit=lambda _, ticks: ticks % (1 << bits))], 20 * S)
    assert len(epochs(placed)) == 1
    assert max(abs(error) for error in errors(placed, "video")) < 20 * MS


def test_a_camera_that_paused_its_clock_is_a_jump() -> None:
    """Three seconds of silence after which stamps go on where they were: late for 1.5 s, then a new epoch."""
    placed = run([video(late=lambda captured_ns: 3 * S if captured_ns > 8 * S else 0)], 30 * S)
    assert [item.epoch.jump for item in epochs(placed) if item.epoch is not None] == [False, True]
    assert abs(placed[-1].stamp.arrived_ns - placed[-1].media_ns) < 50 * MS


def test_a_hiccup_that_catches_up_is_no_jump() -> None:
    """Two seconds of silence after which everything comes at once, as TCP does: the same epoch, the same media time."""
    placed = run([video(late=lambda captured_ns: max(0, 10 * S - captured_ns) if captured_ns > 8 * S else 0)], 20 * S)
    assert len(epochs(placed)) == 1
    assert max(abs(error) for error in errors(placed, "video")) < 20 * MS


def test_packets_that_lay_waiting_in_the_reader_are_no_jump() -> None:
    """A reader that is behind with its own work must not take its lateness for the camera's."""
    timeline = Timeline("reports")
    placed: list[Placed] = []
    for arrived_ns, _, stamp in video(late=lambda captured_ns: 2 * S if captured_ns > 3 * S else 0).packets(10 * S):
        stamp.fresh = arrived_ns < 3 * S
        placed += timeline.feed(stamp)
    assert len(epochs(placed)) == 1


def test_a_camera_of_one_picture_in_two_seconds_does_not_jump() -> None:
    """Stamps two seconds apart are no leap when they arrive two seconds apart."""
    placed = run([video(interval_ns=2 * S)], 60 * S)
    assert len(epochs(placed)) == 1
    assert max(abs(error) for error in errors(placed, "video")) < 20 * MS


def test_a_slow_camera_whose_pictures_are_held_back_is_not_late() -> None:
    """One picture a second, each delivered when the next begins, is a second behind for good: that is no jump."""
    placed = run([video(interval_ns=S, delayed=True, delay_ns=1005 * MS), audio()], 60 * S)
    assert len(epochs(placed)) == 1


def test_stamps_that_repeat_or_step_back_rise_evenly() -> None:
    """Pictures stamped in pairs, and now and then one step back: media time still rises."""
    pairs = run([video(edit=lambda count, ticks: ticks - (count % 2) * 3600)], 10 * S)
    assert all(b.media_ns > a.media_ns for a, b in pairwise(pairs))
    assert max(abs(error) for error in errors(pairs, "video", after_ns=2 * S)) < 60 * MS


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(-(1 << 40), 1 << 40)), min_size=1, max_size=120), st.randoms())
def test_no_stamps_whatever_break_it(stamps: list[int | None], chance: random.Random) -> None:
    """Any stamps in any order: every packet comes out once, in order, and the first one with an epoch."""
    timeline = Timeline(chance.choice(["stamps", "reports"]))
    placed: list[Placed] = []
    now_ns = 0
    for index, ticks in enumerate(stamps):
        now_ns += chance.choice([1, 20, 400, 3000]) * MS
        wall_ns = chance.choice([None, now_ns])
        track = chance.choice(["video", "audio"])
        placed += timeline.feed(Stamp(track, ticks, ticks, 1, 90_000, now_ns, wall_ns, False, True, index))
    placed += timeline.flush()
    assert placed[0].epoch is not None
    assert [item.stamp.payload for item in placed] == list(range(len(stamps)))


@pytest.mark.parametrize("part", [0.1, 1.0])
def test_stamps_that_are_not_believed_move_nothing(part: float) -> None:
    """A picture track whose stamps are noise for four seconds, now and then or all of them, stays where it was while
    they are and afterwards, in the same epoch."""
    chance = random.Random(3)

    def noise(count: int, ticks: int) -> int:
        return chance.getrandbits(32) if 100 <= count < 200 and chance.random() < part else ticks

    held = video(delayed=True, delay_ns=45 * MS, edit=noise, reported_after_ns=0)
    placed = run([held, audio(reported_after_ns=0)], 20 * S)
    assert len(epochs(placed)) == 1
    assert all(abs(error) < 60 * MS for error in errors(placed, "video", 2 * S)), max(errors(placed, "video", 2 * S))
