"""Pictures of alerts over HTTP: what there is, as what it is, and 404 for all else."""

from __future__ import annotations

from collections.abc import Coroutine

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from streamer.http.caller import Refused
from streamer.http.picture_routes import PictureRoutes


class Album:
    """Has the pictures of one alert."""

    async def alert_picture(self, alert: str, name: str) -> bytes | None:
        return {("a", "snapshot.jpg"): b"jpeg", ("a", "clip.mp4"): b"mp4"}.get((alert, name))


def asked(alert: str, name: str, query: str = "") -> Coroutine[None, None, web.StreamResponse]:
    """The answer to who asks for it."""
    request = make_mocked_request("GET", f"/v1/alerts/{alert}/pictures/{name}{query}", match_info={"id": alert})
    routes = PictureRoutes(Album())
    return routes.get_alert_snapshot(request) if name == "snapshot.jpg" else routes.get_alert_clip(request)


@pytest.mark.parametrize(
    ("name", "kind", "body"), [("snapshot.jpg", "image/jpeg", b"jpeg"), ("clip.mp4", "video/mp4", b"mp4")]
)
async def test_a_picture_and_a_clip(name: str, kind: str, body: bytes) -> None:
    """Each comes as what it is, and nobody on the way may keep it."""
    response = await asked("a", name)
    assert isinstance(response, web.Response)
    assert (response.status, response.content_type, response.body) == (200, kind, body)
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("name", ["snapshot.jpg", "clip.mp4"])
async def test_none_of_that_alert(name: str) -> None:
    """What is not made yet, or is gone, is a 404 that says so."""
    with pytest.raises(Refused) as refused:
        await asked("b", name)
    assert refused.value.status == 404 and "is not made yet, was not asked for, or is gone" in refused.value.detail


async def test_no_parameters() -> None:
    """A query that means nothing is refused and not passed over."""
    with pytest.raises(Refused) as refused:
        await asked("a", "snapshot.jpg", "?width=10")
    assert refused.value.status == 400
