"""The page's view of alerts, in a real browser in front of a fake service: what fires, who was told, rules, trials."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from streamer.alertstatus import RuleDraft
from streamer.clock import NS_PER_S
from streamer.config import StreamConfig
from streamer.errors import StoreError, UserError
from tests.conftest import eventually
from tests.e2e.browser import NEEDS_CHROMIUM, Tab
from tests.e2e.opened import Page, drawn, opened, shots_folder
from tests.fake_alerts import NOON_NS, alert, busy_alerts, delivery, report, rule, status
from tests.fake_control import FakeControl

pytestmark = NEEDS_CHROMIUM

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
FIRING = "[...document.querySelectorAll('.firing .alarm .what')].map((one) => one.textContent)"
PAST = "[...document.querySelectorAll('.past-alarms .alarm .what')].map((one) => one.textContent)"
RULES = "[...document.querySelectorAll('.rule .name')].map((one) => one.textContent)"
TROUBLE = "document.querySelector('.alerting .trouble').textContent"


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """The view of alerts of a service with one alert that fires, one that is over, and two rules."""
    async with opened((), "door", "yard") as page:
        page.control.alerting = busy_alerts()
        await visit(page, "#/alerts")
        yield page


async def visit(page: Page, hash_: str) -> None:
    """Show the view at an address, and wait until it has its answers."""
    await page.tab.evaluate(f"void (location.hash = {json.dumps(hash_)})")
    await page.tab.until("document.querySelector('.alerting .rule, .alerting .norules:not([hidden])')")


async def press(tab: Tab, selector: str) -> None:
    """Click what a selector finds."""
    await tab.evaluate(f"document.querySelector({json.dumps(selector)}).click()")


async def write(tab: Tab, name: str, text: str) -> None:
    """Put text into a field of the rule to be tried."""
    await tab.evaluate(f"document.querySelector('.draft').elements[{json.dumps(name)}].value = {json.dumps(text)}")


async def test_what_fires_and_what_was(page: Page) -> None:
    """Alerts that fire are above, all are in the history, the newest first, with their stream's moment one click away;
    who was told stands with each."""
    tab = page.tab
    assert await tab.evaluate(FIRING) == ["Glass on door"]
    assert await tab.evaluate("document.querySelectorAll('.past-alarms .alarm').length") == 2
    fates = "[...document.querySelectorAll('.past-alarms .line .fate')].map((one) => one.textContent)"
    assert await tab.evaluate(fates) == ["1 delivered", "1 delivered, 1 not delivered"]
    where = await tab.evaluate("document.querySelector('.firing .where').getAttribute('href')")
    assert where == "#/streams/door?at=2026-11-23T11%3A59%3A59.000Z"
    assert await tab.evaluate("document.querySelector('nav [aria-current]').textContent") == "Alerts"
    assert await tab.evaluate("document.title") == "Alerts – streamer"
    assert tab.problems == []


async def test_an_alert_that_comes_is_shown_at_once(page: Page) -> None:
    """A message of an alert makes the view ask anew; nobody has to reload it."""
    fired = alert(2, stream="yard")
    page.control.alerting.kept.insert(0, status(fired, pending=1))
    await page.hub.send(fired)
    await page.tab.until(f'JSON.stringify({FIRING}) === \'["Glass on yard","Glass on door"]\'', 5)
    page.control.alerting.kept[0] = status(fired, NOON_NS + NS_PER_S, sent=1)
    await page.hub.send(fired)
    await page.tab.until(f"JSON.stringify({FIRING}) === '[\"Glass on door\"]'", 5)


async def test_a_failed_delivery_is_sent_again(page: Page) -> None:
    """The details say what the receiver answered; its button sends it again, and the focus is not lost."""
    tab = page.tab
    await press(tab, ".past-alarms .alarm:nth-child(2) .line button")
    await tab.until("document.querySelectorAll('.past-alarms .delivery').length === 2")
    told = await tab.evaluate("document.querySelector('.past-alarms .delivery').innerText")
    assert "ops" in told and "not delivered, tried 31 times" in told and "500 Internal Server Error" in told
    assert await tab.evaluate("document.querySelector('.past-alarms .facts').innerText.includes('Glass 0.83')")
    await press(tab, ".past-alarms .delivery[data-state=dead] button")
    await tab.until("document.querySelector('.past-alarms .delivery[data-state=pending]')")
    assert page.control.alerting.resent == ["d-1"]
    assert await tab.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    page.control.alerting.broken = StoreError("the outbox is locked")
    await press(tab, ".past-alarms .delivery[data-state=sent] button")
    await tab.until(f"{TROUBLE}.includes('the outbox is locked')")


async def test_pictures_of_an_alert_are_shown(page: Page) -> None:
    """Those that it has are asked for with its details, once, and freed when the view is left."""
    tab, alerts = page.tab, page.control.alerting
    alerts.kept[0] = status(replace(alerts.kept[0].fired, pictures=["snapshot.jpg"]), sent=1)
    given = """
      const plain = window.fetch;
      window.asked = [];
      window.fetch = (path, options) => String(path).includes("/pictures/")
        ? (window.asked.push(path), Promise.resolve(new Response(new Blob([
            "<svg xmlns='http://www.w3.org/2000/svg' width='64' height='36'/>"], { type: "image/svg+xml" }))))
        : plain(path, options);
    """
    await tab.evaluate(f"(() => {{ {given} }})()")
    await page.hub.send(alerts.kept[0].fired)
    await press(tab, ".firing .alarm .line button")
    await tab.until("document.querySelector('.firing .shots img')?.naturalWidth === 64")
    assert (
        await tab.evaluate("document.querySelector('.firing .shots img').alt") == "door at that moment, faces blurred"
    )
    assert await tab.evaluate("window.asked") == ["v1/alerts/0000000000000001/pictures/snapshot.jpg"]
    url = await tab.evaluate("document.querySelector('.firing .shots img').src")
    await visit_wall(tab)
    assert await tab.evaluate(f"fetch({json.dumps(url)}).then(() => 'there', () => 'freed')") == "freed"


async def test_the_history_is_filtered_by_its_address(page: Page) -> None:
    """What is chosen is in the address, and an address that is opened chooses it; older ones come page by page."""
    tab = page.tab
    await tab.evaluate("document.querySelector('.sieve [name=state]').value = 'dead'")
    await tab.evaluate("document.querySelector('.sieve').dispatchEvent(new Event('change'))")
    await tab.until("location.hash === '#/alerts?state=dead'")
    await tab.until("document.querySelectorAll('.past-alarms .alarm').length === 1")
    page.control.alerting.kept = [status(alert(number, rule="many"), NOON_NS + NS_PER_S) for number in range(120)]
    await visit(page, "#/alerts?rule=many")
    await tab.until("document.querySelectorAll('.past-alarms .alarm').length === 50")
    assert await tab.evaluate("document.querySelector('.sieve [name=rule]').value") == "many"
    await press(tab, ".older")
    await tab.until("document.querySelectorAll('.past-alarms .alarm').length === 100")
    await press(tab, ".older")
    await tab.until("document.querySelectorAll('.past-alarms .alarm').length === 120")
    assert await tab.evaluate("document.querySelector('.older').hidden")
    await visit(page, "#/alerts?rule=none")
    await tab.until("document.querySelectorAll('.past-alarms .alarm').length === 0")


async def test_rules_are_snoozed_and_woken(page: Page) -> None:
    """Each rule says what it asks for and does; a snooze says until when, and ends by its button."""
    tab, alerts = page.tab, page.control.alerting
    assert await tab.evaluate(RULES) == ["glass", "quiet"]
    shown = await tab.evaluate("document.querySelector('.rule').innerText")
    for words in (
        "label('Glass') > 0.6",
        "all streams",
        "when it holds for 1 s",
        "rests 1 min",
        "tells ops",
        "1 firing",
    ):
        assert words in shown
    await tab.evaluate("document.querySelector('.rule select').value = '8h'")
    await press(tab, ".rule [aria-label='Snooze glass']")
    await tab.until("document.querySelector('.rule:first-child .snooze')")
    assert alerts.known[0].snoozes[0].until == "2026-11-23T20:00:00.000Z"
    await press(tab, ".rule [aria-label='Wake glass']")
    await tab.until("!document.querySelector('.rule:first-child .snooze')")
    assert alerts.known[0].snoozes == []
    await tab.until("document.getElementById('announce').textContent === 'glass is awake'")
    await press(tab, ".every")
    await tab.until("document.querySelectorAll('.rule:first-child .snooze, .rule:last-child .snooze').length === 3")
    assert "all rules" in await tab.evaluate("document.querySelector('.rule:first-child .snooze').innerText")
    await press(tab, ".rule [aria-label='Wake all rules']")
    await tab.until("document.querySelectorAll('.rule .snooze').length === 1")
    assert tab.problems == []


async def test_a_rule_is_tried_on_the_past(page: Page) -> None:
    """What it would have done is told in a sentence, by stream, on a timeline and as moments of the stream."""
    tab, alerts = page.tab, page.control.alerting
    start_ns = NOON_NS - 6 * 3600 * NS_PER_S
    alerts.answer = report(start_ns, NOON_NS, *(start_ns + hour * 3600 * NS_PER_S for hour in range(1, 4)))
    await write(tab, "when", "label('Dog') > 0.5")
    await write(tab, "for", "2s")
    await tab.evaluate("document.querySelector('.draft').requestSubmit()")
    await tab.until("!document.querySelector('.found').hidden")
    assert alerts.tried[0].rule == RuleDraft(when="label('Dog') > 0.5", span="2s") and alerts.tried[0].since == "24h"
    told = await tab.evaluate("document.querySelector('.found .sum').textContent")
    assert told == "It would have fired 3 times in 6 h 0 min: 12 a day, firing for 33 s in all."
    assert await tab.evaluate("document.querySelectorAll('.found .mark').length") == 3
    assert await tab.evaluate("[...document.querySelectorAll('.found .band .name')].map((one) => one.textContent)") == [
        "door", "yard",
    ]  # fmt: skip
    marks = "[...document.querySelectorAll('.found .mark')].map((one) => Math.round(parseFloat(one.style.left)))"
    assert await tab.evaluate(marks) == [17, 33, 50]
    links = await tab.evaluate("[...document.querySelectorAll('.times a')].map((one) => one.hash)")
    assert links[0] == "#/streams/door?at=2026-11-23T06:59:59.000Z"
    assert await tab.evaluate("document.querySelector('.bystream').innerText.includes('3 times')")
    assert tab.problems == []


async def test_a_rule_of_the_configuration_is_tried(page: Page) -> None:
    """Its button fills in the whole rule and tries it; what has no field is named, and can be left out."""
    tab, alerts = page.tab, page.control.alerting
    alerts.known[0] = rule(clear_when="label('Glass') < 0.2", clear_for_s=90.5, key="group", stream="front-*")
    await page.tab.until("document.querySelector('.rule .settings').textContent.includes('front-')", 15)
    await press(tab, ".rule [aria-label='Try glass on the past']")
    await tab.until("!document.querySelector('.found').hidden")
    extra = {"clear_when": "label('Glass') < 0.2", "clear_for": "1m30s500ms", "key": "group"}
    asked = RuleDraft(when="label('Glass') > 0.6", stream="front-*", span="1s", cooldown="1m", **extra)
    assert alerts.tried[-1].rule == asked
    assert await tab.evaluate("document.querySelector('.found .sum').textContent.startsWith('It would not have fired')")
    assert await tab.evaluate("document.querySelector('.extra').innerText.includes('key: group')")
    await press(tab, ".extra button")
    await tab.evaluate("document.querySelector('.draft').requestSubmit()")
    await eventually(lambda: len(alerts.tried) == 2, 10, "it was tried again")
    assert alerts.tried[-1].rule == RuleDraft(when="label('Glass') > 0.6", stream="front-*", span="1s", cooldown="1m")


async def test_a_rule_that_can_not_be_used_is_told(page: Page) -> None:
    """The service's sentence stands beneath the rule, which is marked as wrong; a right one after it takes it away."""
    tab, alerts = page.tab, page.control.alerting
    alerts.broken = UserError("when: unknown label 'Glas' at character 7: did you mean 'Glass'?")
    await write(tab, "when", "label('Glas') > 0.5")
    await tab.evaluate("document.querySelector('.draft').requestSubmit()")
    await tab.until("document.querySelector('.fault').textContent.includes(\"did you mean 'Glass'\")")
    assert await tab.evaluate("document.querySelector('.draft [name=when]').getAttribute('aria-invalid')") == "true"
    alerts.broken = None
    await tab.evaluate("document.querySelector('.draft').requestSubmit()")
    await tab.until("document.querySelector('.fault').hidden && !document.querySelector('.found').hidden")
    await write(tab, "for", "soon")
    assert not await tab.evaluate("document.querySelector('.draft').checkValidity()")


async def test_what_fires_already_stands_on_the_wall() -> None:
    """A page that is opened later shows it too, though no message tells of it any more."""
    control = FakeControl({"door": StreamConfig(source="rtsp://10.0.0.7/door")}, alerting=busy_alerts())
    async with opened(control=control) as page:
        await page.tab.until("document.querySelectorAll('#alerts .alert').length === 1")
        assert await page.tab.evaluate("document.querySelector('#alerts .what').textContent") == "Glass on door"
        assert page.tab.problems == []


async def test_leaving_it_leaves_nothing_behind(page: Page) -> None:
    """After the view is left, messages and time make it ask for nothing more."""
    await visit_wall(page.tab)
    asked = len(page.control.alerting.queries)
    await page.hub.send(alert(3))
    await page.tab.evaluate("new Promise((resolve) => setTimeout(resolve, 700))")
    assert len(page.control.alerting.queries) == asked
    assert page.tab.problems == []


async def visit_wall(tab: Tab) -> None:
    """Show the wall."""
    await tab.evaluate("void (location.hash = '#/')")
    await tab.until("!document.querySelector('.alerting')")


async def test_a_service_without_rules_says_how_to_make_one() -> None:
    """The view shows a rule for the configuration, and nothing that can't be done."""
    async with opened((), "door") as page:
        await visit(page, "#/alerts")
        assert await page.tab.evaluate("document.querySelector('.norules').innerText.includes('name: glass')")
        assert await page.tab.evaluate("document.querySelector('.firing + .quiet').offsetHeight > 0")
        assert page.tab.problems == []


async def test_words_are_text_and_a_phone_shows_it_all(page: Page, tmp_path: Path) -> None:
    """Markup in texts and errors is shown as it is; at phone width nothing scrolls sideways, in both schemes; every
    control has a name. Pictures of it are kept where STREAMER_SHOTS says."""
    tab, alerts = page.tab, page.control.alerting
    hostile = alert(5, stream="a" * 64, rule="r" * 64)
    alerts.kept.insert(0, status(hostile, dead=1, pending=1))
    alerts.deliveries[hostile.id] = [
        delivery("d-5", receiver="o" * 40, error=HOSTILE * 3),
        delivery("d-6", state="pending", attempts=2, next="2026-11-23T12:10:00.000Z", error="no answer within 10 s"),
    ]
    alerts.known.append(rule("r" * 64, when=f"said('{HOSTILE * 2}')"))
    alerts.answer = report(NOON_NS - 3600 * NS_PER_S, NOON_NS, *(NOON_NS - n * 400 * NS_PER_S for n in range(8, 0, -1)))
    await page.hub.send(hostile)
    await tab.until(
        "document.querySelectorAll('.rule').length === 3 && document.querySelectorAll('.firing .alarm').length === 2"
    )
    await press(tab, ".firing .alarm .line button")
    await tab.until("document.querySelectorAll('.firing .delivery').length === 2")
    await press(tab, ".rule [aria-label='Try glass on the past']")
    await tab.until("!document.querySelector('.found').hidden")
    assert await tab.evaluate("document.querySelectorAll('.alerting img').length") == 0
    assert await tab.evaluate("document.title") == "Alerts – streamer"
    folder = shots_folder(tmp_path)
    for dark in (False, True):
        for name, (width, height) in {"desk": (1280, 1500), "phone": (360, 2600)}.items():
            await tab.size(width, height, dark=dark)
            await tab.evaluate("scrollTo(0, 0)")
            await drawn(tab)
            assert await tab.evaluate("document.documentElement.scrollWidth") == width
            await tab.screenshot(folder / f"alerts-{'dark' if dark else 'light'}-{name}.png")
    nameless = """[...document.querySelectorAll('.alerting :is(input, select, textarea, button, a:not(.mark))')].filter(
      (one) => !(one.ariaLabel || one.labels?.[0]?.textContent.trim() || one.textContent.trim())).length"""
    assert await tab.evaluate(nameless) == 0
    assert tab.problems == []
