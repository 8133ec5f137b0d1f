"""Who may ask: hosts, origins and tokens."""

from __future__ import annotations

import pytest

from streamer.http.openapi import ROUTES
from tests.fake_control import FakeControl
from tests.http.serving import ENTRY, serving


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:1", 200), ("127.0.0.1", 200), ("127.9.9.9:80", 200), ("[::1]:8080", 200), ("LOCALHOST", 200),
        ("evil.example", 421), ("127.0.0.1.evil.example", 421), ("10.0.0.1", 421), ("a b", 400), ("x/y", 400),
        ("panel.example.org", 200),
    ],
)  # fmt: skip
async def test_a_local_service_is_asked_by_local_names_only(control: FakeControl, host: str, status: int) -> None:
    """A page that points its own name at this machine reaches nothing; names that are configured do."""
    async with serving(control, allowed_origins=("https://panel.example.org",)) as client:
        assert (await client.ask("GET", "/v1/streams", headers={"Host": host}))[0].status == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://evil.example", 403), ("null", 403), ("https://panel.example.org", 201), (None, 201), ("own", 201)],
)
async def test_foreign_pages_change_nothing(control: FakeControl, origin: str | None, status: int) -> None:
    """A visitor's browser can't be made to add streams by somebody else's page."""
    async with serving(control, allowed_origins=("https://panel.example.org",)) as client:
        headers = {} if origin is None else {"Origin": client.base if origin == "own" else origin}
        assert (await client.ask("PUT", "/v1/streams/yard", json=ENTRY, headers=headers))[0].status == status


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401), ("Bearer wrong", 401), ("Bearer ", 401), ("Basic c2VjcmV0", 401), ("secret-1", 401),
        ("Bearer sécret", 401), ("Bearer secret-1", 200), ("bearer secret-2", 200),
    ],
)  # fmt: skip
async def test_tokens(control: FakeControl, header: str | None, status: int) -> None:
    """With tokens set, a caller needs a known one; which of them does not matter."""
    async with serving(control, tokens=("secret-1", "secret-2")) as client:
        headers = {} if header is None else {"Authorization": header}
        response, _ = await client.ask("GET", "/v1/streams", headers=headers)
        assert response.status == status
        assert ("WWW-Authenticate" in response.headers) == (status == 401)


async def test_with_tokens_only_health_and_the_page_are_open(control: FakeControl) -> None:
    """Everything that tells or changes something asks for a token; the page has to load before it can ask for one."""
    async with serving(control, tokens=("secret",)) as client:
        statuses = {
            route.path: (
                await client.ask("GET", route.path.format(name="door", file="app.js", seq=0, index=0, id="0" * 16))
            )[0].status
            for route in ROUTES
            if route.method == "GET"
        }
        assert {path for path, status in statuses.items() if status == 200} == {"/", "/page/{file}", "/healthz"}
        assert set(statuses.values()) == {200, 401}
        assert (await client.ask("PUT", "/v1/streams/yard", json=ENTRY))[0].status == 401
        assert (await client.ask("DELETE", "/v1/streams/door"))[0].status == 401
        assert (await client.ask("GET", "/v1/nothing"))[0].status == 401
    assert list(control.entries) == ["door"]
