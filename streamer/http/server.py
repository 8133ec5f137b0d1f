"""The HTTP side: page, health, metrics, and the API of `openapi.ROUTES`.

It sees the service through `Control` alone. Every error leaves as `application/problem+json`; nothing a caller sends is
believed before it is checked, and no answer holds a secret.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from streamer.errors import AdmissionError, ConflictError, StreamerError, UserError
from streamer.http.alert_routes import AlertRoutes
from streamer.http.answers import TOKEN_KNOWN, problem_answer
from streamer.http.caller import Admittance, Refused
from streamer.http.connection import SECURITY_HEADERS, Connection
from streamer.http.control import Control
from streamer.http.openapi import MAX_BODY, ROUTES
from streamer.http.picture_routes import PictureRoutes
from streamer.http.site_routes import ServerConfig, SiteRoutes
from streamer.http.stream_routes import StreamRoutes
from streamer.http.whip_routes import WhipRoutes
from streamer.observe.metrics import Metrics

__all__ = ["Control", "Server", "ServerConfig"]

log = logging.getLogger(__name__)

_PREFLIGHT_HEADERS = {
    "Access-Control-Allow-Headers": "Authorization, Content-Type, If-Match, If-None-Match",
    "Access-Control-Max-Age": "600",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """`await start()`, then `port` says where it listens; `await stop()` lets running requests end."""

    def __init__(self, control: Control, metrics: Metrics, config: ServerConfig) -> None:
        self._config = config
        self._admittance = Admittance(config.host, config.tokens, config.allowed_origins)
        parts = (
            SiteRoutes(control, metrics, config),
            StreamRoutes(control),
            WhipRoutes(control),
            AlertRoutes(control),
            PictureRoutes(control),
        )
        self.handlers: dict[str, Handler] = {
            route.operation: getattr(part, route.operation)
            for part in parts
            for route in ROUTES
            if hasattr(part, route.operation)
        }
        self._open = {(route.method, route.path) for route in ROUTES if route.open}
        self._runner: web.AppRunner | None = None
        self._listening: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            UserError: the address can't be listened on.
        """
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._guard])
        for route in ROUTES:
            handler = self.handlers[route.operation]
            if route.method == "GET":
                # HEAD comes with it, as HTTP wants.
                app.router.add_get(route.path, handler)
            else:
                app.router.add_route(route.method, route.path, handler)
        # What goes wrong outside of the guard is what is no HTTP: its sender is told, and nobody needs its traceback.
        quiet = log.getChild("protocol")
        quiet.setLevel(logging.CRITICAL)
        runner = web.AppRunner(app, access_log=None, logger=quiet, shutdown_timeout=1.0)
        await runner.setup()
        loop, server = asyncio.get_running_loop(), runner.server
        assert server is not None

        def connection() -> Connection:
            return Connection(server, loop=loop, logger=quiet, access_log=quiet)

        try:
            self._listening = await loop.create_server(connection, self._config.host, self._config.port, backlog=128)
        except OSError as error:
            await runner.cleanup()
            where = f"{self._config.host}:{self._config.port}"
            raise UserError(f"can't listen on {where}: {error.strerror or error}; name another address") from None
        self._runner = runner

    async def stop(self) -> None:
        """Stop listening and close what is open; may be called at any time."""
        runner, self._runner = self._runner, None
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.close()
        if runner is not None:
            await runner.cleanup()

    @property
    def port(self) -> int:
        """The port listened on (the one that the system chose, where 0 was asked for)."""
        assert self._listening is not None, "start() comes first"
        return int(self._listening.sockets[0].getsockname()[1])

    # -- every request ---------------------------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await self._answer(request, handler)
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        for name, value in self._admittance.sharing(request.headers.get("Origin")).items():
            before = response.headers.get(name)
            response.headers[name] = f"{before}, {value}" if before else value
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """What `handler` says, or the problem that came up."""
        try:
            self._check_page(request)
            if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
                return self._preflight(request)
            self._check_token(request)
            return await handler(request)
        except Refused as refused:
            return problem_answer(refused.status, refused.detail, refused.headers)
        except UserError as error:
            return problem_answer(400, str(error))
        except (AdmissionError, ConflictError) as error:
            return problem_answer(409, str(error))
        except StreamerError as error:
            return problem_answer(503, str(error), {"Retry-After": "1"})
        except web.HTTPRequestEntityTooLarge:
            return problem_answer(413, f"the body is larger than {MAX_BODY} bytes")
        except web.HTTPException as error:
            allowed = error.headers.get("Allow")
            detail = f"{request.path[:100]} takes {allowed}" if allowed else f"there is nothing at {request.path[:100]}"
            return problem_answer(error.status, detail, {"Allow": allowed} if allowed else None)
        except Exception:  # A fault in one answer is told and logged; the service and its other callers go on.
            # By its route: the path may hold the name of a publisher's session.
            log.exception("the answer to %s %s failed", request.method, _route(request))
            return problem_answer(500, "a fault of the service; its log says more")

    def _check_page(self, request: web.Request) -> None:
        changes = request.method not in ("GET", "HEAD")
        self._admittance.check_page(request.headers.get("Host", ""), request.headers.get("Origin"), changes=changes)

    def _check_token(self, request: web.Request) -> None:
        authorization = request.headers.get("Authorization", "")
        request[TOKEN_KNOWN] = self._admittance.knows_token(authorization)
        method = "GET" if request.method == "HEAD" else request.method
        if (method, _route(request)) not in self._open:
            self._admittance.check_token(authorization)

    def _preflight(self, request: web.Request) -> web.StreamResponse:
        """What a browser asks before a page of another origin may ask something; it sends no token with that."""
        error = request.match_info.http_exception
        if isinstance(error, web.HTTPMethodNotAllowed):
            methods = error.allowed_methods
        elif error is None:
            methods = {route.method for route in ROUTES if route.path == _route(request)}
        else:
            raise error
        return web.Response(headers={"Access-Control-Allow-Methods": ", ".join(sorted(methods)), **_PREFLIGHT_HEADERS})


def _route(request: web.Request) -> str:
    """The path of the request's route as the table has it, empty where there is none."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else ""
