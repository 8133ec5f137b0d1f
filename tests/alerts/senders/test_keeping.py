"""What receivers show, and the whole truth that puts it right."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.alerts.outbox.rows import AlertRow, DeliveryRow
from streamer.alerts.records import DeliveryState
from streamer.alerts.senders.keeping import Firing, kept_for
from tests.alerts.senders.real_servers import alert


def _row(id: str, *deliveries: tuple[str, DeliveryState]) -> AlertRow:
    sent = tuple(
        DeliveryRow(f"m-{id}-{name}", name, state, id, "firing", "glass", "door", 1, 0, None, 0, "", None, None)
        for name, state in deliveries
    )
    return AlertRow(1, alert(id=id), 0, True, True, sent)


def test_what_a_receiver_should_show() -> None:
    """Alerts that went to this receiver, also held back or not taken by it; none that was to be quiet, nor others'."""
    rows = [
        _row("sent", ("ops", "sent"), ("home", "quiet")),
        _row("held", ("ops", "held")),
        _row("dead", ("ops", "dead")),
        _row("pending", ("ops", "pending")),
        _row("quiet", ("ops", "quiet")),
        _row("snoozed", ("ops", "snoozed")),
        _row("others", ("home", "sent")),
        _row("nobody"),
    ]
    assert [shown.id for shown in kept_for("ops", rows)] == ["sent", "held", "dead", "pending"]
    assert [shown.id for shown in kept_for("home", rows)] == ["others"]


def test_what_is_shown_is_bounded() -> None:
    """The oldest alerts are forgotten beyond the limit, and that is counted."""
    firing = Firing(most=2)
    for id in ("a", "b", "c"):
        firing.take(alert(id=id), 0)
    assert [shown.id for shown in firing.alerts] == ["b", "c"] and firing.forgotten == 1
    for id in ("d", "e", "f"):
        firing.take(alert("cleared", id=id), 0)
    assert firing.take(alert(id="f"), 0) is None and firing.take(alert(id="d"), 0) is not None


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["firing", "cleared"])), max_size=20),
    st.sets(st.sampled_from("abc")),
)
def test_after_the_truth_it_shows_the_truth(history: list[tuple[str, str]], true: set[str]) -> None:
    """Whatever was delivered before, after the truth exactly what fires in truth is shown, less what an end was already
    delivered for; and what it says was missing or over is the difference."""
    firing = Firing()
    over = set()
    for id, state in history:
        firing.take(alert("firing" if state == "firing" else "cleared", id=id), 0)
        over |= {id} if state == "cleared" else set()
    before = {shown.id for shown in firing.alerts}
    missing, ended = firing.agree([alert(id=id) for id in sorted(true)], 1)
    after = {shown.id for shown in firing.alerts}
    assert after == true - over
    assert {shown.id for shown in missing} == after - before and {shown.id for shown in ended} == before - after
