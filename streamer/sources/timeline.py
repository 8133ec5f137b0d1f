"""Media time: the time stamps of all tracks of one connection mapped onto the host's monotonic clock. Pure.

Media time is `stamp + offset`. The offset is the least delay seen lately, the minimum of `arrival - stamp` over a
sliding window: a packet can be late but never early, so the quickest packets tell the true difference of the clocks
(the idea of NTP's clock filter, RFC 5905 section 10). It is followed in small steps, so that media time flows evenly.

What tracks share depends on what their stamps are worth:

* Stamps of one file or device are on one axis: one offset serves all tracks, and their alignment is kept exactly.
* RTP stamps are put on one axis by the camera's sender reports (RFC 3550 section 6.4.1), once every track has had one.
  Before that FFmpeg counts each track from its own first packet, and it shifts the track when its first report comes.
* Until then, and where reports are missing or contradict the arrivals, each track follows its arrivals with an offset
  of its own: clocks that drift apart can't pull sound and picture apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from streamer.sources.axis import Axis, LeastDelay, Stamp, lead_ns

_MS = 1_000_000
_S = 1_000_000_000

# Media that waited for the connection come in a burst, each packet less late than the one before. The offset is first
# taken when that has not happened for a while, and after a second at the latest.
_SETTLE_NS = 200 * _MS
_SETTLE_CAP_NS = 1 * _S
_SETTLE_PROGRESS_NS = 30 * _MS
# Media further behind the live edge than this when the offset is first taken are not used.
_PREROLL_NS = 500 * _MS
# How long the least delay is remembered.
_WINDOW_NS = 10 * _S
# The offset moves by 10 ms in a second, faster where it is far off: down within about 2 s, because media can't come
# from the future, up within about 8 s.
_SLEW_NS_PER_S = 10 * _MS
_DOWN_S = 2
_UP_S = 8
# Media time that is off by more than this has jumped...
_JUMP_NS = 1 * _S
# ...if so many stamps in a row say so, or if packets came that late for so long.
_CONFIRM = 3
_LATE_NS = 1500 * _MS

# Packets that arrive further apart than this did not only come unevenly: something between them got lost.
_PAUSE_NS = 500 * _MS

Alignment = Literal["stamps", "reports"]


@dataclass(frozen=True, slots=True)
class Epoch:
    """A stretch of even media time from `media_ns` on; `wall_offset_ns` is the camera's own, None where it told none.

    jump: media time was moved within a connection, or begins over in it.
    """

    jump: bool
    media_ns: int
    wall_offset_ns: int | None


@dataclass(frozen=True, slots=True)
class Placed:
    """A stamp with the media time of its pts and of its place in the stream (dts).

    preroll: older than where its epoch begins. epoch: begins with this stamp.
    """

    stamp: Stamp
    media_ns: int
    order_ns: int
    preroll: bool
    epoch: Epoch | None = None


@dataclass(slots=True)
class _Track:
    axis: Axis = field(default_factory=Axis)
    delay: LeastDelay = field(default_factory=lambda: LeastDelay(_WINDOW_NS))
    offset: _Offset | None = None
    arrived_ns: int | None = None
    reports: int = 0  # stamps that came with a report
    is_reported: bool = False
    late_since_ns: int | None = None
    settled_ns: int | None = None  # the least delay when it last fell by much
    suspects: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Offset:
    value_ns: int
    moved_ns: int

    def follow(self, target_ns: int | None, now_ns: int) -> int:
        """Move towards `target_ns`, by no more than the time since the last move allows."""
        elapsed_ns = min(max(0, now_ns - self.moved_ns), _S)
        self.moved_ns = max(self.moved_ns, now_ns)
        if target_ns is not None:
            error_ns = target_ns - self.value_ns
            seconds = _DOWN_S if error_ns < 0 else _UP_S
            step_ns = max(_SLEW_NS_PER_S * elapsed_ns // _S, abs(error_ns) * elapsed_ns // (seconds * _S))
            self.value_ns += max(-step_ns, min(step_ns, error_ns))
        return self.value_ns


@dataclass(slots=True)
class _Waiting:
    stamp: Stamp
    place_ns: int | None  # None: before the track's first stamp


class Timeline:
    """Feed stamps as they arrive; they come back with their media time, in the same order.

    Args:
        alignment: `stamps` where all tracks are on one axis by themselves, `reports` where sender reports do that.
    """

    def __init__(self, alignment: Alignment) -> None:
        self._alignment = alignment
        self._tracks: dict[str, _Track] = {}
        self._shared: _Offset | None = None
        self._epochs = 0
        self._begin_ns = 0
        self._waiting: list[_Waiting] | None = []
        self._since_ns: int | None = None
        self._burst_ns = 0

    def feed(self, stamp: Stamp) -> list[Placed]:
        """Place `stamp`: nothing while the timeline settles, then all that waited, then one by one."""
        if self._waiting is not None:
            return self._settle(stamp)
        track = self._track(stamp)
        if stamp.order_ns is None and track.axis.last_ns is None:
            # The first picture of a track that joins in has no stamp: it is needed for those that follow.
            return [Placed(stamp, stamp.arrived_ns, stamp.arrived_ns, preroll=True)]
        self._take_report(track, stamp)
        trusted = self._is_plausible(track, stamp)
        if self._has_jumped(track):
            return self._begin_again(stamp)
        place_ns = track.axis.advance(self._read(track, stamp) if trusted else None, may_join=stamp.delayed)
        if trusted:
            self._observe(track, stamp, place_ns)
        track.arrived_ns = stamp.arrived_ns
        if track.offset is None:
            self._join(track, stamp.arrived_ns - place_ns, stamp.arrived_ns)
        offset_ns = self._follow(track, stamp.arrived_ns)
        if self._is_late(track, stamp, place_ns + offset_ns):
            return self._begin_again(stamp)
        return [self._placed(stamp, place_ns + offset_ns)]

    @property
    def asks_reports(self) -> bool:
        """Whether it still matters what the sender reports say."""
        if self._alignment == "stamps":
            return False
        return self._waiting is not None or not all(track.is_reported for track in self._tracks.values())

    def flush(self) -> list[Placed]:
        """The media ended: what still waits for the timeline to settle."""
        return self._release() if self._waiting else []

    def _track(self, stamp: Stamp) -> _Track:
        track = self._tracks.get(stamp.track)
        if track is None:
            track = self._tracks[stamp.track] = _Track()
        return track

    def _read(self, track: _Track, stamp: Stamp) -> int | None:
        elapsed_ns = 0 if track.arrived_ns is None else stamp.arrived_ns - track.arrived_ns
        return track.axis.read(stamp, elapsed_ns)

    def _observe(self, track: _Track, stamp: Stamp, place_ns: int) -> None:
        # What sets a delayed packet free is the first byte of the next: that is when the next one, this one, arrived.
        arrived_ns = track.arrived_ns if stamp.delayed else stamp.arrived_ns
        if arrived_ns is not None and stamp.order_ns is not None:
            track.delay.add(arrived_ns, arrived_ns - place_ns)

    def _placed(self, stamp: Stamp, order_ns: int) -> Placed:
        media_ns = order_ns + lead_ns(stamp)
        return Placed(stamp, media_ns, order_ns, media_ns < self._begin_ns)

    # -- settling ------------------------------------------------------------------------------------------------

    def _begin_again(self, stamp: Stamp) -> list[Placed]:
        for track in self._tracks.values():
            track.axis.restart()
            track.delay = LeastDelay(_WINDOW_NS)
            track.offset = track.arrived_ns = track.late_since_ns = track.settled_ns = None
            track.suspects.clear()
        self._shared = None
        self._waiting = []
        self._since_ns = None
        return self._settle(stamp)

    def _settle(self, stamp: Stamp) -> list[Placed]:
        assert self._waiting is not None
        now_ns = stamp.arrived_ns
        if self._since_ns is None:
            self._since_ns = self._burst_ns = now_ns
        track = self._track(stamp)
        self._take_report(track, stamp)
        written_ns = self._read(track, stamp)
        if written_ns is not None and _breaks_off(track, written_ns, now_ns):
            # What came before is of the time before the jump: it is only still needed to decode what follows.
            for item in self._waiting:
                if item.stamp.track == stamp.track:
                    item.place_ns = None
            track.axis.restart()
            track.delay = LeastDelay(_WINDOW_NS)
            track.settled_ns = None
        place_ns = None
        if written_ns is not None or track.axis.last_ns is not None:
            place_ns = track.axis.advance(written_ns, may_join=stamp.delayed)
            self._observe(track, stamp, place_ns)
            track.arrived_ns = stamp.arrived_ns
        self._waiting.append(_Waiting(stamp, place_ns))
        least_ns = track.delay.least_ns(now_ns)
        if track.settled_ns is None:
            track.settled_ns = least_ns
        elif least_ns is not None and least_ns < track.settled_ns - _SETTLE_PROGRESS_NS:
            track.settled_ns = least_ns
            self._burst_ns = now_ns
        settled = now_ns - self._burst_ns >= _SETTLE_NS or now_ns - self._since_ns >= _SETTLE_CAP_NS
        return self._release() if settled else []

    def _release(self) -> list[Placed]:
        assert self._waiting is not None
        waiting, self._waiting = self._waiting, None
        now_ns = waiting[-1].stamp.arrived_ns
        places = self._fill(waiting)
        self._choose_offsets(waiting, places, now_ns)
        placed = []
        for item, place_ns in zip(waiting, places, strict=True):
            offset_ns = self._follow(self._tracks[item.stamp.track], now_ns)
            placed.append(self._placed(item.stamp, place_ns + offset_ns))
        edge_ns = max(item.media_ns for item in placed)
        self._begin_ns = min(item.media_ns for item in placed if item.media_ns >= edge_ns - _PREROLL_NS)
        epoch = Epoch(self._epochs > 0, self._begin_ns, _wall_offset_ns(placed))
        self._epochs += 1
        placed = [replace(item, preroll=item.media_ns < self._begin_ns) for item in placed]
        placed[0] = replace(placed[0], epoch=epoch)
        return placed

    def _fill(self, waiting: Sequence[_Waiting]) -> list[int]:
        """Places for the packets before a track's first stamp, counted back from it."""
        places: list[int] = []
        following: dict[str, tuple[int, int]] = {}
        for item in reversed(waiting):
            name, arrived_ns, place_ns = item.stamp.track, item.stamp.arrived_ns, item.place_ns
            if place_ns is None:
                next_ns, next_arrived_ns = following.get(name, (0, arrived_ns))
                place_ns = next_ns - max(1, self._tracks[name].axis.interval_ns or next_arrived_ns - arrived_ns)
            following[name] = (place_ns, arrived_ns)
            places.append(place_ns)
        return places[::-1]

    def _choose_offsets(self, waiting: Sequence[_Waiting], places: Sequence[int], now_ns: int) -> None:
        for item, place_ns in zip(waiting, places, strict=True):
            track = self._tracks[item.stamp.track]
            least_ns = track.delay.least_ns(now_ns)
            track.offset = _Offset(item.stamp.arrived_ns - place_ns if least_ns is None else least_ns, now_ns)
        self._share(now_ns)

    # -- one offset or several -----------------------------------------------------------------------------------

    def _share(self, now_ns: int) -> None:
        """Let one offset serve all tracks if their stamps are on one axis, and not plainly wrong about it."""
        offsets = [track.offset.value_ns for track in self._tracks.values() if track.offset is not None]
        on_one_axis = (
            self._alignment == "stamps"
            or len(offsets) == 1
            or all(track.is_reported for track in self._tracks.values() if track.offset is not None)
        )
        if offsets and on_one_axis and max(offsets) - min(offsets) <= _JUMP_NS:
            self._shared = _Offset(min(offsets), now_ns)

    def _take_report(self, track: _Track, stamp: Stamp) -> None:
        if track.is_reported or stamp.reported_wall_ns is None:
            return
        # A picture that was held back can carry a report that came after its stamp was made: the second is certain.
        track.reports += 1
        track.is_reported = track.reports > stamp.delayed
        written_ns = self._read(track, stamp)
        if written_ns is None or track.axis.last_ns is None:
            return
        # The report put the track onto the common axis; its media time goes on as before, on the new axis.
        moved_ns = written_ns - _expected_ns(track, stamp)
        track.axis.move(moved_ns)
        track.delay.shift(-moved_ns)
        for item in self._waiting or ():
            if item.stamp.track == stamp.track and item.place_ns is not None:
                item.place_ns += moved_ns
        if track.offset is not None:
            track.offset.value_ns -= moved_ns
        if self._shared is None and self._waiting is None:
            self._share(stamp.arrived_ns)

    def _follow(self, track: _Track, now_ns: int) -> int:
        """The track's offset now."""
        if self._shared is not None:
            track.offset = self._shared
            delays = [other.delay.least_ns(now_ns) for other in self._tracks.values()]
            return self._shared.follow(min((d for d in delays if d is not None), default=None), now_ns)
        assert track.offset is not None
        return track.offset.follow(track.delay.least_ns(now_ns), now_ns)

    def _join(self, track: _Track, delay_ns: int, now_ns: int) -> None:
        """A track appeared late: it shares the offset of the others if it is on their axis, else it has its own."""
        track.offset = _Offset(delay_ns, now_ns)
        if self._shared is None:
            return
        if self._alignment == "stamps" or all(other.is_reported for other in self._tracks.values()):
            return
        for other in self._tracks.values():
            if other is not track and other.offset is not None:
                other.offset = replace(self._shared)
        self._shared = None

    # -- jumps ---------------------------------------------------------------------------------------------------

    def _is_plausible(self, track: _Track, stamp: Stamp) -> bool:
        """Whether the stamp is within a second of where it can be; those that are not are remembered."""
        written_ns = self._read(track, stamp)
        offset = self._shared or track.offset
        if written_ns is None or offset is None or track.axis.last_ns is None:
            return True
        ahead_ns = written_ns + offset.value_ns - stamp.arrived_ns
        back_ns = track.axis.last_ns - written_ns
        if ahead_ns <= _JUMP_NS and back_ns <= _JUMP_NS:
            track.suspects.clear()
            return True
        track.suspects = [*track.suspects[1 - _CONFIRM :], ahead_ns]
        return False

    def _has_jumped(self, track: _Track) -> bool:
        suspects = track.suspects
        return len(suspects) == _CONFIRM and max(suspects) - min(suspects) < _JUMP_NS

    def _is_late(self, track: _Track, stamp: Stamp, media_ns: int) -> bool:
        held_ns = track.axis.interval_ns if stamp.delayed else 0
        if stamp.arrived_ns - media_ns - held_ns <= _JUMP_NS:
            track.late_since_ns = None
            return False
        if track.late_since_ns is None:
            track.late_since_ns = stamp.arrived_ns
        return stamp.fresh and stamp.arrived_ns - track.late_since_ns >= _LATE_NS


def _expected_ns(track: _Track, stamp: Stamp) -> int:
    """Where the stamp should stand by those before it: the next place, or as much later as it paused."""
    pause_ns = 0 if track.arrived_ns is None else stamp.arrived_ns - track.arrived_ns
    expected_ns = track.axis.expected_ns
    return expected_ns if pause_ns < _PAUSE_NS else max(expected_ns, (track.axis.last_ns or 0) + pause_ns)


def _breaks_off(track: _Track, written_ns: int, now_ns: int) -> bool:
    """Whether a stamp is over a second away from where its track was, and no pause in the arrivals explains it."""
    if track.axis.last_ns is None or track.arrived_ns is None:
        return False
    step_ns = written_ns - track.axis.last_ns
    return abs(step_ns) > _JUMP_NS and abs(step_ns - (now_ns - track.arrived_ns)) > _JUMP_NS


def _wall_offset_ns(placed: Sequence[Placed]) -> int | None:
    for item in reversed(placed):
        if item.stamp.reported_wall_ns is not None:
            return item.stamp.reported_wall_ns - item.media_ns
    return None
