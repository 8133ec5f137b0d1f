"""The page's files, held in memory as they are sent: compressed once, with strong entity tags."""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

from aiohttp import web

from streamer.http.caller import Refused

_TEXTS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_TYPES = {**{end: f"{kind}; charset=utf-8" for end, kind in _TEXTS.items()}, ".woff2": "font/woff2"}
# Compressed only where it saves more than the header says.
_WORTH = 0.9


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file as it is, and compressed where that is worth it."""

    media_type: str
    plain: bytes
    packed: bytes | None


class PageFiles:
    """The files of `streamer/page`; reading and compressing them takes some ten milliseconds."""

    def __init__(self) -> None:
        self._files: dict[str, PageFile] = {}
        for file in files("streamer").joinpath("page").iterdir():
            media_type = _TYPES.get("." + file.name.rpartition(".")[2])
            if media_type is not None:
                self._files[file.name] = _page_file(media_type, file.read_bytes())

    def answer(self, request: web.Request, name: str, policy: str = "") -> web.Response:
        """The file called `name`, 304 where the browser has it already, refused (404) where there is none.

        Args:
            policy: its Content-Security-Policy; part of the entity tag, so that no browser keeps an old one.
        """
        file = self._files.get(name)
        if file is None:
            raise Refused(404, f"the page has no file {name[:100]!r}")
        packed = file.packed is not None and takes_gzip(request.headers.get("Accept-Encoding", ""))
        body = file.packed if packed and file.packed is not None else file.plain
        tag = hashlib.blake2b(body + policy.encode(), digest_size=16).hexdigest()
        headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if policy:
            headers["Content-Security-Policy"] = policy
        if any(known.value in (tag, "*") for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        headers["Content-Type"] = file.media_type
        if packed:
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=body, headers=headers)


def _page_file(media_type: str, plain: bytes) -> PageFile:
    # Without a time in it: the same file has the same tag after a restart.
    packed = gzip.compress(plain, 9, mtime=0)
    return PageFile(media_type, plain, packed if len(packed) < _WORTH * len(plain) else None)


def takes_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header (RFC 9110, 12.5.3) allows gzip by its name; `*` alone is not enough."""
    for part in accept_encoding.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() in ("gzip", "x-gzip"):
            return re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", weight) is None
    return False
