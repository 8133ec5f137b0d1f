"""The description of the API against the API: the same routes, and answers that are what it says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped,unused-ignore]
from openapi_spec_validator import validate

from streamer.config import StreamConfig
from streamer.errors import AdmissionError
from streamer.http.openapi import ROUTES, document
from streamer.http.server import Server, ServerConfig
from streamer.observe.metrics import Metrics
from tests.fake_alerts import busy_alerts
from tests.fake_control import FakeControl
from tests.http.serving import ENTRY, Client, segment, serving, trace

DESCRIPTION = document(tokens=False)
SKIPPED_TYPES = ("text/plain", "text/html", "*/*")


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A client of a service with one stream and a past."""
    control = FakeControl({"door": StreamConfig(source=ENTRY["source"])}, {"door": [segment(seq) for seq in range(3)]})
    control.ways["door"] = [trace(1), msgspec.structs.replace(trace(0), state="waiting", cursor=None, batch=None)]
    control.alerting = busy_alerts()
    async with serving(control) as client:
        yield client


def assert_described(path: str, method: str, status: int, content_type: str, body: Any) -> None:
    """The operation at `path` names this status, and its schema allows this body."""
    responses = DESCRIPTION["paths"][path][method.lower()]["responses"]
    assert str(status) in responses, f"{method} {path} answered {status}, which is not described"
    content = responses[str(status)].get("content", {})
    if not content:
        assert body in (b"", None)
        return
    if content_type in SKIPPED_TYPES or "*/*" in content:
        return
    schema = {**content[content_type]["schema"], "components": DESCRIPTION["components"]}
    Draft202012Validator(schema).validate(body)


@pytest.mark.parametrize("tokens", [False, True])
def test_the_description_is_valid_openapi(tokens: bool) -> None:
    """The specification's own validator finds no fault in it."""
    validate(document(tokens=tokens))


def test_every_route_has_a_handler() -> None:
    """The table and the server name the same operations."""
    server = Server(FakeControl(), Metrics(), ServerConfig())
    assert set(server.handlers) == {route.operation for route in ROUTES}
    assert len(server.handlers) == len(ROUTES)


async def test_it_is_served_as_it_is(client: Client) -> None:
    """What is served at /openapi.json is the description of exactly this service."""
    _, body = await client.ask("GET", "/openapi.json")
    assert body == DESCRIPTION


@pytest.mark.parametrize("route", [route for route in ROUTES if route.method == "GET"], ids=lambda it: it.operation)
async def test_answers_are_as_described(client: Client, route: Any) -> None:
    """Each GET answers with a status and a body that its description allows, for what is there and for what is not."""
    for name, file, seq in (("door", "app.js", 0), ("door", "app.js", 1), ("nobody", "nothing.js", 7)):
        path = route.path.format(name=name, file=file, seq=seq, index=seq, id=f"{seq:016x}")
        response, body = await client.ask("GET", path)
        assert_described(route.path, "GET", response.status, response.content_type, body)


async def test_a_refused_stream_is_as_described() -> None:
    """One that can't be served beside the others answers as described."""
    async with serving(FakeControl(broken=AdmissionError("1.2 of 1.0"))) as client:
        response, answer = await client.ask("PUT", "/v1/streams/yard", json=ENTRY)
    assert response.status == 409
    assert_described("/v1/streams/{name}", "PUT", response.status, response.content_type, answer)


async def test_changes_are_as_described(client: Client) -> None:
    """Adding, changing and removing answer as described, the errors included."""
    path = "/v1/streams/{name}"
    for body in (ENTRY, ENTRY, {"source": 1}, {}):
        response, answer = await client.ask("PUT", "/v1/streams/yard", json=body)
        assert_described(path, "PUT", response.status, response.content_type, answer)
    for _ in range(2):
        response, answer = await client.ask("DELETE", "/v1/streams/yard")
        assert_described(path, "DELETE", response.status, response.content_type, answer)
    response, answer = await client.ask("POST", "/v1/streams/door/whip", data=b"v=0")
    assert_described(path + "/whip", "POST", response.status, response.content_type, answer)


def test_the_documented_segment_is_allowed() -> None:
    """The schema of a segment takes one with everything in it."""
    schema = {"$ref": "#/components/schemas/Segment", "components": DESCRIPTION["components"]}
    found = {
        "type": "segment", "v": 1, "stream": "door", "epoch": "0192f1c6", "seq": 42, "cursor": "1795406830712-0@5f3a",
        "start": "2026-11-23T04:07:08.500Z", "end": "2026-11-23T04:07:10.500Z", "status": "ok", "reason": None,
        "degraded": [], "delivered_late": False,
        "labels": [{"name": "Dog", "score": 0.93, "share": {"video": 0.44, "audio": 0.56, "text": 0.0}}],
        "speech": None, "coverage": {"video": 1.0, "audio": 0.98, "text": 1.0},
        "latency_ms": {"total": 212.4, "ingest": 31.0, "queue": 60.2, "compute": 118.0, "publish": 3.2},
        "bound_ms": 1000,
    }  # fmt: skip
    Draft202012Validator(schema).validate(found)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from([*StreamConfig.__struct_fields__, "other"])
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=70).filter(
    lambda text: text not in (".", "..")
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.just("yard") | NAMES, body=JSON | st.dictionaries(KEYS, JSON | st.just(ENTRY["source"]), max_size=4))
async def test_whatever_is_put_is_answered_as_described(client: Client, name: str, body: Any) -> None:
    """Arbitrary names and bodies get an answer that the description allows, never a fault of ours."""
    response, answer = await client.ask("PUT", f"/v1/streams/{quote(name, safe='')}", json=body)
    # A name that is no part of a path at all (an encoded slash, a line break) is at no route.
    assert response.status in (200, 201, 400, 404)
    if response.status != 404:
        assert_described("/v1/streams/{name}", "PUT", response.status, response.content_type, answer)
