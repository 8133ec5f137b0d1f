"""Sound packets with media time in, mono float32 out."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

from streamer.media import AudioChunk, SourceStats
from streamer.sources.tracks import AudioTrack

_NS = 1_000_000_000
_NS_BASE = Fraction(1, _NS)
_CHUNK_NS = 100_000_000
_WAITING_PACKETS = 50
# Sound this close to where it should be continues what was before it.
_CONTIGUOUS_NS = 10_000_000


class AudioDecoder:
    """Decodes one sound track to mono float32 at `sample_rate`, in chunks of about 100 ms.

    Packets are kept until they make a chunk and are then decoded together: 47 times a second would cost three times as
    much in cold caches. Sample format, rate and layout may change from frame to frame; gaps in the stamps end a chunk
    and stay gaps.
    """

    def __init__(self, stream: AudioTrack, sample_rate: int, stats: SourceStats) -> None:
        self._context = stream.codec_context
        self._context.thread_count = 1
        base = stream.time_base or Fraction(1, sample_rate)
        self._tick_ns = (base.numerator * _NS, base.denominator)
        self._rate = sample_rate
        self._stats = stats
        self._waiting: list[tuple[av.Packet[av.AudioStream], int]] = []
        self._resampler: av.AudioResampler | None = None
        self._shape: tuple[str, str, int] | None = None
        self._parts: list[NDArray[np.float32]] = []
        self._start_ns = self._end_ns = 0
        self._held = 0
        self._floor_ns: int | None = None
        self.reach_ns: int | None = None
        """Every chunk that begins before this media time has been handed out; None before the first."""
        self.refused = 0
        """Packets in a row that the decoder refused."""

    def restart(self, floor_ns: int) -> None:
        """A new epoch begins at `floor_ns`: older sound is dropped, and so is what waits, of the epoch before."""
        self._waiting, self._parts, self._held = [], [], 0
        self._floor_ns = floor_ns
        self._resampler = None
        self.reach_ns = None

    def feed(self, packet: av.Packet[av.AudioStream], media_ns: int, arrived_ns: int) -> list[AudioChunk]:
        """Take in the next packet, at `media_ns`; the chunks that became complete."""
        self._waiting.append((packet, media_ns))
        length_ns = (packet.duration or 0) * self._tick_ns[0] // self._tick_ns[1]
        if not length_ns and len(self._waiting) > 1:
            length_ns = media_ns - self._waiting[-2][1]
        span_ns = media_ns + length_ns - self._waiting[0][1]
        if 0 <= span_ns < _CHUNK_NS and len(self._waiting) < _WAITING_PACKETS:
            return []
        return self._decode(arrived_ns)

    def flush(self, arrived_ns: int) -> list[AudioChunk]:
        """The media ended: what is still held."""
        chunks = self._decode(arrived_ns)
        for frame in self._drain():
            chunks += self._take(frame, self._end_ns, arrived_ns)
        if self._resampler is not None:
            for resampled in self._resampler.resample(None):
                chunks += self._append(_samples(resampled), None, arrived_ns)
        return chunks + self._emit(arrived_ns)

    def _drain(self) -> list[av.AudioFrame]:
        try:
            return self._context.decode(None)
        except av.FFmpegError:
            return []  # it is beyond giving what it held

    def _decode(self, arrived_ns: int) -> list[AudioChunk]:
        waiting, self._waiting = self._waiting, []
        chunks: list[AudioChunk] = []
        for packet, media_ns in waiting:
            try:
                frames = self._context.decode(packet)
            except av.FFmpegError:
                self.refused += 1
                self._stats.drop("corrupt")
                continue
            self.refused = 0
            chunks += self._place(packet, frames, media_ns, arrived_ns)
        return chunks + self._emit(arrived_ns)

    def _place(
        self, packet: av.Packet[av.AudioStream], frames: list[av.AudioFrame], media_ns: int, arrived_ns: int
    ) -> list[AudioChunk]:
        stamp = packet.pts if packet.pts is not None else packet.dts
        chunks: list[AudioChunk] = []
        for frame in frames:
            if stamp is not None and frame.pts is not None:
                # Priming samples were cut off, or the packet holds several frames.
                media_ns += (frame.pts - stamp) * self._tick_ns[0] // self._tick_ns[1]
            chunks += self._take(frame, media_ns, arrived_ns)
            media_ns += frame.samples * _NS // max(1, frame.sample_rate)
            stamp = None
        return chunks

    def _take(self, frame: av.AudioFrame, media_ns: int, arrived_ns: int) -> list[AudioChunk]:
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None or shape != self._shape:
            # Without a limit swresample adds channels up, and stereo would come out up to 1.4 times as loud.
            options = {"rematrix_maxval": "1.0"}
            self._resampler = av.AudioResampler("fltp", "mono", self._rate, options=options)
            self._shape = shape
        frame.pts, frame.time_base = media_ns, _NS_BASE
        chunks: list[AudioChunk] = []
        for resampled in self._resampler.resample(frame):
            at_ns: int | None = media_ns
            if resampled is not frame:
                # The resampler counts in its own samples, and knows how many it holds back.
                at_ns = None if resampled.pts is None else resampled.pts * _NS // self._rate
            chunks += self._append(_samples(resampled), at_ns, arrived_ns)
        return chunks

    def _append(self, samples: NDArray[np.float32], at_ns: int | None, arrived_ns: int) -> list[AudioChunk]:
        chunks: list[AudioChunk] = []
        if at_ns is None:
            at_ns = self._end_ns
        if self._parts and abs(at_ns - self._end_ns) > _CONTIGUOUS_NS:
            chunks += self._emit(arrived_ns)
        if self._floor_ns is not None:
            behind = (self._floor_ns - at_ns) * self._rate // _NS
            if behind > 0:
                samples = samples[behind:]
                at_ns += behind * _NS // self._rate
            else:
                self._floor_ns = None
        if len(samples):
            if not self._parts:
                self._start_ns = at_ns
            self._parts.append(samples)
            self._held += len(samples)
            self._end_ns = self._start_ns + self._held * _NS // self._rate
        return chunks

    def _emit(self, arrived_ns: int) -> list[AudioChunk]:
        if not self._parts:
            return []
        samples = np.concatenate(self._parts)
        self._parts, self._held = [], 0
        if not np.isfinite(samples).all():
            self._stats.drop("corrupt")
            return []
        self.reach_ns = self._end_ns
        return [AudioChunk(self._start_ns, arrived_ns, np.clip(samples, -1.0, 1.0))]


def _samples(frame: av.AudioFrame) -> NDArray[np.float32]:
    return np.asarray(frame.to_ndarray(), np.float32).reshape(-1)
