"""Clips of a live stream kept for annotation: its packets as they come, cut at key frames, with a row a clip.

Nothing is decoded or encoded. Where the service runs, what it saw and heard in a clip is written beside it as a
suggestion; the label itself is left to a person, for what learns from its own answers learns nothing.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import av
import msgspec

from streamer.config import StreamConfig, mask_text, mask_url
from streamer.configfile import load
from streamer.errors import MediaError, StreamerError, UserError
from streamer.sources.faults import SourceFault, explain
from streamer.sources.files import parse_file
from streamer.sources.inputs import Arrived, Opener, Packet
from streamer.sources.replay import FileOpener
from streamer.sources.rtsp import RtspOpener
from streamer.sources.tracks import Tracks

MANIFEST = "manifest.jsonl"
SUGGEST_FROM = 0.5
"""Labels that reached this score anywhere in a clip are suggested."""

_SHORTEST_S = 1.0  # what is left at the end is kept from this length on
_LONGEST = 3  # times the wanted length: longer is no clip, however far apart key frames are
_BACK_S = 1.0  # a time stamp that falls by more begins anew: a file that loops, a camera that was set
_TIMEOUT_S = 3.0
_MAX_ANSWER = 4 << 20
_SEGMENTS = 1000


@dataclass(frozen=True, slots=True)
class Terms:
    """What is kept: of which stream of which configuration, into which folder, clips of about `length_s`, so many at
    most and for so long. `url` and `token`: of the running service's HTTP side."""

    config: Path
    stream: str
    folder: Path
    length_s: float
    clips: int
    minutes: float
    url: str
    token: str | None = None


class _Label(msgspec.Struct):
    name: str
    score: float


class _Segment(msgspec.Struct):
    labels: list[_Label] = []


class _Segments(msgspec.Struct):
    segments: list[_Segment]


def keep(terms: Terms, tell: Callable[[str], None]) -> int:
    """Keeps clips until there are enough, time is up, the stream ends, or Ctrl-C; gives how many. `tell` gets a line a
    clip.

    Raises:
        UserError: no such stream, its entry doesn't allow it, or its source can't be read beside the service.
        MediaError: the source can't be opened, or the connection broke; the clips kept by then stay.
        StreamerError: the folder can't be written.
    """
    opener = _opener(terms.stream, _entry(terms))
    kept = 0
    try:
        terms.folder.mkdir(parents=True, exist_ok=True)
        for clip in _clips(opener, terms):
            row = _row(clip, terms, tell)
            with (terms.folder / MANIFEST).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            kept += 1
            tell(f"{row['media']}  {row['end']:.1f} s  {', '.join(row['suggested']) or '-'}")
            if kept >= terms.clips:
                break
    except KeyboardInterrupt:
        tell("stopped")
    except (SourceFault, av.error.FFmpegError) as error:
        raise MediaError(f"stream {terms.stream}: {mask_text(explain(error).text)}; {kept} clips were kept") from error
    except OSError as error:
        raise StreamerError(
            f"{terms.folder}: can't write clips there ({error.strerror}); name another folder"
        ) from error
    return kept


def _entry(terms: Terms) -> StreamConfig:
    """The stream's entry, which must allow clips to be kept."""
    streams = load(terms.config).config.streams
    entry = streams.get(terms.stream)
    if entry is None:
        known = ", ".join(sorted(streams)) or "none"
        raise UserError(f"{terms.config}: no stream {terms.stream!r}; streams are {known}")
    if not entry.annotate:
        raise UserError(
            f"{terms.config}: clips of {terms.stream} may not be kept; write `annotate: true` into its entry, if those "
            "who are seen and heard there agree"
        )
    return entry


def _opener(name: str, entry: StreamConfig) -> Opener:
    scheme = entry.source.partition(":")[0].lower()
    if scheme in ("rtsp", "rtsps"):
        return RtspOpener(entry.source, entry.transport, video=entry.video, audio=entry.audio)
    if scheme == "file":
        return FileOpener(parse_file(entry.source), video=entry.video, audio=entry.audio)
    raise UserError(
        f"stream {name}: a {scheme} source can't be read a second time beside the service; clips are kept of rtsp://, "
        "rtsps:// and file: sources"
    )


@dataclass(frozen=True, slots=True)
class _Clip:
    path: Path
    began_ns: int
    seconds: float


def _clips(opener: Opener, terms: Terms) -> Iterator[_Clip]:
    """Finished clips, one after another."""
    stop = threading.Event()
    source = opener.open(stop)
    ends_s = time.monotonic() + terms.minutes * 60
    piece: _Piece | None = None
    try:
        for packet in source.packets(stop):
            assert not isinstance(packet, Arrived)
            if piece is not None and piece.ends_before(packet, terms.length_s):
                clip, piece = piece.close(), None
                if clip is not None:
                    yield clip
            if time.monotonic() >= ends_s:
                break
            if piece is None and _may_begin(packet, source.tracks):
                piece = _Piece(terms.folder, terms.stream, source.tracks, packet)
            if piece is not None:
                piece.add(packet)
        if piece is not None:
            clip, piece = piece.close(), None
            if clip is not None:
                yield clip
    finally:
        if piece is not None:
            piece.discard()
        source.close()


def _may_begin(packet: Packet, tracks: Tracks) -> bool:
    """A clip begins with a picture that needs no other, or with any sound where there are no pictures."""
    if packet.pts is None:
        return False
    return tracks.video is None or (packet.stream.index == tracks.video.index and packet.is_keyframe)


class _Piece:
    """A clip that is being written: whole under its name once it is closed."""

    def __init__(self, folder: Path, stream: str, tracks: Tracks, first: Packet) -> None:
        self._began_ns = time.time_ns()
        moment = datetime.fromtimestamp(self._began_ns / 1e9, UTC).strftime("%Y%m%dT%H%M%S%f")[:-3]
        self._path = folder / f"{stream}-{moment}.mkv"
        self._writing = folder / f".{self._path.name}"
        self._output = av.open(str(self._writing), "w", format="matroska")
        # Of both sources that are read here tracks are FFmpeg's streams; a publisher's are not.
        chosen = [track for track in (tracks.video, tracks.audio) if isinstance(track, av.VideoStream | av.AudioStream)]
        self._tracks = {track.index: self._output.add_stream_from_template(track) for track in chosen}
        self._video = tracks.video.index if tracks.video is not None else None
        self._first_s = _seconds(first)
        self._last_s = self._first_s

    def ends_before(self, packet: Packet, length_s: float) -> bool:
        """Whether the next clip begins with `packet`, or this one must end for another reason."""
        if packet.pts is None:
            return False
        at_s = _seconds(packet)
        so_far_s = at_s - self._first_s
        if at_s < self._last_s - _BACK_S or so_far_s >= _LONGEST * length_s:
            return True
        begins = self._video is None or (packet.stream.index == self._video and packet.is_keyframe)
        return begins and so_far_s >= length_s

    def add(self, packet: Packet) -> None:
        """Write a packet at its time from the clip's beginning; one from before it is left out."""
        if packet.pts is None or packet.time_base is None or _seconds(packet) < self._first_s:
            return
        self._last_s = max(self._last_s, _seconds(packet) + Fraction(packet.duration or 0) * packet.time_base)
        shift = round(self._first_s / packet.time_base)
        # The packet is read once and by nobody after this: it is changed itself.
        packet.pts, packet.dts = packet.pts - shift, (packet.pts if packet.dts is None else packet.dts) - shift
        packet.stream = self._tracks[packet.stream.index]
        self._output.mux(packet)

    def close(self) -> _Clip | None:
        """The clip, or None where it became too short to be one."""
        self._output.close()
        seconds = float(self._last_s - self._first_s)
        if seconds < _SHORTEST_S:
            self._writing.unlink()
            return None
        self._writing.rename(self._path)
        return _Clip(self._path, self._began_ns, seconds)

    def discard(self) -> None:
        """Leaves nothing."""
        self._output.close()
        self._writing.unlink(missing_ok=True)


def _seconds(packet: Packet) -> Fraction:
    assert packet.pts is not None and packet.time_base is not None
    return packet.pts * packet.time_base


def _row(clip: _Clip, terms: Terms, tell: Callable[[str], None]) -> dict[str, Any]:
    """A row of the manifest; neither the source nor anything of its address is in it."""
    try:
        suggested = _suggested(clip, terms)
    except StreamerError as error:
        tell(f"no suggestions: {error}")
        suggested = []
    began = datetime.fromtimestamp(clip.began_ns / 1e9, UTC).isoformat(timespec="milliseconds")
    return {
        "media": clip.path.name,
        "start": 0,
        "end": round(clip.seconds, 3),
        "label": "",
        "suggested": suggested,
        "split": "",
        "group": terms.stream,
        "recorded": began,
    }


def _suggested(clip: _Clip, terms: Terms) -> list[str]:
    """Labels that the running service gave anywhere in the clip's time, the surest first."""
    since, until = (
        datetime.fromtimestamp(clip.began_ns / 1e9 + after_s, UTC).isoformat(timespec="milliseconds")
        for after_s in (0.0, clip.seconds)
    )
    query = urlencode({"since": since, "until": until, "limit": _SEGMENTS})
    body = _get(terms, f"/v1/segments/{quote(terms.stream, safe='')}?{query}")
    best: dict[str, float] = {}
    for segment in body.segments:
        for label in segment.labels:
            best[label.name] = max(best.get(label.name, 0.0), label.score)
    return sorted((name for name, score in best.items() if score >= SUGGEST_FROM), key=lambda name: -best[name])


def _get(terms: Terms, path: str) -> _Segments:
    """What the service answers; StreamerError in one line where it doesn't."""
    url = terms.url if "://" in terms.url else f"http://{terms.url}"
    parts, shown = urlsplit(url), mask_url(url)
    if not re.fullmatch("https?", parts.scheme) or not parts.hostname:
        raise UserError(f"{shown} is no address of a service: write it like http://127.0.0.1:8080")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=_TIMEOUT_S)
    headers = {} if terms.token is None else {"Authorization": f"Bearer {terms.token}"}
    try:
        connection.request("GET", parts.path.rstrip("/") + path, headers=headers)
        response = connection.getresponse()
        body = response.read(_MAX_ANSWER)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise StreamerError(f"no service answers at {shown} ({type(error).__name__})") from error
    finally:
        connection.close()
    if response.status != 200:
        raise StreamerError(f"{shown} answers {response.status}")
    try:
        return msgspec.json.decode(body, type=_Segments)
    except msgspec.MsgspecError as error:
        raise StreamerError(f"{shown} does not answer as streamer does") from error
