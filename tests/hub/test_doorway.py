"""Who may subscribe: path, origin, token and query are each judged, and refusals keep secrets."""

from __future__ import annotations

import pytest

from streamer.hub.doorway import Asked, Policy, Refusal
from streamer.hub.filters import Wanted


def asked(target: str = "/v1/subscribe", **fields: str | None) -> Asked:
    return Asked(target, **{"host": "127.0.0.1:8081", "upgrade": "websocket", **fields})


def status(policy: Policy, request: Asked) -> int:
    verdict = policy.judge(request)
    return verdict.status if isinstance(verdict, Refusal) else 200


def test_a_plain_subscription_is_wanted() -> None:
    """No origin, no token needed, no query: everything."""
    assert Policy().judge(asked()) == Wanted()


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (asked("/"), 404),
        (asked("/v1/subscribe/"), 404),
        (asked("//v1/subscribe"), 404),
        (asked(upgrade=None), 426),
        (asked("/v1/subscribe?min_score=7"), 400),
        (asked(origin="https://evil.example"), 403),
        (asked(origin="null"), 403),
        (asked(origin="http://[::1"), 403),
    ],
)
def test_what_is_wrong_is_refused_with_its_status(request_: Asked, expected: int) -> None:
    """Each fault has its own HTTP status."""
    assert status(Policy(page_port=8080), request_) == expected


def test_origins_of_the_page_and_those_configured_are_accepted() -> None:
    """The page may be opened under any numeric address of this machine; a name must be configured, because whoever owns
    it can point it here."""
    policy = Policy(frozenset({"https://cameras.example"}), page_port=8080)
    assert status(policy, asked(origin="http://127.0.0.1:8080")) == 200
    assert status(policy, asked(origin="http://localhost:8080", host="localhost:8081")) == 200
    assert status(policy, asked(origin="http://[::1]:8080", host="[::1]:8081")) == 200
    assert status(policy, asked(origin="http://localhost:8080", host="127.0.0.1:8081")) == 200
    assert status(Policy(page_port=80), asked(origin="http://10.0.0.7", host="10.0.0.7:8081")) == 200
    assert status(Policy(page_port=443), asked(origin="https://10.0.0.7", host="10.0.0.7:8081")) == 200
    assert status(policy, asked(origin="http://10.0.0.7", host="10.0.0.7:8081")) == 403
    assert status(policy, asked(origin="http://10.0.0.7:8080", host="10.0.0.7:8081")) == 200
    assert status(policy, asked(origin="https://cameras.example")) == 200
    assert status(policy, asked(origin="http://127.0.0.1:9999")) == 403
    assert status(policy, asked(origin="http://evil.example:8080", host="evil.example:8081")) == 403
    assert status(policy, asked(origin="http://10.0.0.8:8080", host="10.0.0.7:8081")) == 403
    assert status(Policy(frozenset({"*"})), asked(origin="http://evil.example")) == 200


def test_a_token_is_taken_from_header_or_query() -> None:
    """Bearer for programs, `access_token` for browsers, which cannot send the header; a wrong one never shows."""
    policy = Policy(tokens=("right", "également"))
    assert status(policy, asked(authorization="Bearer right")) == 200
    assert status(policy, asked(authorization="bearer également")) == 200
    assert status(policy, asked("/v1/subscribe?access_token=right")) == 200
    assert status(policy, asked()) == 401
    assert status(policy, asked(authorization="Basic right")) == 401
    verdict = policy.judge(asked("/v1/subscribe?access_token=s3cret", authorization="Bearer s3cret"))
    assert isinstance(verdict, Refusal)
    assert verdict.status == 401
    assert "s3cret" not in repr(verdict)
