"""Packets with media time to events: decodes both tracks, says how far they are, and survives what can't be decoded."""

from __future__ import annotations

from dataclasses import dataclass

from av.error import FFmpegError

from streamer.decode import AudioDecoder, DecodeOptions, VideoDecoder
from streamer.media import AudioChunk, Frame, Progress, SourceEvent, SourceStats
from streamer.sources.faults import SourceFault
from streamer.sources.inputs import Packet, Tracks

_PROGRESS_NS = 50_000_000
# So many packets refused in a row mean that a decoder is stuck or the track is none.
_BARREN = 150


@dataclass(frozen=True, slots=True)
class Target:
    """What the pictures and the sound are made into."""

    frame_size: int
    sample_rate: int
    frames_per_second: int
    options: DecodeOptions = DecodeOptions()


class Assembly:
    """The decoders of one connection.

    Args:
        ended_after_ns: a track that is so far behind the other counts as read as far as that (files: one track may end
            early), None: never.
    """

    def __init__(self, tracks: Tracks, target: Target, stats: SourceStats, ended_after_ns: int | None = None) -> None:
        options = target.options
        self._stats = stats
        self._video = self._audio = None
        if tracks.video is not None:
            self._video = VideoDecoder(tracks.video, target.frame_size, target.frames_per_second, options, stats)
        if tracks.audio is not None:
            self._audio = AudioDecoder(tracks.audio, target.sample_rate, stats)
        self._ended_after_ns = ended_after_ns
        self._told: tuple[int, int] | None = None
        self._refused = {kind: 0 for kind, track in (("video", tracks.video), ("audio", tracks.audio)) if track}
        self.delivered = False
        """Whether anything was ever decoded."""

    @property
    def interval_ns(self) -> int:
        """The distance between pictures, 0 while unknown."""
        return 0 if self._video is None else self._video.interval_ns

    def restart(self, begin_ns: int) -> None:
        """A new epoch begins at `begin_ns`."""
        self._told = None
        if self._video is not None:
            self._video.restart(begin_ns)
        if self._audio is not None:
            self._audio.restart(begin_ns)

    def feed(self, packet: Packet, media_ns: int, order_ns: int, arrived_ns: int) -> list[SourceEvent]:
        """Decode the next packet; what it brought.

        Raises:
            SourceFault: no track can be decoded any more.
        """
        kind = packet.stream.type
        events: list[SourceEvent] = []
        before = self._stats.frames_decoded
        try:
            if kind == "video" and self._video is not None:
                events += self._video.feed(packet, media_ns, order_ns, arrived_ns)  # type: ignore[arg-type]
            elif kind == "audio" and self._audio is not None:
                events += self._audio.feed(packet, media_ns, arrived_ns)  # type: ignore[arg-type]
        except FFmpegError:
            self._refuse(kind)
        else:
            if events or self._stats.frames_decoded > before:
                self._refused[kind] = 0
                self.delivered = True
        return events + self._progress(arrived_ns)

    def skip_to_key(self) -> None:
        """Too far behind: pictures are left out up to the next key frame."""
        if self._video is not None:
            self._video.skip_to_key()

    def flush(self, arrived_ns: int) -> list[SourceEvent]:
        """The media ended: what the decoders still hold."""
        events: list[SourceEvent] = []
        for decoder in (self._video, self._audio):
            try:
                if decoder is not None:
                    events += decoder.flush(arrived_ns)
            except FFmpegError:
                self._stats.drop("corrupt")
        self.delivered = self.delivered or any(isinstance(event, Frame | AudioChunk) for event in events)
        return events

    def _refuse(self, kind: str) -> None:
        self._stats.drop("corrupt")
        self._refused[kind] += 1
        if all(count >= _BARREN for count in self._refused.values()):
            text = "what arrives can't be decoded" if self.delivered else "nothing in it can be decoded"
            raise SourceFault(f"{text}; it is damaged or encrypted", permanent=not self.delivered)

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
        if self._told is not None and all(new < old + _PROGRESS_NS for new, old in zip(reached, self._told, strict=True)):
            return []
        self._told = reached
        return [Progress(video_ns, audio_ns, arrived_ns)]
