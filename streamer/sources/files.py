"""Media files: what a `file:` address names, and how it is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import av
from av.container import InputContainer

from streamer.sources.faults import SourceFault, explain, look_into

# Containers only: none that fetches further files or addresses by what is written in it (playlists, SDP, scripts).
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,asf,ogg,wav,w64,aiff,au,caf,mp3,aac,ac3,eac3,"
    "flac,amr,m4v,h264,hevc,mjpeg,mjpeg_2000,ivf,obu,av1,gif,nut,mxf,dv,rm,wtv,dhav,smjpeg,apng,tta,wv,ape,mpc,dts,"
    "jpeg_pipe,png_pipe,webp_pipe,bmp_pipe,tiff_pipe"
)
# Containers that announce their tracks as they come, so that one may appear long after the beginning.
_LATE_TRACKS = frozenset({"mpegts", "mpeg", "flv"})
_PATIENT_PROBE = {"probesize": str(64 * 1024 * 1024), "analyzeduration": str(120 * 1_000_000)}
# Containers that write down how long they are, so that a missing end shows.
DURATION_WRITTEN = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "wav"})


@dataclass(frozen=True, slots=True)
class FileAddress:
    """What a `file:` URL names: where, and whether it begins again at its end."""

    path: Path
    loop: bool


def parse_file(source: str) -> FileAddress:
    """Read `file:PATH`, `file:///PATH` (percent-encoded) and `?loop=1`."""
    rest = source.partition(":")[2]
    path, _, query = rest.rpartition("?")
    loop = query == "loop=1"
    if query not in ("loop=1", "loop=0") or not path:
        path = rest
    if path.startswith("//"):
        path = unquote("/" + path[2:].partition("/")[2])
    if not Path(path).exists() and Path(unquote(path)).exists():
        path = unquote(path)
    return FileAddress(Path(path), loop)


def open_file(path: Path) -> InputContainer:
    """Open a media file.

    Raises:
        SourceFault: it is missing, empty, no media, or damaged beyond reading.
    """
    against = look_into(path)
    if against is not None:
        raise SourceFault(against, permanent=True)
    options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
    try:
        container = av.open(f"file:{path}", options=options)
        both = container.streams.best("video") and container.streams.best("audio")
        if container.format.name in _LATE_TRACKS and not both:
            container.close()
            container = av.open(f"file:{path}", options=options | _PATIENT_PROBE)
    except av.error.InvalidDataError:
        text = "this is no media file, or it was cut off before its index was written; record or download it again"
        raise SourceFault(text, permanent=True) from None
    except av.error.FFmpegError as error:
        raise SourceFault(explain(error).text, permanent=True) from None
    return container
