"""How the HTTP side says things: structs as JSON, errors as problems (RFC 9457), and how it takes a body in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus

import msgspec
from aiohttp import web

from streamer.config import mask_text
from streamer.http.caller import Refused
from streamer.http.control import Control
from streamer.http.openapi import PROBLEM_TYPE, Problem
from streamer.status import StreamStatus

# Whether the caller showed a known token, or none is needed: operations that are open tell more to who did.
TOKEN_KNOWN = web.RequestKey("token_known", bool)

_BODY_TIMEOUT_S = 10.0
_ANSWER_TIMEOUT_S = 15.0


def json_answer(value: msgspec.Struct, status: int = 200, content_type: str = "application/json") -> web.Response:
    """`value` as JSON."""
    return web.Response(body=msgspec.json.encode(value), status=status, content_type=content_type)


def problem_answer(status: int, detail: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """An error; secrets in URLs within `detail` are masked."""
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=mask_text(detail))
    response = json_answer(problem, status, PROBLEM_TYPE)
    response.headers.update(headers or {})
    return response


def unknown_stream(name: str) -> Refused:
    """The refusal of what asks for a stream that is not there."""
    return Refused(404, f"there is no stream {name[:64]!r}: GET /v1/streams lists them")


def known_stream(control: Control, request: web.Request) -> StreamStatus:
    """The stream that the path names, refused (404) where it is not there."""
    name = request.match_info["name"]
    status = control.stream(name)
    if status is None:
        raise unknown_stream(name)
    return status


@asynccontextmanager
async def in_time() -> AsyncIterator[None]:
    """What is done in it may take some seconds; after that it is cancelled, and the caller told to try again (503)."""
    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            yield
    except TimeoutError:
        detail = f"the answer was not ready within {_ANSWER_TIMEOUT_S:g} s: try again"
        raise Refused(503, detail, {"Retry-After": "1"}) from None


async def read_body(request: web.Request) -> bytes:
    """The whole body; refused where it does not come in time. The application bounds its size."""
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            return await request.read()
    except TimeoutError:
        raise Refused(408, f"the body did not arrive within {_BODY_TIMEOUT_S:g} s") from None


async def read_text(request: web.Request, media_type: str, accept: str) -> str:
    """A body of `media_type`, refused where it is of another type (`accept` is the header that then names the right
    one) or no UTF-8."""
    if request.content_type != media_type:
        detail = f"the body must be {media_type}, and its Content-Type must say so"
        raise Refused(415, detail, {accept: media_type})
    try:
        return (await read_body(request)).decode()
    except UnicodeDecodeError:
        raise Refused(400, f"the body is no {media_type}: it is not UTF-8") from None
