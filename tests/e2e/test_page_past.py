"""The page's search in the past, in a real browser in front of a fake service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from streamer.config import StreamConfig
from streamer.errors import StoreError
from streamer.messages import Label, Segment, Share, encode
from tests.conftest import eventually
from tests.e2e.browser import NEEDS_CHROMIUM
from tests.e2e.opened import Page, opened, segment

pytestmark = NEEDS_CHROMIUM

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
START = datetime(2026, 11, 22, 21, 0, tzinfo=UTC)
DAY = "since=2026-11-22T20:00:00.000Z&until=2026-11-23T20:00:00.000Z"
DONE = "document.querySelector('.past .stop').hidden && document.querySelector('.sum').textContent"
HITS = "[...document.querySelectorAll('.hit')].map((hit) => hit.innerText.split('\\n').filter(Boolean).join(' '))"
NOTES = "document.querySelector('.notes').innerText"


def rfc3339(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def window(stream: str, seq: int, score: float = 0.0, label: str = "Dog", **changes: Any) -> Segment:
    """The segment `seq` of a stream that began at START, with one label where `score` is above 0."""
    start = START + timedelta(seconds=seq / 2)
    labels = [Label(label, score, Share(0.25, 0.75, 0.0))] if score else []
    times = {"start": rfc3339(start), "end": rfc3339(start + timedelta(seconds=2)), "labels": labels}
    return segment(stream, seq, **(times | changes))


def night(stream: str) -> list[Segment]:
    """Two minutes: a dog from 10 s to 15 s, at its loudest at 12 s, and another at 100 s; a faint one at 60 s."""
    scores = {20: 0.6, 21: 0.7, 24: 0.9, 26: 0.6, 120: 0.4, 200: 0.8}
    return [window(stream, seq, scores.get(seq, 0.0)) for seq in range(240)]


def keep(page: Page, past: dict[str, list[Segment]]) -> None:
    """Give the fake service a past that is asked for by time and cursor, as the real one is."""
    control = page.control
    control.past = past

    async def segments(name: str, since: str | None, until: str | None, limit: int) -> tuple[list[bytes], str | None]:
        control.asked.append((name, since, until, limit))
        if control.broken is not None:
            raise control.broken
        kept = control.past.get(name, [])
        if since is not None and "@" in since:
            kept = kept[next(index for index, one in enumerate(kept) if one.cursor == since) :]
        elif since is not None:
            kept = [one for one in kept if one.start >= since]
        if until is not None:
            kept = [one for one in kept if one.start < until]
        following = str(kept[limit].cursor) if len(kept) > limit else None
        return [encode(one) for one in kept[:limit]], following

    control.segments = segments  # type: ignore[method-assign]


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """The page of a service with `door`, `yard` and `attic`, of which `door` and `yard` have a past."""
    async with opened((), "door", "yard", "attic") as page:
        keep(page, {"door": night("door"), "yard": night("yard")[60:]})
        await page.tab.call("Emulation.setTimezoneOverride", timezoneId="Europe/Berlin")
        yield page


async def visit(page: Page, hash_: str) -> None:
    """Show what is at an address of the page."""
    await page.tab.evaluate(f"void (location.hash = {json.dumps(hash_)})")
    shown = "document.querySelector('.past')"
    await page.tab.until(shown if hash_.startswith("#/past") else f"!{shown}")


async def search(page: Page, text: str) -> None:
    """Type a question and press Enter."""
    await page.tab.until("document.querySelector('#past-labels option')")
    await page.tab.evaluate(f"document.querySelector('#past-text').value = {json.dumps(text)}")
    await page.tab.evaluate("document.querySelector('.question').requestSubmit()")


# What is typed on Monday, 23 November 2026 at 03:07 in Berlin; times there.
QUESTIONS: dict[str, tuple[str | None, str, str, str, float, str]] = {
    "Dog, last night": ("Dog", "", "2026-11-22 21:00", "2026-11-23 03:07", 0.5, ""),
    "glass yesterday 22:00-23:00": ("Glass", "", "2026-11-22 22:00", "2026-11-22 23:00", 0.5, ""),
    "siren on door last hour": ("Siren", "door", "2026-11-23 02:07", "2026-11-23 03:07", 0.5, ""),
    "Dog > 0.7 today": ("Dog", "", "2026-11-23 00:00", "2026-11-23 03:07", 0.7, ""),
    "dgo 70% last 10 minutes": ("Dog", "", "2026-11-23 02:57", "2026-11-23 03:07", 0.7, ""),
    "gun shot on front, yesterday evening": ("Gunshot", "group:front", "2026-11-22 18:00", "2026-11-22 23:00", 0.5, ""),
    "was there a dog in the yard last night?": ("Dog", "yard", "2026-11-22 21:00", "2026-11-23 03:07", 0.5, ""),
    "music between 10pm and 11pm saturday": ("Music", "", "2026-11-21 22:00", "2026-11-21 23:00", 0.5, ""),
    "glass last night 23:00-1:00": ("Glass", "", "2026-11-22 23:00", "2026-11-23 01:00", 0.5, ""),
    "siren 22:00–23:00": ("Siren", "", "2026-11-22 22:00", "2026-11-22 23:00", 0.5, ""),
    "siren since 1:30": ("Siren", "", "2026-11-23 01:30", "2026-11-23 03:07", 0.5, ""),
    "dog door last monday": ("Dog", "door", "2026-11-16 00:00", "2026-11-17 00:00", 0.5, ""),
    "dogs on front-* 2026-10-25": ("Dog", "front-*", "2026-10-25 00:00", "2026-10-26 00:00", 0.5, ""),
    "smoke alarms 20 nov 8am-9am": ("Smoke Alarm", "", "2026-11-20 08:00", "2026-11-20 09:00", 0.5, ""),
    "quokka today": (None, "", "2026-11-23 00:00", "2026-11-23 03:07", 0.5, "quokka"),
    "cats with quokkas": ("Cat", "", "2026-11-22 03:07", "2026-11-23 03:07", 0.5, "quokkas"),
    "yesterday": (None, "", "2026-11-22 00:00", "2026-11-23 00:00", 0.5, ""),
}
KNOWN = {
    "labels": ["Dog", "Glass", "Drinking Glass", "Siren", "Gunshot", "Smoke Alarm", "Alarm", "Cat", "Music"],
    "streams": [{"name": "door", "group": "front"}, {"name": "yard"}, {"name": "front-gate", "group": "front"}],
}


async def test_what_people_type_is_understood(page: Page) -> None:
    """Label, stream, times in the visitor's own zone and score are taken from plain words; the unknown is told."""
    read = f"""(async () => {{
      const {{ parse }} = await import("/page/query.js");
      const now = new Date(2026, 10, 23, 3, 7).getTime();
      const local = (at) => new Date(at).toLocaleString("sv").slice(0, 16);
      return {json.dumps(list(QUESTIONS))}.map((text) => {{
        const {{ label, stream, since, until, min, unknown }} = parse(text, {{ ...{json.dumps(KNOWN)}, now }});
        return [label, stream, local(since), local(until), min, unknown];
      }});
    }})()"""
    found = await page.tab.evaluate(read)
    assert {text: tuple(row) for text, row in zip(QUESTIONS, found, strict=True)} == QUESTIONS
    hours = """(async () => {
      const { parse } = await import("/page/query.js");
      const now = new Date(2026, 9, 26, 12).getTime();
      const { since, until } = parse("yesterday", { labels: [], streams: [], now });
      return (until - since) / 3_600_000;
    })()"""
    assert await page.tab.evaluate(hours) == 25


async def test_segments_become_intervals_with_an_address_each(page: Page) -> None:
    """Segments of one dog are one line and one mark; the newest is first; a click shows that moment of the stream."""
    await visit(page, f"#/past?label=Dog&{DAY}&min=0.5")
    await page.tab.until(f"{DONE} === 'Dog 3 times on door and yard.'")
    assert await page.tab.evaluate(HITS) == [
        "22:01:40 Dog door 0.80 2 s Why",
        "22:01:40 Dog yard 0.80 2 s Why",
        "22:00:10 Dog door 0.90 5 s Why",
    ]
    assert await page.tab.evaluate("document.querySelectorAll('.band').length") == 3
    assert await page.tab.evaluate("document.querySelectorAll('.mark').length") == 3
    meter = "document.querySelector('.hit:last-child .meter')"
    assert await page.tab.evaluate(f"{meter}.title") == "25 % video, 75 % audio"
    await page.tab.evaluate("[...document.querySelectorAll('.hit a')].at(-1).click()")
    await page.tab.until("location.hash === '#/streams/door?at=2026-11-22T21:00:10.000Z'")
    assert page.tab.problems == []


async def test_what_was_understood_can_be_changed_and_handed_on(page: Page) -> None:
    """A question fills the chips and the address; a changed chip asks again; the address gives the same answer."""
    await visit(page, "#/past")
    await search(page, "dog on yard 22 nov 20:00-23:00")
    await page.tab.until(f"{DONE} === 'Dog once on yard.'")
    chips = "JSON.stringify([...new FormData(document.querySelector('.chips'))].map(([, value]) => value))"
    expected = ["Dog", "yard", "2026-11-22T20:00", "2026-11-22T23:00", "0.5"]
    assert json.loads(await page.tab.evaluate(chips)) == expected
    change = """(name, value) => {
      const chip = document.querySelector(`.chips [name=${name}]`);
      chip.value = value;
      chip.dispatchEvent(new Event("change", { bubbles: true }));
    }"""
    await page.tab.evaluate(f"({change})('stream', 'door')")
    await page.tab.until(f"{DONE} === 'Dog twice on door.'")
    await page.tab.evaluate(f"({change})('min', '0.85')")
    await page.tab.until(f"{DONE} === 'Dog once on door.'")
    address = await page.tab.evaluate("location.hash")
    await visit(page, "#/")
    await visit(page, address)
    await page.tab.until(f"{DONE} === 'Dog once on door.'")
    await page.tab.evaluate(f"({change})('label', 'Quokka')")
    await page.tab.until(
        "document.querySelector('.chips [name=label]').validationMessage === 'There is no such label.'"
    )
    assert await page.tab.evaluate("location.hash") == address


async def test_what_the_store_does_not_hold_is_told(page: Page) -> None:
    """How far back each stream goes, what is kept of none, and the nearest where nothing was found are told."""
    await visit(page, f"#/past?label=Dog&{DAY}&min=0.95")
    await page.tab.until(f"{DONE} === 'Dog was not found.'")
    notes = await page.tab.evaluate(NOTES)
    assert "Not kept so far back: door goes back to" in notes and "22:00:00" in notes and "22:00:30" in notes
    assert "Nothing is kept of attic." in notes
    assert "The nearest was 0.90 on door" in notes
    await page.tab.evaluate("document.querySelector('.notes button').click()")
    await page.tab.until(f"{DONE} === 'Dog once on door.'")
    assert "min=0.9" in await page.tab.evaluate("location.hash")
    assert (
        await page.tab.evaluate("document.querySelectorAll('.band')[0].querySelector('.unkept').style.width") == "100%"
    )


async def test_a_store_that_is_away_is_told_and_asked_again(page: Page) -> None:
    """The service's own words are shown, and a button asks again; what no label is called is asked back."""
    page.control.broken = StoreError("the store at 127.0.0.1:6379 does not answer")
    await visit(page, f"#/past?label=Dog&{DAY}")
    await page.tab.until(f"{NOTES}.startsWith('The store can')")
    assert "does not answer" in await page.tab.evaluate(NOTES)
    page.control.broken = None
    await page.tab.evaluate("document.querySelector('.past .again').click()")
    await page.tab.until(f"{DONE} === 'Dog 3 times on door and yard.'")
    await search(page, "quokka today")
    await page.tab.until("document.querySelector('.misread').textContent.includes('No label is called “quokka”')")
    assert await page.tab.evaluate("document.activeElement.name") == "label"


async def test_a_long_search_is_paged_and_can_be_stopped(page: Page) -> None:
    """Pages follow one another by cursor, so far is shown meanwhile, and stopping or leaving asks for nothing more."""
    page.control.past = {"door": [window("door", seq, 0.9 if seq % 100 < 4 else 0) for seq in range(1300)]}
    gate = asyncio.Event()
    plain = page.control.segments

    async def slow(name: str, since: str | None, until: str | None, limit: int) -> tuple[list[bytes], str | None]:
        if since is not None and since.startswith("2000-"):
            await gate.wait()
        return await plain(name, since, until, limit)

    page.control.segments = slow  # type: ignore[method-assign]
    await visit(page, f"#/past?label=Dog&stream=door&{DAY}")
    await page.tab.until("document.querySelector('.sum').textContent === '10 times so far'")
    assert await page.tab.evaluate("!document.querySelector('.past progress').hidden")
    await page.tab.evaluate("document.querySelector('.past .stop').click()")
    await page.tab.until(f"{NOTES}.includes('Stopped before all was looked at.')")
    asked = len(page.control.asked)
    gate.set()
    await page.tab.evaluate("document.querySelector('.past .again').click()")
    await page.tab.until(f"{DONE} === 'Dog 13 times on door.'")
    cursors = [since for _, since, _, limit in page.control.asked[asked:] if limit > 1]
    assert cursors[-3:] == ["2026-11-22T20:00:00.000Z", "1500-0@5f3a", "2000-0@5f3a"]
    gate.clear()
    await page.tab.evaluate("document.querySelector('.question button').click()")
    await visit(page, f"#/past?label=Dog&stream=door&{DAY}&min=0.6")
    await eventually(lambda: page.control.asked[-1][1] == "1500-0@5f3a", 10, "the second page was asked for")
    left = len(page.control.asked)
    await visit(page, "#/")
    gate.set()
    await page.tab.evaluate("new Promise((resolve) => setTimeout(resolve, 300))")
    assert len(page.control.asked) <= left + 1
    assert page.tab.problems == []


async def test_no_more_is_kept_than_can_be_looked_at(page: Page) -> None:
    """At 500 intervals the search ends and says so, and the page's elements are bounded with it."""
    start = [START + timedelta(seconds=10 * index) for index in range(700)]
    times = [{"start": rfc3339(at), "end": rfc3339(at + timedelta(seconds=2))} for at in start]
    page.control.past = {"door": [window("door", seq, 0.9, **times[seq]) for seq in range(700)]}
    await visit(page, f"#/past?label=Dog&stream=door&{DAY}")
    await page.tab.until(f"{NOTES}.includes('These are the first 500')")
    assert await page.tab.evaluate("document.querySelectorAll('.hit').length") == 500
    assert await page.tab.evaluate("document.querySelectorAll('.mark').length") == 500


async def test_names_are_text_and_a_phone_shows_it_all(page: Page) -> None:
    """A label that holds markup is shown as it is; at phone width nothing scrolls sideways, in both schemes; all
    controls have names."""
    page.control.entries["a" * 64] = StreamConfig(source="rtsp://10.0.0.8/main")
    await page.tab.until("document.querySelectorAll('.card').length === 4")
    page.control.past["a" * 64] = [window("a" * 64, 3, 0.9, HOSTILE * 3)]
    await visit(page, f"#/past?{DAY}")
    await page.tab.until("document.querySelectorAll('.hit').length === 4")
    assert await page.tab.evaluate("document.querySelectorAll('.past img').length") == 0
    for dark in (False, True):
        await page.tab.size(360, 740, dark=dark)
        assert await page.tab.evaluate("document.documentElement.scrollWidth") == 360
    nameless = """[...document.querySelectorAll('.past :is(input, select, button, a:not(.mark), progress)')].filter(
      (one) => !(one.ariaLabel || one.labels?.[0]?.textContent.trim() || one.textContent.trim())).length"""
    assert await page.tab.evaluate(nameless) == 0
    assert page.tab.problems == []
