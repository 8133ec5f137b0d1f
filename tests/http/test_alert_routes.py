"""Alerts over HTTP: listing, deliveries and resending, rules with their snoozes, rules tried on the past."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from streamer.alertstatus import RuleDraft
from streamer.clock import NS_PER_S, parse_rfc3339
from streamer.errors import StoreError, UserError
from tests.fake_alerts import NOON, NOON_NS, FakeAlerts, alert, busy_alerts, status
from tests.fake_control import FakeControl
from tests.http.serving import Client, serving

FIRING, OVER = f"{1:016x}", f"{0:016x}"


@pytest.fixture
def alerts(control: FakeControl) -> FakeAlerts:
    """The alerts behind `client`."""
    control.alerting = busy_alerts()
    return control.alerting


async def ids(client: Client, query: str = "") -> list[str]:
    response, body = await client.ask("GET", f"/v1/alerts{query}")
    assert response.status == 200, body
    return [one["id"] for one in body["alerts"]]


async def test_alerts_are_listed_the_newest_first(client: Client, alerts: FakeAlerts) -> None:
    """Each with what fired, whether it is over, and how its deliveries fared; filters leave the others out."""
    _, body = await client.ask("GET", "/v1/alerts")
    assert [one["id"] for one in body["alerts"]] == [FIRING, OVER] and body["next"] is None
    firing, over = body["alerts"]
    assert (firing["state"], firing["cleared"], firing["fired"]["labels"][0]["name"]) == ("firing", None, "Glass")
    assert (over["state"], over["cleared"]["state"], over["told"]) == ("cleared", "cleared", {"dead": 1, "sent": 1})
    assert await ids(client, "?state=firing") == [FIRING]
    assert await ids(client, "?state=dead") == [OVER]
    assert await ids(client, "?rule=other") == []
    assert await ids(client, f"?since={NOON}&stream=door&rule=glass") == [FIRING]
    assert alerts.queries[-1].since_ns == NOON_NS


async def test_a_list_goes_on_where_it_ended(client: Client, alerts: FakeAlerts) -> None:
    """`next` of one page is `before` of the next; none is left out and none comes twice."""
    alerts.kept = [status(alert(number)) for number in range(5)]
    found: list[str] = []
    before = ""
    while True:
        _, body = await client.ask("GET", f"/v1/alerts?limit=2{before}")
        found += [one["id"] for one in body["alerts"]]
        if body["next"] is None:
            break
        before = f"&before={body['next']}"
    assert found == [one.id for one in alerts.kept]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("state=open", "firing, cleared, dead"),
        ("since=yesterday", "neither a time"),
        ("since=1000-0@5f3a", "asked for by time"),
        ("before=x", "`next`"),
        ("limit=0", "1 to 200"),
        ("rule=No%20Name", "rule: 'No Name'"),
        ("severity=info", "unknown parameter 'severity'"),
    ],
)
async def test_wrong_questions_are_told(client: Client, alerts: FakeAlerts, query: str, words: str) -> None:
    """Each refusal names the parameter and what it takes."""
    response, body = await client.ask("GET", f"/v1/alerts?{query}")
    assert response.status == 400 and words in body["detail"]
    assert alerts.queries == []


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
async def test_a_time_far_away_is_no_fault(client: Client, alerts: FakeAlerts, time: str) -> None:
    """Years that 64 bits of nanoseconds don't reach are asked for as the nearest that they do."""
    await ids(client, f"?since={time}")
    assert alerts.queries[-1].since_ns in (0, 2**63 - 1)


async def test_one_alert_has_its_deliveries(client: Client, alerts: FakeAlerts) -> None:
    """Each with its state, attempts and what the receiver said; an unknown alert is a 404."""
    _, body = await client.ask("GET", f"/v1/alerts/{OVER}")
    assert body["alert"]["id"] == OVER
    assert [(one["receiver"], one["state"], one["error"]) for one in body["deliveries"]] == [
        ("ops", "dead", "ops answered 500 Internal Server Error"),
        ("chat", "sent", None),
    ]
    for name in (f"{7:016x}", "nothing"):
        response, body = await client.ask("GET", f"/v1/alerts/{name}")
        assert response.status == 404 and name in body["detail"]


async def test_a_delivery_is_sent_again(client: Client, alerts: FakeAlerts) -> None:
    """It waits again afterwards; one that is not there is a 404."""
    response, body = await client.ask("POST", "/v1/alerts/deliveries/d-1/resend")
    assert response.status == 200 and body["state"] == "pending" and alerts.resent == ["d-1"]
    response, _ = await client.ask("POST", "/v1/alerts/deliveries/d-9/resend")
    assert response.status == 404


async def test_rules_are_snoozed_and_woken(client: Client, alerts: FakeAlerts) -> None:
    """A snooze is listed with its rule until it is ended; a stream's own stands beside the rule's."""
    response, body = await client.ask("PUT", "/v1/rules/glass/snooze", json={"for": "1h30m"})
    assert response.status == 200 and parse_rfc3339(body["until"]) == NOON_NS + 5400 * NS_PER_S
    await client.ask("PUT", "/v1/rules/glass/snooze", json={"for": "5m", "stream": "door"})
    _, body = await client.ask("GET", "/v1/rules")
    assert [rule["name"] for rule in body["rules"]] == ["glass", "quiet"]
    assert [snooze["stream"] for snooze in body["rules"][0]["snoozes"]] == [None, "door"]
    for path, expected in ((("?stream=door"), 204), ("", 204), ("", 404)):
        response, _ = await client.ask("DELETE", f"/v1/rules/glass/snooze{path}")
        assert response.status == expected
    assert alerts.known[0].snoozes == []


async def test_all_rules_are_snoozed_at_once(client: Client, alerts: FakeAlerts) -> None:
    """`*` stands for all rules, and streams may be named by a pattern; only the same snooze is ended."""
    _, body = await client.ask("PUT", "/v1/rules/*/snooze", json={"for": "1h", "stream": "front-*"})
    assert (body["rule"], body["stream"]) == (None, "front-*")
    response, _ = await client.ask("DELETE", "/v1/rules/*/snooze")
    assert response.status == 404
    response, _ = await client.ask("DELETE", "/v1/rules/*/snooze?stream=front-*")
    assert response.status == 204 and alerts.known[0].snoozes == []


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("other", {"for": "1h"}, 404, "no rule 'other'"),
        ("glass", {"for": "0s"}, 400, "$.for"),
        ("glass", {"for": "soon"}, 400, "$.for"),
        ("glass", {}, 400, "for"),
        ("glass", {"for": "1h", "until": "noon"}, 400, "until"),
        ("glass", {"for": "1h", "stream": "No Name"}, 400, "stream"),
    ],
)
async def test_a_snooze_that_can_not_be_is_told(
    client: Client, alerts: FakeAlerts, path: str, body: dict[str, Any], status: int, words: str
) -> None:
    """What is wrong with it is named, and nothing is snoozed."""
    response, answer = await client.ask("PUT", f"/v1/rules/{path}/snooze", json=body)
    assert response.status == status and words in answer["detail"]
    assert alerts.known[0].snoozes == []


async def test_a_rule_is_tried(client: Client, alerts: FakeAlerts) -> None:
    """A draft in the configuration's words, or the name of a rule in force; what it found comes back."""
    draft = {"when": "label('Dog') > 0.5", "for": "2s", "stream": "door"}
    response, body = await client.ask("POST", "/v1/rules/try", json={"rule": draft, "since": "6h"})
    assert response.status == 200 and body["rules"][0]["times"] == 0
    assert alerts.tried[-1].since == "6h"
    assert alerts.tried[-1].rule == RuleDraft(when="label('Dog') > 0.5", stream="door", span="2s")
    response, _ = await client.ask("POST", "/v1/rules/try", json={"rule": "glass"})
    assert response.status == 200 and alerts.tried[-1].rule == "glass"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"rule": "nothing"}, 404, "no rule 'nothing'"),
        ({"rule": {}}, 400, "when"),
        ({"rule": {"when": "true", "send": ["ops"]}}, 400, "send"),
        ({"rule": {"when": "true", "for": "long"}}, 400, "$.rule.for"),
        ({"rule": "glass", "since": "a while"}, 400, "$.since"),
        ({}, 400, "rule"),
    ],
)
async def test_a_trial_that_can_not_be_is_told(
    client: Client, alerts: FakeAlerts, body: Any, status: int, words: str
) -> None:
    """The refusal names what is wrong and shows what a trial looks like."""
    response, answer = await client.ask("POST", "/v1/rules/try", json=body)
    assert response.status == status and words in answer["detail"]
    response, _ = await client.ask("POST", "/v1/rules/try", data=b"\xff{")
    assert response.status == 400


@pytest.mark.parametrize(("fault", "status"), [(UserError("when: no such label"), 400), (StoreError("away"), 503)])
async def test_faults_are_problems(client: Client, alerts: FakeAlerts, fault: Exception, status: int) -> None:
    """A rule that can't be used is the caller's to mend, a store that is away is not; the sentence is shown."""
    alerts.broken = fault
    response, body = await client.ask("POST", "/v1/rules/try", json={"rule": {"when": "true"}})
    assert response.status == status and body["detail"] == str(fault)


async def test_a_token_is_asked_for(control: FakeControl) -> None:
    """Nobody reads, resends, snoozes or tries without one where tokens are set."""
    control.alerting = busy_alerts()
    async with serving(control, tokens=("secret",)) as client:
        for method, path in (
            ("GET", "/v1/alerts"),
            ("POST", "/v1/alerts/deliveries/d-1/resend"),
            ("GET", "/v1/rules"),
            ("PUT", "/v1/rules/glass/snooze"),
            ("POST", "/v1/rules/try"),
        ):
            response, _ = await client.ask(method, path)
            assert response.status == 401
    assert control.alerting.resent == [] and msgspec.json.encode(control.alerting.known[0].snoozes) == b"[]"
