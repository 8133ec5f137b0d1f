"""Packets with media time in, sampled pictures and 16 kHz mono sound out.

Only what is used is worked for: pictures between samples are decoded as far as the next sample refers to them and no
further, and only samples are converted, by swscale straight from the camera's format and size to the encoder's.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, overload

import av
import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from streamer.media import AudioChunk, Frame, SourceStats

log = logging.getLogger(__name__)

_NS = 1_000_000_000
_NS_BASE = Fraction(1, _NS)

# Codecs whose key frames begin anew, so that what lies before one need not have been decoded.
_SEEKABLE = frozenset({"h264", "hevc", "mjpeg", "vp8", "vp9", "av1", "libdav1d", "libvpx-vp9", "libvpx"})
# Pictures larger than this are refused before they are decoded (8K is 33 million); memory is 12 bytes a pixel and more.
_MAX_PIXELS = 50_000_000
_PENDING_PACKETS = 600
_PENDING_BYTES = 32 * 1024 * 1024
# A stream of which so many packets went by without a key frame is decoded from where it is (intra refresh has none).
_KEYLESS_PACKETS = 300
# Pictures are held back undecoded while decoding all that wait would take no longer than this.
_CATCH_UP_NS = 120_000_000
_CHUNK_NS = 100_000_000
_WAITING_PACKETS = 50
# Sound this close to where it should be continues what was before it.
_CONTIGUOUS_NS = 10_000_000

Fit = Literal["squash", "crop"]


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """What is left out of decoding, and how a picture is fitted to a square.

    lazy: pictures that no sample refers to are not decoded. skip_loop_filter: blocks stay visible at full size, and
    vanish at 224 pixels. skip_unreferenced: pictures that are no samples and that no other refers to are not decoded.
    fit: `squash` keeps the whole picture, `crop` its middle with its shape. threads: of the decoder.
    """

    lazy: bool = True
    skip_loop_filter: bool = True
    skip_unreferenced: bool = True
    threads: int = 1
    fit: Fit = "squash"


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


@dataclass(slots=True)
class _Pending:
    packet: av.Packet[av.VideoStream]
    media_ns: int
    is_key: bool


class VideoDecoder:
    """Samples one video track.

    Feed packets in the order of the stream with their media time. `reach_ns` says how far the samples are complete.

    Args:
        size: S of the `[S, S, 3]` pictures made.
    """

    def __init__(
        self, stream: av.VideoStream, size: int, frames_per_second: int, options: DecodeOptions, stats: SourceStats
    ) -> None:
        self._context = stream.codec_context
        self._options = options
        self._stats = stats
        self._grid = Grid(frames_per_second)
        self._convert = PictureConverter(size, options.fit)
        self._pending: deque[_Pending] = deque()
        self._pending_bytes = 0
        self._interval = _Interval()
        self._gops = _KeyPrediction()
        self._started = False
        self._keyless = 0
        self._skips = False
        self._cost_ns = 0  # of decoding one packet, smoothed
        self._dirty = False  # the decoder holds pictures of a group that was left
        self._order_ns: int | None = None
        self.refused = 0
        """Packets in a row that the decoder refused."""
        self._prepare()

    def _prepare(self) -> None:
        context, options = self._context, self._options
        context.thread_count = options.threads
        context.thread_type = "AUTO" if options.threads != 1 else "SLICE"
        settings = {"max_pixels": str(_MAX_PIXELS)}
        if options.skip_loop_filter:
            settings["skip_loop_filter"] = "all"
        context.options = settings
        self._lazy = options.lazy and context.name in _SEEKABLE

    def restart(self, floor_ns: int) -> None:
        """A new epoch begins at `floor_ns`: samples are due from there on; decoding goes on where it was."""
        self._grid.restart(floor_ns)
        self._gops = _KeyPrediction()
        self._interval.restart()
        self._order_ns = None
        for item in self._pending:
            item.packet.pts = None
            item.media_ns = floor_ns - 1

    @property
    def reach_ns(self) -> int | None:
        """Every sample before this media time has been handed out; None before the first packet."""
        if self._order_ns is None:
            return None
        due_ns = self._grid.due_ns
        return self._order_ns if due_ns is None else min(self._order_ns, due_ns - self._slack_ns)

    @property
    def interval_ns(self) -> int:
        """The distance between pictures, 0 while unknown."""
        return self._interval.value_ns

    @property
    def _slack_ns(self) -> int:
        return min(self._interval.value_ns // 2, self._grid.reach_ns)

    def feed(
        self, packet: av.Packet[av.VideoStream], media_ns: int, order_ns: int, arrived_ns: int
    ) -> list[Frame]:
        """Take in the next packet; the samples that became available.

        Args:
            media_ns: of its presentation. order_ns: no later packet is presented before this media time.
        """
        self._interval.add(media_ns)
        self._order_ns = order_ns
        is_key = packet.is_keyframe
        if not self._may_start(is_key):
            return []
        if is_key:
            self._gops.add(media_ns)
            self._leave_group(media_ns)
        packet.pts, packet.dts, packet.time_base = media_ns, None, _NS_BASE
        self._pending.append(_Pending(packet, media_ns, is_key))
        self._pending_bytes += packet.size
        return self._decode(arrived_ns) if self._is_wanted(media_ns) else []

    def skip_to_key(self) -> None:
        """Too far behind: what waits is given up, and decoding begins again with the next key frame."""
        self._stats.drop("overload", len(self._pending))
        self._pending.clear()
        self._pending_bytes = 0
        self._started = False
        self._keyless = 0
        self._dirty = True

    def flush(self, arrived_ns: int) -> list[Frame]:
        """The media ended: the samples that the decoder still holds."""
        due_ns = self._grid.due_ns
        if due_ns is not None and all(item.media_ns < due_ns - self._slack_ns for item in self._pending):
            self._pending.clear()
            self._pending_bytes = 0
        frames = self._decode(arrived_ns)
        if self._started and not self._dirty:
            frames += self._sample(_drain(self._context), arrived_ns)
        return frames

    def _may_start(self, is_key: bool) -> bool:
        self._keyless += 1
        if not self._started:
            if not is_key and self._keyless < _KEYLESS_PACKETS:
                self._stats.drop("no_keyframe")
                return False
            self._started = True
        return True

    def _leave_group(self, key_ns: int) -> None:
        """A key frame came and no sample is due before it: what waits is dropped undecoded."""
        due_ns = self._grid.due_ns
        if not self._lazy or due_ns is None or due_ns < key_ns - self._grid.reach_ns:
            return
        if self._pending and self._pending[-1].media_ns == key_ns:
            return  # the headers of this very picture
        self._pending.clear()
        self._pending_bytes = 0
        self._dirty = True

    def _is_wanted(self, media_ns: int) -> bool:
        """Whether to decode what waits now: the sample is among it, or surely refers to it."""
        due_ns = self._grid.due_ns
        if not self._lazy or due_ns is None:
            return True
        if len(self._pending) > _PENDING_PACKETS or self._pending_bytes > _PENDING_BYTES:
            return True
        if self._grid.is_due(media_ns, self._pending[-1].is_key and self._gops.are_rare(self._grid), self._slack_ns):
            return not self._expects_key(media_ns, due_ns)
        if len(self._pending) * self._cost_ns > _CATCH_UP_NS:
            return True
        # Held back while a key frame may come before the sample; decoded as they come where it surely comes after it.
        key_ns = self._gops.next_ns
        is_predicted = key_ns is not None and key_ns >= media_ns and self._gops.are_rare(self._grid)
        return is_predicted and not self._expects_key(media_ns, due_ns)

    def _expects_key(self, media_ns: int, due_ns: int) -> bool:
        """Whether a key frame should come soon enough after `media_ns` to be the sample that is due."""
        key_ns = self._gops.next_ns
        if key_ns is None or not media_ns < key_ns <= due_ns + self._grid.reach_ns + self._slack_ns:
            return False
        return self._gops.are_rare(self._grid) and media_ns < due_ns + self._grid.reach_ns

    def _decode(self, arrived_ns: int) -> list[Frame]:
        frames: list[Frame] = []
        if self._dirty:
            self._context.flush_buffers()
            self._dirty = False
        while self._pending:
            item = self._pending.popleft()
            self._pending_bytes -= item.packet.size
            self._choose_skip(item.media_ns)
            begun_ns = time.perf_counter_ns()
            try:
                pictures = self._context.decode(item.packet)
            except av.FFmpegError:
                if _has_picture(item.packet, self._context.name):
                    self.refused += 1
                    self._stats.drop("corrupt")
                continue
            self.refused = 0 if pictures else self.refused
            self._cost_ns += (time.perf_counter_ns() - begun_ns - self._cost_ns) // 8
            frames += self._sample(pictures, arrived_ns)
        return frames

    def _choose_skip(self, media_ns: int) -> None:
        """Let the decoder leave out what is no sample and referred to by none (B pictures, temporal layers)."""
        due_ns = self._grid.due_ns
        skips = self._options.skip_unreferenced and due_ns is not None and media_ns < due_ns - self._slack_ns
        if skips != self._skips:
            self._context.skip_frame = "NONREF" if skips else "DEFAULT"
            self._skips = skips

    def _sample(self, pictures: list[av.VideoFrame], arrived_ns: int) -> list[Frame]:
        frames = []
        self._stats.frames_decoded += len(pictures)
        for picture in pictures:
            media_ns = picture.pts
            is_key = picture.key_frame and self._gops.are_rare(self._grid)
            if media_ns is None or not self._grid.is_due(media_ns, is_key, self._slack_ns):
                continue
            if picture.is_corrupt:
                self._stats.drop("corrupt")
                continue
            rgb = self._convert(picture)
            duration_ns = max(self._grid.period_ns, self._interval.value_ns)
            frames.append(Frame(media_ns, duration_ns, arrived_ns, rgb))
            self._grid.take(media_ns, is_key, self._gops.in_step_with(self._grid))
            self._stats.frames_sampled += 1
        return frames


@overload
def _drain(context: av.VideoCodecContext) -> list[av.VideoFrame]: ...
@overload
def _drain(context: av.AudioCodecContext) -> list[av.AudioFrame]: ...
def _drain(context: av.VideoCodecContext | av.AudioCodecContext) -> list[av.VideoFrame] | list[av.AudioFrame]:
    """What a decoder still holds at the end; nothing where it is beyond giving it."""
    try:
        return context.decode(None)
    except av.FFmpegError:
        return []


class _Interval:
    """The usual distance between a track's pictures, in whatever order they come."""

    def __init__(self) -> None:
        self.value_ns = 0
        self.restart()

    def restart(self) -> None:
        self._recent: deque[int] = deque(maxlen=17)

    def add(self, media_ns: int) -> None:
        if self._recent and media_ns == self._recent[-1]:
            return
        self._recent.append(media_ns)
        if len(self._recent) > 1:
            self.value_ns = (max(self._recent) - min(self._recent)) // (len(self._recent) - 1)


class _KeyPrediction:
    """When the next key frame is to be expected: where they come evenly, from the distance of the last three."""

    def __init__(self) -> None:
        self.next_ns: int | None = None
        self._last_ns: int | None = None
        self._distance_ns = 0

    def add(self, key_ns: int) -> None:
        if key_ns == self._last_ns:
            return
        distance_ns = 0 if self._last_ns is None else key_ns - self._last_ns
        is_even = distance_ns > 0 and abs(distance_ns - self._distance_ns) * 8 < distance_ns
        self.next_ns = key_ns + distance_ns if is_even else None
        self._last_ns, self._distance_ns = key_ns, distance_ns

    def in_step_with(self, grid: Grid) -> int | None:
        """The next key frame, where key frames come whole periods of `grid` apart."""
        apart_ns = (self._distance_ns + grid.period_ns // 2) % grid.period_ns - grid.period_ns // 2
        return self.next_ns if self._distance_ns and abs(apart_ns) <= grid.reach_ns // 4 else None

    def are_rare(self, grid: Grid) -> bool:
        """Whether key frames come less often than samples; where every picture is one, none is worth waiting for."""
        return not 0 < self._distance_ns < grid.period_ns // 2


def _has_picture(packet: av.Packet[av.VideoStream], codec: str) -> bool:
    """Whether there is any part of a picture in a packet that a decoder refused; some cameras send headers by themselves.

    By the types of its NAL units (H.264: ITU-T H.264 table 7-1; HEVC: ITU-T H.265 table 7-1), after start codes.
    """
    if codec not in ("h264", "hevc"):
        return True
    data = bytes(packet)
    units = [data[at + 3] for at in _finds(data, b"\x00\x00\x01") if at + 3 < len(data)]
    if not units:
        return True
    if codec == "h264":
        return any(1 <= unit & 0x1F <= 5 for unit in units)
    return any(unit >> 1 & 0x3F < 32 for unit in units)


def _finds(data: bytes, what: bytes) -> Iterator[int]:
    at = data.find(what)
    while at >= 0:
        yield at
        at = data.find(what, at + len(what))


class PictureConverter:
    """Decoded pictures of any size and format to uint8 `[S, S, 3]` RGB."""

    def __init__(self, size: int, fit: Fit) -> None:
        self._size = size
        self._fit = fit
        self._scaler = VideoReformatter()

    def __call__(self, picture: av.VideoFrame) -> NDArray[np.uint8]:
        """Convert `picture`, turned upright where its track says how the camera was held."""
        size = self._size
        width = height = size
        if self._fit == "crop":
            shorter = min(picture.width, picture.height)
            width = max(size, round(picture.width * size / shorter))
            height = max(size, round(picture.height * size / shorter))
        scaled = self._scaler.reformat(
            picture,
            width=width,
            height=height,
            format="rgb24",
            src_colorspace=_colorspace(picture),
            interpolation=Interpolation.BILINEAR,
            threads=1,
        )
        rgb: NDArray[np.uint8] = np.asarray(scaled.to_ndarray(), np.uint8)
        if self._fit == "crop":
            left, top = (width - size) // 2, (height - size) // 2
            rgb = rgb[top : top + size, left : left + size]
        turns = round(picture.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(rgb, turns) if turns else rgb)


def _colorspace(picture: av.VideoFrame) -> int | None:
    # Unsaid, it is BT.601 for standard definition and BT.709 above, as every player takes it (ITU-R BT.709).
    unsaid = picture.colorspace == 2
    return int(Colorspace.ITU709) if unsaid and picture.height >= 720 else None


class AudioDecoder:
    """Decodes one sound track to mono float32 at `sample_rate`, in chunks of about 100 ms.

    Packets are kept until they make a chunk and are then decoded together: 47 times a second would cost three times as
    much in cold caches. Sample format, rate and layout may change from frame to frame; gaps in the stamps end a chunk
    and stay gaps.
    """

    def __init__(self, stream: av.AudioStream, sample_rate: int, stats: SourceStats) -> None:
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
        for frame in _drain(self._context):
            chunks += self._take(frame, self._end_ns, arrived_ns)
        if self._resampler is not None:
            for resampled in self._resampler.resample(None):
                chunks += self._append(_samples(resampled), None, arrived_ns)
        return chunks + self._emit(arrived_ns)

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
