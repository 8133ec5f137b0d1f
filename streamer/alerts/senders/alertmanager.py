"""Prometheus' Alertmanager, by version 2 of its API (https://prometheus.io/docs/alerting/latest/alerts_api/).

Alertmanager forgets what it is not told of again: it keeps alerts in memory alone, and ends each at its `endsAt`. So
an alert that fires is sent with an end some minutes ahead (Alertmanager's own `resolve_timeout` is for those without
one) and again every minute, until it is over. Where we are gone for good it ends by itself; where we were restarted,
`keep` says what goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from streamer.alertconfig import SendConfig
from streamer.alerts.records import Delivery, NotDelivered, Summary
from streamer.alerts.senders.keeping import Firing
from streamer.alerts.senders.post import Poster, check_url
from streamer.alerts.text import body, title
from streamer.clock import NS_PER_S, Clock, HostClock, parse_rfc3339, rfc3339
from streamer.errors import UserError
from streamer.messages import Alert

log = logging.getLogger(__name__)

PREFIX = "alertmanager+"
_API = "/api/v2/alerts"
# How many alerts go in one request: about 100 KB.
_BATCH = 100
_NOTICE_NS = 300 * NS_PER_S
_HEADERS = {"Content-Type": "application/json"}


class AlertmanagerSender:
    """Tells one Alertmanager (of a cluster, name each as a receiver of its own, as Prometheus does).

    repeat_s: how often what fires is said again. hold_s: how long it lasts there if nothing more is heard; more than
    the clocks differ and than we take to be restarted.
    """

    def __init__(
        self,
        name: str,
        config: SendConfig,
        clock: Clock | None = None,
        *,
        repeat_s: float = 60.0,
        hold_s: float = 600.0,
    ) -> None:
        self._name = name
        self._clock = clock or HostClock()
        self._repeat_s = repeat_s
        self._hold_ns = int(hold_s * NS_PER_S)
        self._poster = Poster(_endpoint(config.url), config, clock=self._clock)
        self._firing = Firing()
        self._repeating: asyncio.Task[None] | None = None
        self._closed = False

    async def send(self, delivery: Delivery) -> None:
        """As `Sender.send`."""
        now_ns = self._clock.wall_ns()
        if delivery.summary is not None:
            await self._post([_notice(delivery, delivery.summary, now_ns)])
            return
        shown = self._firing.take(delivery.alert, delivery.recorded_ns)
        if shown is None:
            return
        if delivery.alert.state == "firing":
            self._repeat()
            await self._post([self._lasting(shown, now_ns)])
        else:
            await self._post([_over(shown, min(parse_rfc3339(delivery.alert.at), now_ns))])

    async def keep(self, firing: Sequence[Alert], as_of_ns: int) -> None:
        """As `Keeper.keep`."""
        missing, ended = self._firing.agree(firing, as_of_ns)
        if self._firing.alerts:
            self._repeat()
        now_ns = self._clock.wall_ns()
        await self._try([*(self._lasting(alert, now_ns) for alert in missing), *(_over(one, now_ns) for one in ended)])

    async def aclose(self) -> None:
        """As `Sender.aclose`. What fires goes on there for `hold_s`."""
        self._closed = True
        if self._repeating is not None:
            self._repeating.cancel()
            await asyncio.gather(self._repeating, return_exceptions=True)
        await self._poster.aclose()

    def _repeat(self) -> None:
        if self._repeating is None and not self._closed:
            self._repeating = asyncio.create_task(self._repeat_for_ever(), name=f"repeats to {self._name}")

    async def _repeat_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._repeat_s)
            now_ns = self._clock.wall_ns()
            await self._try([self._lasting(alert, now_ns) for alert in self._firing.alerts])

    async def _try(self, alerts: list[dict[str, Any]]) -> None:
        """Post what will be said again anyhow."""
        try:
            for first in range(0, len(alerts), _BATCH):
                await self._post(alerts[first : first + _BATCH])
        except NotDelivered as error:
            log.warning("%s was not told again of %d alerts: %s", self._name, len(alerts), error)

    async def _post(self, alerts: list[dict[str, Any]]) -> None:
        await self._poster.post(msgspec.json.encode(alerts), _HEADERS)

    def _lasting(self, alert: Alert, now_ns: int) -> dict[str, Any]:
        """`alert` as one that fires now. A camera whose clock is ahead must not begin it later than it ends."""
        began_ns = min(parse_rfc3339(alert.since), now_ns)
        return _described(alert) | {"startsAt": rfc3339(began_ns), "endsAt": rfc3339(now_ns + self._hold_ns)}


def make(name: str, config: SendConfig) -> AlertmanagerSender:
    """As `senders.make_sender`, for `alertmanager+http://` and `alertmanager+https://`."""
    if (fault := check(config)) is not None:
        raise UserError(fault)
    return AlertmanagerSender(name, config)


def check(config: SendConfig) -> str | None:
    """As `senders.check_receiver`, for `alertmanager+http://` and `alertmanager+https://`."""
    if config.secret is not None:
        return "Alertmanager takes no signed messages: leave `secret` out, or give `https://USER:PASSWORD@HOST`"
    url = urlsplit(config.url)
    if url.query or url.fragment:
        return "an address of Alertmanager ends with its path: write it like alertmanager+http://HOST:9093"
    return check_url(_endpoint(config.url), config)


def _endpoint(url: str) -> str:
    base = url[len(PREFIX) :].rstrip("/")
    return base if base.endswith(_API) else base + _API


def _over(alert: Alert, end_ns: int) -> dict[str, Any]:
    began_ns = min(parse_rfc3339(alert.since), end_ns)
    return _described(alert) | {"startsAt": rfc3339(began_ns), "endsAt": rfc3339(end_ns)}


def _described(alert: Alert) -> dict[str, Any]:
    """Labels are what Alertmanager knows an alert by, so nothing that changes while it fires may be among them."""
    labels = {"alertname": alert.rule, "rule": alert.rule, "stream": alert.stream, "severity": alert.severity}
    if alert.group:
        labels["group"] = alert.group
    delivery = Delivery(id="", receiver="", alert=alert, attempt=1, recorded_ns=0)
    annotations = {"summary": title(delivery), "description": body(delivery), "id": alert.id}
    described = {"labels": labels, "annotations": annotations}
    return described | ({"generatorURL": alert.link} if alert.link else {})


def _notice(delivery: Delivery, summary: Summary, now_ns: int) -> dict[str, Any]:
    """A summary as an alert that ends by itself."""
    return {
        "labels": {"alertname": "StreamerAlertsHeldBack", "severity": "warning", "id": delivery.id},
        "annotations": {"summary": title(delivery), "description": body(delivery)},
        "startsAt": rfc3339(min(summary.first_ns, now_ns)),
        "endsAt": rfc3339(now_ns + _NOTICE_NS),
    }
