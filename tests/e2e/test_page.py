"""The page in a real browser, over a real websocket, in front of a fake service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from streamer.config import StreamConfig
from streamer.messages import Event, Gap, Label, LatencyBody, Share, StreamMessage
from tests.e2e.browser import NEEDS_CHROMIUM, Tab
from tests.e2e.opened import Page, opened, segment

pytestmark = NEEDS_CHROMIUM

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """The page of a service with the streams `door` and `yard`."""
    async with opened((), "door", "yard") as page:
        yield page


def row(label: str, stream: str = "door") -> str:
    """JavaScript for a label's row on a stream's card."""
    return f'document.querySelector(\'[data-stream="{stream}"] [data-label="{label}"]\')'


def card(part: str = "", stream: str = "door") -> str:
    """JavaScript for a part of a stream's card."""
    return f"document.querySelector('[data-stream=\"{stream}\"] {part}')"


async def test_labels_that_are_published_appear_with_scores_and_shares(page: Page) -> None:
    """What the feed says is shown: labels, scores, what they rest on, status, coverage, latency against the bound."""
    await page.hub.send(segment())
    await page.tab.until(row("Dog"))
    assert await page.tab.evaluate(f"{row('Dog')}.innerText.split('\\n')") == ["Dog", "0.93"]
    assert await page.tab.evaluate(f"{row('Dog')}.title") == "Dog 0.93: 44 % video, 56 % audio"
    assert "40.9%" in await page.tab.evaluate(f"{row('Dog')}.querySelector('.meter').style.backgroundImage")
    assert await page.tab.evaluate(f"{card('.status')}.textContent") == "ok"
    assert await page.tab.evaluate(f"{card('.latency')}.textContent") == "212 / 1000 ms"
    assert "50 %" in await page.tab.evaluate(f"{card('.cover[data-modality=audio]')}.getAttribute('aria-label')")
    painted = f"{card('canvas')}.getContext('2d').getImageData(0, 0, 40, 28).data.some((value) => value > 0)"
    assert await page.tab.evaluate(painted)
    assert page.tab.problems == []


async def test_a_label_that_is_gone_goes_and_one_that_stays_keeps_its_place(page: Page) -> None:
    """Rows are kept by name; small changes of score don't shuffle them."""
    await page.hub.send(segment(seq=0, labels=[Label("Dog", 0.6, Share(1, 0, 0)), Label("Cat", 0.55, Share(1, 0, 0))]))
    await page.tab.until(row("Cat"))
    await page.tab.evaluate(f"void ({row('Dog')}.kept = true)")
    await page.hub.send(segment(seq=1, labels=[Label("Cat", 0.62, Share(1, 0, 0)), Label("Dog", 0.6, Share(1, 0, 0))]))
    await page.tab.until(f"{row('Cat')}.innerText.includes('0.62')")
    names = f"[...{card('.labels')}.children].map((row) => row.dataset.label)"
    assert await page.tab.evaluate(names) == ["Dog", "Cat"]
    assert await page.tab.evaluate(f"{row('Dog')}.kept")
    await page.hub.send(segment(seq=2, labels=[Label("Cat", 0.9, Share(1, 0, 0))]))
    await page.tab.until(f"!{row('Dog')}")
    assert await page.tab.evaluate(names) == ["Cat"]


async def test_shed_and_stalled_are_told_in_words(page: Page) -> None:
    """A segment without labels says why, a stream without media says since when and why."""
    latency = LatencyBody(960.0, 31.0, 900.0, 0.0, 3.2)
    await page.hub.send(segment(status="shed", reason="overload", labels=[], latency_ms=latency))
    await page.tab.until(f"{card('.status')}.textContent === 'shed: overload'")
    await page.tab.until("document.getElementById('sum-shed').textContent === '1'")
    await page.hub.send(StreamMessage(stream="door", cursor="2-0@5f3a", state="stalled", reason="no frame for 2.1 s"))
    stalled = f"{card('.state')}.textContent.startsWith('stalled')"
    await page.tab.until(f"{stalled} && {card('.reason')}.textContent === 'no frame for 2.1 s'")


async def test_less_work_is_told_in_words(page: Page) -> None:
    """A degraded stream says what is left out, on its card and in its details; the bar says how many are."""
    assert await page.tab.evaluate(f"{card('.less')}.hidden && document.getElementById('load').hidden")
    page.control.levels["yard"] = (2, ["frames", "keyframes"])
    await page.hub.send(segment(status="degraded", degraded=["frames"]))
    await page.tab.until(f"{card('.less')}.textContent === 'Degraded, left out: every second picture'")
    words = "Degraded to level 2, left out: every second picture, pictures between key frames"
    await page.tab.until(f"{card('.less', 'yard')}.textContent === '{words}'")
    await page.tab.until("document.getElementById('load').textContent === '2 of 2 streams degraded'")
    await page.tab.evaluate(f"void ({card('details')}.open = true)")
    await page.tab.until(f"{card('details')}.innerText.includes('left out\\nevery second picture')")
    await page.hub.send(segment(seq=1, status="shed", reason="overload", labels=[]))
    await page.tab.until("document.getElementById('load').textContent.startsWith('overloaded: segments are shed')")
    await page.hub.send(segment(seq=2))
    await page.tab.until(f"{card('.less')}.hidden")


async def test_events_open_and_close_in_one_line(page: Page) -> None:
    """An interval is one entry from its opening to its close; a gap is told."""
    event: dict[str, Any] = {"stream": "door", "cursor": "1-0@5f3a", "id": "e1", "label": "Dog", "score": 0.9}
    await page.hub.send(Event(**event, state="open", start="2026-11-23T04:07:08Z", end=None))
    await page.tab.until("document.querySelectorAll('.event[data-open]').length === 1")
    await page.hub.send(Event(**event, state="close", start="2026-11-23T04:07:08Z", end="2026-11-23T04:07:20Z"))
    await page.hub.send(Gap(first="1-0@5f3a", last="9-0@5f3a", count=7))
    await page.tab.until("document.querySelectorAll('.event').length === 2")
    await page.tab.until("document.querySelectorAll('.event[data-open]').length === 0")
    text = await page.tab.evaluate("document.getElementById('events').innerText")
    assert "door, for 12 s" in text and "7 messages missed" in text


async def test_it_resumes_where_it_was_cut_off(page: Page) -> None:
    """After a broken connection the page comes back by itself and asks for what came after its last cursor."""
    await page.hub.send(segment(seq=5))
    await page.tab.until(row("Dog"))
    await page.hub.cut()
    await page.hub.send(segment(seq=6, labels=[Label("Siren", 0.7, Share(0, 1, 0))]))
    await page.tab.until(row("Siren"))
    assert page.hub.asked == ["/v1/subscribe", "/v1/subscribe?since=1005-0%405f3a"]
    await page.tab.until("document.getElementById('link').textContent === 'connected'")


async def test_names_from_outside_are_text_never_markup(page: Page) -> None:
    """A label, a reason or an event that holds markup shows it and runs nothing."""
    event = Event(stream="door", id="e", label=HOSTILE, state="open", start=HOSTILE, end=None, score=0.9)
    state = StreamMessage(stream="door", cursor="3-0@5f3a", state="stalled", reason=HOSTILE)
    await page.hub.send(segment(labels=[Label(HOSTILE, 0.9, Share(1, 0, 0))]), event, state)
    await page.tab.until("document.querySelector('.event')")
    await page.tab.until(f"{card('.reason')}.textContent.includes('onerror')")
    assert await page.tab.evaluate("document.querySelectorAll('main img').length") == 0
    assert await page.tab.evaluate("document.title") == "streamer"


async def test_streams_come_and_go(page: Page) -> None:
    """A stream that is added appears with its first message, one that is removed goes; no password is there."""
    assert "hunter22" not in await page.tab.evaluate("document.documentElement.outerHTML")
    page.control.entries["attic"] = StreamConfig(source="rtsp://10.0.0.8/main")
    await page.hub.send(segment("attic"))
    await page.tab.until(row("Dog", "attic"))
    order = "[...document.querySelectorAll('.card')].map((card) => card.dataset.stream)"
    assert await page.tab.evaluate(order) == ["attic", "door", "yard"]
    del page.control.entries["yard"]
    await page.tab.until("document.querySelectorAll('.card').length === 2")


async def test_the_filter_works_by_keyboard(page: Page) -> None:
    """`/` goes to the filter, typing hides what does not match by name or label, Escape shows all again."""
    await page.hub.send(segment("yard", labels=[Label("Truck", 0.8, Share(1, 0, 0))]))
    await page.tab.until(row("Truck", "yard"))
    await page.tab.key("/")
    for key in "truck":
        await page.tab.key(key)
    await page.tab.until(f"{card()}.hidden && !{card(stream='yard')}.hidden")
    await page.tab.key("Escape")
    await page.tab.until(f"!{card()}.hidden")


async def test_it_fits_a_phone(page: Page) -> None:
    """At phone width nothing is cut off or scrolls sideways, in both schemes."""
    name = "A name that is much longer than any phone is wide " * 3
    await page.hub.send(segment(labels=[Label(name, 0.9, Share(1, 0, 0))]))
    await page.tab.until(card(".label"))
    for dark in (False, True):
        await page.tab.size(360, 740, dark=dark)
        assert await page.tab.evaluate("document.documentElement.scrollWidth") == 360
    ground = await page.tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(int(part) for part in ground.removeprefix("rgb(").removesuffix(")").split(",")) < 150


async def test_without_streams_it_teaches_how_to_add_one() -> None:
    """An empty service shows the command that adds a stream, with its own address."""
    async with opened() as page:
        await page.tab.until("!document.getElementById('empty').hidden")
        assert f"PUT {page.url}v1/streams/door" in await page.tab.evaluate("document.getElementById('empty').innerText")


async def test_it_asks_for_a_token_where_one_is_needed() -> None:
    """A wrong token is told, a right one opens the page and goes to the websocket as well."""
    async with opened(("s3cret",), "door") as page:
        await page.tab.until("!document.getElementById('token-form').hidden")
        enter = "document.getElementById('token').value = {!r}, document.querySelector('#token-form button').click()"
        await page.tab.evaluate(enter.format("wrong"))
        await page.tab.until("document.getElementById('token-error').textContent === 'This token is not known.'")
        await page.tab.evaluate(enter.format("s3cret"))
        await page.hub.send(segment())
        await page.tab.until(row("Dog"))
        assert page.hub.asked == ["/v1/subscribe?access_token=s3cret"]


async def test_fifty_streams_at_twice_a_second_leave_the_browser_idle_time() -> None:
    """With fifty streams the main thread is busy less than half the time, and the page does not grow."""
    names = [f"cam-{index:02}" for index in range(50)]
    async with opened((), *names) as page:
        await page.tab.call("Performance.enable")
        busy: list[float] = []
        elements: list[int] = []
        for seq in range(10):
            before = await _performance(page.tab)
            for name in names:
                labels = [Label(f"Label {index}", 0.9 - index / 10, Share(0.5, 0.5, 0)) for index in range(8)]
                await page.hub.send(segment(name, seq, labels=labels))
                await asyncio.sleep(0.5 / len(names))
            after = await _performance(page.tab)
            busy.append((after["TaskDuration"] - before["TaskDuration"]) / (after["Timestamp"] - before["Timestamp"]))
            elements.append(await page.tab.evaluate("document.querySelectorAll('*').length"))
        assert sorted(busy)[len(busy) // 2] < 0.5
        assert len(set(elements[2:])) == 1
        assert page.tab.problems == []


async def _performance(tab: Tab) -> dict[str, float]:
    """Chromium's own counters, among them seconds of main thread work and seconds since some zero."""
    return {entry["name"]: entry["value"] for entry in (await tab.call("Performance.getMetrics"))["metrics"]}
