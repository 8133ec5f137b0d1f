"""Alerts as the HTTP side asks for them, from a real outbox and a real store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamer.alertconfig import AlertConfig, OutboxConfig
from streamer.alertdesk.desk import AlertDesk
from streamer.alerts.outbox.book import Book
from streamer.alerts.outbox.file import writing
from streamer.alerts.settings import AlertsSettings
from streamer.alertstatus import AlertQuery, RuleDraft, RuleTry
from streamer.clock import NS_PER_S, ManualClock, parse_rfc3339
from streamer.errors import StreamerError, UserError
from streamer.storage.store import Store
from tests.fake_alerts import NOON_NS
from tests.kept_alerts import FIRING, OTHER, OVER, fill
from tests.stored_alerts import barking
from tests.stores import Valkey, store_fixture, valkey_fixture  # noqa: F401 (fixtures)

GLASS = AlertConfig(name="glass", when="label('Glass') > 0.6", for_ns=NS_PER_S, send=["ops"])
BARK = AlertConfig(name="bark", when="label('Dog') > 0.5", stream="yard")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with three alerts."""
    path = tmp_path / "alerts.db"
    fill(path)
    return path


def desk_of(path: Path, redis_url: str = "") -> AlertDesk:
    """The desk of a service with two rules, three minutes after noon."""
    outbox = OutboxConfig(path=str(path))
    settings = AlertsSettings(redis_url=redis_url, rules=[GLASS, BARK], outbox=outbox, groups={"door": "front"})
    return AlertDesk(lambda: settings, ManualClock(wall_ns=NOON_NS + 180 * NS_PER_S))


@pytest.fixture
def desk(path: Path) -> AlertDesk:
    """The desk over that file."""
    return desk_of(path)


async def ids(desk: AlertDesk, **query: Any) -> list[str]:
    return [one.id for one in (await desk.alerts(AlertQuery(**query))).alerts]


async def test_each_alert_is_listed_once(desk: AlertDesk) -> None:
    """The newest first, whether it fires or is over, with how its deliveries fared."""
    found = (await desk.alerts(AlertQuery())).alerts
    assert [one.id for one in found] == [FIRING, OVER, OTHER]
    assert [one.state for one in found] == ["firing", "cleared", "cleared"]
    assert found[1].cleared is not None and found[1].cleared.state == "cleared" and found[1].fired.state == "firing"
    assert [one.told for one in found] == [{"pending": 1}, {"dead": 1, "sent": 1}, {"quiet": 1}]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"state": "firing"}, [FIRING]),
        ({"state": "cleared"}, [OVER, OTHER]),
        ({"state": "dead"}, [OVER]),
        ({"rule": "bark"}, [OTHER]),
        ({"stream": "door"}, [FIRING, OVER]),
        ({"since_ns": NOON_NS + 60 * NS_PER_S}, [FIRING, OVER]),
        ({"since_ns": NOON_NS + 500 * NS_PER_S}, []),
    ],
)
async def test_alerts_are_picked(desk: AlertDesk, query: dict[str, Any], expected: list[str]) -> None:
    """By state, rule, stream and time of recording."""
    assert await ids(desk, **query) == expected


async def test_a_list_is_paged(desk: AlertDesk) -> None:
    """Page by page comes the same as at once."""
    found, before = [], None
    while True:
        page = await desk.alerts(AlertQuery(limit=1, before=before))
        found += [one.id for one in page.alerts]
        if page.next is None:
            break
        before = int(page.next)
    assert found == [FIRING, OVER, OTHER]


async def test_a_delivery_is_asked_for_again(desk: AlertDesk) -> None:
    """What was given up, or never to be sent, waits again under its id; what is not known is said."""
    detail = await desk.alert(OVER)
    assert detail is not None
    dead = next(one for one in detail.deliveries if one.state == "dead")
    assert (dead.receiver, dead.says, dead.error, dead.attempts) == ("ops", "firing", "ops answered 500", 3)
    again = await desk.resend(dead.id)
    assert again is not None and (again.id, again.state) == (dead.id, "pending")
    assert await ids(desk, state="dead") == []
    assert await desk.resend("msg_nothing") is None
    assert await desk.alert("f" * 16) is None


async def test_rules_are_told_with_what_they_do(desk: AlertDesk) -> None:
    """In the configuration's order: how many alerts fire, when the last one fired, and its snoozes."""
    glass, bark = await desk.rules()
    assert (glass.name, glass.firing, glass.for_s, glass.send) == ("glass", 1, 1.0, ["ops"])
    assert (bark.name, bark.firing, bark.last_fired) == ("bark", 0, "2026-11-23T12:00:00.000Z")
    assert glass.snoozes == [] and bark.snoozes == []


async def test_a_snooze_lasts_until_its_time(path: Path) -> None:
    """A rule's own and one of all rules stand with it, until they end or are over; no rule is made up."""
    clock = ManualClock(wall_ns=NOON_NS)
    settings = AlertsSettings(redis_url="", rules=[GLASS, BARK], outbox=OutboxConfig(path=str(path)))
    desk = AlertDesk(lambda: settings, clock)
    own = await desk.snooze("glass", None, 60 * NS_PER_S)
    assert own is not None and parse_rfc3339(own.until) == NOON_NS + 60 * NS_PER_S
    assert await desk.snooze(None, "yard*", 90 * NS_PER_S) is not None
    assert await desk.snooze("glas", None, NS_PER_S) is None
    glass, bark = await desk.rules()
    assert {(one.rule, one.stream) for one in glass.snoozes} == {("glass", None), (None, "yard*")}
    assert [(one.rule, one.stream) for one in bark.snoozes] == [(None, "yard*")]
    clock.advance(61 * NS_PER_S)
    assert [len(rule.snoozes) for rule in await desk.rules()] == [1, 1]
    assert await desk.unsnooze(None, "yard*") and not await desk.unsnooze(None, "yard*")
    assert [len(rule.snoozes) for rule in await desk.rules()] == [0, 0]


async def test_nothing_was_recorded_yet(tmp_path: Path) -> None:
    """Without a file there are no alerts, the rules are told all the same, and asking makes no file."""
    desk = desk_of(tmp_path / "none" / "alerts.db")
    assert await ids(desk) == [] and await desk.alert(FIRING) is None
    assert [rule.firing for rule in await desk.rules()] == [0, 0]
    assert await desk.resend("msg_x") is None and not await desk.unsnooze("glass", None)
    assert not (tmp_path / "none").exists()


async def test_a_file_that_is_no_outbox_is_told(tmp_path: Path) -> None:
    """It is no mistake of whoever asks: the sentence names the file."""
    path = tmp_path / "alerts.db"
    path.write_text("something else, and long enough to be read as a page of a database" * 100)
    with pytest.raises(StreamerError, match=r"alerts\.db") as caught:
        await desk_of(path).alerts(AlertQuery())
    assert not isinstance(caught.value, UserError)


async def test_a_crowd_is_told_to_wait(desk: AlertDesk, path: Path) -> None:
    """While the file is locked by somebody who writes, so many may wait for it; who comes then is told at once, and
    those who wait are answered when it is free."""
    other = Book.open(path, read_only=False)
    with writing(other._connection, path):
        waiting = [asyncio.create_task(desk.snooze("glass", None, NS_PER_S)) for _ in range(64)]
        await asyncio.sleep(0)
        with pytest.raises(StreamerError, match="too many"):
            await desk.alerts(AlertQuery())
    other.close()
    assert all(snooze is not None for snooze in await asyncio.gather(*waiting))
    assert len(await ids(desk)) == 3


# -- rules tried on the past


async def test_a_rule_is_tried_on_what_is_stored(store: Store, valkey: Valkey, path: Path) -> None:
    """In a process of its own: how often, on which streams, for how long and when; the configuration's by name."""
    await barking(store, "yard", seconds=120, every_s=40, lasts_s=10)
    await barking(store, "door", seconds=120, every_s=1000, lasts_s=0)
    desk = desk_of(path, valkey.url)
    desk._clock = ManualClock(wall_ns=await store.time_us() * 1000)
    report = await desk.try_rule(RuleTry(rule=RuleDraft(when="label('Dog') > 0.5", cooldown="0s"), since="1h"))
    assert report is not None and report.since is not None and not report.cut
    assert report.streams == ["door", "yard"] and report.segments == 480
    (tried,) = report.rules
    assert tried.times == 3 and [one.stream for one in tried.streams] == ["yard"]
    assert [one.label for one in tried.alerts] == ["Dog", "Dog", "Dog"]
    assert tried.failures == 0 and 2000 < tried.a_day < 2200
    named = await desk.try_rule(RuleTry(rule="bark", since="1h"))
    assert named is not None and named.rules[0].name == "bark" and named.rules[0].times >= 1
    assert await desk.try_rule(RuleTry(rule="other", since="1h")) is None


async def test_an_empty_store_says_so(store: Store, valkey: Valkey, path: Path) -> None:
    """Nothing stored is no fault; nothing would have fired."""
    report = await desk_of(path, valkey.url).try_rule(RuleTry(rule=RuleDraft(when="label('Dog') > 0.5")))
    assert report is not None and (report.since, report.segments, report.rules[0].times) == (None, 0, 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"when": "label('Glas') > 0.5"}, "Glass"),
        ({"when": "label('Dog') >"}, "when"),
        ({"when": "true", "clear_when": "nothing"}, "clear_when"),
    ],
)
async def test_a_rule_that_can_not_be_used_is_refused(path: Path, change: dict[str, str], words: str) -> None:
    """Before anything is started, with the setting and what is wrong with it."""
    with pytest.raises(UserError, match=words):
        await desk_of(path, "unix:///nowhere").try_rule(RuleTry(rule=RuleDraft(**change)))


async def test_one_is_tried_at_a_time(valkey: Valkey, path: Path) -> None:
    """A second one is told to wait while the first runs, and may come after it."""
    desk = desk_of(path, valkey.url)
    trial = RuleTry(rule=RuleDraft(when="true"))
    first = asyncio.create_task(desk.try_rule(trial))
    await asyncio.sleep(0)
    with pytest.raises(StreamerError, match="another rule is being tried"):
        await desk.try_rule(trial)
    assert await first is not None
    assert await desk.try_rule(trial) is not None


async def test_who_goes_away_leaves_no_process(valkey: Valkey, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial that is cancelled ends its process, and another may begin."""
    started: list[asyncio.subprocess.Process] = []
    plain: Callable[..., Any] = asyncio.create_subprocess_exec

    async def watched(*arguments: Any, **settings: Any) -> asyncio.subprocess.Process:
        started.append(await plain(*arguments, **settings))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", watched)
    valkey.freeze()
    desk = desk_of(path, valkey.url)
    trial = asyncio.create_task(desk.try_rule(RuleTry(rule=RuleDraft(when="true"))))
    async with asyncio.timeout(10):
        while not started:
            await asyncio.sleep(0.01)
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial
    assert started[0].returncode is not None
    valkey.thaw()
    assert await desk.try_rule(RuleTry(rule=RuleDraft(when="true"))) is not None


async def test_a_store_that_is_away_is_told(valkey: Valkey, path: Path) -> None:
    """As something to try again, and no mistake of whoever asks."""
    await valkey.kill()
    with pytest.raises(StreamerError) as caught:
        await desk_of(path, valkey.url).try_rule(RuleTry(rule=RuleDraft(when="true")))
    assert not isinstance(caught.value, UserError)
