"""Who may subscribe, and with what query: decided on a request's parts alone. Pure."""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from streamer.hub.filters import Wanted, parse_query

PATH = "/v1/subscribe"
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP error for a request: status, what is wrong and what to do about it, and further header fields."""

    status: int
    detail: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """The parts of a request that count; absent header fields are None."""

    target: str
    host: str | None = None
    upgrade: str | None = None
    origin: str | None = None
    authorization: str | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """Which web origins may subscribe (`*`: any; and pages at `page_port` of the same address), with what tokens."""

    origins: frozenset[str] = frozenset()
    page_port: int | None = None
    tokens: tuple[str, ...] = ()

    def judge(self, asked: Asked) -> Wanted | Refusal:
        """What the request wants, or why it is refused. No token and no query is ever part of a refusal's text, but for
        the parameter that is wrong."""
        parts = urlsplit(asked.target)
        if parts.path != PATH:
            return Refusal(404, f"there is nothing at {parts.path[:128]}: subscribe at {PATH}")
        if (asked.upgrade or "").lower() != "websocket":
            return Refusal(426, f"{PATH} speaks websocket only", {"Upgrade": "websocket"})
        if asked.origin is not None and not self._origin_allowed(asked.origin, asked.host or ""):
            return Refusal(403, "pages of this origin may not subscribe: add it to allowed_origins")
        try:
            wanted = parse_query(parts.query)
        except ValueError as error:
            return Refusal(400, str(error))
        if not self._token_allowed(asked.authorization, wanted.token):
            return Refusal(401, "a token is needed: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
        return wanted

    def _origin_allowed(self, origin: str, host: str) -> bool:
        if "*" in self.origins or origin in self.origins:
            return True
        if self.page_port is None:
            return False
        # The service's own page under whatever address it was opened. Only numeric addresses and localhost: a name
        # could have been pointed at this machine by whoever owns a hostile page.
        try:
            page, asked = urlsplit(origin), urlsplit(f"//{host}")
            port = page.port or (443 if page.scheme == "https" else 80)
        except ValueError:
            return False
        host_of_page, host_asked = page.hostname or "", asked.hostname or ""
        same = host_of_page == host_asked or {host_of_page, host_asked} <= _LOOPBACK
        return same and port == self.page_port and _is_address(host_of_page)

    def _token_allowed(self, authorization: str | None, in_query: str | None) -> bool:
        if not self.tokens:
            return True
        scheme, _, credential = (authorization or "").partition(" ")
        shown = credential.strip() if scheme.lower() == "bearer" else in_query or ""
        # All are compared, so that the time it takes does not tell which came close.
        matches = [hmac.compare_digest(shown.encode(), token.encode()) for token in self.tokens]
        return any(matches)


def _is_address(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
