"""Who may call the HTTP side, and what callers may say in headers, paths and queries: text in, a refusal out."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from streamer.clock import parse_rfc3339
from streamer.config import NAME_PATTERN, NAME_RULE, host_of, is_forbidden_host
from streamer.cursor import parse_cursor

_RESOLVE_TIMEOUT_S = 2.0
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?", re.ASCII)


class Refused(Exception):
    """A request that is answered with a problem: its HTTP status, what is wrong and what to do, headers to add."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}


@dataclass(frozen=True, slots=True)
class Admittance:
    """Who may call a server that listens on `host`: with one of `tokens`, where there are any; from which web pages."""

    host: str
    tokens: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()

    def check_page(self, host: str, origin: str | None, *, changes: bool) -> None:
        """Refuse what a foreign web page makes a visitor's browser ask.

        A foreign host name on a local service means that a page pointed its own name here (DNS rebinding).

        Args:
            host: the Host header, empty where there is none (no browser).
            origin: the Origin header.
            changes: whether the request would change anything.
        """
        if host and not _HOST.fullmatch(host):
            raise Refused(400, "the Host header names no host")
        if host and not self._knows(host):
            raise Refused(421, "this service is local: ask it as localhost, or name the page in allowed_origins")
        own = origin is None or origin.partition("://")[2].lower() == host.lower()
        if changes and not own and not self._allows(origin or ""):
            raise Refused(403, "web pages of other origins may not change anything here: see allowed_origins")

    def check_token(self, authorization: str) -> None:
        """Refuse a caller whose Authorization header holds no known token."""
        if not self.knows_token(authorization):
            detail = "a known token is needed: Authorization: Bearer TOKEN"
            raise Refused(401, detail, {"WWW-Authenticate": 'Bearer realm="streamer"'})

    def knows_token(self, authorization: str) -> bool:
        """Whether an Authorization header holds a known token, or none is needed."""
        scheme, _, given = authorization.partition(" ")
        token = given.strip().encode("utf-8", "surrogateescape")
        # Every token is compared, each in constant time, so that answering times tell nothing.
        matches = [hmac.compare_digest(token, known.encode()) for known in self.tokens]
        return not self.tokens or (scheme.lower() == "bearer" and any(matches))

    def sharing(self, origin: str | None) -> dict[str, str]:
        """The headers that let a page of `origin` read an answer (CORS); none for a page that may not."""
        if not self.allowed_origins:
            return {}
        if origin is None or not self._allows(origin):
            return {"Vary": "Origin"}
        return {
            "Vary": "Origin",
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": "Location, Link, ETag, Accept-Post, Accept-Patch, Retry-After",
        }

    def _allows(self, origin: str) -> bool:
        return origin in self.allowed_origins or "*" in self.allowed_origins

    def _knows(self, host: str) -> bool:
        if not is_local(self.host):
            return True
        name = host_name(host)
        return is_local(name) or any(host_of(origin) == name.lower() for origin in self.allowed_origins)


def host_name(host: str) -> str:
    """The name in a Host header, without the port; an IPv6 address keeps its brackets."""
    match = _HOST.fullmatch(host)
    return match[1] if match is not None else ""


def is_local(host: str) -> bool:
    """Whether `host` (a name or an address) is this machine alone."""
    name = host.strip("[]").lower().rstrip(".")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


async def refuse_forbidden(source: str) -> None:
    """Refuse a source whose name leads to an address that the API may not be sent to; one leading nowhere may pass."""
    host = host_of(source)
    if host is None:
        return
    try:
        async with asyncio.timeout(_RESOLVE_TIMEOUT_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        return
    if any(is_forbidden_host(str(address[4][0])) for address in found):
        raise Refused(400, "source: its name leads to a link-local or metadata address; the API may not be sent there")


def stream_name(text: str) -> str:
    """`text` where it can name a stream, else refused."""
    if not re.fullmatch(NAME_PATTERN, text):
        raise Refused(400, f"{text[:100]!r} can't name a stream: use {NAME_RULE}")
    return text


def moment(name: str, text: str | None) -> str | None:
    """The parameter `name` as the store takes it: a cursor, or a time with its offset; refused where it is neither."""
    if text is None:
        return None
    if "@" in text:
        try:
            return str(parse_cursor(text))
        except ValueError as error:
            raise Refused(400, f"{name}: {error}") from None
    # A plus sign that was not escaped arrives as a space.
    for time in (text, text.replace(" ", "+")):
        if _RFC3339.fullmatch(time):
            try:
                parse_rfc3339(time.upper())
            except (ValueError, OverflowError):
                break
            return time.upper()
    raise Refused(400, f"{name}: {text[:64]!r} is neither a time like 2026-11-23T04:07:08Z nor a message's cursor")


def limit(text: str | None, default: int, most: int) -> int:
    """How many are asked for, refused where that is no number from 1 to `most`."""
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= most:
        raise Refused(400, f"limit: {text[:32]!r} is no number from 1 to {most}")
    return int(text)


def sequence(text: str) -> int:
    """A segment's number, refused where it is none."""
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise Refused(400, f"{text[:32]!r} is no segment's number: those are 0, 1, 2, ...")
    return int(text)


def picture_index(text: str) -> int:
    """A kept picture's number, refused where it is none."""
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise Refused(400, f"{text[:32]!r} is no picture's number: `why` names those that are kept")
    return int(text)


def check_query(given: Iterable[str], known: tuple[str, ...]) -> None:
    """Refuse a parameter that is not known: who misspelt one must not get an answer to another question."""
    for name in given:
        if name not in known:
            raise Refused(400, f"unknown parameter {name[:64]!r}: known here: {', '.join(known)}")
