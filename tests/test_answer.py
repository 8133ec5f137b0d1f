"""Answers leave in the order of their windows, and their latencies add up."""

from __future__ import annotations

import pytest

from streamer.answer import Answer, InOrder, segment_of, shed
from tests.builders import MS, S, scores, window


def test_answers_leave_in_order_and_actions_wait_their_turn() -> None:
    """What was answered early waits for the windows before it; what must be said between them is said between them."""
    order, said = InOrder(), []
    first, second = window(seq=0), window(seq=1)
    order.expect(first)
    order.then(lambda: said.append("between"))
    order.expect(second)
    assert order.answer(shed(second, "overload", 0)) and order.release() == []
    assert order.unanswered() == [first]
    assert order.answer(shed(first, "overload", 0))
    free = order.release()
    assert [x.window.seq if isinstance(x, Answer) else "action" for x in free] == [0, "action", 1]
    assert len(order) == 0


def test_a_window_is_answered_once() -> None:
    """A second answer, and one for a window that nobody expected, are refused."""
    order = InOrder()
    first = window(seq=0)
    order.expect(first)
    assert order.answer(shed(first, "overload", 0))
    assert not order.answer(shed(first, "engine", 0))
    assert not order.answer(shed(window(seq=9), "engine", 0))


def test_stage_latencies_add_up_to_the_total() -> None:
    """ingest + queue + compute + publish is total, measured from the window's end."""
    cut = window(end_ns=10 * S, closed_after_ns=31 * MS)
    answer = Answer(cut, "ok", None, scores(0.9), cut.closed_ns + 60 * MS, cut.closed_ns + 178 * MS)
    segment = segment_of(answer, [], S, cut.closed_ns + 180 * MS, 3 * MS)
    latency = segment.latency_ms
    assert (latency.ingest, latency.queue, latency.compute, latency.publish) == (31.0, 60.0, 118.0, 5.0)
    assert latency.total == pytest.approx(latency.ingest + latency.queue + latency.compute + latency.publish)
    assert segment.bound_ms == 1000 and segment.start == "1970-01-01T00:00:08.000Z"
