"""Pictures of the page, in both schemes and at phone width: kept for people to look at."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from streamer.config import StreamConfig
from streamer.messages import Event, StreamMessage
from tests.e2e.browser import NEEDS_CHROMIUM, Tab
from tests.e2e.opened import Page, opened
from tests.e2e.pretend import HOP_S, PastControl, moment, picture, street, troubled

pytestmark = NEEDS_CHROMIUM

_COUNT = 1200


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Where pictures go: the folder that STREAMER_SHOTS names, or one that is thrown away."""
    folder = Path(os.environ.get("STREAMER_SHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _service(now: datetime) -> PastControl:
    entry = StreamConfig(source="rtsp://10.0.0.7/main", group="front", preview=True)
    names = ("door", "garage", "lobby", "yard")
    control = PastControl(
        {name: entry if name == "door" else StreamConfig(source="rtsp://10.0.0.8/a") for name in names}
    )
    ends = [now - timedelta(seconds=HOP_S * (_COUNT - seq)) for seq in range(_COUNT)]
    control.past["door"] = [troubled("door", seq, end) for seq, end in enumerate(ends)]
    control.pictures["door"] = [picture()]
    return control


async def _life(page: Page, now: datetime) -> None:
    """What a wall of four streams hears in a moment."""
    await page.hub.send(*(street(name, seq * 31 + 7, now) for seq, name in enumerate(("lobby", "yard"), 1)))
    await page.hub.send(troubled("door", _COUNT, now))
    for index, label in enumerate(("Dog", "Car", "Speech", "Rain")):
        at = moment(now - timedelta(seconds=40 - 9 * index))
        score = 0.9 - index / 9
        event = Event(stream="door", id=f"e{index}", label=label, state="open", start=at, end=None, score=score)
        await page.hub.send(event)
        if index < 2:
            await page.hub.send(msgspec.structs.replace(event, state="close", end=moment(now)))
    await page.hub.send(StreamMessage(stream="garage", state="reconnecting", reason="connection refused"))
    alert = {"type": "alert", "cursor": "1-0@5f3a", "stream": "door", "id": "a1", "rule": "siren", "state": "firing"}
    await page.hub.send_shape(
        alert | {"severity": "warning", "since": moment(now), "labels": ["Siren"], "text": "A siren near the door"}
    )
    speech = {"type": "speech", "stream": "door", "language": "en", "words": []}
    said = (("Watch the dog, please", True, 42), ("the parcel goes to the", False, 9))
    for index, (text, final, ago) in enumerate(said):
        start, end = moment(now - timedelta(seconds=ago)), moment(now - timedelta(seconds=ago - 3))
        await page.hub.send_shape(
            speech | {"utterance": f"u{index}", "text": text, "final": final, "start": start, "end": end}
        )


async def _drawn(tab: Tab) -> None:
    """Wait until what came last is drawn: the page draws a tenth of a second after it, in the next frame."""
    drawn = "new Promise((done) => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done)), 300))"
    await tab.evaluate(drawn)


async def test_pictures_of_wall_and_stream(shots: Path) -> None:
    """The wall and a stream's view fit a desk and a phone, in both schemes."""
    now = datetime.now(UTC)
    async with opened(control=_service(now)) as page:
        tab = page.tab
        await _life(page, now)
        await tab.until("document.querySelectorAll('.event').length >= 5")
        views = {
            "wall": ("#/", "!document.getElementById('wall-view').hidden"),
            "stream": ("#/streams/door", "document.querySelector('.names button:not([hidden])')"),
        }
        for name, (route, ready) in views.items():
            for scheme in ("light", "dark"):
                for size, (width, height) in {"desk": (1280, 860), "phone": (390, 1600)}.items():
                    await tab.size(width, height, dark=scheme == "dark")
                    await tab.evaluate(f"void (location.hash = {route!r})")
                    await tab.until(ready)
                    await _life(page, now)
                    await _drawn(tab)
                    await tab.screenshot(shots / f"{name}-{scheme}-{size}.png")
                    assert await tab.evaluate("document.documentElement.scrollWidth") == width
        assert tab.problems == []


async def test_pictures_of_what_is_seen_less_often(shots: Path) -> None:
    """A moment under the cursor, ten minutes, a stream that broke off, and a service without streams."""
    now = datetime.now(UTC)
    async with opened(control=_service(now), at="#/streams/door") as page:
        tab = page.tab
        await tab.size(1280, 860)
        await tab.until("document.querySelector('.names button:not([hidden])')")
        box = await tab.evaluate("document.querySelector('.stage').getBoundingClientRect().toJSON()")
        await tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=box["x"] + 480, y=box["y"] + 60)
        await tab.until("document.querySelector('.readout').textContent.includes('of 1000 ms')")
        await tab.screenshot(shots / "stream-cursor.png")
        await tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=5, y=5)
        await tab.size(1280, 860, dark=True)
        await tab.evaluate("void [...document.querySelectorAll('.zoom input')].at(-1).click()")
        await page.hub.send(StreamMessage(stream="door", state="reconnecting", reason="closed by the camera"))
        await tab.until("Number(document.querySelector('.stage').getAttribute('aria-valuemax')) > 1100")
        await tab.evaluate("void (document.querySelector('details.table').open = true)")
        await tab.size(1280, 1500, dark=True)
        await _drawn(tab)
        await tab.screenshot(shots / "stream-long.png")
    async with opened() as page:
        await page.tab.until("!document.getElementById('empty').hidden")
        await page.tab.screenshot(shots / "empty.png")
