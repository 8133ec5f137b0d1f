"""What the page promises whatever it shows: soon there, small, from one host, readable, with a name for everything."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import pytest

from streamer.config import StreamConfig
from streamer.messages import Event, StreamMessage
from tests.e2e.browser import NEEDS_CHROMIUM, Tab
from tests.e2e.opened import Page, opened
from tests.e2e.pretend import HOP_S, PastControl, moment, troubled
from tests.fake_alerts import busy_alerts

pytestmark = NEEDS_CHROMIUM

_PAGE_BYTES = 200_000
_VIEWS = {
    "#/": "document.querySelector('.label .score') && document.querySelector('.alert')",
    "#/alerts": "document.querySelector('.rule') && document.querySelector('.past-alarms .alarm')",
    "#/streams/door": "document.querySelector('.names button:not([hidden])')",
}
# The least contrast for text by WCAG 2.2, level AA, and for text that is large or bold and large.
_AA, _AA_LARGE = 4.5, 3.0
_ROLES = {"button", "link", "slider", "textbox", "searchbox", "radio", "combobox", "checkbox", "group", "log", "region"}
_ROLES |= {"DisclosureTriangle", "image", "img", "navigation", "table", "form", "dialog"}

# Every text that is shown, with its colour, what is behind it, and how large it is. Backgrounds that let something
# through are laid over what is behind them.
_TEXTS = """
(() => {
  const parse = (colour) => {
    const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
    return { r, g, b, a };
  };
  const over = (top, low) => Object.fromEntries("rgb".split("").map((c) => [c, top[c] * top.a + low[c] * (1 - top.a)]));
  const behind = (element) => {
    if (!element) return { r: 255, g: 255, b: 255 };
    const own = parse(getComputedStyle(element).backgroundColor);
    return own.a === 1 ? own : over(own, behind(element.parentElement));
  };
  const opacity = (element) =>
    element ? Number(getComputedStyle(element).opacity) * opacity(element.parentElement) : 1;
  const light = ({ r, g, b }) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, index) => sum + c * [0.2126, 0.7152, 0.0722][index], 0);
  const found = new Map();
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].filter((node) => node.nodeType === 3);
    const text = own.map((node) => node.textContent.trim()).join("");
    if (!text || !element.checkVisibility({ visibilityProperty: true }) || element.closest(".unseen, .skip")) continue;
    const style = getComputedStyle(element);
    const ground = behind(element);
    const ink = parse(style.color);
    const shown = over({ ...ink, a: ink.a * opacity(element) }, ground);
    const [one, other] = [light(shown), light(ground)].sort((a, b) => b - a);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const name = `${element.tagName}.${element.className}`;
    const contrast = (one + 0.05) / (other + 0.05);
    if (!(found.get(name)?.[1] < contrast)) found.set(name, [name, contrast, large, text.slice(0, 40)]);
  }
  return [...found.values()];
})()
"""


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """The page with two streams, one of them with a past of every kind, and an alert."""
    door, garage = StreamConfig(source="rtsp://10.0.0.7/a", group="front"), StreamConfig(source="rtsp://10.0.0.7/b")
    control = PastControl({"door": door, "garage": garage})
    now = datetime.now(UTC)
    ends = [now - timedelta(seconds=HOP_S * (400 - seq)) for seq in range(400)]
    control.past["door"] = [troubled("door", seq, end) for seq, end in enumerate(ends)]
    control.levels["door"] = (1, ["frames"])
    control.alerting = busy_alerts()
    async with opened(control=control) as page:
        await page.hub.send(troubled("door", 400, now))
        await page.hub.send(StreamMessage(stream="garage", state="reconnecting", reason="connection refused"))
        since = moment(now)
        await page.hub.send(Event(stream="door", id="e", label="Dog", state="open", start=since, end=None, score=0.9))
        alert = {"type": "alert", "stream": "door", "rule": "dog", "since": since, "labels": ["Dog"], "state": "firing"}
        for severity in ("info", "warning", "critical"):
            await page.hub.send_shape(alert | {"id": severity, "severity": severity, "text": "A dog at the door"})
        await page.hub.send_shape({**alert, "id": "info", "severity": "info", "text": "gone", "state": "cleared"})
        yield page
        assert page.tab.problems == []


async def _show(tab: Tab, view: str) -> None:
    await tab.evaluate(f"void (location.hash = {view!r})")
    await tab.until(_VIEWS[view])


@pytest.mark.parametrize("view", _VIEWS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_stands_out_from_its_ground(page: Page, view: str, scheme: str) -> None:
    """All text that is shown has the contrast that WCAG 2.2 asks for at level AA, in both schemes."""
    await page.tab.size(1280, 2400, dark=scheme == "dark")
    await _show(page.tab, view)
    await page.tab.until("document.querySelector('.facts dd, .event')")
    texts = await page.tab.evaluate(_TEXTS)
    assert len(texts) >= 15
    faint = [text for text in texts if text[1] < (_AA_LARGE if text[2] else _AA)]
    assert not faint, "\n".join(f"{name} {contrast:.2f} {text!r}" for name, contrast, _, text in faint)


@pytest.mark.parametrize("view", _VIEWS)
async def test_everything_has_a_name(page: Page, view: str) -> None:
    """Every control, picture, table and region that a screen reader meets has a name."""
    await page.tab.size(1280, 2400)
    await _show(page.tab, view)
    nodes: list[dict[str, Any]] = (await page.tab.call("Accessibility.getFullAXTree"))["nodes"]
    met = [node for node in nodes if not node.get("ignored") and node["role"]["value"] in _ROLES]
    assert len(met) >= 10
    nameless = [node for node in met if not node.get("name", {}).get("value", "").strip()]
    assert not [(node["role"]["value"], node["properties"]) for node in nameless]


async def test_every_control_can_be_reached_by_keyboard(page: Page) -> None:
    """In every view Tab goes through all that can be pressed, and shows where it is."""
    for view in _VIEWS:
        await _show(page.tab, view)
        hidden = """
            [...document.querySelectorAll("a[href], button, input, summary, [role=slider]")]
              .filter((element) => element.checkVisibility() && element.tabIndex < 0).length
        """
        assert await page.tab.evaluate(hidden) == 0
    await page.tab.evaluate("document.querySelector('.hold').focus()")
    await page.tab.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert await page.tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


async def test_nothing_is_asked_of_another_host(page: Page) -> None:
    """From its opening on, in all views, the page asks the host that served it, and nobody else."""
    await page.tab.watch_network()
    for view in (*_VIEWS, "#/past", "#/publish"):
        await page.tab.evaluate(f"void (location.hash = {view!r})")
        await page.tab.call("Page.reload", ignoreCache=True)
        await page.tab.until("document.querySelector('.card') && document.querySelector('main .view:not([hidden])')")
    assert len(page.tab.requested) > 80
    hosts = {urlsplit(url).hostname for url in page.tab.requested if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}


async def test_the_first_paint_waits_for_nothing_but_style(page: Page) -> None:
    """The page is painted before its scripts have run and the service has answered; how soon is printed."""
    painted = """
        new Promise((tell) => new PerformanceObserver((list) => {
          for (const entry of list.getEntries()) if (entry.name === "first-contentful-paint") tell(entry.startTime);
        }).observe({ type: "paint", buffered: true }))
    """
    blocking = """
        performance.getEntriesByType("resource").filter((one) => one.renderBlockingStatus === "blocking")
          .map((one) => one.name.split(".").at(-1))
    """
    taken = []
    for _ in range(5):
        await page.tab.call("Page.reload", ignoreCache=True)
        await page.tab.until("document.querySelector('.card')")
        taken.append(float(await page.tab.evaluate(painted)))
        assert set(await page.tab.evaluate(blocking)) == {"css"}
    print("first contentful paint, ms: " + ", ".join(f"{ms:.0f}" for ms in taken))


def test_the_page_is_small() -> None:
    """All files of the page together, each gzipped, weigh less than 200 KB."""
    folder = files("streamer").joinpath("page")
    weights = {file.name: len(gzip.compress(file.read_bytes())) for file in folder.iterdir() if file.is_file()}
    total = sum(weights.values())
    print(f"the page gzipped: {total / 1000:.1f} KB in {len(weights)} files")
    assert 10_000 < total < _PAGE_BYTES
