"""When pictures are sampled, and what is known of a track's pictures and key frames for it. Pure."""

from __future__ import annotations

from collections import deque

_NS = 1_000_000_000
# Distances between key frames that are kept in mind.
_REMEMBERED = 4


class Grid:
    """When samples are due: every `period_ns`, in step with the key frames where they come near. Pure.

    A key frame within an eighth of a period of the due time is the sample: it costs least, and the pictures after it
    need not be decoded for a while.
    """

    def __init__(self, frames_per_second: int) -> None:
        self.period_ns = _NS // frames_per_second
        self.reach_ns = self.period_ns // 8
        self.due_ns: int | None = None

    def restart(self, floor_ns: int | None) -> None:
        """The next picture at or after `floor_ns` is due (None: whatever comes first)."""
        self.due_ns = floor_ns

    def is_due(self, media_ns: int, is_key: bool, slack_ns: int) -> bool:
        """Whether the picture at `media_ns` is a sample.

        Args:
            is_key: it is a key frame, and those are rare. slack_ns: half the distance between pictures.
        """
        if self.due_ns is None:
            return True
        return media_ns >= self.due_ns - (self.reach_ns if is_key else slack_ns)

    def take(self, media_ns: int, is_key: bool, next_key_ns: int | None) -> None:
        """The picture at `media_ns` was sampled. `next_key_ns`: of a key frame that will come, whole periods apart."""
        due_ns = media_ns if self.due_ns is None else self.due_ns
        if is_key or media_ns > due_ns + self.period_ns // 2:
            due_ns = media_ns
        self.due_ns = due_ns + self.period_ns
        if next_key_ns is not None:
            half_ns = self.period_ns // 2
            error_ns = (next_key_ns - self.due_ns + half_ns) % self.period_ns - half_ns
            self.due_ns += max(-self.reach_ns, min(self.reach_ns, error_ns))


class Interval:
    """The usual distance between a track's pictures, in whatever order they come."""

    def __init__(self) -> None:
        self.value_ns = 0
        self._recent: deque[int] = deque(maxlen=17)

    def restart(self) -> None:
        """The next picture may be anywhere; the distance is kept until more are known."""
        self._recent.clear()

    def add(self, media_ns: int) -> None:
        """The next picture of the track."""
        if self._recent and media_ns == self._recent[-1]:
            return
        self._recent.append(media_ns)
        if len(self._recent) > 1:
            self.value_ns = (max(self._recent) - min(self._recent)) // (len(self._recent) - 1)


class KeyPrediction:
    """When the next key frame is to be expected: where they come evenly, from the distance of the last three."""

    def __init__(self) -> None:
        self.next_ns: int | None = None
        self._last_ns: int | None = None
        self.distance_ns = 0
        """Between the last two, 0 while unknown."""
        self._distances_ns: deque[int] = deque(maxlen=_REMEMBERED)

    def add(self, key_ns: int) -> None:
        """The next key frame of the track."""
        if key_ns == self._last_ns:
            return
        distance_ns = 0 if self._last_ns is None else key_ns - self._last_ns
        is_even = distance_ns > 0 and abs(distance_ns - self.distance_ns) * 8 < distance_ns
        self.next_ns = key_ns + distance_ns if is_even else None
        self._last_ns, self.distance_ns = key_ns, distance_ns
        if distance_ns > 0:
            self._distances_ns.append(distance_ns)

    @property
    def usual_ns(self) -> int:
        """The least of the last distances, which is the usual one where key frames got lost; 0 while unknown."""
        return min(self._distances_ns, default=0)

    def in_step_with(self, grid: Grid) -> int | None:
        """The next key frame, where key frames come whole periods of `grid` apart."""
        apart_ns = (self.distance_ns + grid.period_ns // 2) % grid.period_ns - grid.period_ns // 2
        return self.next_ns if self.distance_ns and abs(apart_ns) <= grid.reach_ns // 4 else None

    def are_rare(self, grid: Grid) -> bool:
        """Whether key frames come less often than samples; where every picture is one, none is worth waiting for."""
        return not 0 < self.distance_ns < grid.period_ns // 2
