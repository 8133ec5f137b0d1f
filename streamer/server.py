"""The HTTP side: page, health, metrics, and the API of `openapi.ROUTES`.

It sees the service through `Control` alone. Every error leaves as `application/problem+json`; nothing a caller sends is
believed before it is checked, and no answer holds a secret.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources import files
from typing import Literal, Protocol

import msgspec
from aiohttp import web

from streamer import __version__
from streamer.caller import (
    Admittance,
    Refused,
    check_query,
    host_name,
    limit,
    moment,
    refuse_forbidden,
    sequence,
    stream_name,
)
from streamer.config import StreamConfig, mask_text
from streamer.configfile import parse_stream_entry
from streamer.errors import AdmissionError, StreamerError, UserError
from streamer.metrics import Metrics
from streamer.openapi import (
    DEFAULT_SEGMENTS,
    DEFAULT_TRACES,
    MAX_BODY,
    MAX_SEGMENTS,
    MAX_TRACES,
    PROBLEM_TYPE,
    ROUTES,
    LabelList,
    NotReady,
    Problem,
    StreamList,
    TraceList,
    document,
)
from streamer.status import Info, LabelInfo, Readiness, StreamStatus, Trace

log = logging.getLogger(__name__)

_BODY_TIMEOUT_S = 10.0
_PAGE_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Server": "streamer",
}
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Control(Protocol):
    """What the HTTP side may ask of the service. A `StreamerError` becomes a problem, and its text is shown."""

    def streams(self) -> list[StreamStatus]:
        """All streams now."""
        ...

    def stream(self, name: str) -> StreamStatus | None:
        """One stream now, None where there is none of that name."""
        ...

    async def put(self, name: str, entry: StreamConfig) -> Literal["created", "changed"]:
        """Add or change a stream.

        Raises:
            UserError: the entry can't be used (400).
            AdmissionError: it can't be served within the latency bound (409).
            StreamerError: not now (503).
        """
        ...

    async def delete(self, name: str) -> bool:
        """Remove a stream and free what it held; False where there is none."""
        ...

    def readiness(self) -> Readiness:
        """Whether segments are answered and published now."""
        ...

    def labels(self) -> list[LabelInfo]:
        """The names that can appear.

        Raises:
            StreamerError: the models are not loaded yet (503).
        """
        ...

    async def segments(
        self, name: str, since: str | None, until: str | None, limit: int
    ) -> tuple[list[bytes], str | None]:
        """Past segments as JSON, oldest first, and the cursor to go on from.

        Raises:
            UserError: `since` or `until` can't be used (400).
            StoreError: the store is away (503).
        """
        ...

    def trace(self, name: str, seq: int, epoch: str | None) -> Trace | None:
        """One segment's way, of the newest epoch that has it unless one is named; None where it is not kept."""
        ...

    def traces(self, name: str, limit: int) -> list[Trace]:
        """The ways of the last segments, the newest first."""
        ...


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where to listen, who may call, and where the page finds the websocket."""

    host: str = "127.0.0.1"
    port: int = 8080
    websocket_port: int = 8081
    websocket_path: str = "/v1/subscribe"
    bound_ms: int = 1000
    tokens: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()


class Server:
    """`await start()`, then `port` says where it listens; `await stop()` lets running requests end."""

    def __init__(self, control: Control, metrics: Metrics, config: ServerConfig) -> None:
        self._control = control
        self._metrics_source = metrics
        self._config = config
        self._admittance = Admittance(config.host, config.tokens, config.allowed_origins)
        self._description = msgspec.json.encode(document(tokens=bool(config.tokens)))
        self._files = _page_files()
        self._open = {(route.method, route.path) for route in ROUTES if route.open}
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            UserError: the address can't be listened on.
        """
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._guard])
        for route in ROUTES:
            handler: Handler = getattr(self, f"_{route.operation}")
            if route.method == "GET":
                # HEAD comes with it, as HTTP wants.
                app.router.add_get(route.path, handler)
            else:
                app.router.add_route(route.method, route.path, handler)
        # What comes past the guard is what is no HTTP: the caller is told, and nobody here needs a traceback of it.
        quiet = log.getChild("protocol")
        quiet.setLevel(logging.CRITICAL)
        runner = web.AppRunner(app, access_log=None, logger=quiet, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._config.host, self._config.port).start()
        except OSError as error:
            await runner.cleanup()
            where = f"{self._config.host}:{self._config.port}"
            raise UserError(f"can't listen on {where}: {error.strerror or error}; name another address") from None
        self._runner = runner

    async def stop(self) -> None:
        """Stop listening and close what is open; may be called at any time."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    @property
    def port(self) -> int:
        """The port listened on (the one that the system chose, where 0 was asked for)."""
        assert self._runner is not None, "start() comes first"
        return int(self._runner.addresses[0][1])

    # -- every request ---------------------------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await self._answer(request, handler)
        for name, value in _SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """What `handler` says, or the problem that came up."""
        try:
            self._check_caller(request)
            return await handler(request)
        except Refused as refused:
            return _problem(refused.status, refused.detail, refused.headers)
        except UserError as error:
            return _problem(400, str(error))
        except AdmissionError as error:
            return _problem(409, str(error))
        except StreamerError as error:
            return _problem(503, str(error), {"Retry-After": "1"})
        except web.HTTPRequestEntityTooLarge:
            return _problem(413, f"the body is larger than {MAX_BODY} bytes")
        except web.HTTPException as error:
            allowed = error.headers.get("Allow")
            detail = f"{request.path[:100]} takes {allowed}" if allowed else f"there is nothing at {request.path[:100]}"
            return _problem(error.status, detail, {"Allow": allowed} if allowed else None)
        except Exception:  # A fault in one answer is told and logged; the service and its other callers go on.
            log.exception("the answer to %s %s failed", request.method, request.path)
            return _problem(500, "a fault of the service; its log says more")

    def _check_caller(self, request: web.Request) -> None:
        changes = request.method not in ("GET", "HEAD")
        self._admittance.check_page(request.headers.get("Host", ""), request.headers.get("Origin"), changes=changes)
        resource = request.match_info.route.resource
        method = "GET" if request.method == "HEAD" else request.method
        if (method, resource.canonical if resource is not None else "") not in self._open:
            self._admittance.check_token(request.headers.get("Authorization", ""))

    # -- page, health, metrics ---------------------------------------------------------------------------------------

    async def _page(self, request: web.Request) -> web.StreamResponse:
        name = host_name(request.headers.get("Host", "")) or "localhost"
        # A policy can't name an IPv6 address.
        at = f"//{name}:{self._config.websocket_port}" if "[" not in name else ""
        policy = f"{_PAGE_POLICY}; connect-src 'self' ws:{at} wss:{at}"
        response = self._file("index.html")
        response.headers["Content-Security-Policy"] = policy
        return response

    async def _page_file(self, request: web.Request) -> web.StreamResponse:
        return self._file(request.match_info["file"])

    def _file(self, name: str) -> web.Response:
        found = self._files.get(name)
        if found is None:
            raise Refused(404, f"the page has no file {name[:100]!r}")
        return web.Response(body=found[0], content_type=found[1], charset="utf-8")

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.StreamResponse:
        readiness = self._control.readiness()
        if readiness.ready:
            return _json(readiness)
        lacking = "; ".join(f"{part}: {state}" for part, state in readiness.checks.items() if state != "ok")
        problem = NotReady(title="Not ready", status=503, detail=lacking, ready=False, checks=readiness.checks)
        return _json(problem, 503, PROBLEM_TYPE)

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        # Many streams are many series: rendering them takes longer than the event loop may stand still.
        body, content_type = await asyncio.to_thread(self._metrics_source.render, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _openapi(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=self._description, content_type="application/json")

    async def _info(self, request: web.Request) -> web.StreamResponse:
        config = self._config
        return _json(Info(
            version=__version__,
            websocket_port=config.websocket_port,
            websocket_path=config.websocket_path,
            bound_ms=config.bound_ms,
        ))  # fmt: skip

    # -- streams -----------------------------------------------------------------------------------------------------

    async def _list_streams(self, request: web.Request) -> web.StreamResponse:
        return _json(StreamList(self._control.streams()))

    async def _get_stream(self, request: web.Request) -> web.StreamResponse:
        return _json(self._known(request))

    async def _put_stream(self, request: web.Request) -> web.StreamResponse:
        name = stream_name(request.match_info["name"])
        entry = parse_stream_entry(await _body(request))
        await refuse_forbidden(entry.source)
        outcome = await self._control.put(name, entry)
        status = self._control.stream(name)
        if status is None:
            raise Refused(503, f"{name} was removed by somebody else meanwhile", {"Retry-After": "1"})
        response = _json(status, 201 if outcome == "created" else 200)
        if outcome == "created":
            response.headers["Location"] = f"/v1/streams/{name}"
        return response

    async def _delete_stream(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if not await self._control.delete(name):
            raise _unknown(name)
        return web.Response(status=204)

    async def _whip(self, request: web.Request) -> web.StreamResponse:
        self._known(request)
        raise Refused(501, "WHIP is not served by this version: give the stream an rtsp:// source")

    def _known(self, request: web.Request) -> StreamStatus:
        name = request.match_info["name"]
        status = self._control.stream(name)
        if status is None:
            raise _unknown(name)
        return status

    # -- what was and what can be ------------------------------------------------------------------------------------

    async def _list_segments(self, request: web.Request) -> web.StreamResponse:
        name, query = request.match_info["name"], request.query
        check_query(query, ("since", "until", "limit"))
        since, until = moment("since", query.get("since")), moment("until", query.get("until"))
        most = limit(query.get("limit"), DEFAULT_SEGMENTS, MAX_SEGMENTS)
        segments, following = await self._control.segments(name, since, until, most)
        if not segments and self._control.stream(name) is None:
            raise _unknown(name)
        body = b'{"segments":[' + b",".join(segments) + b'],"next":' + msgspec.json.encode(following) + b"}"
        return web.Response(body=body, content_type="application/json")

    async def _get_trace(self, request: web.Request) -> web.StreamResponse:
        name, seq = self._known(request).name, sequence(request.match_info["seq"])
        check_query(request.query, ("epoch",))
        epoch = request.query.get("epoch")
        trace = self._control.trace(name, seq, epoch)
        if trace is None:
            wanted = f"segment {seq}" if epoch is None else f"segment {seq} of epoch {epoch[:64]}"
            raise Refused(404, f"{name} has no trace of {wanted}: {_reach(self._control.traces(name, MAX_TRACES))}")
        return _json(trace)

    async def _list_traces(self, request: web.Request) -> web.StreamResponse:
        name = self._known(request).name
        check_query(request.query, ("limit",))
        most = limit(request.query.get("limit"), DEFAULT_TRACES, MAX_TRACES)
        return _json(TraceList(self._control.traces(name, most)))

    async def _list_labels(self, request: web.Request) -> web.StreamResponse:
        return _json(LabelList(self._control.labels()))


def _json(value: msgspec.Struct, status: int = 200, content_type: str = "application/json") -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type=content_type)


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> web.Response:
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=mask_text(detail))
    response = _json(problem, status, PROBLEM_TYPE)
    response.headers.update(headers or {})
    return response


def _unknown(name: str) -> Refused:
    return Refused(404, f"there is no stream {name[:64]!r}: GET /v1/streams lists them")


def _reach(traces: list[Trace]) -> str:
    """How far back there are traces, in words; `traces` are all there are, the newest first."""
    if not traces:
        return "it has none yet"
    newest, oldest = traces[0], traces[-1]
    return (
        f"they go from segment {oldest.seq} of epoch {oldest.epoch} ({oldest.end})"
        f" to segment {newest.seq} of epoch {newest.epoch} ({newest.end})"
    )


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            return await request.read()
    except TimeoutError:
        raise Refused(408, f"the body did not arrive within {_BODY_TIMEOUT_S:g} s") from None


def _page_files() -> dict[str, tuple[bytes, str]]:
    found: dict[str, tuple[bytes, str]] = {}
    for file in files("streamer").joinpath("page").iterdir():
        media_type = _PAGE_TYPES.get("." + file.name.rpartition(".")[2])
        if media_type is not None:
            found[file.name] = (file.read_bytes(), media_type)
    return found
