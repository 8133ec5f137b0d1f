"""Pictures of alerts, with faces blurred, for who may use the API."""

from __future__ import annotations

from typing import Protocol

from aiohttp import web

from streamer.http.answers import in_time
from streamer.http.caller import Refused, check_query
from streamer.http.openapi import JPEG_TYPE, MP4_TYPE


class PictureControl(Protocol):
    """Who has the pictures."""

    async def alert_picture(self, alert: str, name: str) -> bytes | None:
        """A picture of an alert, finished and with its faces blurred; None where it is not made yet, was not asked for,
        or is gone."""
        ...


class PictureRoutes:
    """The handlers of these operations, by their names in `openapi.ROUTES`."""

    def __init__(self, control: PictureControl) -> None:
        self._control = control

    async def get_alert_snapshot(self, request: web.Request) -> web.StreamResponse:
        return await self._picture(request, "snapshot.jpg", JPEG_TYPE)

    async def get_alert_clip(self, request: web.Request) -> web.StreamResponse:
        return await self._picture(request, "clip.mp4", MP4_TYPE)

    async def _picture(self, request: web.Request, name: str, media_type: str) -> web.StreamResponse:
        alert = request.match_info["id"]
        check_query(request.query, ())
        async with in_time():
            picture = await self._control.alert_picture(alert, name)
        if picture is None:
            raise Refused(404, f"alert {alert[:64]!r} has no {name}: it is not made yet, was not asked for, or is gone")
        return web.Response(body=picture, content_type=media_type, headers={"Cache-Control": "no-store"})
