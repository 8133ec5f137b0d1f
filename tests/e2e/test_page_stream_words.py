"""One stream's view in a real browser: what it says in words, of states, speech, alerts and what is not there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from streamer.errors import StoreError
from streamer.messages import CoverageBody, Label, Share, Speech, StreamMessage
from tests.e2e.browser import NEEDS_CHROMIUM
from tests.e2e.opened import Page, opened
from tests.e2e.pretend import PastControl, moment, picture, street
from tests.e2e.stream_view import (
    STAGE,
    coming_after,
    inside,
    page_fixture,
    street_service,
)

__all__ = ["page_fixture"]

pytestmark = NEEDS_CHROMIUM


async def test_state_and_less_work_are_told_in_words(page: Page) -> None:
    """The head says state, since when and why; the figures say what is left out, what was not used, what was there."""
    page.control.levels["door"] = (2, ["frames", "keyframes"])
    await page.tab.until("document.querySelector('.facts').innerText.includes('level 2: pictures between key frames')")
    facts = await page.tab.evaluate("document.querySelector('.facts').innerText")
    assert "lag on arrival\n32 ms" in facts and "not used\n2 late" in facts
    await page.hub.send(StreamMessage(stream="door", state="stalled", reason="no frame for 2.1 s"))
    await page.tab.until("document.querySelector('.head').innerText.includes('no frame for 2.1 s')")
    await page.tab.until("document.getElementById('announce').textContent === 'door is stalled: no frame for 2.1 s'")


async def test_a_segments_table_says_the_same(page: Page) -> None:
    """The last segments stand in a table for who can't see the drawings."""
    control = page.control
    assert isinstance(control, PastControl)
    coverage = CoverageBody(1.0, 0.4, 0.0)
    labels = [Label("Owl", 0.71, Share(0.0, 1.0, 0.0))]
    await page.tab.evaluate("void (document.querySelector('details.table').open = true)")
    await page.hub.send(
        *coming_after(control, 1, labels=labels, coverage=coverage, status="degraded", degraded=["frames"])
    )
    await page.tab.until("document.querySelector('tbody td:nth-child(3)')?.textContent === 'Owl 0.71'")
    row = await page.tab.evaluate("document.querySelector('tbody tr').innerText")
    assert "degraded: every second picture" in row and "audio 40 %" in row
    assert await page.tab.evaluate("document.querySelectorAll('tbody tr').length") == 20


async def test_speech_settles(page: Page) -> None:
    """Words that still change are shown as such and replaced by the final ones; the same utterance stands once."""
    control = page.control
    assert isinstance(control, PastControl)
    assert await page.tab.evaluate("document.querySelector('.said').closest('section').hidden")
    shape = {"type": "speech", "stream": "door", "language": "zh", "words": [], "start": "2026-11-23T04:07:06.900Z"}
    shape |= {"utterance": "u1", "end": "2026-11-23T04:07:08.200Z"}
    await page.hub.send_shape(shape | {"text": "小心", "final": False})
    await page.tab.until("document.querySelector('.said li[data-partial]')?.innerText.includes('小心')")
    await page.hub.send_shape(shape | {"text": "小心那只狗", "final": True, "cursor": "1-0@5f3a"})
    await page.tab.until("document.querySelector('.said li:not([data-partial])')?.innerText.includes('小心那只狗')")
    assert await page.tab.evaluate("document.querySelector('.said li span').lang") == "zh"
    settled = Speech("小心那只狗", "zh", [], final=True, start=str(shape["start"]), end=str(shape["end"]))
    other = Speech(
        "Good morning", "en", [], final=True, start="2026-11-23T04:07:09.000Z", end="2026-11-23T04:07:10.000Z"
    )
    first, second = coming_after(control, 2)
    for segment, speech in ((first, settled), (second, other)):
        await page.hub.send(street("door", segment.seq, datetime.fromisoformat(segment.end), speech=speech))
    await page.tab.until("document.querySelectorAll('.said li').length === 2")
    late = shape | {"text": "小", "final": False}
    await page.hub.send_shape(
        late, shape | {"utterance": "u2", "start": "2026-11-23T04:07:11Z", "text": "x", "final": False}
    )
    await page.tab.until("document.querySelectorAll('.said li').length === 3")
    assert "小心那只狗" in await page.tab.evaluate("document.querySelector('.said').innerText")


async def test_what_was_said_is_taken_back_and_known_again(page: Page) -> None:
    """An utterance that comes to nothing vanishes; one that is known from a segment, read from the past, is the same
    when its message comes, and what is final stays whatever comes after it."""
    texts = await inside(
        page.tab,
        """
        const { Said } = await m("speech");
        const section = document.createElement("section");
        const list = section.appendChild(document.createElement("ol"));
        const said = new Said(list);
        const time = (second) => new Date(second * 1000).toISOString();
        const at = (second) => ({ start: time(second), end: time(second + 1) });
        said.take({ utterance: 1, text: "hm", final: false, ...at(1) });
        said.take({ utterance: 1, text: "", final: false, ...at(1) });
        said.takeSegment({ speech: { text: "help me", final: true, ...at(3) } });
        said.take({ utterance: 2, text: "help me", final: true, ...at(3) });
        said.take({ utterance: 2, text: "", final: false, ...at(3) });
        return [...list.querySelectorAll("li span")].map((element) => element.textContent);
        """,
    )
    assert texts == ["help me"]


async def test_the_wall_has_the_words_of_the_moment(page: Page) -> None:
    """A stream's card shows what is being said there, in its language, and as not settled until it is."""
    shown = await inside(
        page.tab,
        """
        const { Card } = await m("card");
        const card = new Card("porch");
        const { caption } = card;
        const seen = [];
        const course = [
          null,
          { text: "小心", language: "zh", final: false },
          { text: "小心那只狗", language: "zh", final: true },
          { text: "", final: false },
        ];
        for (const speech of course) {
          if (speech) card.takeSpeech(speech);
          card.drawCaption();
          seen.push([caption.hidden, caption.textContent, caption.lang, "partial" in caption.dataset]);
        }
        return seen;
        """,
    )
    assert shown[0][0] is True and shown[3][0] is True
    assert shown[1] == [False, "小心", "zh", True] and shown[2] == [False, "小心那只狗", "zh", False]


async def test_words_stand_on_the_timeline_where_they_were_said(page: Page) -> None:
    """A row for speech comes with the first words in sight, and holds utterances in the order of their times."""
    assert not await page.tab.evaluate("document.querySelector('.names').hasAttribute('data-speech')")
    tall = await page.tab.evaluate(f"{STAGE}.clientHeight")
    now = datetime.now(UTC)
    start, end = moment(now - timedelta(seconds=20)), moment(now - timedelta(seconds=18))
    shape = {"type": "speech", "stream": "door", "language": "en", "words": [], "utterance": "u1", "final": True}
    await page.hub.send_shape(shape | {"text": "Good morning", "start": start, "end": end, "cursor": "1-0@5f3a"})
    await page.tab.until("document.querySelector('.names').hasAttribute('data-speech')")
    assert await page.tab.evaluate(f"{STAGE}.clientHeight") > tall
    spoken = await inside(
        page.tab,
        """
        const { Said } = await m("speech");
        const section = document.createElement("section");
        const said = new Said(section.appendChild(document.createElement("ol")));
        const at = (second) => new Date(second * 1000).toISOString();
        for (const [utterance, start, end] of [["b", 5, 7], ["a", 1, 3], ["c", 20, 21]])
          said.take({ utterance, text: utterance, final: true, start: at(start), end: at(end) });
        return said.between(2000, 6000).map(({ text, startMs, endMs }) => [text, startMs, endMs]);
        """,
    )
    assert spoken == [["a", 1000, 3000], ["b", 5000, 7000]]


async def test_alerts_are_shown_on_the_wall_and_with_their_stream(page: Page) -> None:
    """An alert that fires stands on both views, one of another stream on the wall alone; one that cleared says so."""
    alert = {
        "type": "alert",
        "id": "a1",
        "rule": "glass",
        "severity": "critical",
        "labels": ["Glass"],
        "stream": "door",
    }
    alert |= {"since": "2026-11-23T04:07:08Z", "text": "Glass breaks"}
    other = alert | {"id": "a2", "stream": "yard", "severity": "info", "text": "Rain <b>again</b>"}
    await page.hub.send_shape(alert | {"state": "firing"}, other | {"state": "firing"})
    await page.tab.until("document.querySelectorAll('.stream .alert').length === 1")
    assert await page.tab.evaluate("document.querySelectorAll('#alerts .alert').length") == 2
    assert await page.tab.evaluate("document.querySelector('.stream .severity').textContent") == "critical"
    await page.tab.until("document.getElementById('announce').textContent.startsWith('Alert')")
    await page.tab.evaluate("void (location.hash = '#/')")
    await page.tab.until("document.getElementById('alerts').innerText.includes('Rain <b>again</b>')")
    await page.hub.send_shape(alert | {"state": "cleared"})
    await page.tab.until("document.querySelector('#alerts .alert[data-cleared] .severity')?.textContent === 'cleared'")


async def test_a_moment_that_was_has_an_address() -> None:
    """A time or a cursor in the address shows that moment, held there; one click goes back to live."""
    control = street_service(2000)
    past = control.past["door"][700]
    for at in (str(past.cursor), past.end):
        async with opened(control=control, at=f"#/streams/door?at={at}") as page:
            await page.tab.until(f"{STAGE} && document.querySelector('.moment').innerText.startsWith('As it was at')")
            await page.tab.until("document.querySelector('.readout').textContent.includes('of 1000 ms')")
            clock = f"new Date({past.end!r}).toLocaleTimeString([], {{ hour12: false }})"
            shown = await page.tab.evaluate("document.querySelector('.readout').textContent")
            assert shown.startswith(await page.tab.evaluate(clock))
            await page.hub.send(*coming_after(control, 2))
            await page.tab.evaluate("document.querySelector('.moment a').click()")
            await page.tab.until("document.querySelector('.moment').hidden")
            await page.tab.until("document.querySelector('.readout').textContent.startsWith('Point at')")
            assert page.tab.problems == []


async def test_a_picture_is_shown_only_where_it_may_be() -> None:
    """With leave a picture is shown, in the camera's own shape; without it, or once one left, none is asked for."""
    control = street_service(preview=True)
    control.pictures["door"] = [picture()]
    async with opened(control=control, at="#/streams/door") as page:
        await page.tab.watch_network()
        shape = "(({ width, height }) => width / height)(document.querySelector('.preview canvas'))"
        await page.tab.until(f"!document.querySelector('.preview').hidden && {shape}.toFixed(2) === '1.78'")
        painted = "document.querySelector('.preview canvas').getContext('2d').getImageData(9, 9, 1, 1).data[3] === 255"
        await page.tab.until(painted)
        await page.tab.evaluate("void (location.hash = '#/streams/yard')")
        await page.tab.until("document.querySelector('.stream h2').textContent === 'yard'")
        assert await page.tab.evaluate("document.querySelector('.preview').hidden")
        before = len(page.tab.requested)
        await page.tab.until("(window.waited ??= performance.now()) < performance.now() - 2500")
        assert not [url for url in page.tab.requested[before:] if "preview" in url]
        assert page.tab.problems == []


async def test_a_stream_that_is_not_there_is_told() -> None:
    """An address with an unknown name says so, and offers the way back."""
    async with opened(control=street_service(), at="#/streams/attic") as page:
        await page.tab.until(
            "document.querySelector('.head .reason')?.textContent === 'there is no stream of this name'"
        )
        assert await page.tab.evaluate("document.querySelector('.back').hash") == "#/"
        assert all("attic" in problem for problem in page.tab.problems)


async def test_a_store_that_is_away_is_told_and_asked_again() -> None:
    """While the past can't be had the live is shown, with the reason; the past comes once the store is back."""
    control = street_service()
    control.broken = StoreError("the store is away")
    async with opened(control=control, at="#/streams/door") as page:
        await page.tab.until("document.querySelector('.readout')?.textContent.includes('the store is away')")
        await page.hub.send(*coming_after(control, 3))
        await page.tab.until(f"{STAGE}.getAttribute('aria-valuemax') === '2'")
        control.broken = None
        await page.tab.until(f"{STAGE}.getAttribute('aria-valuemax') > 240")
        await page.tab.until("document.querySelector('.readout').textContent.startsWith('Point at')")
        assert all("503" in problem for problem in page.tab.problems)
