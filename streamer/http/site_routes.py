"""The page and what the service says of itself: health, metrics, its API's description, where the websocket is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec
from aiohttp import web

from streamer import __version__
from streamer.http.answers import json_answer
from streamer.http.caller import host_name
from streamer.http.control import Control
from streamer.http.openapi import PROBLEM_TYPE, NotReady, document
from streamer.http.page_files import PageFiles
from streamer.observe.metrics import Metrics
from streamer.status import Info

# Pictures that were asked for with a token are shown from memory (blob:), the visitor's own camera from its stream.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data: blob:;"
    " media-src 'self' blob: mediastream:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_PERMISSIONS = "camera=(self), microphone=(self), geolocation=(), display-capture=(), payment=(), usb=()"


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


class SiteRoutes:
    """The handlers of these operations, by their names in `openapi.ROUTES`."""

    def __init__(self, control: Control, metrics: Metrics, config: ServerConfig) -> None:
        self._control = control
        self._metrics = metrics
        self._config = config
        self._description = msgspec.json.encode(document(tokens=bool(config.tokens)))
        self._files = PageFiles()

    async def page(self, request: web.Request) -> web.StreamResponse:
        name = host_name(request.headers.get("Host", "")) or "localhost"
        # A policy can't name an IPv6 address.
        at = f"//{name}:{self._config.websocket_port}" if "[" not in name else ""
        policy = f"{_PAGE_POLICY}; connect-src 'self' ws:{at} wss:{at}"
        response = self._files.answer(request, "index.html", policy)
        response.headers["Permissions-Policy"] = _PAGE_PERMISSIONS
        return response

    async def page_file(self, request: web.Request) -> web.StreamResponse:
        return self._files.answer(request, request.match_info["file"])

    async def healthz(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def readyz(self, request: web.Request) -> web.StreamResponse:
        readiness = self._control.readiness()
        if readiness.ready:
            return json_answer(readiness)
        lacking = "; ".join(f"{part}: {state}" for part, state in readiness.checks.items() if state != "ok")
        problem = NotReady(title="Not ready", status=503, detail=lacking, ready=False, checks=readiness.checks)
        return json_answer(problem, 503, PROBLEM_TYPE)

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        # Many streams are many series: rendering them takes longer than the event loop may stand still.
        body, content_type = await asyncio.to_thread(self._metrics.render, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def openapi(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=self._description, content_type="application/json")

    async def info(self, request: web.Request) -> web.StreamResponse:
        config = self._config
        return json_answer(Info(
            version=__version__,
            websocket_port=config.websocket_port,
            websocket_path=config.websocket_path,
            bound_ms=config.bound_ms,
        ))  # fmt: skip
