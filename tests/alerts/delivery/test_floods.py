"""Floods: limits hold, what they hold back is told in a summary, and no record is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from streamer.alertconfig import LimitConfig
from streamer.alerts.delivery.courier import Receiver
from streamer.alerts.outbox.book import Book
from streamer.alerts.outbox.rows import Filter
from streamer.alerts.records import NotDelivered
from streamer.clock import NS_PER_S, ManualClock
from tests.alerts.delivery.post import Post, post
from tests.alerts.outbox_making import Ear, recorded
from tests.conftest import eventually

MINUTE = LimitConfig(most=3, per_ns=60 * NS_PER_S)


async def settled(here: Post, held: int) -> None:
    """Wait until so many deliveries were held back and none is pending."""

    async def done() -> bool:
        counts = await here.outbox.do(lambda outbox: outbox.counts())
        pending = sum(count for (_, state), count in counts.deliveries.items() if state == "pending")
        return not pending and here.courier.tallies["ops"].held == held

    async with asyncio.timeout(10):
        while not await done():
            await asyncio.sleep(0.005)


async def test_a_storm_is_a_handful_of_messages(tmp_path: Path) -> None:
    """1,000 streams that fire at once send as many alerts as the limit has room for and one summary of the rest when
    there is room again; all 1,000 are in the outbox, each delivery sent or told of."""
    ear = Ear()
    async with post(tmp_path / "a.db", {"ops": ear}, limit=MINUTE) as here:
        for start in range(0, 1000, 100):
            await here.record(*(recorded(number, stream=f"s{number}") for number in range(start, start + 100)))
        await settled(here, 997)
        assert ear.texts() == ["glass 0", "glass 1", "glass 2"]
        await here.advance(59)
        assert len(ear.got) == 3
        await here.advance(1.1)
        await eventually(lambda: len(ear.got) == 4)
        for _ in range(5):
            await here.advance(60)
        assert ear.texts()[3:] == ["997 held"]
        summary = ear.got[3].summary
        assert summary is not None and summary.rules == (("glass", 997),)
        page = await here.outbox.do(lambda outbox: outbox.listing(Filter(), limit=2000))
        told = [row.deliveries[0].told_in for row in page.rows if row.deliveries[0].state == "held"]
        assert len(page.rows) == 1000 and told == [ear.got[3].id] * 997
        assert here.courier.tallies["ops"].summaries == 1


async def test_a_summary_comes_before_later_alerts_of_its_rules(tmp_path: Path) -> None:
    """While a summary can't be delivered no later alert of its rules is, and other rules' are."""
    ear = Ear()
    async with post(
        tmp_path / "a.db", {"ops": ear}, rules={"glass": LimitConfig(most=2, per_ns=60 * NS_PER_S)}
    ) as here:
        await here.record(*(recorded(number) for number in range(5)))
        await settled(here, 3)
        ear.open.clear()
        await here.advance(61)
        await eventually(lambda: ear.under_way == 1)
        await here.record(recorded(10), recorded(11, rule="fire"))
        await eventually(lambda: ear.under_way == 2)
        ear.open.set()
        await eventually(lambda: len(ear.got) == 5)
        of_glass = [text for text in ear.texts() if not text.startswith("fire")]
        assert of_glass == ["glass 0", "glass 1", "3 held", "glass 10"]


async def test_a_rules_limit_is_its_own(tmp_path: Path) -> None:
    """What a rule's limit holds back costs other rules nothing, and another receiver has room of its own."""
    ops, mail = Ear(), Ear()
    rules = {"glass": LimitConfig(most=1, per_ns=60 * NS_PER_S), "fire": None}
    async with post(tmp_path / "a.db", {"ops": ops, "mail": mail}, rules=rules) as here:
        both = (("ops", "pending"), ("mail", "pending"))
        await here.record(*(recorded(number, rule=rule, to=both) for rule in rules for number in range(3)))
        for ear in (ops, mail):
            await eventually(lambda ear=ear: len(ear.got) == 4)  # type: ignore[misc]
            assert sorted(ear.texts()) == ["fire 0", "fire 1", "fire 2", "glass 0"]
        await here.advance(61)
        await eventually(lambda: ops.texts()[-1] == mail.texts()[-1] == "2 held")


async def test_tries_again_take_no_more_room(tmp_path: Path) -> None:
    """A delivery that is tried several times counts once."""
    ear = Ear(NotDelivered("no"), NotDelivered("no"))
    async with post(tmp_path / "a.db", {"ops": ear}, limit=MINUTE) as here:
        await here.record(*(recorded(number) for number in range(3)))
        await eventually(lambda: len(ear.asked) == 1)
        await here.advance(1.1)
        await eventually(lambda: len(ear.asked) == 2)
        await here.advance(5.1)
        await eventually(lambda: len(ear.got) == 3)
        assert here.courier.tallies["ops"].held == 0


async def test_limits_hold_across_a_restart(tmp_path: Path) -> None:
    """What went out before a restart counts after it, and what was held back before it is told after it, once."""
    path, clock, ear = tmp_path / "a.db", ManualClock(), Ear()
    async with post(path, {"ops": ear}, limit=MINUTE, clock=clock) as here:
        await here.record(*(recorded(number) for number in range(5)))
        await settled(here, 2)
    clock.advance(30 * NS_PER_S)
    again = Ear()
    async with post(path, {"ops": again}, limit=MINUTE, clock=clock) as here:
        await here.record(recorded(9))
        await settled(here, 1)
        assert again.got == []
        await here.advance(31)
        await eventually(lambda: again.texts() == ["3 held"])
        await here.advance(600)
        assert again.texts() == ["3 held"]


async def test_a_summary_keeps_its_id(tmp_path: Path) -> None:
    """A summary that fails, and is tried again after a restart, comes under one id."""
    path, clock = tmp_path / "a.db", ManualClock()
    first, second = Ear(), Ear()
    async with post(path, {"ops": first}, limit=MINUTE, clock=clock) as here:
        await here.record(*(recorded(number) for number in range(5)))
        await settled(here, 2)
        first.always = NotDelivered("down")
        await here.advance(61)
        await eventually(lambda: len(first.asked) == 4)
    async with post(path, {"ops": second}, limit=MINUTE, clock=clock) as here:
        await here.advance(1.1)
        await eventually(lambda: second.texts() == ["2 held"])
    assert second.got[0].id == first.asked[3].id


async def test_what_somebody_asks_for_is_under_no_limit(tmp_path: Path) -> None:
    """Deliveries asked for go out though there is no room, and take none from others."""
    ear = Ear()
    async with post(tmp_path / "a.db", {"ops": ear}, limit=MINUTE) as here:
        await here.record(*(recorded(number) for number in range(10)))
        await settled(here, 7)
        book = Book.open(tmp_path / "a.db")
        ids = [one.id for one in book.deliveries("held")]
        assert len(book.resend(ids, here.clock.wall_ns())) == 7
        book.close()
        here.courier.wake()
        await eventually(lambda: len(ear.got) == 10)
        assert sorted(ear.texts()) == [f"glass {number}" for number in range(10)]
        await here.advance(61)
        await here.record(recorded(20))
        await eventually(lambda: ear.texts()[-1] == "glass 20")
        assert len(ear.got) == 11, "nothing is left to be summed up"


async def test_limits_change_while_the_courier_works(tmp_path: Path) -> None:
    """A limit that is lifted lets the summary and all later alerts out at once."""
    ear = Ear()
    async with post(tmp_path / "a.db", {"ops": ear}, limit=MINUTE) as here:
        await here.record(*(recorded(number) for number in range(5)))
        await settled(here, 2)
        await here.courier.change({"ops": Receiver(ear)}, {})
        await here.record(*(recorded(number) for number in range(10, 15)))
        expected = [f"glass {number}" for number in (0, 1, 2)] + ["2 held"] + [f"glass {n}" for n in range(10, 15)]
        await eventually(lambda: ear.texts() == expected)


async def test_a_long_flood_never_exceeds_its_limit(tmp_path: Path) -> None:
    """Ten minutes of an alert a second: no minute has more messages than the limit allows, and in the end each alert
    was sent or is told of in exactly one summary."""
    clock, times = ManualClock(), list[int]()

    class Noting(Ear):
        async def send(self, delivery: object) -> None:
            times.append(clock.now_ns())
            await super().send(delivery)  # type: ignore[arg-type]

    ear = Noting()
    async with post(tmp_path / "a.db", {"ops": ear}, limit=MINUTE, clock=clock) as here:
        for number in range(600):
            await here.record(recorded(number))
            await settled_now(here)
            clock.advance(NS_PER_S)
            here.courier.wake()
        await here.advance(120)
        within: Callable[[int], int] = lambda end: sum(end - MINUTE.per_ns < one <= end for one in times)  # noqa: E731
        assert max(map(within, times)) <= MINUTE.most
        assert len(times) > 20
        told = sum(one.summary.count for one in ear.got if one.summary is not None)
        assert told + sum(one.summary is None for one in ear.got) == 600


async def settled_now(here: Post) -> None:
    """Wait until nothing is pending."""
    while await here.outbox.do(lambda outbox: outbox.lanes()):
        await asyncio.sleep(0.001)


async def test_one_summary_at_a_time(tmp_path: Path) -> None:
    """While a summary is on its way no other is made: what is held back meanwhile gathers for the next."""
    ear = Ear()
    async with post(tmp_path / "a.db", {"ops": ear}, limit=MINUTE) as here:
        await here.record(*(recorded(number) for number in range(5)))
        await settled(here, 2)
        ear.open.clear()
        await here.advance(61)
        await here.record(*(recorded(number, rule=f"rule {number}") for number in range(4)))
        await eventually(lambda: ear.under_way == 3 and here.courier.tallies["ops"].held == 4)
        await here.advance(61)
        assert here.courier.tallies["ops"].summaries == 1
        ear.open.set()
        await eventually(lambda: len(ear.got) == 7)
        assert ear.texts()[3] == "2 held" and ear.texts()[6] == "2 held"
