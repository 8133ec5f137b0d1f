"""Webhooks as Standard Webhooks has them (https://www.standardwebhooks.com): signed, timed, and with an id."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime

import msgspec
from standardwebhooks import Webhook

from streamer.alertconfig import SendConfig
from streamer.alerts.records import Delivery, Summary
from streamer.alerts.senders.post import DEFAULT_BOUNDS, Bounds, Poster, check_url
from streamer.clock import NS_PER_S, Clock, HostClock, rfc3339
from streamer.errors import UserError

_PREFIX = "whsec_"
_HELD = "alerts.held"
# The specification's shortest key: what is shorter is a password somebody thought of, and no key in base64.
_MIN_KEY = 24
_encoder = msgspec.json.Encoder()


class WebhookSender:
    """Posts each delivery as JSON: `{"type": "alert.firing", "timestamp": ..., "data": ...}`.

    `type` is `alert.firing`, `alert.cleared` (`data` is the alert, as the protocol has it) or `alerts.held` (`data` is
    the summary: `count`, `first`, `last`, `rules` with how many of each, `latest` alert). `timestamp` is when it was
    recorded. Header `webhook-id` is the delivery's id, and it and the body are the same at every attempt;
    `webhook-timestamp` is the attempt's own, and `webhook-signature` stands for all three.
    """

    def __init__(self, config: SendConfig, bounds: Bounds = DEFAULT_BOUNDS, clock: Clock | None = None) -> None:
        """Raises UserError where `check` has something to say."""
        if (fault := check(config)) is not None:
            raise UserError(fault)
        self._clock = clock or HostClock()
        self._signers = [Webhook(key) for key in keys(config.secret)] if config.secret is not None else []
        self._poster = Poster(config.url, config, bounds, self._clock)

    async def send(self, delivery: Delivery) -> None:
        """As `Sender.send`."""
        body = payload(delivery)
        now_s = self._clock.wall_ns() // NS_PER_S
        headers = {
            "Content-Type": "application/json",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(now_s),
        }
        if self._signers:
            moment = datetime.fromtimestamp(now_s, UTC)
            signatures = (signer.sign(delivery.id, moment, body.decode()) for signer in self._signers)
            headers["webhook-signature"] = " ".join(signatures)
        await self._poster.post(body, headers)

    async def aclose(self) -> None:
        """As `Sender.aclose`."""
        await self._poster.aclose()


def make(name: str, config: SendConfig) -> WebhookSender:
    """The sender for a receiver with an `http` or `https` URL; UserError where its entry can't be used."""
    return WebhookSender(config)


def check(config: SendConfig) -> str | None:
    """As `check_receiver`, for webhooks."""
    if config.secret is not None:
        try:
            keys(config.secret)
        except UserError as error:
            return str(error)
    return check_url(config.url, config)


def payload(delivery: Delivery) -> bytes:
    """The body of a delivery, UTF-8 JSON on one line."""
    summary = delivery.summary
    return _encoder.encode(
        {
            "type": f"alert.{delivery.alert.state}" if summary is None else _HELD,
            "timestamp": rfc3339(delivery.recorded_ns),
            "data": delivery.alert if summary is None else _held(summary, delivery),
        }
    )


def _held(summary: Summary, delivery: Delivery) -> dict[str, object]:
    return {
        "count": summary.count,
        "first": rfc3339(summary.first_ns),
        "last": rfc3339(summary.last_ns),
        "rules": dict(summary.rules),
        "latest": delivery.alert,
    }


def keys(secret: str) -> list[bytes]:
    """The keys that a secret stands for: of `whsec_...` what follows in base64, else its bytes as they are.

    A plain secret that is a key in base64 stands for both, because libraries of receivers read it so; each delivery
    then has two signatures, which the specification foresees.

    Raises:
        UserError: there is no key in it; the text does not hold it.
    """
    if secret.startswith(_PREFIX):
        key = _base64(secret[len(_PREFIX) :])
        if not key:
            raise UserError(
                f"the secret begins with {_PREFIX}, but what follows is no base64: give it as it was issued"
            )
        return [key]
    if not secret:
        raise UserError("the secret is empty: give one, or leave the line out")
    key = _base64(secret)
    return [secret.encode(), key] if len(key) >= _MIN_KEY else [secret.encode()]


def _base64(text: str) -> bytes:
    """`text` decoded, padded or not; empty where it is no base64."""
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""
