"""The view of one stream in a real browser, before a service whose past is made up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from streamer.config import StreamConfig
from streamer.messages import Segment
from tests.e2e.browser import Tab
from tests.e2e.opened import Page, opened
from tests.e2e.pretend import HOP_S, PastControl, street

PAST = 300
VIEW = "document.querySelector('.stream')"
STAGE = "document.querySelector('.stage')"


def ends(count: int) -> list[datetime]:
    """When the windows of the last `count` segments ended, up to now."""
    now = datetime.now(UTC)
    return [now - timedelta(seconds=HOP_S * (count - 1 - seq)) for seq in range(count)]


def street_service(past: int = PAST, *, preview: bool = False) -> PastControl:
    """A service with `door`, of which the store has `past` segments up to now, and `yard`."""
    control = PastControl(
        {
            "door": StreamConfig(source="rtsp://10.0.0.7/door", group="front", preview=preview),
            "yard": StreamConfig(source="rtsp://10.0.0.7/yard"),
        }
    )
    control.past["door"] = [street("door", seq, end) for seq, end in enumerate(ends(past))]
    return control


def coming_after(control: PastControl, count: int, **changes: Any) -> list[Segment]:
    """What comes after the newest that the store has."""
    last = control.past["door"][-1]
    end = datetime.fromisoformat(last.end)
    steps = range(1, count + 1)
    return [street("door", last.seq + step, end + timedelta(seconds=HOP_S * step), **changes) for step in steps]


@pytest.fixture(name="page")
async def page_fixture() -> AsyncIterator[Page]:
    """The view of `door`, filled from the store."""
    async with opened(control=street_service(), at="#/streams/door") as page:
        await filled(page.tab)
        yield page
        assert page.tab.problems == []


async def filled(tab: Tab) -> None:
    await tab.until("document.querySelector('.names button:not([hidden])')")


async def known_segments(tab: Tab) -> int:
    """How many segments the timeline has, as a screen reader is told."""
    return int(await tab.evaluate(f"{STAGE}.getAttribute('aria-valuemax')")) + 1


async def told(tab: Tab) -> str:
    return str(await tab.evaluate(f"{STAGE}.getAttribute('aria-valuetext')"))


async def inside(tab: Tab, expression: str) -> Any:
    """The value of `expression` with the modules of the page at hand as `m("name")`."""
    return await tab.evaluate(f"(async () => {{ const m = (name) => import(`/page/${{name}}.js`); {expression} }})()")
