"""`streamer alerts`: rules tried on the past, alerts listed, deliveries asked for again, snoozes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from streamer.alertconfig import OutboxConfig
from streamer.alerts.outbox.book import Book
from streamer.alerts.settings import outbox_path
from streamer.cli import main
from streamer.storage.store import Store
from tests.kept_alerts import FIRING, OTHER, OVER, fill
from tests.stored_alerts import barking
from tests.stores import Valkey, store_fixture, valkey_fixture

__all__ = ["store_fixture", "valkey_fixture"]

RULES = """
streams:
  door: {source: whip, group: front}
  yard: {source: whip}
alerts:
  - {name: bark, when: "label('Dog') > 0.5", cooldown: 0s}
  - {name: silence, when: "absent('Dog', '20s')", stream: "yard", cooldown: 0s}
  - {name: never, when: "label('Glass') > 0.6"}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with three alerts."""
    path = tmp_path / "alerts.db"
    fill(path)
    return path


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A configuration with three rules."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    return rules


def told(*arguments: str | Path) -> Result:
    """The command's outcome."""
    return CliRunner().invoke(main, ["alerts", *map(str, arguments)])


def dead_id(path: Path) -> str:
    """The id of the one delivery that was given up."""
    return str(json.loads(told("list", "--dead", "--outbox", path, "--json").output)["id"])


# -- the past


@pytest.fixture
async def stored(store: Store) -> None:
    """Two minutes of two streams: a dog barks on `yard` thrice, on `door` all the time."""
    await barking(store, "yard", seconds=120, every_s=40, lasts_s=10)
    await barking(store, "door", seconds=120, every_s=1, lasts_s=1)


async def test_rules_are_tried_on_the_past(stored: None, valkey: Valkey, rules: Path) -> None:
    """Each rule with how often it would have fired, a day and a stream, and with the first of its times."""
    result = await asyncio.to_thread(told, "test", rules, "--redis", valkey.url)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].startswith("480 segments of 2 streams, ")
    (bark,) = [line for line in lines if line.startswith("bark")]
    assert "4 times, " in bark and " a day, firing for " in bark
    assert next(line for line in lines if line.startswith("  yard")).split()[1:3] == ["3", "times,"]
    assert any("Dog 0.90" in line and "still firing" in line for line in lines)
    assert "never  never" in lines


async def test_a_trial_as_json(stored: None, valkey: Valkey, rules: Path) -> None:
    """One object with every figure; streams and rules that are named leave the others out."""
    arguments = (
        "test",
        rules,
        "--redis",
        valkey.url,
        "--json",
        "--stream",
        "y*",
        "--rule",
        "bark",
        "--rule",
        "silence",
    )
    result = await asyncio.to_thread(told, *arguments)
    report = json.loads(result.output)
    assert report["streams"] == ["yard"] and report["segments"] == 240
    assert {rule["name"]: rule["times"] for rule in report["rules"]} == {"bark": 3, "silence": 3}
    assert [alert["label"] for alert in report["rules"][0]["alerts"]] == ["Dog"] * 3
    assert report["rules"][0]["firing_s"] >= 30


async def test_an_empty_past_is_said(valkey: Valkey, rules: Path) -> None:
    """A store without segments is no fault."""
    result = await asyncio.to_thread(told, "test", rules, "--redis", valkey.url)
    assert result.exit_code == 0 and "holds no segments" in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "--redis"),
        (("--redis", "http://x"), 2, "redis://"),
        (("--redis", "unix:///nowhere/s"), 1, "nowhere"),
        (("--redis", "unix:///nowhere/s", "--rule", "brak"), 2, "did you mean bark?"),
        (("--since", "soon"), 2, "--since"),
        (("--since", "0s"), 2, "--since"),
    ],
)
def test_a_trial_that_can_not_be_is_told(rules: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    """One line with the remedy, and the exit code of a wrong input or of a failure."""
    result = told("test", rules, *arguments)
    assert result.exit_code == code and words in result.output and "Traceback" not in result.output


def test_a_wrong_rule_is_told_with_its_place(tmp_path: Path) -> None:
    """As `streamer check` does: file, line, column, what and what to do."""
    path = tmp_path / "rules.yaml"
    path.write_text("streams: {}\nalerts:\n  - {name: glass, when: \"label('Glas') > 0.6\"}\n")
    result = told("test", path, "--redis", "unix:///nowhere/s")
    assert result.exit_code == 2 and f"{path}:3:" in result.output and "Glass" in result.output
    path.write_text("streams: {}\n")
    assert "no rules" in told("test", path, "--redis", "unix:///nowhere/s").output


# -- what fired


def test_alerts_are_listed(path: Path) -> None:
    """The newest first, each with its deliveries, their ids and what the receiver said."""
    result = told("list", "--outbox", path)
    assert result.exit_code == 0, result.output
    heads = [line for line in result.output.splitlines() if not line.startswith(" ")]
    assert ["firing" in line for line in heads] == [True, False, False]
    assert [line.split()[3] for line in heads] == ["glass", "glass", "bark"]
    assert "ops  firing  not delivered, tried 3 times: ops answered 500" in result.output
    assert "chat  firing  quiet hours" in result.output
    ids = [json.loads(line)["alert"]["id"] for line in told("list", "--outbox", path, "--json").output.splitlines()]
    assert ids == [FIRING, OVER, OTHER]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(("--firing",), [FIRING]), (("--rule", "bark"), [OTHER]), (("--limit", "2"), [FIRING, OVER])],
)
def test_some_are_listed(path: Path, arguments: tuple[str, ...], expected: list[str]) -> None:
    """Those that fire, those of a rule, and not more than are asked for."""
    result = told("list", "--outbox", path, "--json", *arguments)
    assert [json.loads(line)["alert"]["id"] for line in result.output.splitlines()] == expected


def test_dead_letters_are_sent_again(path: Path) -> None:
    """Listed with their ids; by an id or all together they wait again, under the same id."""
    found = told("list", "--dead", "--outbox", path)
    assert "glass  door  ops" in found.output and "not delivered" in found.output
    name = dead_id(path)
    result = told("resend", name, "--outbox", path)
    assert result.exit_code == 0 and result.output.startswith("1 delivery will be sent again")
    book = Book.open(path, read_only=True)
    delivery = book.delivery(name)
    book.close()
    assert delivery is not None and delivery.state == "pending"
    assert "nothing was given up" in told("list", "--dead", "--outbox", path).output
    assert told("resend", "--all-dead", "--outbox", path).output == "nothing to send again\n"


def test_all_dead_letters_of_a_receiver_are_sent_again(path: Path) -> None:
    """Those of others are left alone."""
    name = dead_id(path)
    other = told("resend", "--all-dead", "--receiver", "chat", "--outbox", path, "--json")
    assert json.loads(other.output) == {"resent": []}
    result = told("resend", "--all-dead", "--receiver", "ops", "--rule", "glass", "--outbox", path, "--json")
    assert json.loads(result.output) == {"resent": [name]}


def test_a_rule_is_snoozed_and_woken(path: Path) -> None:
    """On some streams or on all; a snooze that is not there is told with those that are."""
    result = told("snooze", "glass", "--stream", "front-*", "--for", "2h", "--outbox", path)
    assert result.exit_code == 0 and "glass on front-*: nothing is sent until" in result.output
    assert told("snooze", "--all", "--for", "30m", "--outbox", path).exit_code == 0
    result = told("unsnooze", "glass", "--outbox", path)
    assert result.exit_code == 2 and "glass --stream front-*" in result.output and "--all" in result.output
    assert told("unsnooze", "glass", "--stream", "front-*", "--outbox", path).exit_code == 0
    assert told("unsnooze", "--all", "--outbox", path).exit_code == 0
    assert "in force: none" in told("unsnooze", "--all", "--outbox", path).output


def test_a_misspelt_rule_is_not_snoozed(path: Path, rules: Path) -> None:
    """The nearest is named; a rule that has not fired is known by its configuration."""
    result = told("snooze", "glas", "--for", "1h", "--outbox", path)
    assert result.exit_code == 2 and "did you mean glass?" in result.output
    assert told("snooze", "silence", "--for", "1h", "--outbox", path).exit_code == 2
    assert told("snooze", "silence", "--for", "1h", "--outbox", path, "--config", rules).exit_code == 0


def test_the_outbox_is_where_the_configuration_says(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the file's name, it is the configuration's, else the user's own."""
    config = tmp_path / "config.yaml"
    config.write_text(f"streams: {{}}\noutbox: {{path: {path}}}\n")
    assert FIRING in told("list", "--config", config, "--json").output
    monkeypatch.delenv("STREAMER_STATE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    fill(outbox_path(OutboxConfig()))
    assert FIRING in told("list", "--json").output
    assert list((tmp_path / "state" / "streamer").iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("list",), "no alerts were recorded there yet"),
        (("list", "--dead", "--firing"), "leave --firing"),
        (("resend",), "--all-dead"),
        (("resend", "msg_1", "--all-dead"), "--all-dead"),
        (("resend", "msg_1", "--receiver", "ops"), "go with --all-dead"),
        (("resend", "msg_1"), "no alerts were recorded there yet"),
        (("snooze", "--for", "1h"), "--all"),
        (("snooze", "glass", "--all", "--for", "1h"), "--all"),
        (("unsnooze", "glass"), "no alerts were recorded there yet"),
    ],
)
def test_wrong_words_are_told(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    """One clear line, exit code 2, and no file is made."""
    path = tmp_path / "none" / "alerts.db"
    result = told(*arguments, "--outbox", path)
    assert result.exit_code == 2 and words in result.output and "Traceback" not in result.output
    assert not path.parent.exists()


def test_an_unknown_delivery_is_told(path: Path) -> None:
    """Nothing is sent where one of several ids is wrong."""
    name = dead_id(path)
    result = told("resend", name, "msg_nothing", "--outbox", path)
    assert result.exit_code == 2 and "msg_nothing" in result.output
    assert dead_id(path) == name
