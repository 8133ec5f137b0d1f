"""What went wrong with a source, in one line without secrets, and whether trying again can heal it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av.error

from streamer.config import mask_text


@dataclass(frozen=True, slots=True)
class Fault:
    """`text` is fit for a user; `permanent`: trying again soon will not help."""

    text: str
    permanent: bool


class SourceFault(Exception):
    """A connection that can't be opened or used, with its `fault`."""

    def __init__(self, text: str, *, permanent: bool) -> None:
        super().__init__(text)
        self.fault = Fault(text, permanent)


_REFUSALS: tuple[tuple[type[Exception], str, bool], ...] = (
    (av.error.HTTPUnauthorizedError, "401: the camera refused the user name or password; correct them", True),
    (av.error.HTTPForbiddenError, "403: this user may not see this stream; ask for the right or use another", True),
    (av.error.HTTPNotFoundError, "404: the camera has no such path; correct the URL's path", True),
    (av.error.HTTPBadRequestError, "400: the camera does not understand the request; check the URL", False),
    (av.error.HTTPTooManyRequestsError, "429: the camera has too many viewers", False),
    (av.error.HTTPOtherClientError, "the camera refused the request; check path and transport", False),
    (av.error.HTTPServerError, "the camera failed to serve the stream (5xx)", False),
    (av.error.ConnectionRefusedError, "connection refused: nothing listens at this address and port", False),
    (av.error.ConnectionResetError, "the connection was cut", False),
    (av.error.BrokenPipeError, "the connection was cut", False),
    (av.error.TimeoutError, "no answer in time", False),
    (av.error.ExitError, "no answer in time", False),
    (av.error.EOFError, "the camera ended the stream", False),
    (av.error.FileNotFoundError, "no such file or device; correct the path", True),
    (av.error.IsADirectoryError, "this is a directory; name a file", True),
    (av.error.PermissionError, "may not be read by this user; give the right to read it", True),
    (av.error.ProtocolNotFoundError, "this kind of address is not supported", True),
    (av.error.DemuxerNotFoundError, "this kind of media is not supported", True),
    (av.error.DecoderNotFoundError, "no decoder for this kind of media", True),
    (av.error.InvalidDataError, "what arrives is not media that can be decoded", True),
)


def explain(error: Exception) -> Fault:
    """The fault behind an exception of opening or reading a source."""
    if isinstance(error, SourceFault):
        return error.fault
    for kind, text, permanent in _REFUSALS:
        if isinstance(error, kind):
            return Fault(text, permanent)
    if isinstance(error, av.error.FFmpegError):
        return Fault(explain_code(error), False)
    return Fault(mask_text(str(error)), False)


def explain_code(error: av.error.FFmpegError) -> str:
    """FFmpeg's own words without the address, which may hold a password."""
    text = mask_text(error.strerror or "unknown error")
    if text == "Input/output error":
        return "cannot be reached or the connection broke (is the host name right?)"
    if text == "Protocol not supported":
        return "the camera does not offer this transport; set transport to auto, tcp or udp"
    return text[0].lower() + text[1:]


def look_into(path: Path) -> str | None:
    """Why the file at `path` can't be media, judged by its first bytes; None where they say nothing against it."""
    if not path.exists():
        return "no such file; correct the path"
    if path.is_dir():
        return "this is a directory; name a file"
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except PermissionError:
        return "may not be read by this user; give the right to read it"
    if not head:
        return "the file is empty: the recording or download failed; get it again"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "this is a web page, not media (an error or login page was saved?); download the file itself"
    if _is_text(head):
        return "this is a text file, not media; name a video or sound file"
    return None


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return False
        text = head[: error.start].decode("utf-8")
    return all(character.isprintable() or character in "\t\r\n\f\v" for character in text)
