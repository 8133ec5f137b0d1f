"""The books over a feed: every way in which a segment can go wrong is seen, and nothing else is called wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamer.bench.outcomes import Account, Outage
from streamer.messages import Previous, StreamMessage, encode
from tests.stores import segment

Message = dict[str, Any]


def said(seq: int, epoch: str = "e1", stream: str = "door", **changes: object) -> Message:
    """A segment as it stands in the feed."""
    return {**json.loads(encode(segment(stream, seq, epoch))), **changes}


def turn(epoch: str | None, last: tuple[str, int] | None = None, state: Any = "live", stream: str = "door") -> Message:
    """An announcement of `epoch` that names the last of the epoch before."""
    previous = None if last is None else Previous(*last)
    return dict(json.loads(encode(StreamMessage(stream=stream, state=state, epoch=epoch, previous=previous))))


def kept(*messages: Message, whole: bool = True) -> Account:
    account = Account(whole=whole)
    for message in messages:
        account.take(message)
    return account


def wrong(account: Account) -> dict[str, int]:
    names = ("late", "missing", "duplicate", "unexplained_late", "lost_at_breaks", "again_at_breaks")
    return {name: count for name in names if (count := getattr(account, name))}


def test_what_keeps_the_promise_is_in_order() -> None:
    """Two epochs of two streams, each from 0 without a hole, the end of each named, are without fault."""
    account = kept(
        turn("a1"),
        said(0, "a1"),
        turn("b1", stream="yard"),
        said(1, "a1"),
        said(0, "b1", "yard"),
        turn(None, ("a1", 1), "reconnecting"),
        turn("a2", ("a1", 1)),
        said(0, "a2", status="shed", reason="no_media", labels=[]),
        turn(None, ("a2", 0), "ended"),
    )
    assert wrong(account) == {} and account.faults == []
    assert (account.segments, account.epochs) == (4, 3)
    assert account.statuses == {"ok": 3, "shed": 1} and account.shed == {"no_media": 1}


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        ([said(0), said(2)], {"missing": 1}),
        ([said(1)], {"missing": 1}),
        ([said(0), said(0)], {"duplicate": 1}),
        ([said(0), said(1), said(0)], {"duplicate": 1}),
        ([said(0), turn(None, ("e1", 3), "ended")], {"missing": 3}),
        ([said(0), turn("e2", ("e1", 1)), said(0, "e2")], {"missing": 1}),
        ([turn("e1"), turn("e2", ("e1", 0))], {"missing": 1}),
        ([said(0, latency_ms={"total": 1000.1})], {"late": 1}),
        ([said(0, latency_ms={"total": 1000.0})], {}),
        # An end that is told again loses nothing twice.
        ([said(0), turn(None, ("e1", 2), "reconnecting"), turn("e2", ("e1", 2)), said(0, "e2")], {"missing": 2}),
    ],
)
def test_every_breach_is_counted(messages: list[Message], found: dict[str, int]) -> None:
    """A hole, at the beginning and at the end as well, a repeat, and a segment past its bound are each counted."""
    account = kept(*messages)
    assert wrong(account) == found
    assert len(account.faults) == (1 if found else 0)


def test_late_for_want_of_the_store() -> None:
    """`delivered_late` is explained by an outage from its beginning until a while after its end, by nothing else."""
    account = Account(outages=[Outage(10_000, 13_000)])
    for seq, written_ms in enumerate((9_999, 10_000, 13_500, 16_000, 16_001)):
        account.take(said(seq, delivered_late=True, latency_ms={"total": 4000.0}), written_ms)
    assert account.delivered_late == 5 and wrong(account) == {"unexplained_late": 2}
    account.outages.append(Outage(20_000))
    account.take(said(5, delivered_late=True), 90_000)
    assert account.unexplained_late == 2


def test_a_break_explains_the_next_discrepancy_of_each_stream_only() -> None:
    """What a killed store took with it, or was written again after it, is counted apart; later breaches are not."""
    account = kept(said(0), said(1), said(0, "x", "yard"), said(1, "x", "yard"))
    account.break_off()
    for message in (said(1), said(3), said(4, "x", "yard"), said(5), said(4)):
        account.take(message)
    assert wrong(account) == {"lost_at_breaks": 3, "again_at_breaks": 1, "missing": 1, "duplicate": 1}


def test_a_feed_that_is_read_from_its_middle() -> None:
    """The first segment of each stream may be any; from there on nothing may be missing, nor before the next epoch."""
    account = kept(said(7), said(8), said(10), said(1, "e2"), whole=False)
    assert wrong(account) == {"missing": 2}


def test_faults_are_described_but_not_without_end() -> None:
    """The first ones are told with stream, epoch and place; thousands are not kept."""
    account = kept(*(said(0) for _ in range(1000)))
    assert account.duplicate == 999 and account.segments == 1 and len(account.faults) <= 20
    assert "door epoch e1 seq 0" in account.faults[0]
