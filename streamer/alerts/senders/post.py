"""An HTTP POST to somebody who may do anything: bounded in time and size, never redirected, only where it may go."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from streamer.alertconfig import SendConfig
from streamer.alerts.records import NotDelivered
from streamer.alerts.senders.addresses import check_host, resolve
from streamer.alerts.senders.verdict import judge, retry_after_s
from streamer.clock import Clock, HostClock
from streamer.errors import UserError

_MAX_URL = 4096
_MAX_ANSWER = 64 * 1024
# What follows the answer's head is read only so that the connection can be used again, and not for long.
_REST_S = 0.5
_KEEP_S = 60.0
_CONNECTIONS = 16
# Strict, so that what is checked here and what is connected to can't be read as two different hosts.
_URL = re.compile(
    r"https?://(?:[^\x00-\x20\x7f@/?#\\]*@)?(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::\d{1,5})?(?:[/?#][^\x00-\x20\x7f]*)?\Z",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long a receiver may take to be connected to, and in all until its answer begins."""

    connect_s: float = 5.0
    total_s: float = 15.0


DEFAULT_BOUNDS = Bounds()


class Poster:
    """Posts to one receiver, over connections that are kept so that the next delivery leaves at once.

    Proxies of the environment are not used: a proxy would connect to addresses that nobody checked.
    """

    def __init__(
        self, url: str, config: SendConfig, bounds: Bounds = DEFAULT_BOUNDS, clock: Clock | None = None
    ) -> None:
        """`url`: where, http or https; `config` says which addresses are allowed.

        Raises:
            UserError: `check_url` has something to say.
        """
        if (fault := check_url(url, config)) is not None:
            raise UserError(fault)
        self._url = url
        self._allow_private = config.allow_private
        self._bounds = bounds
        self._clock = clock or HostClock()
        self._place = _place(url)
        # Reading the machine's certificates takes a moment, which the first delivery shall not wait for.
        self._tls: ssl.SSLContext | bool = ssl.create_default_context() if url.lower().startswith("https:") else True
        self._session: aiohttp.ClientSession | None = None

    async def post(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Return when the receiver has answered 2xx.

        Raises:
            NotDelivered: it has not; `retry` and `after_s` by its answer. The text names its host alone: paths of
                webhooks are secrets.
        """
        try:
            async with asyncio.timeout(self._bounds.total_s):
                response = await self._answered(body, headers)
        except aiohttp.ServerTimeoutError:
            raise NotDelivered(f"{self._place} took no connection within {self._bounds.connect_s:g} s") from None
        except TimeoutError:
            raise NotDelivered(f"{self._place} did not answer within {self._bounds.total_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise NotDelivered(f"{self._place} {_what_happened(error)}") from None
        try:
            await _read_rest(response)
        finally:
            # Closes the connection where the rest was not read to its end, else does nothing.
            response.close()
        after = response.headers.get("Retry-After", "")
        refused = judge(response.status, self._place, retry_after_s(after, self._clock.wall_ns()))
        if refused is not None:
            raise refused

    async def aclose(self) -> None:
        """Close its connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _answered(self, body: bytes, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = _session(self._allow_private, self._bounds, self._tls)
        while True:
            attempt = _Attempt()
            try:
                return await self._session.post(
                    self._url, data=body, headers=headers, allow_redirects=False, trace_request_ctx=attempt
                )
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # Servers close idle connections, and one may do so just when it is used again: that says nothing of
                # the receiver, and a repeat is known by its id. It ends, because each try takes an old connection away.
                if not attempt.reused:
                    raise


def check_url(url: str, config: SendConfig) -> str | None:
    """What is wrong with `url` as a place to post to, without its secrets; None if nothing."""
    matched = _URL.match(url) if len(url) <= _MAX_URL else None
    if matched is None:
        return (
            "where to post must be a URL like https://example.org/hook: host names in ASCII, spaces and the like"
            f" percent-encoded, at most {_MAX_URL} characters"
        )
    try:
        port = urlsplit(url).port
    except ValueError:
        port = 0
    if port == 0:
        return "the port of the URL is none: give one of 1 to 65535"
    return check_host(matched[1], allow_private=config.allow_private)


class _CheckedResolver(AbstractResolver):
    """`resolve` as aiohttp asks for it; what it raises passes through aiohttp as it is.

    aiohttp doesn't ask about addresses that stand in the URL: those are checked with it.
    """

    def __init__(self, allow_private: bool, timeout_s: float) -> None:
        self._allow_private = allow_private
        self._timeout_s = timeout_s

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await resolve(host, port, allow_private=self._allow_private, timeout_s=self._timeout_s, family=family)
        return [
            ResolveResult(
                hostname=host,
                host=place.host,
                port=place.port,
                family=place.family,
                proto=place.protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for place in found
        ]

    async def close(self) -> None:
        """Nothing is held."""


class _Attempt:
    """Whether a request went out over a connection that had been used before."""

    __slots__ = ("reused",)

    def __init__(self) -> None:
        self.reused = False


async def _on_reuse(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceConnectionReuseconnParams
) -> None:
    context.trace_request_ctx.reused = True


def _session(allow_private: bool, bounds: Bounds, tls: ssl.SSLContext | bool) -> aiohttp.ClientSession:
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_on_reuse)
    connector = aiohttp.TCPConnector(
        resolver=_CheckedResolver(allow_private, bounds.connect_s),
        use_dns_cache=False,
        limit=_CONNECTIONS,
        keepalive_timeout=_KEEP_S,
        ssl=tls,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        # What is not decompressed can't be a bomb.
        auto_decompress=False,
        headers={"Accept-Encoding": "identity", "User-Agent": "streamer"},
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=bounds.connect_s),
        trace_configs=[trace],
    )


async def _read_rest(response: aiohttp.ClientResponse) -> None:
    """Read at most 64 KB of the answer's body, and briefly; whatever comes of it, the answer's head has said it all."""
    left = _MAX_ANSWER
    try:
        async with asyncio.timeout(_REST_S):
            while left > 0 and (chunk := await response.content.read(left)):
                left -= len(chunk)
    except (TimeoutError, aiohttp.ClientError, OSError):
        return


def _place(url: str) -> str:
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port}" if parts.port is not None else f"{host}"


def _what_happened(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        inner = error.certificate_error
        why = getattr(inner, "verify_message", "") or "not valid"
        return f"has a certificate that is not trusted ({why}): give its authority to this machine or correct the URL"
    if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
        return "does not speak TLS as it should: is the port one of https?"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "closed the connection without an answer"
    if isinstance(error, OSError):
        verb = "took no connection" if isinstance(error, aiohttp.ClientConnectorError) else "broke the connection"
        return f"{verb} ({os.strerror(error.errno) if error.errno else 'no reason given'})"
    return f"gave no answer that can be understood ({type(error).__name__})"
