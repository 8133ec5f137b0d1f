"""Webhooks as a receiver with the specification's own library sees them."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from streamer.alertconfig import SendConfig
from streamer.alerts.records import NotDelivered, Summary
from streamer.alerts.senders.webhook import WebhookSender, check, keys
from streamer.clock import NS_PER_S, ManualClock
from streamer.errors import UserError
from streamer.messages import Alert
from tests.alerts.senders.receiver import Receiver, Request, answers, delivery

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def sender(receiver: Receiver, secret: str | None = SECRET, **more: Any) -> WebhookSender:
    return WebhookSender(SendConfig(url=receiver.url, secret=secret, allow_private=True), **more)


def verified(secret: str | bytes, request: Request) -> Any:
    return Webhook(secret).verify(request.body, request.headers)


@pytest.mark.parametrize("state", ["firing", "cleared"])
async def test_an_alert_arrives_signed(state: str) -> None:
    """The library of the specification verifies it, and the data is the alert as the protocol has it."""
    sent = delivery(text="Glas zerbricht: 玻璃", state=state)
    async with Receiver(answers(200)) as receiver:
        ours = sender(receiver)
        await ours.send(sent)
        await ours.aclose()
    request = receiver.requests[0]
    body = verified(SECRET, request)
    assert body["type"] == f"alert.{state}"
    assert body["timestamp"] == "2025-11-23T04:07:09.512Z"
    assert msgspec.convert(body["data"], Alert) == sent.alert
    assert request.headers["webhook-id"] == "msg_0001"
    assert request.headers["content-type"] == "application/json"


async def test_a_summary_arrives_signed() -> None:
    """What limits held back is told with its count, rules and times, and the latest alert."""
    summary = Summary(41, 1_763_870_000_000_000_000, 1_763_870_829_000_000_000, (("glass", 40), ("fire", 1)))
    async with Receiver(answers(200)) as receiver:
        ours = sender(receiver)
        await ours.send(delivery(summary=summary))
        await ours.aclose()
    body = verified(SECRET, receiver.requests[0])
    assert body["type"] == "alerts.held"
    latest = body["data"].pop("latest")
    assert body["data"] == {
        "count": 41,
        "first": "2025-11-23T03:53:20.000Z",
        "last": "2025-11-23T04:07:09.000Z",
        "rules": {"glass": 40, "fire": 1},
    }
    assert msgspec.convert(latest, Alert) == delivery().alert


async def test_a_repeat_is_known_by_its_id() -> None:
    """The second attempt has the same id and the same body, at its own time with its own signature."""
    clock = ManualClock(wall_ns=1_763_870_830 * NS_PER_S)
    async with Receiver(answers(500)) as receiver:
        ours = sender(receiver, clock=clock)
        with pytest.raises(NotDelivered):
            await ours.send(delivery())
        receiver.behave = answers(200)
        clock.advance(30 * NS_PER_S)
        await ours.send(delivery())
        await ours.aclose()
    first, second = receiver.requests
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) == 30
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]


async def test_a_signature_stands_for_body_and_key() -> None:
    """Another key or a changed body is not verified."""
    async with Receiver(answers(200)) as receiver:
        ours = sender(receiver)
        await ours.send(delivery())
        await ours.aclose()
    request = receiver.requests[0]
    with pytest.raises(WebhookVerificationError):
        verified(b"another key", request)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(request.body.replace(b"glass", b"grass"), request.headers)


@pytest.mark.parametrize("secret", ["correct horse battery staple", "pässwörd", base64.b64encode(KEY).decode()])
async def test_a_plain_secret_signs_with_its_bytes(secret: str) -> None:
    """A secret that is no `whsec_` one is a key as it is written."""
    async with Receiver(answers(200)) as receiver:
        ours = sender(receiver, secret)
        await ours.send(delivery())
        await ours.aclose()
    assert verified(secret.encode(), receiver.requests[0])["type"] == "alert.firing"


async def test_a_plain_secret_in_base64_is_verified_as_libraries_read_it() -> None:
    """Libraries take a secret without a prefix for base64: a second signature is for them."""
    secret = base64.b64encode(KEY).decode()
    async with Receiver(answers(200)) as receiver:
        ours = sender(receiver, secret)
        await ours.send(delivery())
        await ours.aclose()
    assert len(receiver.requests[0].headers["webhook-signature"].split(" ")) == 2
    assert verified(secret, receiver.requests[0])["type"] == "alert.firing"


async def test_without_a_secret_nothing_is_signed() -> None:
    """Id and time are there all the same."""
    async with Receiver(answers(200)) as receiver:
        ours = sender(receiver, None)
        await ours.send(delivery())
        await ours.aclose()
    headers = receiver.requests[0].headers
    assert "webhook-signature" not in headers and headers["webhook-id"] == "msg_0001"
    assert headers["webhook-timestamp"].isdigit()


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_@@@", "whsec_abc de"])
def test_secrets_that_hold_no_key(secret: str) -> None:
    """Each is told without being shown, when the configuration is checked and when a sender is made."""
    config = SendConfig(url="https://example.org/", secret=secret)
    text = check(config)
    assert text is not None and (secret in ("", "whsec_") or secret not in text)
    with pytest.raises(UserError):
        WebhookSender(config)


def test_keys_of_secrets() -> None:
    """`whsec_` is base64, padded or not; words are their bytes, also those that happen to be base64."""
    assert keys(SECRET) == keys(SECRET.rstrip("=")) == [KEY]
    assert keys("password") == [b"password"]


def test_a_receiver_inside_has_to_be_allowed() -> None:
    """The check of a webhook is that of its URL too."""
    assert "allow_private" in (check(SendConfig(url="https://10.0.0.1/hook")) or "")
    assert check(SendConfig(url="https://10.0.0.1/hook", allow_private=True, secret=SECRET)) is None
