"""Where alerts may be sent: never to a cloud's metadata, to private networks only where that is allowed.

A name is resolved once for a connection, what it leads to is checked, and the connection goes to exactly that address:
a name whose answer changes between the check and the connection gains nothing by it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from streamer.alerts.records import NotDelivered
from streamer.config import is_forbidden_host

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_REMEDY = "which is refused: set `allow_private: true` for this receiver if it is meant"
_NEVER = "which nothing may be sent to: give another"
# Prefixes of translators to IPv4, whose last four bytes are where it leads: the well-known one (RFC 6052), and the one
# for networks of one's own (RFC 8215).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
# All that is routed on the Internet today (RFC 4291 and IANA's registry).
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")

# Threads of their own: a server for names that is silent holds one for half a minute, and must not hold up those who
# wait for the disk.
_askers = ThreadPoolExecutor(32, thread_name_prefix="resolve")


@dataclass(frozen=True, slots=True)
class Place:
    """An address that was checked, as `socket` takes it."""

    family: int
    protocol: int
    host: str
    port: int


class Refused(NotDelivered):
    """The address, or every address that a name leads to, is one to which nothing may be sent."""


def refusal(address: Address, *, allow_private: bool) -> str | None:
    """Why nothing may be sent to `address`, with the remedy (`is a private address, ...`); None where it may.

    Addresses of IPv4 inside those of IPv6 (mapped, NAT64, 6to4) are judged as what they lead to. Link-local addresses
    are never allowed: clouds serve their secrets at more of them than a list could hold.
    """
    inner = _embedded(address)
    if is_forbidden_host(str(address)) or is_forbidden_host(str(inner)):
        return f"is link-local, multicast or a cloud's metadata service, {_NEVER}"
    if allow_private:
        return None
    if address in _LOCAL_NAT64:
        inner = address
    if inner.is_loopback or inner.is_unspecified:
        return f"is this machine itself, {_REMEDY}"
    return None if _is_public(inner) else f"is an address of a private or reserved network, {_REMEDY}"


def _embedded(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64 or address in _LOCAL_NAT64:
        return ipaddress.IPv4Address(address.packed[12:])
    return address.ipv4_mapped or address.sixtofour or address


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def literal(host: str) -> Address | None:
    """The address that `host` is, in any notation that resolvers take (`127.1`, `0x7f000001`, `[::1]`); None: a
    name."""
    host = host.strip("[]").partition("%")[0]
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def check_host(host: str, *, allow_private: bool) -> str | None:
    """What is wrong with a host as it stands in a URL, with the remedy; names are not resolved (that is done when
    something is sent). None: nothing, as far as can be told by now."""
    address = literal(host)
    if address is not None:
        why = refusal(address, allow_private=allow_private)
    elif is_forbidden_host(host):
        why = f"is a cloud's metadata service, {_NEVER}"
    elif not allow_private and _is_this_machine(host):
        why = f"is this machine itself, {_REMEDY}"
    else:
        why = None
    return None if why is None else f"{host} {why}"


def _is_this_machine(host: str) -> bool:
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")


async def resolve(
    host: str, port: int, *, allow_private: bool, timeout_s: float = 5.0, family: int = socket.AF_UNSPEC
) -> list[Place]:
    """The addresses of `host` (a name or an address) that may be sent to: connect to these and resolve no more.

    Raises:
        Refused: it has addresses, and to none of them may be sent. Worth another try where a name led there.
        NotDelivered: the name leads nowhere, or nobody answered within `timeout_s`.
    """
    if (why := check_host(host, allow_private=allow_private)) is not None:
        raise Refused(why, retry=False)
    try:
        async with asyncio.timeout(timeout_s):
            ask = partial(socket.getaddrinfo, host.strip("[]"), port, family=family, type=socket.SOCK_STREAM)
            found = await asyncio.get_running_loop().run_in_executor(_askers, ask)
    except TimeoutError:
        raise NotDelivered(f"the name {host} was not resolved within {timeout_s:g} s") from None
    except (OSError, UnicodeError):
        raise NotDelivered(f"the name {host} leads to no address") from None
    return _permitted(host, found, allow_private)


def _permitted(host: str, found: Iterable[Any], allow_private: bool) -> list[Place]:
    """What may be sent to of an answer of `getaddrinfo`; Refused where that is nothing."""
    allowed: list[Place] = []
    why: str | None = None
    for family, _, protocol, _, address in found:
        refused = refusal(ipaddress.ip_address(address[0].partition("%")[0]), allow_private=allow_private)
        if refused is not None:
            why = f"{host} leads to {address[0]}, which {refused}"
            continue
        allowed.append(Place(family, protocol, address[0], address[1]))
    if not allowed:
        # Names change (a captive network answers for everybody until somebody has logged in), so it is worth a retry.
        raise Refused(why or f"the name {host} leads to no address")
    return allowed


def connect(host: str, port: int, *, allow_private: bool, timeout_s: float = 5.0) -> socket.socket:
    """A TCP connection to `host`, at an address that was checked; for libraries that want a socket. It has `timeout_s`
    as its own timeout. Blocks: use a thread.

    Raises:
        Refused, NotDelivered: as `resolve`, and where no address took the connection.
    """
    if (why := check_host(host, allow_private=allow_private)) is not None:
        raise Refused(why, retry=False)
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise NotDelivered(f"the name {host} leads to no address") from None
    said = ""
    for place in _permitted(host, found, allow_private):
        made = socket.socket(place.family, socket.SOCK_STREAM, place.protocol)
        made.settimeout(timeout_s)
        try:
            made.connect((place.host, place.port))
            return made
        except OSError as error:
            made.close()
            said = error.strerror or "no answer in time"
    raise NotDelivered(f"{host}:{port} took no connection: {said}")
