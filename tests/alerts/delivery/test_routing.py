"""To whom alerts go: as the rule says, but for the hour, a snooze, and those that must hear of the end."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from streamer.alertconfig import AlertConfig, LimitConfig, QuietConfig, SendConfig
from streamer.alerts.delivery.routing import deliveries, limit_of
from streamer.alerts.outbox.rows import Snooze
from streamer.alerts.records import Fired
from streamer.clock import NS_PER_S

NOON_NS = 1_795_435_200 * 1_000_000_000  # 2026-11-23 12:00 UTC, a Monday
NIGHT = QuietConfig(begin="22:00", end="06:00")
LUNCH = QuietConfig(begin="11:30", end="13:00")
SEND = {
    "ops": SendConfig(url="https://example.org/hook"),
    "broker": SendConfig(url="mqtt://10.0.0.2"),
    "manager": SendConfig(url="alertmanager+http://10.0.0.3"),
}
RULE = AlertConfig(name="glass", when="true", send=["ops", "broker", "manager"])
FIRED = Fired("0" * 16, "glass", "door", "door", None, "firing", "warning", NOON_NS, NOON_NS)
CLEARED = Fired("0" * 16, "glass", "door", "door", None, "cleared", "warning", NOON_NS, NOON_NS)


def states(fired: Fired, rule: AlertConfig, *snoozes: Snooze) -> dict[str, str]:
    return dict(deliveries(fired, rule, SEND, snoozes, NOON_NS))


def test_every_receiver_gets_it_once() -> None:
    """A name that stands twice is one receiver; one that is not configured any more is none."""
    rule = replace(RULE, send=["ops", "ops", "gone"])
    assert deliveries(FIRED, rule, SEND, (), NOON_NS) == (("ops", "pending"),)


@pytest.mark.parametrize(("send_cleared", "expected"), [(False, {"broker", "manager"}), (True, set(SEND))])
def test_the_end_is_told_where_asked_and_where_it_would_last(send_cleared: bool, expected: set[str]) -> None:
    """A broker and Alertmanager would show an alert for ever without its end."""
    assert set(states(CLEARED, replace(RULE, send_cleared=send_cleared))) == expected


def test_in_quiet_hours_nothing_is_sent_but_ends_of_what_lasts() -> None:
    """Hours of the rule hold for all its receivers, and hours at night mean nothing at noon."""
    assert set(states(FIRED, replace(RULE, quiet=[NIGHT, LUNCH])).values()) == {"quiet"}
    assert set(states(FIRED, replace(RULE, quiet=[NIGHT])).values()) == {"pending"}
    quiet = replace(RULE, quiet=[LUNCH], send_cleared=True)
    assert states(CLEARED, quiet) == {"ops": "quiet", "broker": "pending", "manager": "pending"}


def test_hours_of_a_receiver_are_its_own() -> None:
    """The others get it at once."""
    send = SEND | {"ops": replace(SEND["ops"], quiet=[LUNCH])}
    assert dict(deliveries(FIRED, RULE, send, (), NOON_NS)) == {
        "ops": "quiet",
        "broker": "pending",
        "manager": "pending",
    }


def test_a_snooze_covers_its_rule_and_streams_until_it_ends() -> None:
    """What is snoozed is recorded so, and told apart from what is quiet."""
    later = NOON_NS + 1
    assert set(states(FIRED, RULE, Snooze("glass", "do*", later)).values()) == {"snoozed"}
    assert set(states(FIRED, RULE, Snooze("glass", "lobby", later)).values()) == {"pending"}
    assert set(states(FIRED, RULE, Snooze(None, None, NOON_NS)).values()) == {"pending"}
    assert set(states(FIRED, replace(RULE, quiet=[LUNCH]), Snooze(None, None, later)).values()) == {"snoozed"}


def test_what_a_receiver_gets_at_most() -> None:
    """Six a minute unless it says otherwise or says none; who shows a state has a limit only where it says so."""
    few = LimitConfig(most=2)
    assert limit_of(SendConfig(url="https://example.org/hook")) == LimitConfig(most=6, per_ns=60 * NS_PER_S)
    assert limit_of(SendConfig(url="https://example.org/hook", limit=None)) is None
    assert limit_of(SendConfig(url="mqtts://example.org")) is None
    assert limit_of(SendConfig(url="mqtts://example.org", limit=few)) == few
