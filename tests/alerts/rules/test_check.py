"""What is wrong with a rule is said with its place and what to do about it."""

from __future__ import annotations

import pytest

from streamer.alertconfig import AlertConfig, LimitConfig, QuietConfig
from streamer.alerts.rules.check import faults
from tests.alerts.feeding import S, rule

LABELS = ["Glass", "Dog", "Person"]


def said(config: AlertConfig) -> list[tuple[tuple[str | int, ...], str]]:
    return [(fault.path, fault.text) for fault in faults(config, LABELS)]


def test_a_rule_that_is_right_has_no_fault() -> None:
    """Every setting at once, none against another."""
    config = rule(
        "label('Glass') > 0.6",
        clear_when="label('Glass') < 0.3",
        stream="front-*",
        for_ns=S,
        clear_for_ns=S,
        key="group",
        quiet=[QuietConfig(begin="22:00", end="06:30", days=["sat", "sun"], zone="Europe/Berlin")],
        limit=LimitConfig(most=3),
        send=["ops", "phone"],
        send_cleared=True,
        snapshot=True,
        clip_ns=5 * S,
    )
    assert said(config) == []


@pytest.mark.parametrize("key", ["when", "clear_when"])
def test_a_condition_is_told_with_its_place(key: str) -> None:
    """A label that is none is told at its character, with the nearest one that there is."""
    condition = "stream == 'door' && label('Glas') > 0.5"
    config = rule(condition) if key == "when" else rule(clear_when=condition)
    ((path, text),) = said(config)
    assert path == (key,)
    assert f"character {condition.index(chr(39) + 'Glas') + 1}" in text
    assert "Glass" in text


def test_any_label_is_taken_where_they_are_not_known() -> None:
    """Without the names of labels none is refused."""
    assert list(faults(rule("label('Whatever') > 0.5"))) == []


@pytest.mark.parametrize(
    ("config", "path", "remedy"),
    [
        (rule(clip_ns=S), ("clip",), "snapshot: true"),
        (rule(snapshot=True, clip_ns=3600 * S), ("clip",), "at most"),
        (rule(clear_when=" label('Glass') > 0.6 "), ("clear_when",), "leave it out"),
        (rule(send_cleared=True), ("send_cleared",), "send"),
        (rule(limit=LimitConfig(most=1)), ("limit",), "send"),
        (rule(send=["ops", "phone", "ops"]), ("send", 2), "twice"),
        (rule(stream="Front door"), ("stream",), "a-z"),
        (rule(quiet=[QuietConfig(begin="22:00", end="6 am")]), ("quiet", 0, "to"), "22:30"),
    ],
)
def test_settings_that_contradict_are_told(config: AlertConfig, path: tuple[str | int, ...], remedy: str) -> None:
    """Each is told once, at its place, with what to do."""
    ((place, text),) = said(config)
    assert place == path
    assert remedy in text
