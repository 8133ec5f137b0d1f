"""Alertmanager: against a real one."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from streamer.alertconfig import SendConfig
from streamer.alerts.records import NotDelivered, Summary
from streamer.alerts.senders.alertmanager import AlertmanagerSender, check, make
from streamer.alerts.senders.keeping import Keeper
from streamer.clock import NS_PER_S, parse_rfc3339
from streamer.errors import UserError
from tests.alerts.senders.real_servers import RealServer, alert, alertmanager, delivery
from tests.conftest import eventually

Make = Callable[..., AlertmanagerSender]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RealServer]:
    """One that would end alerts of its own accord after a second."""
    server = alertmanager(tmp_path, resolve_timeout="1s")
    server.start()
    yield server
    server.kill()


@pytest_asyncio.fixture
async def sender_to() -> AsyncIterator[Make]:
    """Makes senders, which are closed with the test."""
    made: list[AlertmanagerSender] = []

    def sender(server: RealServer, **more: Any) -> AlertmanagerSender:
        made.append(AlertmanagerSender("ops", _config(server), **more))
        return made[-1]

    yield sender
    for one in made:
        await one.aclose()


def _config(server: RealServer) -> SendConfig:
    return SendConfig(url=f"alertmanager+http://127.0.0.1:{server.port}", allow_private=True)


def _active(server: RealServer) -> list[dict[str, Any]]:
    """What Alertmanager takes to be firing."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/api/v2/alerts?active=true", timeout=5) as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return found


async def test_an_alert_fires_and_is_over(server: RealServer, sender_to: Make) -> None:
    """A firing alert is active at Alertmanager with its labels and texts, lasts longer than Alertmanager's own
    `resolve_timeout`, and is over as soon as it was cleared."""
    sender = sender_to(server)
    await sender.send(delivery(alert()))
    (shown,) = _active(server)
    assert shown["labels"] == {
        "alertname": "glass",
        "rule": "glass",
        "stream": "door",
        "group": "ground-floor",
        "severity": "warning",
    }
    assert shown["annotations"]["summary"] == "[warning] glass on door"
    assert "Glass 91%" in shown["annotations"]["description"]
    assert shown["startsAt"] == "2026-11-23T04:07:01.000Z"
    assert shown["generatorURL"] == alert().link
    assert parse_rfc3339(shown["endsAt"]) > time.time_ns() + 300 * NS_PER_S
    await sender.send(delivery(alert("cleared", at="09.000")))
    assert _active(server) == []


async def test_repeats_keep_an_alert_alive(server: RealServer, sender_to: Make) -> None:
    """An alert whose hold would have ended is there still, because it was said again; an Alertmanager that was killed
    and remembers nothing hears of it too; and it ends by itself where nobody repeats it."""
    sender = sender_to(server, repeat_s=0.2, hold_s=1.5)
    await sender.send(delivery(alert()))
    first_end = parse_rfc3339(_active(server)[0]["endsAt"])
    await eventually(lambda: time.time_ns() > first_end, what="the end of the first hold")
    await eventually(lambda: _active(server), what="it is held further")
    server.kill()
    server.start()
    await eventually(lambda: _active(server), what="it is told again")
    await sender.aclose()
    await eventually(lambda: not _active(server), what="the hold of the last repeat is over")


async def test_a_restart_of_ours_is_made_good(server: RealServer, sender_to: Make) -> None:
    """A new sender is told what fires still and goes on repeating that; what is over is not kept alive."""
    before = sender_to(server)
    assert isinstance(before, Keeper)
    await before.send(delivery(alert(id="lasts", rule="lasts")))
    await before.send(delivery(alert(id="ends", rule="ends")))
    await before.aclose()
    after = sender_to(server, repeat_s=0.2)
    await after.keep([alert(id="lasts", rule="lasts")], time.time_ns())
    server.kill()
    server.start()
    await eventually(lambda: _active(server), what="it is told again")
    assert [shown["labels"]["rule"] for shown in _active(server)] == ["lasts"]


async def test_what_the_outbox_knows_to_be_over_is_ended(server: RealServer, sender_to: Make) -> None:
    """An alert whose end never came as a delivery is ended when the whole truth does not have it; one that was recorded
    after that truth was written down stays."""
    sender = sender_to(server)
    await sender.send(delivery(alert(id="old", rule="old"), recorded_ns=1 * NS_PER_S))
    await sender.send(delivery(alert(id="new", rule="new"), recorded_ns=3 * NS_PER_S))
    await sender.keep([], 2 * NS_PER_S)
    assert [shown["labels"]["rule"] for shown in _active(server)] == ["new"]


async def test_a_late_repeat_does_not_wake_the_dead(server: RealServer, sender_to: Make) -> None:
    """A firing that is delivered again after its end changes nothing, and an end under another severity or stream ends
    what was shown."""
    sender = sender_to(server)
    await sender.send(delivery(alert()))
    other = msgspec.structs.replace(alert("cleared", stream="hall"), severity="critical", group=None)
    await sender.send(delivery(other))
    assert _active(server) == []
    await sender.send(delivery(alert(), attempt=2))
    assert _active(server) == []


async def test_a_camera_ahead_of_us_begins_before_it_ends(server: RealServer, sender_to: Make) -> None:
    """Alerts with times of a year to come are taken, and are over when they are cleared."""
    sender = sender_to(server)
    ahead = msgspec.structs.replace(alert(), since="2126-01-01T00:00:00.000Z", at="2126-01-01T00:00:01.000Z")
    await sender.send(delivery(ahead))
    assert len(_active(server)) == 1
    await sender.send(delivery(msgspec.structs.replace(ahead, state="cleared", at="2126-01-01T00:00:09.000Z")))
    await eventually(lambda: not _active(server))


async def test_a_summary_is_an_alert_of_its_own(server: RealServer, sender_to: Make) -> None:
    """What limits held back is told under a name of its own, with the count and the rules."""
    sender = sender_to(server)
    summary = Summary(12, NS_PER_S, 61 * NS_PER_S, (("glass", 8), ("fall", 4)))
    await sender.send(delivery(alert(), summary=summary))
    (shown,) = _active(server)
    assert shown["labels"]["alertname"] == "StreamerAlertsHeldBack"
    assert shown["annotations"]["summary"] == "12 more alerts were held back"
    assert "glass 8, fall 4" in shown["annotations"]["description"]


async def test_nobody_there(server: RealServer, sender_to: Make) -> None:
    """An Alertmanager that is away is an error worth a retry, and the retry arrives when it is back."""
    sender = sender_to(server)
    server.kill()
    with pytest.raises(NotDelivered) as failed:
        await sender.send(delivery(alert()))
    assert failed.value.retry
    server.start()
    await sender.send(delivery(alert(), attempt=2))
    assert len(_active(server)) == 1


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (SendConfig(url="alertmanager+http://10.0.0.7:9093"), "allow_private"),
        (SendConfig(url="alertmanager+http://169.254.169.254", allow_private=True), "169.254.169.254"),
        (SendConfig(url="alertmanager+https://example.org?token=hunter2hunter2"), "path"),
        (SendConfig(url="alertmanager+https://example.org", secret="hunter2hunter2"), "secret"),
        (SendConfig(url="alertmanager+https://me:hunter2hunter2@exa mple.org"), "URL"),
    ],
)
def test_what_is_wrong_is_said(config: SendConfig, named: str) -> None:
    """Each fault names what to change and shows no secret, and no sender is made of it."""
    said = check(config)
    assert said is not None and named in said and "hunter2" not in said
    with pytest.raises(UserError):
        make("ops", config)


def test_good_addresses_are_taken() -> None:
    """A host of the Internet, with user info, a path, or the whole endpoint."""
    for url in ("https://example.org", "http://me:pw@example.org:9093/am/", "https://example.org/am/api/v2/alerts"):
        assert check(SendConfig(url=f"alertmanager+{url}")) is None
