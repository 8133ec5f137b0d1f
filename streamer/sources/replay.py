"""Files: played in real time as live sources, or read at full speed.

A played file ends with its media; `file:PATH?loop=1` begins again for ever, a new epoch each time.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from av.container import InputContainer
from av.error import FFmpegError

from streamer.decode import DecodeOptions
from streamer.errors import MediaError, UserError
from streamer.media import EpochStart, Geometry, SourceEvent, SourceStats
from streamer.sources.assembly import Assembly, Target
from streamer.sources.axis import Axis, lead_ns
from streamer.sources.faults import SourceFault, explain
from streamer.sources.files import DURATION_WRITTEN, FileAddress, open_file
from streamer.sources.inputs import Packet, Stamper, choose, demux
from streamer.sources.timeline import Alignment
from streamer.sources.tracks import AudioTrack, VideoTrack

_NS = 1_000_000_000
# A played file is read so far ahead that tracks which are written apart come out in order.
_AHEAD_NS = 1 * _NS
_AHEAD_PACKETS = 1000
# A track that is so far behind the other has ended; nothing waits for it any more.
_TRACK_ENDED_NS = 10 * _NS
_BACK_NS = 1 * _NS


class FileOpener:
    """Plays one file in real time."""

    def __init__(self, address: FileAddress, *, video: bool, audio: bool) -> None:
        self.endless = False
        self._address = address
        self._video = video
        self._audio = audio

    def open(self, stop: threading.Event) -> FileInput:
        """Open the file."""
        return FileInput(self._address, video=self._video, audio=self._audio)


class FileInput:
    """A file as a live source: each packet comes when its time has come."""

    alignment: Alignment = "stamps"
    delays_pictures = False

    def __init__(self, address: FileAddress, *, video: bool, audio: bool) -> None:
        self._loop = address.loop
        self._container = open_file(address.path)
        try:
            self.tracks = choose(self._container, video=video, audio=audio)
        except SourceFault:
            self._container.close()
            raise

    def packets(self, stop: threading.Event) -> Iterator[Packet]:
        while True:
            yield from paced(demux(self._container, self.tracks), stop)
            if not self._loop or stop.is_set():
                return
            self._container.seek(self._container.start_time or 0)

    def close(self) -> None:
        self._container.close()


def paced(packets: Iterator[Packet], stop: threading.Event) -> Iterator[Packet]:
    """`packets` in the order of their time stamps, each when its time has come after the first."""
    begun_ns = time.monotonic_ns()
    origin_ns: int | None = None
    order = itertools.count()
    ahead: list[tuple[int, int, Packet]] = []
    newest_ns = 0
    for packet in packets:
        at_ns = _order_ns(packet, newest_ns)
        newest_ns = max(newest_ns, at_ns) if ahead else at_ns
        heapq.heappush(ahead, (at_ns, next(order), packet))
        while len(ahead) > _AHEAD_PACKETS or newest_ns - ahead[0][0] > _AHEAD_NS:
            origin_ns = ahead[0][0] if origin_ns is None else origin_ns
            if stop.wait(max(0.0, (begun_ns + ahead[0][0] - origin_ns - time.monotonic_ns()) / _NS)):
                return
            yield heapq.heappop(ahead)[2]
    while ahead:
        origin_ns = ahead[0][0] if origin_ns is None else origin_ns
        if stop.wait(max(0.0, (begun_ns + ahead[0][0] - origin_ns - time.monotonic_ns()) / _NS)):
            return
        yield heapq.heappop(ahead)[2]


def _order_ns(packet: Packet, otherwise_ns: int) -> int:
    ticks = packet.dts if packet.dts is not None else packet.pts
    return otherwise_ns if ticks is None else int(ticks * packet.time_base * _NS)


def media_duration_ns(path: str | Path) -> int | None:
    """How long the file says it is; None where it does not say.

    Raises:
        UserError: what is named can't be opened as media.
    """
    try:
        with open_file(Path(path)) as container:
            return None if container.duration is None else container.duration * 1000
    except SourceFault as error:
        raise UserError(f"{path}: {error.fault.text}") from None


def read_file(
    path: str | Path,
    geometry: Geometry,
    frames_per_second: int,
    options: DecodeOptions | None = None,
    *,
    pictures: bool = True,
) -> Iterator[SourceEvent]:
    """The media of a file as fast as they can be decoded.

    Media time counts from 0, the earliest time stamp in the file.

    Args:
        geometry: says the size of the pictures and the sample rate.
        options: threads and short cuts of decoding; one thread and every short cut by default.
        pictures: whether they are decoded; without them a file that has no sound yields nothing, and that is no fault.

    Yields:
        an `EpochStart`, then frames, sound and progress; another `EpochStart` where time stamps start over.

    Raises:
        MediaError: it can't be opened, has nothing in it that can be decoded, or breaks half way: what came before that
            is yielded first.
    """
    target = Target(geometry.frame_size, geometry.sample_rate, frames_per_second, options or DecodeOptions())
    try:
        with open_file(Path(path)) as container:
            yield from _FullSpeed(container, target, pictures).events()
    except SourceFault as error:
        raise MediaError(f"{path}: {error.fault.text}") from None


def _start_ns(stream: VideoTrack | AudioTrack) -> int | None:
    base = stream.time_base
    if stream.start_time is None or base is None:
        return None
    return stream.start_time * base.numerator * _NS // base.denominator


def _picture_ns(stream: VideoTrack | None) -> int:
    rate = None if stream is None else stream.guessed_rate
    return round(_NS / rate) if rate else 0


class _FullSpeed:
    """One file being read."""

    def __init__(self, container: InputContainer, target: Target, pictures: bool) -> None:
        self._container = container
        self._pictures = pictures
        self._tracks = choose(container, video=True, audio=True)
        self._stamper = Stamper(self._tracks)
        self._assembly = Assembly(self._tracks, target, SourceStats(), ended_after_ns=_TRACK_ENDED_NS)
        self._axes = {"video": Axis(_picture_ns(self._tracks.video)), "audio": Axis()}
        starts = [_start_ns(stream) for stream in (self._tracks.video, self._tracks.audio) if stream is not None]
        origin_ns = min((start for start in starts if start is not None), default=0)
        self._origins_ns = {"video": origin_ns, "audio": origin_ns}
        self._again: dict[str, int] = {}  # where the tracks begin that have not started over yet
        self._newest_ns = 0

    def events(self) -> Iterator[SourceEvent]:
        yield EpochStart("start", 0, 0)
        self._assembly.restart(0)
        packets = demux(self._container, self._tracks)
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError as error:
                yield from self._assembly.flush(0)
                raise self._broken(explain(error).text) from None
            if packet is None:
                break
            yield from self._take(packet)
        yield from self._assembly.flush(0)
        if self._pictures:
            self._check_end()

    def _take(self, packet: Packet) -> Iterator[SourceEvent]:
        stamp = self._stamper.stamp(packet, 0)
        axis = self._axes[stamp.track]
        written_ns = axis.read(stamp, 0)
        if written_ns is not None and axis.last_ns is not None and written_ns < axis.last_ns - _BACK_NS:
            yield from self._start_over(stamp.track, written_ns)
        order_ns = axis.advance(written_ns) - self._origins_ns[stamp.track]
        media_ns = order_ns + lead_ns(stamp)
        self._newest_ns = max(self._newest_ns, media_ns)
        if self._pictures or stamp.track == "audio":
            yield from self._assembly.feed(stamp, media_ns, order_ns)

    def _start_over(self, track: str, written_ns: int) -> Iterator[SourceEvent]:
        """The stamps start over (files joined together): media time goes on, in a new epoch.

        The other track follows a little later, when its own stamps start over; they stay aligned.
        """
        self._axes[track].restart()
        if track in self._again:
            self._origins_ns[track] = self._again.pop(track)
            return
        yield from self._assembly.flush(0)
        origin_ns = written_ns - self._newest_ns
        self._origins_ns[track] = origin_ns
        self._again = {other: origin_ns for other in self._axes if other != track}
        self._assembly.restart(self._newest_ns)
        yield EpochStart("jump", self._newest_ns, 0)

    def _check_end(self) -> None:
        if not self._assembly.delivered:
            raise SourceFault("nothing in it can be decoded; the file is damaged or of an unknown kind", permanent=True)
        duration = self._container.duration
        if duration is None or self._container.format.name not in DURATION_WRITTEN:
            return
        missing_ns = duration * 1000 - self._newest_ns
        if missing_ns > max(_NS, duration * 1000 // 50):
            raise self._broken(f"it says it is {duration / 1e6:.1f} s long")

    def _broken(self, text: str) -> SourceFault:
        at_s = self._newest_ns / _NS
        return SourceFault(f"breaks off after {at_s:.1f} s ({text}); record or download it again", permanent=True)
