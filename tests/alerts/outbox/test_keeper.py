"""The outbox: what is recorded stays, once, in order, until it was delivered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.alerts.outbox.book import Book
from streamer.alerts.outbox.keeper import Outbox
from streamer.alerts.outbox.rows import Filter, Lane, Outcome, RuleFacts, Snooze, is_snoozed
from streamer.alerts.records import DeliveryState, Recorded, alert_id
from streamer.clock import NS_PER_S
from tests.alerts.outbox_making import T0_NS, only_delivery, recorded

LANE = Lane("ops", "glass", False)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with_file = Outbox.open(tmp_path / "state" / "alerts.db")
    yield with_file
    with_file.close()


def outcome(row: int, state: DeliveryState, at_ns: int = T0_NS) -> Outcome:
    return Outcome(row, state, at_ns, 1, at_ns, at_ns, "" if state == "sent" else "refused")


def settle_all(outbox: Outbox, lane: Lane, state: DeliveryState) -> None:
    outbox.settle([outcome(one.row, state) for one in outbox.waiting(lane, 1000)])


def test_what_was_recorded_is_there_after_reopening(tmp_path: Path) -> None:
    """Alerts, deliveries, position and memory are the same after the file was closed and opened again."""
    first = Outbox.open(tmp_path / "alerts.db")
    kept = first.record([recorded(1), recorded(2)], T0_NS)
    first.checkpoint("7-0@abc", {"a": b"1", "b": b"2"})
    first.checkpoint("8-0@abc", {"a": None, "c": b"3"})
    first.close()
    again = Outbox.open(tmp_path / "alerts.db")
    assert (again.position(), again.memory()) == ("8-0@abc", {"b": b"2", "c": b"3"})
    assert [one.alert for one in again.waiting(LANE, 10)] == [one.alert for one in kept]
    assert [row.alert.text for row in again.listing(Filter()).rows] == ["glass 2", "glass 1"]
    again.close()


def test_the_same_alert_is_recorded_once(outbox: Outbox) -> None:
    """An alert that is recorded again, alone or among others, adds no row and no delivery, and is not returned."""
    assert len(outbox.record([recorded(1), recorded(1)], T0_NS)) == 1
    again = outbox.record([recorded(1), recorded(2), recorded(1, state="cleared", to=())], T0_NS + 1)
    assert [(kept.alert.text, kept.alert.state) for kept in again] == [("glass 2", "firing"), ("glass 1", "cleared")]
    assert len(outbox.waiting(LANE, 10)) == 2


def test_deliveries_have_ids_that_depend_on_the_alert_alone(tmp_path: Path) -> None:
    """Two outboxes that record the same alert, at other times and among others, give its delivery the same id; another
    receiver's and another state's are others."""
    ids = []
    for name, others in (("one", 0), ("two", 3)):
        outbox = Outbox.open(tmp_path / f"{name}.db")
        outbox.record([recorded(number) for number in range(10, 10 + others)], T0_NS)
        to: tuple[tuple[str, DeliveryState], ...] = (("ops", "pending"), ("mail", "quiet"))
        outbox.record([recorded(1, to=to), recorded(1, state="cleared", to=to)], T0_NS + others)
        ids.append([one.id for row in outbox.alert(alert_id("glass", "door", 1)) for one in row.deliveries])
        outbox.close()
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 4


def test_all_or_none_is_recorded(outbox: Outbox) -> None:
    """Where one of several can't be written none is, and the next attempt writes all."""
    broken = Recorded(recorded(2).alert, (("ops", "pending"), ("ops", "pending")))
    with pytest.raises(Exception, match="UNIQUE"):
        outbox.record([recorded(1), broken], T0_NS)
    assert outbox.listing(Filter()).rows == ()
    assert len(outbox.record([recorded(1), recorded(2)], T0_NS)) == 2


def test_alerts_are_mirrored_in_the_order_of_recording(outbox: Outbox) -> None:
    """What is not in the feed yet is given from the earliest on, and no longer once it is there."""
    kept = outbox.record([recorded(number) for number in range(5)], T0_NS)
    assert [one.alert.text for one in outbox.unmirrored(2)] == ["glass 0", "glass 1"]
    outbox.mirrored([one.row for one in kept[:3]])
    assert [one.alert.text for one in outbox.unmirrored(10)] == ["glass 3", "glass 4"]
    assert outbox.counts().unmirrored == 2


def test_an_alert_fires_until_it_is_over(outbox: Outbox) -> None:
    """What fires is listed until its end is recorded; both are found under one id."""
    outbox.record([recorded(1), recorded(2, stream="yard")], T0_NS)
    assert [row.alert.stream for row in outbox.firing()] == ["yard", "door"]
    outbox.record([recorded(1, state="cleared", to=())], T0_NS)
    assert [row.alert.stream for row in outbox.firing()] == ["yard"]
    assert [row.alert.stream for row in outbox.listing(Filter(firing=True)).rows] == ["yard"]
    both = outbox.alert(alert_id("glass", "door", 1))
    assert [(row.alert.state, row.firing) for row in both] == [("firing", False), ("cleared", False)]
    assert outbox.counts().firing == 1


def test_settled_deliveries_wait_no_longer(outbox: Outbox) -> None:
    """Sent and dead ones leave the lane; one to be tried again stays with its attempts, error and time."""
    outbox.record([recorded(number) for number in range(3)], T0_NS)
    first, second, third = outbox.waiting(LANE, 10)
    again = Outcome(third.row, "pending", T0_NS + 5, 3, T0_NS + 1, T0_NS + 99, "500")
    outbox.settle([outcome(first.row, "sent"), outcome(second.row, "dead"), again])
    (left,) = outbox.waiting(LANE, 10)
    assert (left.row, left.attempts, left.due_ns) == (third.row, 3, T0_NS + 99)
    shown = outbox.delivery(third.id)
    assert shown is not None and (shown.error, shown.tried_ns, shown.changed_ns) == ("500", T0_NS + 1, T0_NS + 5)
    assert [one.id for one in outbox.deliveries("dead")] == [second.id]
    assert outbox.counts().deliveries == {("ops", "pending"): 1, ("ops", "dead"): 1}
    assert outbox.counts().oldest_ns == T0_NS


def test_the_first_try_is_remembered(outbox: Outbox) -> None:
    """The time of the first try stays when there are others: limits count a delivery once, then."""
    outbox.record([recorded(1)], T0_NS)
    (one,) = outbox.waiting(LANE, 1)
    outbox.settle([Outcome(one.row, "pending", T0_NS + 2, 1, T0_NS + 1)])
    outbox.settle([Outcome(one.row, "sent", T0_NS + 9, 2, T0_NS + 8)])
    assert outbox.tried_since(T0_NS) == [("ops", ("glass",), T0_NS + 1)]


def test_quiet_and_snoozed_deliveries_do_not_wait(outbox: Outbox) -> None:
    """A delivery recorded as quiet or snoozed is shown and in no lane."""
    outbox.record([recorded(1, to=(("ops", "quiet"), ("mail", "snoozed")))], T0_NS)
    assert outbox.lanes() == []
    (row,) = outbox.listing(Filter(delivery="quiet")).rows
    assert {one.receiver: one.state for one in row.deliveries} == {"ops": "quiet", "mail": "snoozed"}


@pytest.mark.parametrize("state", ["sent", "dead", "held", "quiet", "snoozed"])
def test_any_delivery_can_be_asked_for_again(outbox: Outbox, state: DeliveryState) -> None:
    """Whatever became of a delivery, it is sent again under its id when asked for, in a lane of its own."""
    outbox.record([recorded(1)], T0_NS)
    (before,) = outbox.waiting(LANE, 1)
    outbox.settle([outcome(before.row, state)])
    assert outbox.resend([before.id, "unknown", before.id], T0_NS + 7) == [before.id]
    assert outbox.lanes() == [LANE._replace(asked=True)]
    (again,) = outbox.waiting(LANE._replace(asked=True), 1)
    assert (again.id, again.attempts, again.begun_ns, again.asked) == (before.id, 0, T0_NS + 7, True)
    assert outbox.resend([before.id], T0_NS + 8) == [], "it is pending"
    outbox.settle([outcome(again.row, "sent")])
    assert outbox.lanes() == []


def test_dead_letters_are_sent_again_together(outbox: Outbox) -> None:
    """All dead letters, or those of one receiver or rule, are pending again; others stay."""
    outbox.record([recorded(1), recorded(2, rule="fire"), recorded(3, to="mail")], T0_NS)
    for lane in outbox.lanes():
        settle_all(outbox, lane, "dead")
    assert len(outbox.resend_dead(T0_NS, receiver="mail")) == 1
    assert len(outbox.resend_dead(T0_NS, rule="fire")) == 1
    assert outbox.resend_dead(T0_NS) == [only_delivery(outbox, 1)]
    assert outbox.deliveries("dead") == []


def test_what_was_held_back_is_told_once(outbox: Outbox) -> None:
    """A summary counts what was held of its rules, with its times, is a delivery like others, and is made only once;
    what is held later is told in another."""
    for number, rule in enumerate(["glass", "fire", "glass", "noise"]):
        outbox.record([recorded(number, rule=rule)], T0_NS + number)
    for lane in outbox.lanes():
        settle_all(outbox, lane, "held")
    assert outbox.held() == {("ops", "glass"): 2, ("ops", "fire"): 1, ("ops", "noise"): 1}
    made = outbox.summarise("ops", ["glass", "fire"], T0_NS + 50)
    assert made is not None and made.summary is not None
    assert (made.summary.count, made.summary.rules) == (3, (("fire", 1), ("glass", 2)))
    assert (made.summary.first_ns, made.summary.last_ns, made.alert.text) == (T0_NS, T0_NS + 2, "glass 2")
    assert outbox.waiting(Lane("ops", "", False), 5) == [made]
    assert outbox.summarise("ops", ["glass", "fire"], T0_NS + 51) is None
    assert outbox.held() == {("ops", "noise"): 1}
    (row,) = outbox.alert(alert_id("fire", "door", 1))
    assert [one.told_in for one in row.deliveries] == [made.id]
    later = outbox.summarise("ops", ["noise"], T0_NS + 52)
    assert later is not None and later.id != made.id


def test_first_tries_are_known_for_limits(outbox: Outbox) -> None:
    """First tries since a time are listed with the rules that they told of, a summary's too."""
    outbox.record([recorded(1), recorded(2), recorded(3)], T0_NS)
    first, second, third = outbox.waiting(LANE, 5)
    outbox.settle([outcome(first.row, "sent", T0_NS - 5), outcome(second.row, "sent", T0_NS + 5)])
    outbox.settle([Outcome(third.row, "held", T0_NS, 0)])
    made = outbox.summarise("ops", ["glass"], T0_NS)
    assert made is not None
    outbox.settle([outcome(made.row, "sent", T0_NS + 9)])
    assert outbox.tried_since(T0_NS) == [("ops", ("glass",), T0_NS + 5), ("ops", ("glass",), T0_NS + 9)]


def test_pages_hold_everything_once(outbox: Outbox) -> None:
    """Page by page, with a filter or without, each alert comes once, the latest first."""
    outbox.record([recorded(number, stream=f"s{number % 2}") for number in range(25)], T0_NS)
    for wanted, expected in ((Filter(), 25), (Filter(stream="s1"), 12), (Filter(rule="fire"), 0)):
        texts, before = [], None
        while True:
            page = outbox.listing(wanted, before=before, limit=6)
            texts += [row.alert.text for row in page.rows]
            if (before := page.next) is None:
                break
        assert len(texts) == len(set(texts)) == expected
        assert texts == sorted(texts, key=lambda text: -int(text.split()[1]))


def test_filters_hold_together(outbox: Outbox) -> None:
    """State, time and a delivery's state narrow the list, alone and together."""
    outbox.record([recorded(1)], T0_NS)
    outbox.record([recorded(2)], T0_NS + NS_PER_S)
    outbox.record([recorded(1, state="cleared", to=())], T0_NS + 2 * NS_PER_S)
    outbox.settle([outcome(outbox.waiting(LANE, 1)[0].row, "dead")])

    def found(wanted: Filter) -> list[tuple[str, str]]:
        return [(row.alert.text, row.alert.state) for row in outbox.listing(wanted).rows]

    assert found(Filter(state="firing")) == [("glass 2", "firing"), ("glass 1", "firing")]
    assert found(Filter(since_ns=T0_NS + 1, state="firing")) == [("glass 2", "firing")]
    assert found(Filter(delivery="dead")) == [("glass 1", "firing")]
    assert found(Filter(delivery="dead", since_ns=T0_NS + 1)) == []


def test_pages_of_dead_letters(outbox: Outbox) -> None:
    """Dead letters come page by page, the latest first, each once."""
    outbox.record([recorded(number) for number in range(5)], T0_NS)
    settle_all(outbox, LANE, "dead")
    first = outbox.deliveries("dead", limit=3)
    rest = outbox.deliveries("dead", limit=3, before=first[-1].id, receiver="ops")
    assert [one.alert_id for one in first + rest] == [alert_id("glass", "door", number) for number in range(4, -1, -1)]


def test_a_snooze_lasts_until_its_end_or_until_it_is_ended(outbox: Outbox) -> None:
    """A snooze covers its rule and streams until its time; a later one for the same replaces it; ended, it is gone."""
    outbox.snooze("glass", "cam-*", T0_NS + 10)
    outbox.snooze("glass", "cam-*", T0_NS + 20)
    outbox.snooze(None, "yard", T0_NS + 5)
    assert set(outbox.snoozes(T0_NS)) == {Snooze("glass", "cam-*", T0_NS + 20), Snooze(None, "yard", T0_NS + 5)}
    now = outbox.snoozes(T0_NS)
    assert is_snoozed(now, "glass", "cam-1", T0_NS) and not is_snoozed(now, "fire", "cam-1", T0_NS)
    assert is_snoozed(now, "fire", "yard", T0_NS) and not is_snoozed(now, "fire", "yard", T0_NS + 5)
    assert outbox.snoozes(T0_NS + 5) == [Snooze("glass", "cam-*", T0_NS + 20)]
    assert outbox.unsnooze("glass", "cam-*") and not outbox.unsnooze("glass", "cam-*")
    assert not outbox.unsnooze(None)
    assert outbox.snoozes(T0_NS + 5) == []


def test_rules_that_fired(outbox: Outbox) -> None:
    """Of each rule it is known how often it fired, what fires, and when it was recorded last."""
    outbox.record([recorded(1), recorded(2, stream="yard"), recorded(3, rule="fire")], T0_NS)
    outbox.record([recorded(1, state="cleared", to=())], T0_NS + 4)
    assert outbox.rules() == {"glass": RuleFacts(2, 1, T0_NS + 4), "fire": RuleFacts(1, 1, T0_NS)}


@pytest.mark.parametrize("state", ["pending", "dead", "held"])
def test_what_is_not_delivered_is_never_pruned(outbox: Outbox, state: DeliveryState) -> None:
    """An alert that is over and in the feed is kept, however old, while a delivery of it is pending, dead, or held back
    and not told; when that was sent it goes."""
    outbox.record([recorded(1), recorded(1, state="cleared", to=())], T0_NS)
    outbox.mirrored([one.row for one in outbox.unmirrored(5)])
    (delivery,) = outbox.waiting(LANE, 1)
    outbox.settle([outcome(delivery.row, state)])
    assert outbox.prune(T0_NS + NS_PER_S) == 1, "its end, which nobody is told of"
    assert outbox.prune(T0_NS + NS_PER_S) == 0
    outbox.settle([outcome(delivery.row, "sent")])
    assert outbox.prune(T0_NS) == 0, "not recorded before that"
    assert outbox.prune(T0_NS + 1) == 1
    assert outbox.listing(Filter()).rows == () and outbox.delivery(delivery.id) is None


def test_what_fires_or_is_not_in_the_feed_is_never_pruned(outbox: Outbox) -> None:
    """An old alert stays while it fires, and while it is not in the feed."""
    (first,) = outbox.record([recorded(1, to=())], T0_NS)
    outbox.mirrored([first.row])
    assert outbox.prune(T0_NS + 1) == 0
    outbox.record([recorded(1, state="cleared", to=())], T0_NS)
    assert outbox.prune(T0_NS + 1) == 1
    assert [one.alert.state for one in outbox.unmirrored(5)] == ["cleared"]


def test_what_a_summary_tells_of_stays_until_that_was_sent(outbox: Outbox) -> None:
    """Alerts held back stay until the summary that tells of them arrived, and may go with it or before."""
    outbox.record([recorded(number) for number in range(3)], T0_NS)
    outbox.record([recorded(number, state="cleared", to=()) for number in range(3)], T0_NS)
    outbox.mirrored([one.row for one in outbox.unmirrored(10)])
    settle_all(outbox, LANE, "held")
    made = outbox.summarise("ops", ["glass"], T0_NS)
    assert made is not None
    assert outbox.prune(T0_NS + 1) == 3, "only the ends"
    outbox.settle([outcome(made.row, "sent")])
    assert [outbox.prune(T0_NS + 1, most=2), outbox.prune(T0_NS + 1, most=2)] == [2, 1]


def test_deliveries_without_a_receiver_are_given_up(outbox: Outbox) -> None:
    """Those begun before a time become dead letters with the reason; later ones and other receivers' wait on."""
    outbox.record([recorded(1), recorded(2, to="mail")], T0_NS)
    outbox.record([recorded(3)], T0_NS + 5)
    assert outbox.give_up("ops", T0_NS + 1, "gone", T0_NS + 9) == 1
    (dead,) = outbox.deliveries("dead")
    assert (dead.error, dead.id) == ("gone", only_delivery(outbox, 1))
    assert len(outbox.waiting(LANE, 5)) == 1 and len(outbox.lanes()) == 2


def test_another_process_is_seen_to_write(outbox: Outbox) -> None:
    """The number of other writes stays under one's own and changes with another's; both see what the other wrote."""
    outbox.record([recorded(1)], T0_NS)
    settle_all(outbox, LANE, "dead")
    before = outbox.other_writes()
    outbox.snooze("fire", None, T0_NS)
    assert outbox.other_writes() == before
    book = Book.open(outbox.path)
    assert len(book.resend_dead(T0_NS)) == 1
    assert outbox.other_writes() != before
    assert len(outbox.waiting(LANE._replace(asked=True), 5)) == 1
    outbox.record([recorded(2)], T0_NS)
    assert len(book.listing(Filter()).rows) == 2
    book.close()
