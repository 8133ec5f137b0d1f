"""Traces: every stage of a segment's way, adding up; bounded, and freed with their stream."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streamer.answer import Answer, BatchFacts, segment_of, shed
from streamer.messages import Segment, StreamMessage
from streamer.observe.trace import KEPT, Traces
from streamer.publishing.backlog import Unit
from streamer.publishing.publish import Acknowledged
from streamer.status import Trace
from tests.builders import MS, S, scores, window

BATCH = BatchFacts(number=7, windows=3, pictures=4, patches=2, expected_ns=120 * MS)


def told(traces: Traces, answer: Answer, now_ns: int) -> Unit:
    """Tell of `answer` as the pipeline does; the unit that goes to the publisher."""
    segment = segment_of(answer, [], S, now_ns, 3 * MS)
    traces.answered(answer, segment, now_ns)
    return Unit(answer.window.stream, (segment,), answer.window.deadline_ns)


def acknowledged(unit: Unit, handed_ns: int, sent_ns: int, acked_ns: int) -> Acknowledged:
    """What the publisher tells when `unit` is in the store."""
    return Acknowledged(
        unit, handed_ns, sent_ns, acked_ns, delivered_late=False, duplicate=False, cursor="7-0@5f3a", store_ns=0
    )


def computed(stream: str = "door", seq: int = 0, epoch: str = "e1") -> Answer:
    """An answer that was captured at 500 ms (seq 0), closed 31 ms later, waited 60 ms and took 118 ms."""
    asked = window(stream, seq, pictures=(1, 2), patches=(1,), closed_after_ns=31 * MS, epoch=epoch)
    return Answer(asked, "ok", None, scores(0.9), asked.end_ns + 91 * MS, asked.end_ns + 209 * MS, ("frames",), BATCH)


def stages(trace: Trace) -> dict[str, float]:
    """Milliseconds of each stage."""
    return {stage.name: stage.duration_ns / MS for stage in trace.stages}


def assert_adds_up(trace: Trace) -> None:
    """Each stage begins where the one before ended, the first at the capture, and the last ends with the total."""
    at = 0
    for stage in trace.stages:
        assert stage.start_ns == at and stage.duration_ns >= 0
        at += stage.duration_ns
    assert at == trace.total_ns == sum(stage.duration_ns for stage in trace.stages)


def test_a_segment_is_traced_through_every_stage() -> None:
    """All that happened to it is there, and the stages add up to the time from capture to acknowledgement."""
    traces = Traces()
    unit = told(traces, computed(), 715 * MS)
    traces.written(acknowledged(unit, 716 * MS, 718 * MS, 722 * MS), frozen_ns=5)
    trace = traces.find("door", 0)
    assert trace is not None
    assert stages(trace) == {"ingest": 31, "queue": 60, "compute": 118, "order": 7, "send": 2, "store": 4}
    assert_adds_up(trace)
    assert trace.total_ns == 222 * MS and trace.bound_ns == S and trace.captured_ns == 500 * MS
    assert (trace.stream, trace.epoch, trace.seq) == ("door", "e1", 0)
    assert (trace.start, trace.end) == ("1969-12-31T23:59:58.500Z", "1970-01-01T00:00:00.500Z")
    assert (trace.pictures, trace.patches, trace.coverage.video) == (2, 1, 1.0)
    assert (trace.status, trace.reason, trace.degraded) == ("ok", None, ["frames"])
    assert trace.batch is not None and (trace.batch.number, trace.batch.expected_ns) == (7, 120 * MS)
    assert (trace.state, trace.cursor, trace.late, trace.store_late) == ("stored", "7-0@5f3a", False, False)
    assert trace.frozen_ns == 5


def test_one_that_is_on_its_way_says_so() -> None:
    """Before the acknowledgement the trace ends where the message was handed over, and adds up to there."""
    traces = Traces()
    told(traces, computed(), 715 * MS)
    trace = traces.find("door", 0)
    assert trace is not None and trace.state == "waiting" and trace.cursor is None
    assert stages(trace) == {"ingest": 31, "queue": 60, "compute": 118, "order": 6}
    assert_adds_up(trace)


def test_one_that_will_never_be_stored_says_so() -> None:
    """What made room in a full backlog is lost, and its trace tells."""
    traces = Traces()
    traces.dropped(told(traces, computed(), 715 * MS))
    trace = traces.find("door", 0)
    assert trace is not None and trace.state == "lost"


def test_one_that_was_shed_names_the_reason_and_no_batch() -> None:
    """A window that was never computed waited until it was given up."""
    traces = Traces()
    asked = window(closed_after_ns=31 * MS)
    unit = told(traces, shed(asked, "overload", 1400 * MS), 1401 * MS)
    traces.written(acknowledged(unit, 1401 * MS, 1402 * MS, 1405 * MS))
    trace = traces.find("door", 0)
    assert trace is not None and (trace.status, trace.reason, trace.batch) == ("shed", "overload", None)
    assert stages(trace) == {"ingest": 31, "queue": 869, "compute": 0, "order": 1, "send": 1, "store": 3}
    assert_adds_up(trace)


def test_one_that_came_late_says_whose_fault_it_was() -> None:
    """Late for want of the store is told apart from late; what is in time is neither."""
    traces = Traces()
    unit = told(traces, computed(), 715 * MS)
    away = replace(acknowledged(unit, 716 * MS, 718 * MS, 9010 * MS), delivered_late=True, store_ns=8 * S)
    traces.written(away)
    traces.written(acknowledged(told(traces, computed(seq=1), 1215 * MS), 1216 * MS, 1218 * MS, 2001 * MS))
    found = [(trace.late, trace.store_late, trace.delivered_late) for trace in traces.recent("door", 2)]
    assert found == [(True, False, False), (True, True, True)]


@given(st.lists(st.integers(-S, 3 * S), min_size=7, max_size=7), st.booleans())
def test_stages_add_up_whatever_the_clocks_said(times: list[int], stored: bool) -> None:
    """Even with times that contradict one another no stage is negative, and the sum is the total."""
    traces = Traces()
    closed_ns, started_ns, finished_ns, decided_ns, handed_ns, sent_ns, acked_ns = times
    asked = window(closed_after_ns=closed_ns)
    unit = told(traces, Answer(asked, "ok", None, scores(0.9), started_ns, finished_ns), decided_ns)
    if stored:
        traces.written(acknowledged(unit, handed_ns, sent_ns, acked_ns))
    trace = traces.find("door", 0)
    assert trace is not None
    assert_adds_up(trace)


def test_the_newest_epoch_is_meant_unless_one_is_named() -> None:
    """Sequence numbers begin again with each epoch."""
    traces = Traces()
    for epoch in ("e1", "e2"):
        for seq in range(3):
            told(traces, computed(seq=seq, epoch=epoch), 3 * S)
    found = traces.find("door", 1)
    assert found is not None and found.epoch == "e2"
    found = traces.find("door", 1, "e1")
    assert found is not None and found.epoch == "e1"
    assert traces.find("door", 1, "e3") is None and traces.find("door", 3) is None and traces.find("yard", 1) is None


def test_only_the_last_two_minutes_are_kept() -> None:
    """The oldest makes room; what is kept of one stream says nothing of another."""
    traces = Traces()
    for seq in range(KEPT + 10):
        told(traces, computed(seq=seq), 3 * S)
    told(traces, computed("yard"), 3 * S)
    assert traces.find("door", 9) is None and traces.find("door", 10) is not None
    assert [trace.seq for trace in traces.recent("door", 3)] == [KEPT + 9, KEPT + 8, KEPT + 7]
    assert len(traces.recent("door", 10_000)) == KEPT and len(traces.recent("yard", 3)) == 1


def test_a_forgotten_stream_is_gone_and_what_is_still_on_its_way_brings_nothing_back() -> None:
    """The acknowledgement of a removed stream's last segment is nothing to remember."""
    traces = Traces()
    unit = told(traces, computed(), 715 * MS)
    traces.forget("door")
    traces.written(acknowledged(unit, 716 * MS, 718 * MS, 722 * MS))
    traces.dropped(unit)
    traces.forget("door")
    assert traces.find("door", 0) is None and traces.recent("door", 10) == []


def test_a_unit_without_a_segment_is_nobodys_trace() -> None:
    """Announcements are written too, and have no stages."""
    traces = Traces()
    told(traces, computed(), 715 * MS)
    unit = Unit("door", (StreamMessage(stream="door", state="live"),))
    traces.written(acknowledged(unit, 1, 2, 3))
    traces.dropped(unit)
    (trace,) = traces.recent("door", 10)
    assert trace.state == "waiting"


def test_it_keeps_neither_pictures_nor_labels() -> None:
    """What is kept of a segment is small, whatever it held."""
    traces = Traces()
    asked = computed()
    unit = told(traces, asked, 715 * MS)
    (ring,) = traces._rings.values()
    (record,) = ring.values()
    kept = [getattr(record, name) for name in record.__slots__]
    assert not [value for value in kept if isinstance(value, Answer | Segment | Unit) or value is asked.window]
    assert unit.segment is not None


def test_it_is_written_and_read_at_the_same_time() -> None:
    """While one thread tells of segments, another may ask, and gets whole traces only."""
    traces, over = Traces(), threading.Event()
    faults: list[BaseException] = []

    def read() -> None:
        try:
            while not over.is_set():
                for trace in traces.recent("door", KEPT):
                    assert_adds_up(trace)
                    assert len(trace.stages) == (6 if trace.state == "stored" else 4)
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            faults.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for seq in range(2000):
            unit = told(traces, computed(seq=seq), seq * 500 * MS + 715 * MS)
            traces.written(acknowledged(unit, seq * 500 * MS + 716 * MS, seq * 500 * MS + 718 * MS, seq * S))
    finally:
        over.set()
        reader.join(10)
    assert faults == []
