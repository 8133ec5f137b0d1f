"""Rules and receivers are checked when the configuration is: each mistake with its place, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streamer.commands.options import Options, configuration, problems
from streamer.errors import UserError
from streamer.labelnames import label_names


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "streamer.yaml"


def rule(entry: str) -> str:
    return f"streams: {{}}\nalerts:\n  - {{name: r, {entry}}}\nsend: {{ops: {{url: 'https://example.org/hook'}}}}\n"


@pytest.mark.parametrize(
    ("entry", "column", "words"),
    [
        ("when: \"label('Glas') > 0.6\"", 21, "did you mean Glass?"),
        ("when: \"status == 'ok' &&\"", 21, "too early"),
        ("when: \"absent('Glass', 'soon')\"", 21, "duration"),
        ('when: "true", clear_when: "coverage.vidio < 1"', 41, "did you mean video?"),
        ('when: "true", text: "{{ rul }}"', 35, "did you mean 'rule'?"),
        ("when: \"true\", quiet: [{from: '25:00', to: '7:00'}]", 44, "no time of day"),
        ("when: \"true\", quiet: [{from: '1:00', to: '7:00', zone: Europe/Berln}]", 70, "Europe/Berlin"),
        ('when: "true", send: [op]', 36, "not in the `send` section"),
    ],
)
def test_a_mistake_in_a_rule_is_told_with_its_place(file: Path, entry: str, column: int, words: str) -> None:
    """Line and column of the value that is wrong, what is, and the nearest name that is known."""
    file.write_text(rule(entry))
    (said,) = problems(file)
    assert said.startswith(f"{file}:3:{column}: ") and words in said


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("url: 'http://127.0.0.1/hook'", "allow_private"),
        ("url: 'tgramm://token/chat'", "tgram"),
        ("url: 'https://example.org/hook', quiet: [{from: '7', to: '8:00'}]", "no time of day"),
    ],
)
def test_a_receiver_that_cannot_be_used_is_told_with_its_place(file: Path, entry: str, words: str) -> None:
    """Also where no rule names it."""
    file.write_text(f"streams: {{}}\nsend:\n  ops: {{{entry}}}\n")
    (said,) = problems(file)
    assert said.startswith(f"{file}:3:") and words in said


def test_what_is_right_is_not_told(file: Path) -> None:
    """Every function and variable of rules, every kind of receiver."""
    file.write_text(
        """
streams: {}
alerts:
  - {name: a, when: "label('Glass') > 0.6 && share('Glass', 'audio') > 0.5", for: 1s, send: [ops, broker, manager]}
  - {name: b, when: "absent('Dog', '10m') || said('help')", clear_when: "people.count == 0", clear_for: 5s}
  - {name: c, when: "then(label('Glass') > 0.5, status == 'shed', '30s')", key: group, language: zh}
  - {name: d, when: "stream.startsWith('door') && coverage.video < 0.5", text: "{{ rule }} on {{ stream }}"}
send:
  ops: {url: "https://example.org/hook", secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
  broker: {url: "mqtts://user:pass@broker.example.org"}
  manager: {url: "alertmanager+https://alerts.example.org"}
  chat: {url: "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general"}
"""
    )
    assert problems(file) == []


def test_a_service_does_not_start_with_a_mistake_in_a_rule(file: Path) -> None:
    """The same is told there as `streamer check` tells."""
    file.write_text(rule("when: \"label('Glas') > 0.6\""))
    with pytest.raises(UserError, match="did you mean Glass"):
        configuration(Options(config=file))


def test_names_of_labels_are_those_that_are_served() -> None:
    """They are known without a model, and a rule may speak of each of them."""
    names = label_names()
    assert len(names) == len(set(names)) > 500 and {"Glass", "Dog"} <= set(names)


def test_a_configuration_without_alerts_loads_nothing_for_them() -> None:
    """Neither the language of rules nor what knows a hundred services."""
    code = (
        "import sys; from streamer.alertcheck import check_alerts; from streamer.config import Config;"
        "assert not list(check_alerts(Config())); print([name for name in ('cel', 'apprise') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
