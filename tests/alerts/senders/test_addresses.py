"""Where alerts may be sent, address by address, name by name."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.alerts.records import NotDelivered
from streamer.alerts.senders.addresses import Refused, check_host, connect, refusal, resolve

METADATA = ["169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254"]
NEVER = [*METADATA, "169.254.7.7", "fe80::1", "fe80::1%eth0", "224.0.0.251", "ff02::1", "metadata.google.internal"]
PRIVATE = [
    *[
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "2130706433",
        "017700000001",
        "0.0.0.0",
        "localhost",
        "a.localhost",
        "LOCALHOST.",
    ],
    *["10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.127.255.255", "192.0.2.1"],
    *["198.18.0.1", "203.0.113.9", "240.0.0.1", "255.255.255.255"],
    *["::1", "[::1]", "::", "fc00::1", "fd12::1", "fec0::1", "2001:db8::1", "100::1", "4000::1", "::127.0.0.1"],
]
PUBLIC = ["8.8.8.8", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1", "2606:4700::1111", "example.org"]


@pytest.mark.parametrize("host", NEVER)
@pytest.mark.parametrize("allow_private", [False, True])
def test_metadata_link_local_and_multicast_are_never_allowed(host: str, allow_private: bool) -> None:
    """Nothing is sent to a cloud's metadata service, whatever is configured."""
    text = check_host(host, allow_private=allow_private)
    assert text is not None and text.startswith(host)
    assert "allow_private" not in text


@pytest.mark.parametrize("host", PRIVATE)
def test_private_addresses_have_to_be_allowed(host: str) -> None:
    """This machine, private and reserved networks are refused in every notation, and can be allowed."""
    text = check_host(host, allow_private=False)
    assert text is not None and "`allow_private: true`" in text
    assert check_host(host, allow_private=True) is None


@pytest.mark.parametrize("host", PUBLIC)
def test_public_addresses_are_allowed(host: str) -> None:
    """The Internet, up to the edges of private networks, and names that are to be resolved."""
    assert check_host(host, allow_private=False) is None


def _inside(address: ipaddress.IPv4Address) -> list[ipaddress.IPv6Address]:
    """The IPv6 addresses that lead to one of IPv4: mapped, NAT64, and 6to4."""
    number = int(address)
    return [
        ipaddress.IPv6Address((0xFFFF << 32) | number),
        ipaddress.IPv6Address((0x64FF9B << 96) | number),
        ipaddress.IPv6Address((0x2002 << 112) | (number << 80) | 1),
    ]


@given(number=st.integers(0, 2**32 - 1), allow_private=st.booleans())
def test_ipv4_inside_ipv6_is_judged_as_what_it_leads_to(number: int, allow_private: bool) -> None:
    """Mapped, NAT64 and 6to4 addresses are refused exactly where the address in them is."""
    address = ipaddress.IPv4Address(number)
    expected = refusal(address, allow_private=allow_private)
    for wrapped in _inside(address):
        assert refusal(wrapped, allow_private=allow_private) == expected, wrapped


@pytest.mark.parametrize("allow_private", [False, True])
def test_metadata_behind_a_translator_of_ones_own_is_refused(allow_private: bool) -> None:
    """The prefix for local translators (RFC 8215) leads to metadata no more than any other."""
    address = ipaddress.ip_address("64:ff9b:1::a9fe:a9fe")
    assert refusal(address, allow_private=allow_private) is not None


def test_a_translator_of_ones_own_is_a_private_network() -> None:
    """Where addresses behind it lead is the network's own business, so they have to be allowed."""
    address = ipaddress.ip_address("64:ff9b:1::808:808")
    assert refusal(address, allow_private=False) is not None
    assert refusal(address, allow_private=True) is None


@given(number=st.integers(0, 2**128 - 1))
def test_no_ipv6_address_outside_the_internet_is_allowed(number: int) -> None:
    """Beside 2000::/3, only mapped and NAT64 addresses may be public."""
    address = ipaddress.IPv6Address(number)
    if refusal(address, allow_private=False) is None:
        assert (
            address in ipaddress.ip_network("2000::/3")
            or address in ipaddress.ip_network("64:ff9b::/96")
            or (address.ipv4_mapped is not None)
        )


Names = Callable[..., None]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Says what names lead to: `names(["8.8.8.8"], ["127.0.0.1"])` answers the first question so, the next ones so."""

    def answer(*answers: list[str]) -> None:
        waiting = list(answers)

        def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
            found = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            if not found:
                raise socket.gaierror(socket.EAI_NONAME, "no such name")
            families = [socket.AF_INET6 if ":" in one else socket.AF_INET for one in found]
            return [
                (family, socket.SOCK_STREAM, 6, "", (one, port)) for family, one in zip(families, found, strict=True)
            ]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return answer


async def test_only_the_allowed_addresses_of_a_name_are_given(names: Names) -> None:
    """Of a name with public and private addresses only the public ones may be connected to."""
    names(["10.0.0.1", "8.8.8.8", "::1", "169.254.169.254"])
    found = await resolve("hook.example", 443, allow_private=False)
    assert [(place.host, place.port) for place in found] == [("8.8.8.8", 443)]
    found = await resolve("hook.example", 443, allow_private=True)
    assert [place.host for place in found] == ["10.0.0.1", "8.8.8.8", "::1"]


async def test_a_name_that_leads_inwards_is_refused_and_may_be_tried_again(names: Names) -> None:
    """Names change, so a delivery waits rather than dies; the text says where the name led."""
    names(["192.168.1.1"])
    with pytest.raises(Refused, match=r"hook\.example leads to 192\.168\.1\.1, .*allow_private") as refused:
        await resolve("hook.example", 443, allow_private=False)
    assert refused.value.retry
    with pytest.raises(Refused):
        connect("hook.example", 443, allow_private=False)


async def test_an_address_that_may_not_be_sent_to_is_refused_for_good() -> None:
    """What stands in the configuration changes with the configuration only."""
    with pytest.raises(Refused) as refused:
        await resolve("127.0.0.1", 443, allow_private=False)
    assert not refused.value.retry


async def test_a_name_that_leads_nowhere_may_be_tried_again(names: Names) -> None:
    """No address, no delivery yet."""
    names([])
    with pytest.raises(NotDelivered, match=r"hook\.example leads to no address") as error:
        await resolve("hook.example", 443, allow_private=False)
    assert error.value.retry and not isinstance(error.value, Refused)


async def test_a_name_that_nobody_answers_for_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent server for names costs its time and no more."""
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(30))
    try:
        with pytest.raises(NotDelivered, match=r"hook\.example was not resolved within 0\.2 s") as error:
            await resolve("hook.example", 443, allow_private=False, timeout_s=0.2)
        assert error.value.retry
    finally:
        answered.set()


def test_a_socket_goes_to_the_address_that_was_checked(names: Names) -> None:
    """`connect` asks for a name once: an answer that comes later leads nowhere."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.2", 0)) as other:
        names(["127.0.0.1"], ["127.0.0.2"])
        with connect("hook.example", server.getsockname()[1], allow_private=True) as made:
            assert made.getpeername() == server.getsockname()
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()


def test_a_socket_nobody_takes_is_told_by_name(names: Names) -> None:
    """A refused connection says where and why, and may be tried again."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    names(["127.0.0.1"])
    with pytest.raises(NotDelivered, match=rf"hook\.example:{port} took no connection: Connection refused"):
        connect("hook.example", port, allow_private=True)
