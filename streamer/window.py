"""Windows: frames and sound of one stream in, aligned closed windows out. Pure: time is an argument.

A window `[end - window, end)` is cut every hop. It closes as soon as every track that is alive has been read past its
end, and at the latest `grace_ns` after its end was captured; what is missing then is missing from its coverage and
never shifts what is there. What arrives after that still counts for the later windows that reach back to it.
"""

from __future__ import annotations

import bisect
from collections import deque
from dataclasses import dataclass

from streamer.audio_track import AudioTrack
from streamer.media import AudioChunk, Coverage, EpochStart, Frame, Geometry, Patch, Picture, Progress, Window

# A sample covers a little more than its own duration, so that a camera's jitter is not taken for a hole.
_DURATION_SLACK = 1.2
# The last hop of a file is a window where at least this part (one in so many) of it was there.
_TAIL_PART = 10
# A track that has brought nothing for this long is not waited for.
_TRACK_SILENT_NS = 1_000_000_000
# In a file, where no clock runs, a track this far behind the other one has ended (files interleave far closer).
_TRACK_BEHIND_NS = 10_000_000_000


@dataclass(frozen=True, slots=True)
class WindowPolicy:
    """`bound_ns`: the latency bound, from a window's end to its deadline. `grace_ns`: how long after its end a window
    may wait for late media.

    `grace_ns=None` waits for ever: for files, where no clock runs.
    """

    bound_ns: int
    grace_ns: int | None


@dataclass(slots=True)
class _Track:
    progress_ns: int
    arrived_ns: int


@dataclass(frozen=True, slots=True)
class _Sample:
    picture: Picture
    covers_to_ns: int


class Windower:
    """The windows of one stream, epoch after epoch.

    Feed events with `feed`, ask for what has closed with `poll`; `next_close_ns` says when time alone will close the
    next one. Picture and patch indices never repeat over the life of the object.
    """

    def __init__(self, stream: str, geometry: Geometry, policy: WindowPolicy) -> None:
        self._stream = stream
        self._geometry = geometry
        self._policy = policy
        self._audio = AudioTrack(
            geometry.sample_rate, geometry.patch_samples, geometry.patch_hop_ns, geometry.window_ns
        )
        self._next_picture = 0
        self._dropped_late = 0
        self._clear()

    def _clear(self) -> None:
        self._epoch: str | None = None
        self._seq = 0
        self._next_end_ns = 0
        self._wall_offset_ns = 0
        self._newest_ns = 0
        self._samples: deque[_Sample] = deque()
        self._tracks: dict[str, _Track] = {}
        self._audio.clear()

    @property
    def epoch(self) -> str | None:
        """The running epoch, None between epochs."""
        return self._epoch

    @property
    def hop_ns(self) -> int:
        """From one window to the next."""
        return self._geometry.hop_ns

    @property
    def last_seq(self) -> int:
        """The last `seq` cut in the running epoch, -1 before the first."""
        return self._seq - 1

    @property
    def dropped_late(self) -> int:
        """Frames that came too late for any window still open."""
        return self._dropped_late

    @property
    def next_close_ns(self) -> int | None:
        """When the next window closes even if nothing more arrives; None between epochs and without a grace."""
        if self._epoch is None or self._policy.grace_ns is None:
            return None
        return self._next_end_ns + self._policy.grace_ns

    def begin(self, epoch: str, start: EpochStart) -> None:
        """Start `epoch` at its first media: its first window ends one hop later. The epoch before must have been
        ended."""
        self._clear()
        self._epoch = epoch
        self._next_end_ns = start.media_ns + self._geometry.hop_ns
        self._newest_ns = start.media_ns
        self._wall_offset_ns = start.wall_offset_ns

    def feed(self, event: Frame | AudioChunk | Progress) -> None:
        """Take in media of the running epoch; ignored between epochs."""
        if self._epoch is None:
            return
        if isinstance(event, Frame):
            self._feed_frame(event)
        elif isinstance(event, AudioChunk):
            self._audio.write(event.media_ns, event.samples)
            self._advance("audio", self._audio.written_to_ns, event.arrived_ns)
        else:
            if event.video_ns is not None:
                self._advance("video", event.video_ns, event.arrived_ns)
            if event.audio_ns is not None:
                self._advance("audio", event.audio_ns, event.arrived_ns)

    def _feed_frame(self, frame: Frame) -> None:
        self._advance("video", frame.media_ns, frame.arrived_ns)
        if frame.media_ns < self._next_end_ns - self._geometry.window_ns:
            self._dropped_late += 1
            return
        picture = Picture(self._next_picture, frame.media_ns, frame.rgb, frame.look)
        self._next_picture += 1
        sample = _Sample(picture, frame.media_ns + int(frame.duration_ns * _DURATION_SLACK))
        if self._samples and frame.media_ns < self._samples[-1].picture.media_ns:
            bisect.insort(self._samples, sample, key=lambda held: held.picture.media_ns)
        else:
            self._samples.append(sample)

    def _advance(self, name: str, progress_ns: int, arrived_ns: int) -> None:
        track = self._tracks.get(name)
        if track is None:
            self._tracks[name] = _Track(progress_ns, arrived_ns)
        elif progress_ns > track.progress_ns:
            track.progress_ns = progress_ns
            track.arrived_ns = arrived_ns
        self._newest_ns = max(self._newest_ns, progress_ns)

    def poll(self, now_ns: int) -> list[Window]:
        """The windows that have closed by `now_ns`, in order."""
        closed = []
        while self._epoch is not None and self._is_complete(now_ns):
            closed.append(self._close(now_ns))
        return closed

    def finish(self, now_ns: int, *, tail: bool = False) -> list[Window]:
        """End the epoch: the windows whose end was captured are closed; with `tail` the last, partly filled hop too."""
        closed = []
        if self._epoch is not None:
            limit_ns = self._newest_ns
            if tail:
                # An encoder's padding (20 to 50 ms of silence) is no hop of its own; a file shorter than that is.
                least_ns = self._geometry.hop_ns // _TAIL_PART if self._seq else 1
                limit_ns += self._geometry.hop_ns - least_ns
            while self._next_end_ns <= limit_ns:
                closed.append(self._close(now_ns))
        self._clear()
        return closed

    def _is_complete(self, now_ns: int) -> bool:
        grace_ns = self._policy.grace_ns
        if grace_ns is not None and now_ns >= self._next_end_ns + grace_ns:
            return True
        alive = [track for track in self._tracks.values() if self._is_alive(track, now_ns)]
        return bool(alive) and all(track.progress_ns >= self._next_end_ns for track in alive)

    def _is_alive(self, track: _Track, now_ns: int) -> bool:
        if self._policy.grace_ns is None:
            return self._newest_ns - track.progress_ns < _TRACK_BEHIND_NS
        return now_ns - track.arrived_ns < _TRACK_SILENT_NS

    def _close(self, now_ns: int) -> Window:
        assert self._epoch is not None
        end_ns = self._next_end_ns
        start_ns = end_ns - self._geometry.window_ns
        self._forget_before(start_ns)
        window = Window(
            stream=self._stream,
            epoch=self._epoch,
            seq=self._seq,
            start_ns=start_ns,
            end_ns=end_ns,
            closed_ns=now_ns,
            deadline_ns=end_ns + self._policy.bound_ns,
            wall_offset_ns=self._wall_offset_ns,
            pictures=tuple(s.picture for s in self._samples if start_ns <= s.picture.media_ns < end_ns),
            patches=self._patches(start_ns, end_ns),
            coverage=Coverage(
                video=self._video_coverage(start_ns, end_ns), audio=self._audio.coverage(start_ns, end_ns)
            ),
        )
        self._seq += 1
        self._next_end_ns += self._geometry.hop_ns
        return window

    def _patches(self, start_ns: int, end_ns: int) -> tuple[Patch, ...]:
        self._audio.cut(end_ns)
        return self._audio.patches(start_ns, end_ns)

    def _forget_before(self, start_ns: int) -> None:
        # One sample older than the window stays: it still covers the window's first moments.
        while len(self._samples) > 1 and self._samples[1].picture.media_ns <= start_ns:
            self._samples.popleft()

    def _video_coverage(self, start_ns: int, end_ns: int) -> float:
        covered_ns = 0
        reached_ns = start_ns
        for sample in self._samples:
            begin_ns = max(sample.picture.media_ns, reached_ns)
            finish_ns = min(sample.covers_to_ns, end_ns)
            if finish_ns > begin_ns:
                covered_ns += finish_ns - begin_ns
                reached_ns = finish_ns
        return covered_ns / (end_ns - start_ns)
