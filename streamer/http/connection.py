"""A connection whose errors below any route (no HTTP at all, a line too long) are problems like all others."""

from __future__ import annotations

from aiohttp import web

from streamer.http.answers import problem_answer

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Server": "streamer",
}


class Connection(web.RequestHandler):
    """aiohttp's, with errors that say no more than who sent such a thing needs."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        # It logs, and raises where half an answer is on its way already.
        super().handle_error(request, status, exc, message)
        wrong = "this is no HTTP request, or its first line or one of its headers is too long"
        response = problem_answer(status, wrong if status < 500 else "a fault of the service; its log says more")
        response.headers.update(SECURITY_HEADERS)
        response.force_close()
        return response
