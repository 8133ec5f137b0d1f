"""Schemathesis holds the service to its own description: every operation gets requests that the description allows and
requests that it forbids, over real sockets, and every answer is checked against what it promises."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import FailureGroup

from streamer.config import IceServer, StreamConfig
from streamer.http.openapi import ROUTES, document
from streamer.http.server import Server, ServerConfig
from streamer.http.whip_routes import entity_tag
from streamer.observe.metrics import Metrics
from tests import openapi_hooks  # noqa: F401 (importing it registers the hooks)
from tests.fake_alerts import busy_alerts
from tests.fake_control import FakeControl, reason
from tests.http.serving import segment, trace

TOKEN = "secret-of-the-fuzzer"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
CHECKS = {
    "allow_header_conformance", "content_type_conformance", "ignored_auth", "missing_required_header",
    "negative_data_rejection", "not_a_server_error", "positive_data_acceptance", "response_headers_conformance",
    "response_schema_conformance", "status_code_conformance", "unsupported_method",
}  # fmt: skip

# What is there, so that requests don't all end at a 404: most take it, the others are drawn at random.
THERE = {
    "path.name": ["door"], "path.seq": ["0", "1", "2"], "path.file": ["app.js"], "path.index": ["0"],
    "path.session": ["running"], "query.label": ["Dog", "Rain"], "query.epoch": ["0192f1c6"],
    "header.If-Match": [entity_tag("running", "")], "path.id": ["0" * 16, "d-1"],
}  # fmt: skip
WORDS = {**THERE, "waiting": ["lobby"], "rule": ["glass", "quiet"]}


def _drawn(words: str) -> dict[str, Any]:
    return {"dictionary": words.replace(".", "-"), "probability": 0.6}


def described(examples: int, *, by_chance: bool) -> Any:
    """The description as schemathesis reads it, with this many random requests an operation beside the systematic ones.

    `by_chance`: others each time.
    """
    taken = {place: _drawn(place) for place in THERE}
    refused = ["400", "401", "403", "404", "405", "406", "409", "415", "422", "428"]
    config = SchemathesisConfig.from_dict({
        "generation": {"mode": "all", "max-examples": examples, "deterministic": not by_chance, "database": "none"},
        "phases": {"stateful": {"enabled": False}},
        "dictionaries": {place.replace(".", "-"): {"values": values} for place, values in WORDS.items()},
        "parameters": taken,
        "operations": [
            {"include-path-regex": "/whip", "parameters": {**taken, "path.name": _drawn("waiting")}},
            {"include-path-regex": "/v1/rules", "parameters": {**taken, "path.name": _drawn("rule")}},
            # Which entity tag a session has and which labels a model knows stand in no schema.
            {
                "include-operation-id": "trickle_whip",
                "checks": {
                    "positive_data_acceptance": {"expected-statuses": ["2xx", "404", "412", "422"]},
                    "negative_data_rejection": {"expected-statuses": [*refused, "412"]},
                    "missing_required_header": {"expected-statuses": ["428"]},  # RFC 6585, as WHIP wants it
                },
            },
            {
                "include-operation-id": "get_why",
                "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "400", "404"]}},
            },
        ],
    })  # fmt: skip
    return schemathesis.openapi.from_dict(document(tokens=True), config=config)


class Site:
    """A server on a thread of its own, in front of a fake service that can be made as it was before each request."""

    def __init__(self, *tokens: str) -> None:
        self.control = FakeControl()
        self.base = ""
        self._config = ServerConfig(port=0, tokens=tokens)
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    async def _serve(self) -> None:
        server = Server(self.control, Metrics(), self._config)
        await server.start()
        self.base = f"http://127.0.0.1:{server.port}"
        self._ready.set()
        await self._over.wait()
        await server.stop()

    def __enter__(self) -> Site:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
        self._loop.close()

    def reset(self) -> None:
        """`door`, a camera with a past, and `lobby`, with a publisher; nobody asks while this is done."""
        control = self.control
        control.broken = None
        control.entries = {
            "door": StreamConfig(source="rtsp://127.0.0.1/main", preview=True),
            "lobby": StreamConfig(source="whip", takeover=True),
        }
        control.past = {"door": [segment(seq) for seq in range(3)]}
        control.ways = {"door": [trace(1), trace(0)]}
        control.reasons = [reason(seq) for seq in range(3)]
        control.pictures = {"door": [b"\xff\xd8\xff\xd9"]}
        control.sessions = {"lobby": {"running": []}}
        control.alerting = busy_alerts()
        control.servers = [IceServer(urls=["turn:turn.example.net"], username="u", credential="c")]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """One server for all."""
    with Site(TOKEN) as site:
        yield site


short = described(15, by_chance=False)
long = described(150, by_chance=True)


@short.parametrize()
def test_every_operation_does_what_it_says(case: Any, site: Site) -> None:
    """No request, allowed or forbidden, gets an answer that the description does not allow."""
    site.reset()
    case.call_and_validate(base_url=site.base, headers=BEARER)


@pytest.mark.prove
@long.parametrize()
def test_every_operation_does_what_it_says_to_many(case: Any, site: Site) -> None:
    """The same for 150 random requests an operation, others each time."""
    site.reset()
    case.call_and_validate(base_url=site.base, headers=BEARER)


def test_every_route_is_asked() -> None:
    """Schemathesis finds exactly the operations that the server has."""
    found = {(it.ok().method.upper(), it.ok().path) for it in short.get_all_operations()}
    assert found == {(route.method, route.path) for route in ROUTES}


def test_the_checks_are_on() -> None:
    """A version of schemathesis that drops or renames a check is noticed."""
    names = {name for name in CHECKS if getattr(short.config.checks_config_for(phase=None), name).enabled}
    assert names == CHECKS


@pytest.mark.parametrize(
    ("fault", "words"), [(KeyError("a fault of ours"), "Server error"), (None, "Undocumented status code")]
)
def test_a_lie_would_be_found(site: Site, fault: Exception | None, words: str) -> None:
    """A service that fails, and one that answers with a status it does not name, don't pass."""
    site.reset()
    site.control.broken = fault
    told = document(tokens=True)
    if fault is None:
        del told["paths"]["/v1/streams/{name}"]["put"]["responses"]["201"]
    operation = schemathesis.openapi.from_dict(told)["/v1/streams/{name}"]["PUT"]
    case = operation.Case(path_parameters={"name": "yard"}, body={"source": "whip"}, media_type="application/json")
    with pytest.raises(FailureGroup, match=words):
        case.call_and_validate(base_url=site.base, headers=BEARER)


def test_an_open_door_would_be_found() -> None:
    """A service that asks for no token where its description says that it does doesn't pass."""
    with Site() as site:
        case = short["/v1/streams"]["GET"].Case()
        with pytest.raises(FailureGroup, match=r"(?i)auth"):
            case.call_and_validate(base_url=site.base, headers=BEARER)
