"""WebRTC in over HTTP (WHIP, RFC 9725): offers, sessions, ICE candidates as they are found, ICE servers.

Sessions are named by the service at random; who knows the name (and a token, where there are any) may end them, so a
name is in no log. ICE restarts are not served: a fragment that asks for one is answered 422, as the RFC says.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from urllib.parse import quote

from aiohttp import web

from streamer.config import IceServer
from streamer.http.answers import TOKEN_KNOWN, in_time, known_stream, read_text
from streamer.http.caller import Refused, stream_name
from streamer.http.control import Control
from streamer.http.openapi import FRAGMENT_TYPE, SDP_TYPE

log = logging.getLogger(__name__)

# Every offer being answered holds sockets and a place in a reader process.
_OFFERS_AT_ONCE = 8
_UFRAG = re.compile(r"^a=ice-ufrag:(\S+)", re.MULTILINE)
# RFC 8288 and RFC 9110: what may stand in a quoted string of a header.
_QUOTABLE = re.compile(r"[\x20-\x7e]*")


class WhipRoutes:
    """The handlers of the WHIP operations, by their names in `openapi.ROUTES`."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._answering = 0

    async def whip(self, request: web.Request) -> web.StreamResponse:
        name = known_stream(self._control, request).name
        offer = await read_text(request, SDP_TYPE, "Accept-Post")
        if not offer.startswith("v=0"):
            raise Refused(400, "the body is no SDP: an offer begins with v=0")
        async with self._bounded():
            publication = await self._control.publish(name, offer)
        # As bytes: `text` would put a charset into the Content-Type, where some publishers want the bare media type.
        response = web.Response(body=publication.answer.encode(), status=201, content_type=SDP_TYPE)
        response.headers["Location"] = f"/v1/streams/{name}/whip/{quote(publication.session, safe='')}"
        response.headers["ETag"] = entity_tag(publication.session, offer)
        response.headers["Accept-Patch"] = FRAGMENT_TYPE
        self._add_ice_servers(response)
        return response

    async def whip_options(self, request: web.Request) -> web.StreamResponse:
        stream_name(request.match_info["name"])
        response = web.Response(headers={"Allow": "OPTIONS,POST", "Accept-Post": SDP_TYPE})
        if request[TOKEN_KNOWN]:
            self._add_ice_servers(response)
        return response

    async def whip_session_options(self, request: web.Request) -> web.StreamResponse:
        stream_name(request.match_info["name"])
        return web.Response(headers={"Allow": "DELETE,OPTIONS,PATCH", "Accept-Patch": FRAGMENT_TYPE})

    async def end_whip(self, request: web.Request) -> web.StreamResponse:
        name, session = known_stream(self._control, request).name, request.match_info["session"]
        async with in_time():
            found = await self._control.unpublish(name, session)
        if not found:
            raise _no_session(name)
        return web.Response(status=200)

    async def trickle_whip(self, request: web.Request) -> web.StreamResponse:
        name, session = known_stream(self._control, request).name, request.match_info["session"]
        fragment = await read_text(request, FRAGMENT_TYPE, "Accept-Patch")
        _check_match(request, session, fragment)
        async with in_time():
            found = await self._control.trickle(name, session, fragment)
        if not found:
            raise _no_session(name)
        return web.Response(status=204)

    @asynccontextmanager
    async def _bounded(self) -> AsyncIterator[None]:
        """Few offers at once, and none for ever."""
        if self._answering >= _OFFERS_AT_ONCE:
            raise Refused(503, "other offers are being answered: try again in a moment", {"Retry-After": "1"})
        self._answering += 1
        try:
            async with in_time():
                yield
        finally:
            self._answering -= 1

    def _add_ice_servers(self, response: web.Response) -> None:
        for link in ice_links(self._control.ice_servers()):
            response.headers.add("Link", link)


def _check_match(request: web.Request, session: str, fragment: str) -> None:
    """Refuse a fragment that is not for the one ICE session that a session has (RFC 9725, 4.3.1)."""
    tags = request.if_match
    if tags is None:
        raise Refused(428, "If-Match is missing: send the ETag of the answer to the offer")
    if any(tag.value == "*" for tag in tags):
        raise Refused(422, "ICE restarts are not served: end this session and publish again")
    ours = [tag.value.rpartition("-") for tag in tags if not tag.is_weak]
    ufrags = [ufrag for head, _, ufrag in ours if head == _digest(session)]
    if not ufrags:
        raise Refused(412, "If-Match is not the ETag of this session")
    found = _UFRAG.search(fragment)
    if found is not None and _digest(found[1]) not in ufrags:
        raise Refused(422, "the fragment's ice-ufrag is not the offer's: ICE restarts are not served, publish again")


def entity_tag(session: str, offer: str) -> str:
    """The strong entity tag of a session's one ICE session. It says what its ufrag is, so that a fragment with another
    one is known for a restart without anything being remembered here."""
    found = _UFRAG.search(offer)
    return f'"{_digest(session)}-{_digest(found[1] if found is not None else "")}"'


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def ice_links(servers: Iterable[IceServer]) -> list[str]:
    """`Link` header values for ICE servers (RFC 9725, 4.6), without those that no header can carry."""
    links = []
    for server in servers:
        words = [server.username, server.credential]
        if not all(_QUOTABLE.fullmatch(word) for word in [*server.urls, *words] if word is not None):
            log.warning("an ICE server is not told to publishers: a header can carry visible ASCII characters only")
            continue
        for url in server.urls:
            link = f'<{quote(url, safe=":/?=&%.@[],;+!$*()~#")}>; rel="ice-server"'
            if server.username is not None and server.credential is not None and url.startswith("turn"):
                link += f"; username={_quoted(server.username)}; credential={_quoted(server.credential)}"
                link += '; credential-type="password"'
            links.append(link)
    return links


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _no_session(name: str) -> Refused:
    return Refused(404, f"{name} has no such session: it has ended, or never was")
