"""One segment a window, in order, and what must be said between them at its place."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.answer import Answer, shed
from streamer.ledger import Ledger, Spoken
from streamer.media import Scores, Window
from streamer.messages import Event, EventState, Label, People, Segment, Share, Speech, SpeechMessage, StreamMessage
from streamer.people.watch import Findings, PeopleSettings, PeopleWatch
from tests.builders import MS, S, scores, window
from tests.publishing.recorder import Recorder, publishing


def answered(seq: int, value: float = 0.9, degraded: tuple[str, ...] = ()) -> Answer:
    cut = window(seq=seq)
    status = "degraded" if degraded else "ok"
    return Answer(cut, status, None, scores(value), cut.closed_ns, cut.closed_ns + 10 * MS, degraded)


async def test_answers_go_out_in_order_whatever_order_they_come_in() -> None:
    """Three windows answered backwards are published forwards, each with its deadline, and watched once."""
    recorder = Recorder()
    ledger = Ledger("door", publishing(recorder))
    answers = [answered(seq) for seq in range(3)]
    for answer in answers:
        ledger.expect(answer.window)
    for answer in reversed(answers):
        ledger.answer(answer)
    assert [segment.seq for segment in recorder.segments] == [0, 1, 2]
    assert [deadline for deadline in recorder.deadlines if deadline] == [a.window.deadline_ns for a in answers]
    assert len(recorder.answers) == 3 and ledger.last_segment is recorder.segments[-1]


async def test_a_second_answer_and_an_unknown_one_are_nothing() -> None:
    """A window that has its answer gets no other, and one that was never expected gets none."""
    recorder = Recorder()
    ledger = Ledger("door", publishing(recorder))
    answer = answered(0)
    ledger.expect(answer.window)
    ledger.answer(answer)
    ledger.answer(shed(answer.window, "overload", S))
    ledger.answer(answered(7))
    assert [(segment.seq, segment.status) for segment in recorder.segments] == [(0, "ok")]


async def test_what_is_said_waits_for_the_windows_before_it() -> None:
    """A state told after two windows is published after both, and an open event closes before it."""
    recorder = Recorder()
    ledger = Ledger("door", publishing(recorder))
    first, second = answered(0), answered(1)
    ledger.expect(first.window)
    ledger.expect(second.window)
    ledger.end_epoch()
    ledger.say(StreamMessage(stream="door", state="reconnecting"))
    assert recorder.messages == []
    ledger.answer(second)
    assert recorder.messages == []
    ledger.answer(first)
    kinds = [type(message) for message in recorder.messages if not isinstance(message, Event)]
    assert kinds == [Segment, Segment, StreamMessage]
    events = [message.state for message in recorder.messages if isinstance(message, Event)]
    assert not events or events[-1] == "close"


async def test_settling_waits_for_answers_and_sheds_what_never_comes() -> None:
    """Settling returns as soon as everything is answered; after its time the rest is shed as draining."""
    recorder = Recorder()
    ledger = Ledger("door", publishing(recorder))
    await ledger.settle(5)
    first, second = answered(0), answered(1)
    ledger.expect(first.window)
    settling = asyncio.create_task(ledger.settle(20))
    await asyncio.sleep(0)
    ledger.answer(first)
    await asyncio.wait_for(settling, 5)
    ledger.expect(second.window)
    await ledger.settle(0.01)
    assert [(segment.status, segment.reason) for segment in recorder.segments] == [("ok", None), ("shed", "draining")]


async def test_what_was_left_out_is_in_the_segment() -> None:
    """A window computed with less work is published as degraded, naming what was left out."""
    recorder = Recorder()
    ledger = Ledger("door", publishing(recorder))
    answer = answered(0, degraded=("frames",))
    ledger.expect(answer.window)
    ledger.answer(answer)
    assert (recorder.segments[0].status, recorder.segments[0].degraded) == ("degraded", ["frames"])


class Watching(PeopleWatch):
    """Sees somebody in every window, and says what it was told of."""

    def __init__(self) -> None:
        super().__init__("door", PeopleSettings())
        self.told: list[str] = []

    def update(self, window: Window, scores: Scores) -> Findings:
        self.told.append(f"update {window.seq}")
        return Findings(People(1), [Label("Person", 0.95, Share(1.0, 0.0, 0.0))], [event("open")])

    def nothing_there(self, window: Window) -> Findings:
        self.told.append(f"nothing {window.seq}")
        return Findings()

    def finish(self) -> list[Event]:
        self.told.append("finish")
        return [event("close")]


def event(state: EventState) -> Event:
    return Event(stream="door", id="e1-p1", label="Person", state=state, start="", end=None, score=0.9)


async def test_people_are_told_with_the_segment_they_are_in() -> None:
    """Their labels stand among the others by score, their events follow the segment, a window that was shed for want of
    time says nothing of them, and the end of an epoch is told to who watches them."""
    recorder, watching = Recorder(), Watching()
    ledger = Ledger("door", publishing(recorder), watching)
    answers = [
        answered(0, 0.2),
        shed(window(seq=1), "overload", S),
        shed(window(seq=2), "no_media", S),
    ]
    for answer in answers:
        ledger.expect(answer.window)
        ledger.answer(answer)
    ledger.end_epoch()
    assert watching.told == ["update 0", "nothing 2", "finish"]
    first, opened, *shed_ones, closed = recorder.messages
    assert isinstance(first, Segment) and [label.name for label in first.labels] == ["Person", "Dog"]
    assert first.people == People(1) and opened == event("open") and closed == event("close")
    assert [segment.people for segment in shed_ones if isinstance(segment, Segment)] == [None, None]


def spoken(number: int) -> Spoken:
    start, end, text = f"2026-11-23T04:07:{number:02}.000Z", f"2026-11-23T04:07:{number:02}.500Z", f"w{number}"
    speech = Speech(text=text, language="en", words=[text], final=True, start=start, end=end)
    message = SpeechMessage(
        stream="door", utterance=number, text=text, words=[text], language="en", final=True, start=start, end=end
    )
    return Spoken(message, speech, (Label(f"said: {text}", 0.9, Share(0.0, 0.0, 1.0)),), (event("open"),))


_STEPS = ["ok", "degraded", "overload", "no_media", "say", "end", "late", "epoch"]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(_STEPS), max_size=40))
def test_an_utterance_stands_in_exactly_one_segment(course: list[str]) -> None:
    """Whatever happens to windows (answered, degraded, shed for whatever reason, answered late, a new epoch), every
    utterance is a message once, and stands once, in order, in a segment after that; only those that no segment came
    after stand in none. Shed segments have no labels."""
    recorder = Recorder()
    ledger = Ledger("door", publishing(recorder, post=lambda *_: None))
    late: list[Answer] = []
    number = seq = 0
    for step in course:
        if step == "say":
            number += 1
            ledger.speak(spoken(number))
            continue
        if step in ("end", "epoch"):
            ledger.end_epoch()
            ledger.say(StreamMessage(stream="door", state="reconnecting" if step == "end" else "live", epoch=f"e{seq}"))
            continue
        if step in ("overload", "no_media"):
            answer = shed(window(seq=seq), "overload" if step == "overload" else "no_media", S)
        else:
            answer = answered(seq, degraded=("speech",) if step == "degraded" else ())
        seq += 1
        ledger.expect(answer.window)
        late.append(answer)
        if step != "late":
            for waiting in late:
                ledger.answer(waiting)
            late.clear()
    for waiting in late:
        ledger.answer(waiting)
    assert [message.utterance for message in recorder.of(SpeechMessage)] == list(range(1, number + 1))
    said = [segment.speech.text for segment in recorder.segments if segment.speech is not None]
    assert said == [f"w{n}" for n in range(1, len(said) + 1)]
    places = [
        (n, recorder.messages.index(segment))
        for n, segment in enumerate((s for s in recorder.segments if s.speech is not None), 1)
    ]
    told = {m.utterance: recorder.messages.index(m) for m in recorder.of(SpeechMessage)}
    assert all(told[n] < place for n, place in places)
    without = [segment for segment in recorder.segments if segment.speech is None]
    assert len(said) == number or not without or told[len(said) + 1] > recorder.messages.index(without[-1])
    assert all(not segment.labels for segment in recorder.segments if segment.status == "shed")


async def test_what_was_listened_for_is_a_label_of_its_segment() -> None:
    """The segment that has an utterance has its keywords among its labels, with a share of text alone; the events come
    with the message."""
    recorder = Recorder()
    ledger = Ledger("door", publishing(recorder))
    answer = answered(0)
    ledger.expect(answer.window)
    ledger.speak(spoken(1))
    assert [type(message) for message in recorder.messages] == [SpeechMessage, Event]
    ledger.answer(answer)
    (segment,) = recorder.segments
    assert Label("said: w1", 0.9, Share(0.0, 0.0, 1.0)) in segment.labels
    assert segment.speech is not None and segment.speech.words == ["w1"]
