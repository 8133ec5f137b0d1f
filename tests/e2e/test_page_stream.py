"""One stream's view in a real browser: its timeline, its latency, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from streamer.messages import Event, Gap, Label, LatencyBody, Share
from tests.e2e.browser import NEEDS_CHROMIUM, Tab
from tests.e2e.opened import Page, opened
from tests.e2e.pretend import HOP_S, PastControl, moment, street
from tests.e2e.stream_view import (
    PAST,
    STAGE,
    coming_after,
    filled,
    inside,
    known_segments,
    page_fixture,
    street_service,
    told,
)

__all__ = ["page_fixture"]

pytestmark = NEEDS_CHROMIUM


async def test_the_past_and_the_live_are_joined_without_hole_or_repeat(page: Page) -> None:
    """What the store has and what comes live make one row of segments, each once, also where they overlap."""
    control = page.control
    assert isinstance(control, PastControl)
    await page.tab.until(f"document.querySelector('.facts').innerText.includes(', {PAST - 1}')")
    known = await known_segments(page.tab)
    assert 240 <= known <= PAST
    overlapping = control.past["door"][-5:]
    await page.hub.send(*overlapping, *coming_after(control, 4))
    await page.tab.until(f"document.querySelector('.facts').innerText.includes(', {PAST + 3}')")
    assert await known_segments(page.tab) == known + 4


async def test_a_gap_is_filled_from_the_store(page: Page) -> None:
    """What this page was too slow for is asked of the store, and takes its place between what it had."""
    control = page.control
    assert isinstance(control, PastControl)
    known = await known_segments(page.tab)
    missed = coming_after(control, 6)
    control.past["door"] += missed[:5]
    await page.hub.send(missed[5])
    await page.tab.until(f"document.querySelector('.facts').innerText.includes(', {PAST + 5}')")
    await page.hub.send(Gap(first=None, last=None, count=5))
    async with asyncio.timeout(10):
        while await known_segments(page.tab) != known + 6:
            await asyncio.sleep(0.05)


async def test_joining_keeps_order_whatever_the_cameras_clock_says(page: Page) -> None:
    """Segments are known by epoch and number; times only order runs that share none."""
    found = await inside(
        page.tab,
        """
        const { Record } = await m("record");
        const of = (epoch, ...seqs) => seqs.map((seq) =>
          ({ epoch, seq, end: new Date(1e12 + (epoch === "b" ? -9e7 : 0) + seq * 500).toISOString() }));
        const shown = (record) => record.items.map(({ segment: { epoch, seq } }) => epoch + seq).join(" ");
        const record = new Record(600_000, 8);
        for (const segment of [...of("a", 3, 4), ...of("b", 0, 1)]) record.take(segment);
        const twice = record.take(of("b", 1)[0]);
        record.merge(of("a", 1, 2, 3));
        const joined = shown(record);
        record.merge([...of("a", 4, 5), ...of("b", 0)]);
        const between = shown(record);
        for (const segment of of("b", 2, 3)) record.take(segment);
        return [twice, joined, between, shown(record), record.keys.size];
        """,
    )
    assert found == [False, "a1 a2 a3 a4 b0 b1", "a1 a2 a3 a4 a5 b0 b1", "a2 a3 a4 a5 b0 b1 b2 b3", 8]


async def test_rows_stay_where_they_are(page: Page) -> None:
    """A label keeps its row while it is in sight; a free row goes to the next label, and no row is taken lightly."""
    found = await inside(
        page.tab,
        """
        const { Rows } = await m("rows");
        const of = (scores, endMs = 0) =>
          ({ endMs, segment: { labels: Object.entries(scores).map(([name, score]) => ({ name, score })) } });
        const told = ({ slots, hidden }) => `${slots.join(" ")} ${hidden}`;
        const rows = new Rows(3);
        const seen = [];
        for (const scores of [{ Dog: .9, Cat: .5 }, { Cat: .95, Dog: .1 }, { Cat: .9, Car: .6 },
                              { Cat: .9, Car: .6, Hen: .3 }, { Cat: .9, Car: .6, Hen: .3, Cow: .5 },
                              { Cat: .9, Car: .6, Hen: .3, Cow: .7 }]) {
          rows.update([of(scores)]);
          seen.push(told(rows));
        }
        const before = of({ Cat: .9, Car: .9, Cow: .9 });
        for (const later of [of({ Car: .9, Cow: .9, Owl: .9 }, 4000), of({ Car: .9, Cow: .9, Owl: .4 }, 6000),
                             of({ Car: .9, Cow: .9, Owl: .9 }, 6000)]) {
          rows.update([before, later]);
          seen.push(told(rows));
        }
        return seen;
        """,
    )
    assert found[:4] == ["Dog Cat 0", "Dog Cat 0", "Car Cat 0", "Car Cat Hen 0"]
    assert found[4:6] == ["Car Cat Hen 1", "Car Cat Cow 1"]
    # One that is strong now takes the row of one that has been away for over five seconds, and not before.
    assert found[6:] == ["Car Cat Cow 1", "Car Cat Cow 1", "Car Owl Cow 1"]


async def test_shed_gaps_and_epochs_are_what_they_are(page: Page) -> None:
    """Between two segments there is nothing, or what was not received, or another epoch; each is told apart."""
    cells = await inside(
        page.tab,
        """
        const { cellsOf } = await m("paint");
        const of = (epoch, seq, second) => ({ endMs: second * 1000, segment: { epoch, seq } });
        const cells = cellsOf([of("a", 0, 1), of("a", 1, 1.5), of("a", 4, 3), of("b", 0, 8.4), of("c", 0, 8),
                               of("c", 1, 8.5)]);
        return cells.map(({ fromMs, isFresh, missing, holeMs }) => [fromMs, isFresh, missing, holeMs]);
        """,
    )
    assert cells == [
        [500, False, 0, None],
        [1000, False, 0, None],
        [2500, False, 2, 1500],
        [7500, True, 0, 8400],
        [8000, False, 0, None],
    ]


async def test_what_shares_a_pixel_is_told_by_the_heaviest(page: Page) -> None:
    """Columns are whole pixels side by side, and none hides the heaviest of the cells that fall into it."""
    columns = await inside(
        page.tab,
        """
        const { columnsOf } = await m("paint");
        const cells = [3, 1, 4, 9, 2, 5].map((item, at) => ({ fromMs: at * 250, toMs: (at + 1) * 250, item }));
        const of = (pixels) => columnsOf(cells, (ms) => (ms / 1500) * pixels, (item) => item);
        return [2, 12].map((pixels) => of(pixels).map(({ item, left, wide }) => [item, left, wide]));
        """,
    )
    assert columns[0] == [[4, 0, 1], [9, 1, 1]]
    assert columns[1] == [[3, 0, 2], [1, 2, 2], [4, 4, 2], [9, 6, 2], [2, 8, 2], [5, 10, 2]]


async def test_the_timeline_is_painted_in_the_colours_of_what_labels_rest_on(page: Page) -> None:
    """Where only sound speaks for a label, its band has the colour of sound; where only the picture, that of video."""
    control = page.control
    assert isinstance(control, PastControl)
    seen = [Label("Painting", 1.0, Share(1.0, 0.0, 0.0)), Label("Music", 1.0, Share(0.0, 1.0, 0.0))]
    await page.hub.send(*coming_after(control, 120, labels=seen))
    await page.tab.evaluate("void document.querySelector('.zoom input').click()")
    await page.tab.until("document.querySelector('.names').innerText.includes('Music')")
    names = "[...document.querySelectorAll('.names button')].map((button) => button.textContent)"
    rows = {name: index for index, name in enumerate(await page.tab.evaluate(names))}
    # In the last thirty seconds nothing else was there.
    await page.tab.until(
        "document.querySelector('.zoom input').checked && !document.querySelector('.names').innerText.includes('Rain')"
    )
    for label, tone in (("Painting", "#1f7ae0"), ("Music", "#d9810a")):
        pixel = await inside(
            page.tab,
            f"""
            const canvas = document.querySelector(".stage canvas");
            const y = 18 + {rows[label]} * 26 + 16;
            return [...canvas.getContext("2d").getImageData(canvas.width / 2, y, 1, 1).data].slice(0, 3);
            """,
        )
        wanted = [int(tone[at : at + 2], 16) for at in (1, 3, 5)]
        assert all(abs(one - other) <= 3 for one, other in zip(pixel, wanted, strict=True)), (label, pixel)


async def test_it_is_read_by_keyboard(page: Page) -> None:
    """Arrow keys go from segment to segment and tell each, Enter asks why, Escape goes back to the newest."""
    tab = page.tab
    await tab.evaluate(f"{STAGE}.focus()")
    await tab.key("ArrowLeft")
    first = await told(tab)
    assert "of 1000 ms" in first and "there: video 100 %" in first
    await tab.key("ArrowLeft")
    assert await told(tab) != first
    await tab.key("ArrowRight")
    assert await told(tab) == first
    await tab.until("document.querySelector('.hold').getAttribute('aria-pressed') === 'true'")
    await tab.until(f"document.querySelector('.readout').textContent === {STAGE}.getAttribute('aria-valuetext')")
    await tab.watch_network()
    await tab.key("Enter")
    await tab.until("document.querySelector('dialog[open]')")
    strongest = first.split(" · ")[2].split(" 0.")[0]
    assert strongest in await tab.evaluate("document.querySelector('dialog[open]').innerText")
    await tab.evaluate("document.querySelector('dialog[open]').close()")
    await tab.evaluate(f"{STAGE}.focus()")
    await tab.key("Escape")
    await tab.until("document.querySelector('.paused').hidden")
    await tab.key(" ")
    await tab.until("!document.querySelector('.paused').hidden")
    assert any("/why/" in url for url in tab.requested)
    # The fake service keeps no reasons, and the browser notes the 404.
    assert all("/why/" in problem for problem in tab.problems)
    tab.problems.clear()


async def test_pointing_holds_the_timeline_and_tells_the_moment(page: Page) -> None:
    """While the pointer is over the timeline it stands still, and what is under the pointer is told in words."""
    tab = page.tab
    box = await tab.evaluate(f"(({{ x, y, width }}) => [x + width / 2, y + 60])({STAGE}.getBoundingClientRect())")
    await tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])
    await tab.until("document.querySelector('.readout').textContent.includes('of 1000 ms')")
    control = page.control
    assert isinstance(control, PastControl)
    await page.hub.send(*coming_after(control, 3))
    await tab.until("document.querySelector('.paused').textContent === 'paused, 3 new'")
    await tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=5, y=5)
    await tab.until("document.querySelector('.paused').hidden")


async def _ten_minutes(tab: Tab) -> None:
    """Zoom out, and wait until the timeline has all that ten minutes hold."""
    await tab.evaluate("void [...document.querySelectorAll('.zoom input')].at(-1).click()")
    async with asyncio.timeout(10):
        while not 1190 <= await known_segments(tab) <= 1210:
            await asyncio.sleep(0.05)


async def test_zooming_out_asks_for_what_is_not_there_yet() -> None:
    """Ten minutes are there once they are asked for, not before, and no more than these."""
    async with opened(control=street_service(2000), at="#/streams/door") as page:
        await filled(page.tab)
        assert 240 <= await known_segments(page.tab) <= 310
        await _ten_minutes(page.tab)
        assert page.tab.problems == []


async def test_latency_is_told_against_the_bound(page: Page) -> None:
    """Of what is shown: median, 99th percentile, bound, and how many were shed."""
    control = page.control
    assert isinstance(control, PastControl)
    shed = LatencyBody(960.0, 31.0, 925.8, 0.0, 3.2)
    await page.hub.send(*coming_after(control, 2, status="shed", reason="overload", labels=[], latency_ms=shed))
    await page.tab.until("document.querySelector('.figures').textContent.includes('2 of ')")
    words = await page.tab.evaluate("document.querySelector('.figures').textContent")
    assert words.startswith("p50 1") and "of 1000 ms" in words and words.endswith("shed")
    assert await page.tab.evaluate("document.querySelector('.plot').getAttribute('aria-label')") == f"Latency: {words}"
    exact = await inside(
        page.tab,
        """
        const { latencyWords } = await m("plot");
        const of = (total, status = "ok") => ({ segment: { status, bound_ms: 500, latency_ms: { total } } });
        return latencyWords([...Array(99)].map((_, at) => of(at + 1)).concat(of(400), of(480, "shed")));
        """,
    )
    assert exact == "p50 51 ms, p99 400 ms of 500 ms; 1 of 101 shed"
    assert await page.tab.evaluate("document.querySelector('.narrow .status').textContent") == "shed: too much to do"


async def test_leaving_frees_everything(page: Page) -> None:
    """Nothing of a view is held once it is left: neither its segments nor its observers, listeners or timers."""
    observers = ("ResizeObserver", "IntersectionObserver")
    record = "import('/page/record.js').then(({ Record }) => Record.prototype)"
    assert await page.tab.alive(record) == 1
    await page.tab.evaluate("void (location.hash = '#/')")
    await page.tab.until("!document.querySelector('.stream')")
    bare = {name: await page.tab.alive(f"{name}.prototype") for name in observers}
    listening = await _counters(page.tab)
    for _ in range(5):
        await page.tab.evaluate("void (location.hash = '#/streams/door')")
        await filled(page.tab)
        await page.tab.evaluate("void (location.hash = '#/')")
        await page.tab.until("!document.querySelector('.stream')")
    async with asyncio.timeout(15):
        while await page.tab.alive(record):
            await asyncio.sleep(0.1)
    assert {name: await page.tab.alive(f"{name}.prototype") for name in observers} == bare
    after = await _counters(page.tab)
    assert after["jsEventListeners"] <= listening["jsEventListeners"]
    assert after["nodes"] <= listening["nodes"] + 20


async def _counters(tab: Tab) -> dict[str, int]:
    await tab.collect_garbage()
    return {name: int(value) for name, value in (await tab.call("Memory.getDOMCounters")).items()}


async def test_an_event_is_announced(page: Page) -> None:
    """A label's beginning is told to a screen reader, politely."""
    start = moment(datetime.now(UTC))
    await page.hub.send(Event(stream="door", id="e", label="Dog", state="open", start=start, end=None, score=0.9))
    await page.tab.until("document.getElementById('announce').textContent === 'Dog on door'")
    assert await page.tab.evaluate("document.getElementById('announce').getAttribute('aria-live')") == "polite"


async def _flood(page: Page, seconds: float, first: int) -> int:
    """Sixty segments of `door` a second for `seconds`; the number after the last."""
    control = page.control
    assert isinstance(control, PastControl)
    end = datetime.fromisoformat(control.past["door"][-1].end)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for number in range(round(seconds * 60)):
        seq = first + number
        await page.hub.send(street("door", seq, end + timedelta(seconds=HOP_S * (seq - 1999))))
        await asyncio.sleep(max(0.0, begun + (number + 1) / 60 - loop.time()))
    return first + round(seconds * 60)


async def _heap(tab: Tab) -> float:
    """Megabytes in use after collecting garbage."""
    await tab.collect_garbage()
    return float((await tab.call("Runtime.getHeapUsage"))["usedSize"]) / 1e6


@pytest.mark.parametrize("seconds", [10.0, pytest.param(600.0, marks=[pytest.mark.prove, pytest.mark.timeout(900)])])
async def test_sixty_updates_a_second_do_not_grow_the_heap(seconds: float) -> None:
    """Once its ten minutes are full, the view's heap after many more updates is what it was, give or take 1 MB."""
    async with opened(control=street_service(2000), at="#/streams/door") as page:
        await filled(page.tab)
        await _ten_minutes(page.tab)
        following = await _flood(page, 5.0, 2000)
        before = await _heap(page.tab)
        last = await _flood(page, seconds, following) - 1
        await page.tab.until(f"document.querySelector('.facts').innerText.includes(', {last}')")
        after = await _heap(page.tab)
        print(f"heap when full {before:.2f} MB; {seconds:g} s of 60 updates a second later {after:.2f} MB")
        assert after < before + 1.0
        assert 1190 <= await known_segments(page.tab) <= 1210
        assert page.tab.problems == []
