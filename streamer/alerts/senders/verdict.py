"""What an HTTP answer says of a delivery: it arrived, it may yet, or it never will."""

from __future__ import annotations

import email.utils
import re
from http import HTTPStatus

from streamer.alerts.records import NotDelivered
from streamer.clock import NS_PER_S

MAX_RETRY_AFTER_S = 3600.0
"""The longest pause that a receiver can ask for."""

# The message itself was refused, and will be again. All the rest (a login that is wrong, a page that is not there, a
# redirect) can be put right in the receiver or in the configuration while it is retried.
_REFUSED = frozenset({400, 406, 411, 413, 414, 415, 417, 422, 431})
_GONE = 410
_ASKS_FOR_PAUSE = frozenset({429, 503})


def judge(status: int, place: str, after_s: float | None) -> NotDelivered | None:
    """What an answer's status means for a delivery to `place`; None: it has arrived (2xx).

    Retried is whatever a person may put right in the receiver or in the configuration; not retried is what refuses this
    very message, and 410 (Standard Webhooks: the receiver wants no more).
    """
    if 200 <= status < 300:
        return None
    said = f"{place} answered {status}{_phrase(status)}"
    if status == _GONE:
        return NotDelivered(f"{said}: it wants no more deliveries", retry=False)
    if status in _REFUSED:
        return NotDelivered(f"{said}: it refuses this message", retry=False)
    if 300 <= status < 400:
        return NotDelivered(f"{said}, and redirects are not followed: give its final address in `send`")
    return NotDelivered(said, after_s=after_s if status in _ASKS_FOR_PAUSE else None)


def retry_after_s(text: str, wall_ns: int) -> float | None:
    """Seconds that a Retry-After header (RFC 9110, 10.2.3) asks to wait at `wall_ns`, at most an hour; None: nothing
    that can be read."""
    if re.fullmatch(r"\s*[0-9]{1,18}\s*", text):
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        until = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(until.timestamp() - wall_ns / NS_PER_S, 0.0), MAX_RETRY_AFTER_S)


def _phrase(status: int) -> str:
    """Our own words for a status: the receiver's could be anything."""
    try:
        return f" ({HTTPStatus(status).phrase})"
    except ValueError:
        return ""
