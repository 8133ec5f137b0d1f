"""The sound of one epoch on its media-time axis: written as it comes, cut into patches, holes kept as holes. Pure."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from streamer.media import Patch

_NS = 1_000_000_000
# Sound may be this far ahead of the pictures (a burst, a file's interleaving) before its oldest part is overwritten.
_SLACK_S = 12
# Media time follows the clocks' drift in small steps; a chunk this close to the end of the one before continues it.
_CONTIGUOUS_NS = 10_000_000
# A patch of which less than this was there says nothing about the sound.
_PATCH_MIN_COVERAGE = 0.5


class AudioTrack:
    """A ring of the newest samples, mono float32, with the intervals that were really written.

    The ring holds a window, a patch and some seconds of slack.
    """

    def __init__(self, sample_rate: int, patch_samples: int, patch_hop_ns: int, window_ns: int) -> None:
        self._rate = sample_rate
        self._patch_samples = patch_samples
        self._patch_ns = patch_samples * _NS // sample_rate
        self._patch_hop_ns = patch_hop_ns
        self._keep = (window_ns * sample_rate) // _NS + patch_samples
        self._capacity = self._keep + _SLACK_S * sample_rate
        self._ring = np.zeros(self._capacity, np.float32)
        self._next_patch = 0
        self.clear()

    def clear(self) -> None:
        """Forget all sound: a new epoch. Patch indices go on."""
        self._origin_ns: int | None = None
        self._end = 0  # samples from the origin, one past the last written
        self._intervals: deque[tuple[int, int]] = deque()
        self._cut_from_ns = 0
        self._held: deque[Patch] = deque()

    @property
    def written_to_ns(self) -> int:
        """Media time just past the newest sample; 0 where there is none."""
        return 0 if self._origin_ns is None else self._origin_ns + self._end * _NS // self._rate

    def write(self, media_ns: int, samples: NDArray[np.float32]) -> None:
        """Place `samples` (float32 `[n]`) at `media_ns`.

        A start within 10 ms of the end so far continues it. An overlap replaces nothing older: its first part is
        dropped. Sound older than what was already written is dropped.
        """
        if self._origin_ns is None:
            self._origin_ns = self._cut_from_ns = media_ns
        at = (media_ns - self._origin_ns) * self._rate // _NS
        if abs(at - self._end) * _NS <= _CONTIGUOUS_NS * self._rate:
            at = self._end
        elif at < self._end:
            samples = samples[self._end - at :]
            at = self._end
        if len(samples) > self._capacity:
            at += len(samples) - self._capacity
            samples = samples[-self._capacity :]
        if len(samples):
            self._store(at, samples)

    def _store(self, at: int, samples: NDArray[np.float32]) -> None:
        end = at + len(samples)
        self._zero(self._end, at)
        first = at % self._capacity
        head = min(len(samples), self._capacity - first)
        self._ring[first : first + head] = samples[:head]
        self._ring[: len(samples) - head] = samples[head:]
        if self._intervals and self._intervals[-1][1] == at:
            self._intervals[-1] = (self._intervals[-1][0], end)
        else:
            self._intervals.append((at, end))
        self._end = end
        oldest = end - self._capacity
        while self._intervals and self._intervals[0][1] <= oldest:
            self._intervals.popleft()

    def _zero(self, begin: int, end: int) -> None:
        if end - begin >= self._capacity:
            self._ring[:] = 0.0
        elif end > begin:
            first, last = begin % self._capacity, end % self._capacity
            if first < last:
                self._ring[first:last] = 0.0
            else:
                self._ring[first:] = 0.0
                self._ring[:last] = 0.0

    def cut(self, now_media_ns: int) -> None:
        """Make every patch that ends by `now_media_ns`; those with less than half their sound there are left out."""
        if self._origin_ns is None:
            return
        oldest_ns = now_media_ns - self._keep * _NS // self._rate
        behind = max(0, -(-(oldest_ns - self._cut_from_ns) // self._patch_hop_ns))
        self._cut_from_ns += behind * self._patch_hop_ns
        while self._cut_from_ns + self._patch_ns <= now_media_ns:
            begin = self._index(self._cut_from_ns)
            end = begin + self._patch_samples
            if self._written(begin, end) >= _PATCH_MIN_COVERAGE * self._patch_samples:
                self._held.append(Patch(self._next_patch, self._cut_from_ns, self._read(begin, end)))
                self._next_patch += 1
            self._cut_from_ns += self._patch_hop_ns

    def patches(self, start_ns: int, end_ns: int) -> tuple[Patch, ...]:
        """The patches wholly within `[start_ns, end_ns)`; older ones are forgotten."""
        while self._held and self._held[0].media_ns < start_ns:
            self._held.popleft()
        return tuple(patch for patch in self._held if patch.media_ns + self._patch_ns <= end_ns)

    def coverage(self, start_ns: int, end_ns: int) -> float:
        """The fraction of `[start_ns, end_ns)` for which there is sound."""
        if self._origin_ns is None:
            return 0.0
        begin, end = self._index(start_ns), self._index(end_ns)
        return self._written(begin, end) / max(1, end - begin)

    def _index(self, media_ns: int) -> int:
        assert self._origin_ns is not None
        return (media_ns - self._origin_ns) * self._rate // _NS

    def _written(self, begin: int, end: int) -> int:
        return sum(max(0, min(end, last) - max(begin, first)) for first, last in self._intervals)

    def _read(self, begin: int, end: int) -> NDArray[np.float32]:
        patch = np.zeros(end - begin, np.float32)
        for first, last in self._intervals:
            lower, upper = max(begin, first, self._end - self._capacity), min(end, last)
            if upper > lower:
                positions = np.arange(lower, upper) % self._capacity
                patch[lower - begin : upper - begin] = self._ring[positions]
        return patch
