"""What answers of receivers mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.alerts.senders.verdict import MAX_RETRY_AFTER_S, judge, retry_after_s
from streamer.clock import NS_PER_S, parse_rfc3339

NOW_NS = parse_rfc3339("2026-11-23T12:00:00Z")


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_success_is_delivered(status: int) -> None:
    """Every 2xx says that the receiver has it."""
    assert judge(status, "hook.example", 5.0) is None


@pytest.mark.parametrize("status", [400, 410, 413, 415, 422])
def test_what_refuses_this_message_is_not_retried(status: int) -> None:
    """The same message would be refused again; 410 wants no more at all."""
    verdict = judge(status, "hook.example", None)
    assert verdict is not None and not verdict.retry
    assert f"hook.example answered {status} (" in str(verdict)


@pytest.mark.parametrize(
    "status", [301, 302, 307, 401, 403, 404, 405, 408, 409, 425, 429, 500, 502, 503, 504, 599, 999]
)
def test_what_can_be_put_right_is_retried(status: int) -> None:
    """Logins, pages that are missing, redirects and servers that fail may be better by the next try."""
    verdict = judge(status, "hook.example", None)
    assert verdict is not None and verdict.retry


@pytest.mark.parametrize(("status", "after_s"), [(429, 7.0), (503, 7.0), (500, None), (302, None)])
def test_a_pause_is_taken_from_those_that_may_ask_for_one(status: int, after_s: float | None) -> None:
    """Retry-After counts with 429 and 503."""
    verdict = judge(status, "hook.example", 7.0)
    assert verdict is not None and verdict.after_s == after_s


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 5 ", 5.0),
        ("86400", MAX_RETRY_AFTER_S),
        ("999999999999999999", MAX_RETRY_AFTER_S),
        ("Mon, 23 Nov 2026 12:00:30 GMT", 30.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
        ("Tue, 23 Nov 2027 12:00:00 GMT", MAX_RETRY_AFTER_S),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("1e3", None),
        ("Mon, 99 Nov 2026 12:00:00 GMT", None),
    ],
)
def test_pauses_are_read_in_both_forms_and_bounded(text: str, expected: float | None) -> None:
    """Seconds or an HTTP date, an hour at most; what can't be read asks for nothing."""
    assert retry_after_s(text, NOW_NS) == expected


@given(st.text(max_size=60), st.integers(0, 4_000_000_000))
def test_no_header_breaks_it(text: str, now_s: int) -> None:
    """Whatever a receiver writes there, it is a pause within bounds or none."""
    pause = retry_after_s(text, now_s * NS_PER_S)
    assert pause is None or 0.0 <= pause <= MAX_RETRY_AFTER_S
