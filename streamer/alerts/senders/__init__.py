"""Bringing alerts to receivers: webhooks, brokers, Alertmanager, and the services that apprise knows."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

from streamer.alertconfig import SendConfig
from streamer.alerts.records import Sender
from streamer.errors import UserError

_PACKAGE = "streamer.alerts.senders"
_SCHEMES = {
    "http": "webhook",
    "https": "webhook",
    "mqtt": "mqtt",
    "mqtts": "mqtt",
    "alertmanager+http": "alertmanager",
    "alertmanager+https": "alertmanager",
}
_OTHERS = "services"


class _Kind(Protocol):
    """What each module of a kind of receiver has."""

    def make(self, name: str, config: SendConfig) -> Sender:
        """As `make_sender`, for URLs of its schemes."""

    def check(self, config: SendConfig) -> str | None:
        """As `check_receiver`, for URLs of its schemes."""


def make_sender(name: str, config: SendConfig) -> Sender:
    """What delivers to the receiver `name`, by the scheme of its URL. Opens nothing before the first delivery.

    Raises:
        UserError: its entry can't be used, as `check_receiver` says; services are asked at the first delivery only.
    """
    return _kind(config).make(name, config)


def check_receiver(config: SendConfig) -> str | None:
    """What is wrong with a receiver's entry, with the remedy and without its secrets; None: nothing.

    Resolves no name and connects nowhere. Blocks for a second or two where apprise is asked, for nothing else.
    """
    try:
        return _kind(config).check(config)
    except UserError as error:
        return str(error)


def _kind(config: SendConfig) -> _Kind:
    # Each kind brings a library of its own, which is loaded where a receiver of that kind is configured.
    scheme = config.url.partition("://")[0].lower()
    return cast(_Kind, import_module(f"{_PACKAGE}.{_SCHEMES.get(scheme, _OTHERS)}"))
