"""Candidates that a publisher sends after its offer: `application/trickle-ice-sdpfrag` (RFC 8840 section 9). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from streamer.errors import UserError

_MOST_CHARACTERS = 16_384
_MOST_CANDIDATES = 50
_CANDIDATE = re.compile(
    r"(?P<foundation>[A-Za-z0-9+/]{1,32}) (?P<component>\d{1,3}) (?P<transport>\S+) (?P<priority>\d{1,10})"
    r" (?P<address>\S+) (?P<port>\d{1,5}) typ (?P<type>host|srflx|prflx|relay)( .*)?"
)


@dataclass(frozen=True, slots=True)
class Trickle:
    """What one fragment says: candidates in SDP's words, and whether there will be no more."""

    candidates: tuple[str, ...]
    is_last: bool


def parse_fragment(fragment: str, offer: str) -> Trickle:
    """Read `fragment`, of the session that began with `offer`.

    Candidates that can't be used are left out: TCP's, because media come over UDP, and names, mDNS's `.local` among
    them, because a lookup must not hold anything up; the publisher is found by its own checks then (RFC 8445 section
    7.3.1.3).

    Raises:
        UserError: it is no such fragment, or asks for an ICE restart.
    """
    lines = fragment.replace("\r\n", "\n").split("\n")
    if len(fragment) > _MOST_CHARACTERS:
        raise UserError(f"the SDP fragment has over {_MOST_CHARACTERS} characters; send the candidates in several")
    known = set(re.findall(r"(?m)^a=ice-ufrag:(\S+)", offer))
    candidates: list[str] = []
    is_last = False
    for line in lines:
        if line and not re.match(r"[a-z]=", line):
            raise UserError("the body is no SDP fragment (RFC 8840): every line begins with a letter and =")
        name, _, value = line[2:].partition(":")
        if line[:2] != "a=":
            continue
        if name == "ice-ufrag" and value.strip() not in known:
            raise UserError("ICE restarts are not supported: end the session and publish anew")
        if name == "candidate":
            candidates += usable_candidate(value)
        is_last = is_last or name == "end-of-candidates"
    if len(candidates) > _MOST_CANDIDATES:
        raise UserError(f"the SDP fragment has over {_MOST_CANDIDATES} candidates; leave some out")
    return Trickle(tuple(candidates), is_last)


def usable_candidate(value: str) -> list[str]:
    """`value` in a list where it is a candidate that can be used, else none.

    Raises:
        UserError: it is no candidate.
    """
    found = _CANDIDATE.fullmatch(value.strip())
    if found is None:
        raise UserError("a candidate in the SDP can't be read (RFC 8839 section 5.1)")
    is_address = re.fullmatch(r"[0-9.]+|[0-9A-Fa-f:]+", found["address"]) is not None
    port_is_one = 0 < int(found["port"]) < 65_536
    is_udp = found["transport"].lower() == "udp" and found["component"] == "1"
    return [value.strip()] if is_address and port_is_one and is_udp else []
