"""The process that tells one service by apprise: reads what to tell from standard input, and ends with it.

    python -m streamer.alerts.senders.service_child

It connects only where alerts may be sent, whatever the libraries under apprise would do: each connection is judged by
the very address that it goes to, when it is made.
"""

from __future__ import annotations

import difflib
import errno
import ipaddress
import logging
import os
import re
import resource
import signal
import sys
from math import ceil
from typing import Any, BinaryIO

import apprise
import msgspec
from apprise.manager_plugins import NotificationManager

from streamer.alerts.senders.addresses import check_host, literal, refusal
from streamer.alerts.senders.service_talk import Opening, Telling, Told
from streamer.alerts.senders.verdict import judge

# An endless answer is read into memory by most of apprise's services: it breaks off here.
_MAX_MEMORY = 512 * 1024 * 1024
# Who started us kills us when the time is up; this is for when it was killed itself.
_GRACE_S = 5
_STATUS = re.compile(r"\berror=(\d{3})\b")
_CONNECTING = {"socket.connect", "socket.sendto", "socket.sendmsg"}


class Guard:
    """An audit hook (PEP 578) that refuses connections to where nothing may be sent. `refused`: what it said last."""

    def __init__(self, allow_private: bool) -> None:
        self._allow_private = allow_private
        self.refused: str | None = None

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CONNECTING and (why := self._judged(arguments[1])) is not None:
            self.refused = why
            raise PermissionError(errno.EACCES, why)

    def _judged(self, address: object) -> str | None:
        if address is None:  # sendmsg on a socket that is connected: it was judged then
            return None
        if not isinstance(address, tuple) or not isinstance(address[0], str):
            return None if self._allow_private else "a socket of this machine itself, which is refused"
        host = address[0]
        found = literal(host)
        if found is None:
            # The system would resolve it after we had looked, and could find something else.
            return f"{host} would be connected to by name, unchecked, which is refused: give its address"
        why = refusal(found, allow_private=self._allow_private)
        return None if why is None else f"its address {host} {why}"


class Account(logging.Handler):
    """What apprise logs of a failure, reduced to the status of an answer: its texts may hold tokens."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.status: int | None = None

    def emit(self, record: logging.LogRecord) -> None:
        found = _STATUS.search(record.getMessage())
        if found is not None:
            self.status = int(found[1])


class Service:
    """One service of apprise, as its URL names it."""

    def __init__(self, opening: Opening, guard: Guard) -> None:
        """Raises ValueError, its text for people, where the URL can't be used."""
        self._guard = guard
        self._account = Account()
        logger = logging.getLogger("apprise")
        logger.addHandler(self._account)
        logger.propagate = False
        asset = apprise.AppriseAsset(http_redirects=False, async_mode=False, secure_logging=True)
        self._plugin = _plugin(opening.url, asset)
        for host in (getattr(self._plugin, "host", None), getattr(self._plugin, "smtp_host", None)):
            if isinstance(host, str) and (why := _check_host(host, opening.allow_private)) is not None:
                raise ValueError(why)
        # Also where the URL asks for redirects.
        self._plugin.redirects = False
        self._name = str(self._plugin.service_name)
        self._service = apprise.Apprise(asset=asset)
        self._service.add(self._plugin)

    def tell(self, telling: Telling) -> Told:
        """Tell it, and say how that went."""
        self._guard.refused = self._account.status = None
        try:
            done = self._service.notify(
                body=telling.body,
                title=telling.title,
                notify_type=apprise.NotifyType(telling.kind),
                body_format=apprise.NotifyFormat.TEXT,
            )
        except Exception as error:  # noqa: BLE001
            # A hundred services with as many libraries raise whatever they like. It is told to whoever asked, and the
            # alert is tried again; their texts may hold tokens, so it is told by its kind.
            return Told(f"{self._name} could not be told ({type(error).__name__})")
        if done:
            return Told()
        if self._guard.refused is not None:
            return Told(f"{self._name}: {self._guard.refused}")
        if self._account.status is not None:
            verdict = judge(self._account.status, self._name, None)
            if verdict is not None:
                return Told(str(verdict), verdict.retry)
        return Told(f"{self._name} could not be told: it was not reached, broke off, or refused")


def _check_host(host: str, allow_private: bool) -> str | None:
    """`check_host` for what is surely a host: of many services that part of the URL is a token."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if host.lower() != "localhost":
            return None
    return check_host(host, allow_private=allow_private)


def _plugin(url: str, asset: apprise.AppriseAsset) -> Any:
    scheme = url.partition("://")[0].lower()
    known: Any = NotificationManager()  # type: ignore[no-untyped-call]
    if scheme not in known:
        near = difflib.get_close_matches(scheme, ["https", "mqtt", "alertmanager+http", *known.schemas()], 3)
        nearest = f", the nearest are {', '.join(near)}" if near else ""
        raise ValueError(f"no service has the scheme {scheme[:40]}://{nearest} (https://appriseit.com/services/)")
    kind = known[scheme]
    if not kind.enabled:
        raise ValueError(f"{kind.service_name} needs a library that is not installed, see {kind.setup_url}")
    plugin = apprise.Apprise.instantiate(url, asset=asset)
    if plugin is None:
        raise ValueError(f"{kind.service_name} can't be told with this URL: see how it is written at {kind.setup_url}")
    return plugin


def _serve(orders: BinaryIO, answers: BinaryIO) -> None:
    def answer(told: Told) -> None:
        answers.write(msgspec.json.encode(told) + b"\n")
        answers.flush()

    opening = msgspec.json.decode(orders.readline(), type=Opening)
    guard = Guard(opening.allow_private)
    sys.addaudithook(guard)
    try:
        service = Service(opening, guard)
    except ValueError as error:
        answer(Told(str(error)))
        return
    answer(Told())
    resource.setrlimit(resource.RLIMIT_DATA, (_MAX_MEMORY, _MAX_MEMORY))
    for line in orders:
        signal.alarm(ceil(opening.timeout_s) + _GRACE_S)
        answer(service.tell(msgspec.json.decode(line, type=Telling)))
        signal.alarm(0)


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    # Whatever a library prints must not be taken for an answer.
    os.dup2(2, 1)
    # A proxy would connect to addresses that nobody checked, and .netrc holds passwords of other places.
    os.environ.update(no_proxy="*", NO_PROXY="*", NETRC=os.devnull)
    _serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
