"""Packets with media time to events: decodes both tracks, says how far they are, and survives what can't be decoded."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamer.decode import DecodeOptions, VideoDecoder
from streamer.media import Effort, Progress, SourceEvent, SourceStats
from streamer.sources.axis import Stamp
from streamer.sources.faults import SourceFault
from streamer.sources.ring import PacketRing
from streamer.sources.sound import AudioDecoder
from streamer.sources.tracks import Tracks

_PROGRESS_NS = 50_000_000
# So many packets refused in a row mean that a decoder is stuck or the track is none.
_BARREN = 150
# Sound that is this far behind the picture is not there.
_SILENT_NS = 2_000_000_000
_LEAVES_OUT: dict[Effort, int] = {"all": 0, "keyframes": 1, "none": 2}


@dataclass(frozen=True, slots=True)
class Target:
    """What the pictures and the sound are made into."""

    frame_size: int
    sample_rate: int
    frames_per_second: int
    options: DecodeOptions = field(default_factory=DecodeOptions)


class Assembly:
    """The decoders of one connection.

    Args:
        ended_after_ns: a track that is so far behind the other counts as read as far as that (files: one track may end
            early), None: never.
        ring: takes the pictures as they come, too.
    """

    def __init__(
        self,
        tracks: Tracks,
        target: Target,
        stats: SourceStats,
        ended_after_ns: int | None = None,
        ring: PacketRing | None = None,
    ) -> None:
        options = target.options
        self._video: VideoDecoder | None = None
        self._audio: AudioDecoder | None = None
        if tracks.video is not None:
            self._video = VideoDecoder(tracks.video, target.frame_size, target.frames_per_second, options, stats, ring)
        if tracks.audio is not None:
            self._audio = AudioDecoder(tracks.audio, target.sample_rate, stats)
        self._ended_after_ns = ended_after_ns
        self._told: tuple[int, int] | None = None
        self._useful: set[VideoDecoder | AudioDecoder] = set()

    @property
    def delivered(self) -> bool:
        """Whether anything was ever decoded."""
        return bool(self._useful)

    @property
    def interval_ns(self) -> int:
        """The distance between pictures, 0 while unknown."""
        return 0 if self._video is None else self._video.interval_ns

    @property
    def lacks_key_frame(self) -> bool:
        """Whether pictures that are wanted can't be decoded before a key frame comes."""
        return self._video is not None and self._video.lacks_key_frame

    def restart(self, begin_ns: int) -> None:
        """A new epoch begins at `begin_ns`."""
        self._told = None
        if self._video is not None:
            self._video.restart(begin_ns)
        if self._audio is not None:
            self._audio.restart(begin_ns)

    def feed(self, stamp: Stamp, media_ns: int, order_ns: int) -> list[SourceEvent]:
        """Decode the next packet, which is what `stamp` carries; what it brought.

        Raises:
            SourceFault: no track can be decoded any more.
        """
        events: list[SourceEvent] = []
        if stamp.track == "video" and self._video is not None:
            events += self._video.feed(stamp.payload, media_ns, order_ns, stamp.arrived_ns)
            self._note(self._video, events)
        elif self._audio is not None:
            events += self._audio.feed(stamp.payload, media_ns, stamp.arrived_ns)
            self._note(self._audio, events)
        return events + self._progress(stamp.arrived_ns)

    def _note(self, decoder: VideoDecoder | AudioDecoder, events: list[SourceEvent]) -> None:
        if events:
            self._useful.add(decoder)
        if decoder.refused < _BARREN:
            return
        if decoder in self._useful:
            raise SourceFault("what arrives can't be decoded any more", permanent=False)
        if all(other.refused >= _BARREN for other in (self._video, self._audio) if other is not None):
            raise SourceFault("nothing in it can be decoded; it is damaged or encrypted", permanent=True)

    def ease(self, effort: Effort, allowed: Effort = "all") -> None:
        """From the next packet on, decode as many pictures as `effort` says, and no more than are `allowed`; where
        there is no sound, `effort` means key frames at the least."""
        if self._video is None:
            return
        wanted = "keyframes" if effort == "none" and self._is_silent else effort
        if _LEAVES_OUT[allowed] > _LEAVES_OUT[wanted]:
            self._video.ease(allowed, "overload")
        else:
            self._video.ease(wanted, "eased")

    @property
    def _is_silent(self) -> bool:
        heard_ns = None if self._audio is None else self._audio.reach_ns
        seen_ns = None if self._video is None else self._video.reach_ns
        return heard_ns is None or (seen_ns is not None and heard_ns < seen_ns - _SILENT_NS)

    def flush(self, arrived_ns: int) -> list[SourceEvent]:
        """The media ended: what the decoders still hold."""
        events: list[SourceEvent] = []
        for decoder in (self._video, self._audio):
            if decoder is not None:
                last = decoder.flush(arrived_ns)
                events += last
                if last:
                    self._useful.add(decoder)
        return events

    def _progress(self, arrived_ns: int) -> list[SourceEvent]:
        video_ns = None if self._video is None else self._video.reach_ns
        audio_ns = None if self._audio is None else self._audio.reach_ns
        if self._ended_after_ns is not None:
            newest_ns = max(video_ns or 0, audio_ns or 0) - self._ended_after_ns
            video_ns = None if video_ns is None else max(video_ns, newest_ns)
            audio_ns = None if audio_ns is None else max(audio_ns, newest_ns)
        if video_ns is None and audio_ns is None:
            return []
        reached = (video_ns or 0, audio_ns or 0)
        told = self._told
        if told is not None and reached[0] < told[0] + _PROGRESS_NS and reached[1] < told[1] + _PROGRESS_NS:
            return []
        self._told = reached
        return [Progress(video_ns, audio_ns, arrived_ns)]
