"""Picture packets with media time in, sampled pictures out.

Only what is used is worked for: pictures between samples are decoded as far as the next sample refers to them and no
further, and only samples are converted, by swscale straight from the camera's format and size to the encoder's.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from fractions import Fraction

import av

from streamer.media import Effort, Frame, SourceStats
from streamer.sources.continuity import Continuity
from streamer.sources.look import LookMaker
from streamer.sources.picture import Fit, PictureConverter, turns_of, upright_size
from streamer.sources.ring import PacketRing
from streamer.sources.sampling import Grid, Interval, KeyPrediction
from streamer.sources.tracks import VideoTrack
from streamer.sources.units import Joiner, has_picture, units_of

_NS = 1_000_000_000
_NS_BASE = Fraction(1, _NS)

# Codecs whose key frames begin anew, so that what lies before one need not have been decoded.
_SEEKABLE = frozenset({"h264", "hevc", "mjpeg", "vp8", "vp9", "av1", "libdav1d", "libvpx-vp9", "libvpx"})
# Pictures larger than this are refused before they are decoded (8K is 33 million); memory is 12 bytes a pixel and more.
_MAX_PIXELS = 50_000_000
_PENDING_PACKETS = 600
_PENDING_BYTES = 32 * 1024 * 1024
# A stream of which so many packets went by without a key frame is decoded from where it is (intra refresh has none).
# Where they were seen to come, a key frame is waited for twice as long as they were ever apart, if that is longer.
_KEYLESS_PACKETS = 300
# Where key frames alone are sampled, each stands for the time to the next one, but for no more than this.
_KEY_STANDS_NS = 2 * _NS
# Where a picture got lost, the next key frame is waited for if it should come as soon as this.
_HEALS_WITHIN_NS = 2 * _NS
# Pictures wait while decoding them would take no longer than this: a key frame may make them needless, and in one go
# they cost a third less, because caches stay warm.
_CATCH_UP_NS = 60_000_000


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """What is left out of decoding, and how a picture is fitted to a square.

    lazy: pictures that no sample refers to are not decoded. skip_loop_filter: blocks stay visible at full size, and
    vanish at 224 pixels. skip_unreferenced: pictures that are no samples and that no other refers to are not decoded.
    fit: `squash` keeps the whole picture, `crop` its middle with its shape. threads: of the decoder. looks: samples in
    which people are to be looked for are made for that too.
    """

    lazy: bool = True
    skip_loop_filter: bool = True
    skip_unreferenced: bool = True
    threads: int = 1
    fit: Fit = "squash"
    looks: bool = False


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
        ring: takes each whole picture too, as it is.
    """

    def __init__(
        self,
        stream: VideoTrack,
        size: int,
        frames_per_second: int,
        options: DecodeOptions,
        stats: SourceStats,
        ring: PacketRing | None = None,
    ) -> None:
        self._context = stream.codec_context
        self._ring = PacketRing(stats) if ring is None else ring
        self._ring.describe(self._context)
        self._options = options
        self._stats = stats
        self._grid = Grid(frames_per_second)
        self._convert = PictureConverter(size, options.fit)
        self._look = LookMaker() if options.looks else None
        self._pending: deque[_Pending] = deque()
        self._pending_bytes = 0
        self._interval = Interval()
        self._gops = KeyPrediction()
        self._units = units_of(self._context)
        self._joiner = Joiner(self._units)
        self._continuity = Continuity(self._units, self._context.extradata)
        self._damaged = False  # what is decoded refers to something that got lost
        self._effort: Effort = "all"
        self._started = False
        self._resumes_ns: int | None = None  # decoding begins from here on even without a key frame
        self._keyless = 0
        self._group_packets = 0  # the most that lay between two key frames
        self._left_out = "no_keyframe"  # what is dropped before decoding begins counts as this
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
        self._gops = KeyPrediction()
        self._interval.restart()
        self._continuity.restart()
        self._order_ns = None
        for held in self._joiner.flush():
            self._ring.add(held, floor_ns - 1, floor_ns)
            self._pending.append(_Pending(held, floor_ns - 1, held.is_keyframe))
            self._pending_bytes += held.size
        for item in self._pending:
            item.packet.pts = None
            item.media_ns = floor_ns - 1

    @property
    def reach_ns(self) -> int | None:
        """Every sample before this media time has been handed out; None before the first packet."""
        due_ns = self._grid.due_ns
        # Before a key frame, and between them where they alone are decoded, there are no samples to wait for.
        if self._order_ns is None or due_ns is None or not self._started or self._effort != "all":
            return self._order_ns
        return min(self._order_ns, due_ns - self._slack_ns)

    @property
    def interval_ns(self) -> int:
        """The distance between pictures, 0 while unknown."""
        return self._interval.value_ns

    @property
    def lacks_key_frame(self) -> bool:
        """Whether decoding waits for a key frame, goes on with pictures that refer to what got lost, or takes key
        frames alone: a sender that can be asked for one should be."""
        waits = not self._started and self._keyless > 0
        return self._effort == "keyframes" or (self._effort == "all" and (self._damaged or waits))

    @property
    def _slack_ns(self) -> int:
        return min(self._interval.value_ns // 2, self._grid.reach_ns)

    @property
    def _stands_for_ns(self) -> int:
        eased_ns = 0 if self._effort == "all" else min(self._gops.distance_ns, _KEY_STANDS_NS)
        stands_ns = max(self._grid.period_ns, self._interval.value_ns, eased_ns)
        return stands_ns // 2 if self._damaged else stands_ns

    def feed(self, packet: av.Packet[av.VideoStream], media_ns: int, order_ns: int, arrived_ns: int) -> list[Frame]:
        """Take in the next packet; the samples that became available.

        Args:
            media_ns: of its presentation. order_ns: no later packet is presented before this media time.
        """
        self._interval.add(media_ns)
        self._order_ns = order_ns
        packet.pts, packet.dts, packet.time_base = media_ns, None, _NS_BASE
        frames: list[Frame] = []
        for whole in self._joiner.feed(packet):
            frames += self._take(whole, arrived_ns)
        return frames

    def _take(self, packet: av.Packet[av.VideoStream], arrived_ns: int) -> list[Frame]:
        media_ns, is_key = packet.pts, packet.is_keyframe
        assert media_ns is not None
        self._ring.add(packet, media_ns, arrived_ns)
        if is_key:
            self._gops.add(media_ns)
        self._count_group(is_key)
        if self._effort != "all":
            return self._take_eased(packet, media_ns, arrived_ns)
        is_broken = self._continuity.is_broken(memoryview(packet))
        if not self._may_start(media_ns, is_key):
            return []
        if is_key:
            self._damaged = False
            self._leave_group(media_ns)
        elif is_broken and self._wait_for_repair(media_ns):
            self._stats.drop("corrupt")
            return []
        self._pending.append(_Pending(packet, media_ns, is_key))
        self._pending_bytes += packet.size
        return self._decode(arrived_ns) if self._is_wanted(media_ns) else []

    def _take_eased(self, packet: av.Packet[av.VideoStream], media_ns: int, arrived_ns: int) -> list[Frame]:
        """A key frame that is due is decoded by itself, all else is left out."""
        is_rare = self._gops.are_rare(self._grid)
        wanted = self._effort == "keyframes" and packet.is_keyframe
        if not wanted or not self._grid.is_due(media_ns, is_rare, self._slack_ns):
            self._stats.drop(self._left_out)
            return []
        self._pending.append(_Pending(packet, media_ns, True))
        self._pending_bytes += packet.size
        frames = self._decode(arrived_ns)
        # It comes out now, and not behind the pictures that could be shown before it.
        frames += self._sample(self._drain(), arrived_ns)
        self._dirty = True
        return frames

    def _wait_for_repair(self, media_ns: int) -> bool:
        """A picture got lost, and those that refer to it are wrong: whether to leave out all up to the next key frame.

        Where that is far away they are used, and stand for half their time.
        """
        self._damaged = True
        usual_ns = self._gops.usual_ns
        if usual_ns > _HEALS_WITHIN_NS:
            return False
        self._left_out = "corrupt"
        self._give_up()
        self._resumes_ns = None if usual_ns else media_ns + _HEALS_WITHIN_NS
        return True

    def ease(self, effort: Effort, reason: str) -> None:
        """From the next packet on, decode as many pictures as `effort` says; decoding all of them begins again with a
        key frame. What is left out is counted under `reason`."""
        if effort == self._effort:
            return
        if self._effort == "all" or effort != "all":
            self._left_out = reason  # and on the way back the reason for what is still missing stays
        self._effort = effort
        self._give_up()
        self._continuity.restart()

    def _give_up(self) -> None:
        """Decoding begins again with the next key frame."""
        if self._pending:
            self._stats.drop(self._left_out, len(self._pending))
        self._pending.clear()
        self._pending_bytes = 0
        self._started = False
        self._resumes_ns = None
        self._keyless = 0
        self._dirty = True

    def flush(self, arrived_ns: int) -> list[Frame]:
        """The media ended: the samples that the decoder still holds."""
        frames: list[Frame] = []
        for last in self._joiner.flush():
            frames += self._take(last, arrived_ns)
        due_ns = self._grid.due_ns
        if due_ns is not None and all(item.media_ns < due_ns - self._slack_ns for item in self._pending):
            self._pending.clear()
            self._pending_bytes = 0
        frames += self._decode(arrived_ns)
        if self._started and not self._dirty:
            frames += self._sample(self._drain(), arrived_ns)
        return frames

    def _drain(self) -> list[av.VideoFrame]:
        try:
            return self._context.decode(None)
        except av.FFmpegError:
            return []  # it is beyond giving what it held

    def _may_start(self, media_ns: int, is_key: bool) -> bool:
        due_ns = self._grid.due_ns
        if not self._started:
            waits = self._keyless < max(_KEYLESS_PACKETS, 2 * self._group_packets)
            if self._resumes_ns is not None and media_ns >= self._resumes_ns:
                waits = False
            if waits and not is_key:
                self._stats.drop(self._left_out)
                return False
            self._started = True
            self._left_out = "no_keyframe"
            if due_ns is not None and due_ns < media_ns:
                self._grid.restart(media_ns)  # nothing will be shown before this picture
        return True

    def _count_group(self, is_key: bool) -> None:
        self._keyless += 1
        if is_key:
            self._group_packets = max(self._group_packets, self._keyless)
            self._keyless = 0

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
        if self._expects_key(media_ns, due_ns):
            return False
        return len(self._pending) * self._cost_ns > _CATCH_UP_NS

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
                if has_picture(item.packet, self._units):
                    self.refused += 1
                    self._stats.drop("corrupt")
                    self._wait_for_repair(item.media_ns)
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
            if picture.is_corrupt:
                # Also where it is no sample: those that follow refer to it.
                self._stats.drop("corrupt")
                self._wait_for_repair(self._order_ns or 0)
                continue
            media_ns = picture.pts
            is_key = picture.key_frame and self._gops.are_rare(self._grid)
            if media_ns is None or not self._grid.is_due(media_ns, is_key, self._slack_ns):
                continue
            rgb = self._convert(picture)
            self._stats.picture = upright_size(picture)
            self._ring.turn(turns_of(picture))
            look = None if self._look is None or self._effort != "all" else self._look(picture, rgb, media_ns)
            frames.append(Frame(media_ns, self._stands_for_ns, arrived_ns, rgb, look))
            self._grid.take(media_ns, is_key, self._gops.in_step_with(self._grid))
            self._stats.frames_sampled += 1
        return frames
