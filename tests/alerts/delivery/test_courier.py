"""Deliveries: at least once, under one id, in order, whatever their receivers and the process do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from streamer.alerts.delivery import settling
from streamer.alerts.delivery.courier import Courier, Receiver
from streamer.alerts.delivery.retry import GIVEN_UP_NS
from streamer.alerts.outbox.book import Book
from streamer.alerts.outbox.file import OutboxDamaged
from streamer.alerts.outbox.keeper import Outbox
from streamer.alerts.outbox.thread import OutboxThread
from streamer.alerts.records import NotDelivered
from streamer.clock import ManualClock
from tests.alerts.delivery.post import post
from tests.alerts.outbox_making import T0_NS, Ear, recorded
from tests.conftest import eventually
from tests.disks import fill, small_disk


async def test_what_is_recorded_leaves_and_is_known_to_have(tmp_path: Path) -> None:
    """An alert reaches its receiver with its first attempt's number and its id, and is written down as sent."""
    ear = Ear()
    async with post(tmp_path / "a.db", {"ops": ear}) as here:
        (kept,) = await here.record(recorded(1))
        await here.until({"glass 1": "sent"})
        (got,) = ear.got
        assert (got.alert, got.attempt, got.recorded_ns, got.receiver) == (kept.alert, 1, kept.recorded_ns, "ops")
        (row,) = await here.outbox.do(lambda outbox: outbox.alert(kept.alert.id))
        assert row.deliveries[0].id == got.id and row.deliveries[0].attempts == 1
        assert here.courier.tallies["ops"].sent == 1
    assert ear.closed


async def test_what_waits_in_the_file_is_sent_at_the_start(tmp_path: Path) -> None:
    """Deliveries that were recorded before the courier began are sent, in order; quiet and snoozed ones are not."""
    path, ear = tmp_path / "a.db", Ear()
    outbox = Outbox.open(path)
    outbox.record([recorded(number) for number in range(200)], T0_NS)
    outbox.record([recorded(500, to=(("ops", "quiet"),)), recorded(501, to=(("ops", "snoozed"),))], T0_NS)
    outbox.close()
    async with post(path, {"ops": ear}):
        await eventually(lambda: len(ear.got) == 200)
        await asyncio.sleep(0.02)
    assert ear.texts() == [f"glass {number}" for number in range(200)]


async def test_a_rule_keeps_its_order_through_failures(tmp_path: Path) -> None:
    """While the first fails none of its rule overtakes it; then they come in the order of recording."""
    ear = Ear(*[NotDelivered("no") for _ in range(3)])
    async with post(tmp_path / "a.db", {"ops": ear}) as here:
        await here.record(*(recorded(number) for number in range(4)))
        for asked, pause_s in ((1, 1), (2, 5), (3, 30)):
            await eventually(lambda asked=asked: len(ear.asked) == asked)
            await here.advance(pause_s - 0.01)
            assert len(ear.asked) == asked, "not before its time"
            await here.advance(0.02)
        await eventually(lambda: len(ear.got) == 4)
    assert ear.texts() == ["glass 0", "glass 1", "glass 2", "glass 3"]
    assert [one.attempt for one in ear.asked[:4]] == [1, 2, 3, 4]
    assert len({one.id for one in ear.asked[:4]}) == 1


async def test_one_delivery_of_a_rule_at_a_time_and_eight_in_all(tmp_path: Path) -> None:
    """A receiver that takes its time has at most one of each rule and eight of all under way."""
    ear = Ear()
    ear.open.clear()
    async with post(tmp_path / "a.db", {"ops": ear}) as here:
        await here.record(*(recorded(number, rule="glass") for number in range(5)))
        await eventually(lambda: ear.under_way == 1)
        await here.record(*(recorded(number, rule=f"rule {number}") for number in range(20)))
        await eventually(lambda: ear.under_way == 8)
        assert sum(one.alert.rule == "glass" for one in ear.asked) == 1
        ear.open.set()
        await eventually(lambda: len(ear.got) == 25)
    assert ear.most_under_way == 8


async def test_receivers_that_hang_hold_up_nobody(tmp_path: Path) -> None:
    """With more receivers hanging than deliveries may be under way in all, another gets its alerts."""
    deaf, ear = {f"deaf {number}": Ear() for number in range(12)}, Ear()
    for one in deaf.values():
        one.open.clear()
    async with post(tmp_path / "a.db", {**deaf, "ops": ear}) as here:
        everybody = tuple((name, "pending") for name in deaf)
        await here.record(*(recorded(number, rule=f"rule {number}", to=everybody) for number in range(8)))
        await eventually(lambda: sum(one.under_way for one in deaf.values()) == 12 + 64)
        await here.record(*(recorded(number, rule="glass", stream="yard") for number in range(3)))
        await eventually(lambda: len(ear.got) == 3)


async def test_a_failing_receiver_is_asked_by_one_delivery_at_a_time(tmp_path: Path) -> None:
    """Many rules wait for a receiver that fails: it is asked by one of them at a time, ever more slowly; when it
    answers again all follow at once."""
    ear = Ear()
    ear.always = NotDelivered("down")
    async with post(tmp_path / "a.db", {"ops": ear}) as here:
        await here.record(recorded(0, rule="first"))
        await eventually(lambda: len(ear.asked) == 1)
        await here.record(*(recorded(number, rule=f"rule {number}") for number in range(20)))
        ear.most_under_way = 0
        for _ in range(160):
            await here.advance(2.5)
        assert ear.most_under_way == 1
        # Alone, one delivery would be tried at 1, 6, 36, 96, 216 s; new ones ask every 30 s at the most.
        assert 8 <= len(ear.asked) <= 16
        assert here.courier.tallies["ops"].failing and here.courier.tallies["ops"].error == "down"
        ear.always = None
        for _ in range(31):
            await here.advance(1)
        await eventually(lambda: len(ear.got) == 21)
        assert not here.courier.tallies["ops"].failing


async def test_a_receiver_that_refuses_gets_no_more_of_it(tmp_path: Path) -> None:
    """What a receiver refuses for good is a dead letter at once, with its reason; the next one is sent."""
    ear = Ear(NotDelivered("410 Gone", retry=False))
    async with post(tmp_path / "a.db", {"ops": ear}) as here:
        await here.record(recorded(1), recorded(2))
        await here.until({"glass 1": "dead", "glass 2": "sent"})
        (dead,) = await here.outbox.do(lambda outbox: outbox.deliveries("dead"))
        assert (dead.error, dead.attempts) == ("410 Gone", 1)
        assert here.courier.tallies["ops"].dead == 1


async def test_a_delivery_is_given_up_after_a_day(tmp_path: Path) -> None:
    """What fails for a day is a dead letter, and so is what waited behind it as long, after one try of its own."""
    ear = Ear()
    ear.always = NotDelivered("down")
    async with post(tmp_path / "a.db", {"ops": ear}) as here:
        await here.record(recorded(1), recorded(2))
        for _ in range(60):
            await here.advance(1800)
            if "pending" not in (await here.states()).values():
                break
        assert await here.states() == {"glass 1": "dead", "glass 2": "dead"}
        assert sum(one.alert.text == "glass 2" for one in ear.asked) == 1
        assert here.clock.now_ns() >= GIVEN_UP_NS


async def test_a_pause_that_the_receiver_asks_for_is_kept(tmp_path: Path) -> None:
    """While a receiver asked to be left alone nothing is sent to it, of any rule."""
    ear = Ear(NotDelivered("429", after_s=300.0))
    async with post(tmp_path / "a.db", {"ops": ear}) as here:
        await here.record(recorded(1))
        await eventually(lambda: len(ear.asked) == 1)
        await here.record(recorded(2, rule="fire"))
        await here.advance(299)
        assert len(ear.asked) == 1
        await here.advance(2)
        await eventually(lambda: len(ear.got) == 2)


async def test_a_sender_that_stumbles_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An error that a sender should not raise is logged without its text, and its delivery is tried again."""
    ear = Ear(RuntimeError("https://user:secret@example.org"))
    async with post(tmp_path / "a.db", {"ops": ear}) as here:
        await here.record(recorded(1))
        await eventually(lambda: here.courier.tallies["ops"].stumbled == 1)
        await here.advance(1.1)
        await here.until({"glass 1": "sent"})
    assert "RuntimeError" in caplog.text and "secret" not in caplog.text


async def test_what_was_tried_is_remembered_after_a_restart(tmp_path: Path) -> None:
    """After a restart a delivery goes on under its id, with the next attempt's number, at its time and not before."""
    path, clock = tmp_path / "a.db", ManualClock()
    first = Ear()
    first.always = NotDelivered("down")
    async with post(path, {"ops": first}, clock=clock) as here:
        await here.record(recorded(1))
        await eventually(lambda: len(first.asked) == 1)
        await here.advance(1.1)
        await eventually(lambda: len(first.asked) == 2)
    second = Ear()
    async with post(path, {"ops": second}, clock=clock) as here:
        await here.advance(4)
        assert second.asked == []
        await here.advance(1.1)
        await here.until({"glass 1": "sent"})
    assert [one.attempt for one in second.asked] == [3]
    assert {one.id for one in first.asked} == {one.id for one in second.asked}


async def test_an_end_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    """A delivery that is under way when the courier ends is sent again by the next one, under its id."""
    path, deaf, ear = tmp_path / "a.db", Ear(), Ear()
    deaf.open.clear()
    async with post(path, {"ops": deaf}) as here:
        await here.record(recorded(1), recorded(2))
        await eventually(lambda: deaf.under_way == 1)
    assert deaf.under_way == 0 and deaf.closed
    async with post(path, {"ops": ear}) as here:
        await here.until({"glass 1": "sent", "glass 2": "sent"})
    assert ear.got[0].id == deaf.asked[0].id


async def test_what_somebody_asks_for_is_sent_at_once(tmp_path: Path) -> None:
    """A dead letter that another process asks for is sent under its id, while a later alert of the rule still fails."""
    path = tmp_path / "a.db"
    ear = Ear(NotDelivered("400", retry=False))
    async with post(path, {"ops": ear}) as here:
        await here.record(recorded(1))
        await here.until({"glass 1": "dead"})
        book = Book.open(path)
        (dead,) = book.deliveries("dead")
        assert book.resend([dead.id], here.clock.wall_ns()) == [dead.id]
        book.close()
        here.courier.wake()
        await here.until({"glass 1": "sent"})
        assert [one.id for one in ear.asked] == [dead.id] * 2


async def test_receivers_change_while_the_courier_works(tmp_path: Path) -> None:
    """A receiver that comes is sent what waits for it, one that goes is closed and what it did not take stays, and one
    that stays is not disturbed."""
    stays, goes, comes = Ear(), Ear(), Ear()
    stays.open.clear()
    goes.always = NotDelivered("down")
    async with post(tmp_path / "a.db", {"stays": stays, "changes": goes}) as here:
        await here.record(recorded(1, to=(("stays", "pending"), ("changes", "pending"), ("new", "pending"))))
        await eventually(lambda: stays.under_way == 1 and goes.asked)
        new = {"stays": Receiver(stays), "changes": Receiver(comes), "new": Receiver(comes)}
        await here.courier.change(new, {})
        assert goes.closed and not stays.closed and stays.under_way == 1
        await here.advance(2)
        await eventually(lambda: {one.receiver for one in comes.got} == {"changes", "new"})
        stays.open.set()
        await eventually(lambda: len(stays.got) == 1)
        assert len(stays.asked) == 1


async def test_a_receiver_that_is_no_more_gets_a_day(tmp_path: Path) -> None:
    """Deliveries to a name that the configuration has no longer wait for a day, then are dead letters that say so."""
    async with post(tmp_path / "a.db", {}) as here:
        await here.record(recorded(1))
        await here.advance(23 * 3600)
        assert await here.states() == {"glass 1": "pending"}
        await here.advance(3601)
        await here.until({"glass 1": "dead"})
        (dead,) = await here.outbox.do(lambda outbox: outbox.deliveries("dead"))
        assert "no receiver of this name" in dead.error


async def test_a_damaged_outbox_ends_the_courier(tmp_path: Path) -> None:
    """Where the file is gone the courier ends with the error instead of delivering what nobody will remember."""
    path = tmp_path / "a.db"
    async with OutboxThread(lambda: Outbox.open(path)) as outbox:
        courier = Courier(outbox, {"ops": Receiver(Ear())}, {}, ManualClock())
        task = asyncio.create_task(courier.run())
        await asyncio.sleep(0.05)
        path.unlink()
        courier.wake()
        with pytest.raises(OutboxDamaged):
            await asyncio.wait_for(task, 5)


async def test_a_full_disk_stops_no_delivery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk is full what was recorded is sent, as far as it can be remembered to have been; with room again it
    is written down, the rest follows, and nothing was sent twice."""
    monkeypatch.setattr(settling, "_MOST", 5)
    monkeypatch.setattr(settling, "_AGAIN_S", 0.02)
    ear = Ear()
    with small_disk("512k") as disk:
        path = disk / "a.db"
        async with post(path, {"ops": ear}) as here:
            ear.open.clear()
            await here.record(*(recorded(number, rule=f"rule {number}") for number in range(20)))
            await eventually(lambda: ear.under_way == 8)
            ballast = fill(disk)
            ear.open.set()
            await eventually(lambda: len(ear.got) >= 8)
            await asyncio.sleep(0.05)
            assert len(ear.asked) < 20, "what can't be written down is bounded"
            ballast.unlink()
            await eventually(lambda: len(ear.got) == 20)
            await here.until({f"rule {number} {number}": "sent" for number in range(20)})
    assert len({one.id for one in ear.asked}) == 20 == len(ear.asked)


async def test_an_outage_that_ends_ends_all_pauses(tmp_path: Path) -> None:
    """What failed so often that its next try is minutes away is tried at once when the receiver takes another."""
    ear = Ear(*[NotDelivered("down") for _ in range(6)])
    async with post(tmp_path / "a.db", {"ops": ear}) as here:
        await here.record(recorded(1))
        for tries, pause_s in enumerate((1, 5, 30, 60, 120), 1):
            await eventually(lambda tries=tries: len(ear.asked) == tries)  # type: ignore[misc]
            await here.advance(pause_s + 0.1)
        await eventually(lambda: len(ear.asked) == 6)
        await here.advance(1)
        await here.record(recorded(2, rule="fire"))
        await here.advance(30)
        await eventually(lambda: ear.texts() == ["fire 2", "glass 1"])
        assert ear.got[1].attempt == 7
