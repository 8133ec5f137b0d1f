"""RTSP cameras (RFC 2326) over TCP or UDP, by FFmpeg's client.

No interrupt callback is at work while reading: it would take the interpreter's lock several times for every RTP packet.
A read ends by FFmpeg's own socket timeout instead, and a reader that must end sooner is left to it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Literal
from urllib.parse import urlsplit

import av
from av.container import InputContainer

from streamer.sources.faults import SourceFault
from streamer.sources.inputs import Packet, choose, demux
from streamer.sources.knock import knock
from streamer.sources.timeline import Alignment

# A socket that has brought nothing for this long ends the connection; the source's own patience is of the same length.
READ_TIMEOUT_S = 5
_OPEN_TIMEOUT_S = 10
_TRANSPORTS: dict[str, dict[str, str]] = {
    "tcp": {"rtsp_transport": "tcp"},
    "udp": {"rtsp_transport": "udp"},
    # TCP first; a camera that answers 461 is asked for UDP on the same connection.
    "auto": {"rtsp_transport": "tcp+udp", "rtsp_flags": "prefer_tcp"},
}
# Looking into packets takes seven pictures, which is seven seconds for a camera that sends one a second.
_NO_PROBE = {"probesize": "32", "analyzeduration": "0", "fpsprobesize": "0"}
_PROBE = {"analyzeduration": "2000000"}
# FFmpeg joins slices to pictures for these, and knows a picture's end by the next one's beginning.
_PARSED = frozenset({"h264", "hevc"})


class RtspOpener:
    """Connects to one camera."""

    endless = True

    def __init__(self, url: str, transport: Literal["auto", "tcp", "udp"], *, video: bool, audio: bool) -> None:
        self._url = url
        self._transport = transport
        self._video = video
        self._audio = audio
        self._was_open = False

    def open(self, stop: threading.Event) -> RtspInput:
        """Connect. The session description says what comes; only where it does not are packets looked into."""
        if self._was_open:
            self._wait_for_answer(stop)
        try:
            return self._open(_NO_PROBE)
        except SourceFault:
            if stop.is_set():
                raise
            return self._open(_PROBE)

    def _wait_for_answer(self, stop: threading.Event) -> None:
        """A camera that was there and is not comes back at any moment, and FFmpeg would be slow to see it."""
        parts = urlsplit(self._url)
        port = parts.port or (322 if parts.scheme == "rtsps" else 554)
        if parts.hostname and not knock(parts.hostname, port, _OPEN_TIMEOUT_S, stop):
            raise SourceFault("no answer in time", permanent=False)

    def _open(self, probe: dict[str, str]) -> RtspInput:
        options = {
            **_TRANSPORTS[self._transport],
            **probe,
            "protocol_whitelist": "rtsp,rtsps,rtp,tcp,udp,tls",
            "timeout": str(READ_TIMEOUT_S * 1_000_000),
            "buffer_size": str(2 * 1024 * 1024),
            "user_agent": "streamer",
        }
        try:
            container = av.open(self._url, options=options, timeout=(_OPEN_TIMEOUT_S, None))
        except av.error.InvalidDataError:
            raise SourceFault("what answers is no RTSP camera; check address and port", permanent=True) from None
        try:
            opened = RtspInput(container, video=self._video, audio=self._audio)
        except BaseException:
            container.close()
            raise
        self._was_open = True
        return opened


class RtspInput:
    """One session with a camera."""

    alignment: Alignment = "reports"

    def __init__(self, container: InputContainer, *, video: bool, audio: bool) -> None:
        self._container = container
        self.tracks = choose(container, video=video, audio=audio)
        stream = self.tracks.video
        self.delays_pictures = stream is not None and stream.codec_context.name in _PARSED

    def packets(self, stop: threading.Event) -> Iterator[Packet]:
        for packet in demux(self._container, self.tracks):
            if stop.is_set():
                return
            yield packet

    def close(self) -> None:
        self._container.close()
