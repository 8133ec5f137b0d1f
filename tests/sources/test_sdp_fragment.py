"""Trickled candidates: what is taken, what is left out, what is refused."""

from __future__ import annotations

import pytest

from streamer.errors import UserError
from streamer.sources.sdp_fragment import parse_fragment

OFFER = "v=0\r\na=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"
# RFC 8840 section 9.2, shortened.
FRAGMENT = (
    "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n"
    "a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n"
    "a=candidate:3471623853 1 udp 2122194687 2001:db8::1 61765 typ host generation 0\r\n"
    "a=candidate:473322822 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active\r\n"
    "a=candidate:2154773085 1 udp 2122262783 9b36eaac-bb2e-49bb-bb78-21c41c499900.local 49203 typ host\r\n"
    "a=candidate:393455558 2 udp 2122260223 192.0.2.1 61766 typ host\r\n"
    "a=end-of-candidates\r\n"
)


def test_candidates_that_can_be_used_are_taken() -> None:
    """UDP addresses of both families; not TCP, names of mDNS, or a second component."""
    trickle = parse_fragment(FRAGMENT, OFFER)
    assert [text.split()[4] for text in trickle.candidates] == ["192.0.2.1", "2001:db8::1"]
    assert trickle.is_last


def test_a_fragment_may_have_no_candidate() -> None:
    """An end alone is one, and so is nothing."""
    assert parse_fragment("a=end-of-candidates\n", OFFER).is_last
    assert parse_fragment("", OFFER).candidates == ()


@pytest.mark.parametrize(
    ("fragment", "said"),
    [
        (FRAGMENT.replace("ufrag:EsAw", "ufrag:Else"), "restart"),
        ("a=candidate:nonsense\r\n", "candidate"),
        ("<html>", "no SDP fragment"),
        ("a=x\r\n" * 10_000, "characters"),
        ("".join(f"a=candidate:1 1 udp 1 192.0.2.1 {port} typ host\r\n" for port in range(1, 60)), "candidates"),
    ],
)
def test_what_can_not_be_used_is_refused(fragment: str, said: str) -> None:
    """An ICE restart, candidates that are none, another format, too much: each is said."""
    with pytest.raises(UserError, match=said):
        parse_fragment(fragment, OFFER)
