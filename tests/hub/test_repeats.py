"""What a writer writes again is passed on once, also where it has no number."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streamer.hub.filters import envelope
from streamer.hub.repeats import Repeats

# A message in short: of a segment its seq, of an event its state, else a state of the stream.
Message = int | str


def encoded(message: Message, stream: str = "door", epoch: str = "e1") -> bytes:
    """As the feed has it."""
    if isinstance(message, int):
        return msgspec.json.encode({"type": "segment", "stream": stream, "epoch": epoch, "seq": message})
    if message in ("open", "update", "close"):
        return msgspec.json.encode({"type": "event", "stream": stream, "id": "e1-3-7", "state": message})
    return msgspec.json.encode({"type": "stream", "stream": stream, "state": message, "epoch": None})


def news(repeats: Repeats, messages: Sequence[Message], *, again: bool = False, stream: str = "door") -> list[Message]:
    """Those of `messages` that are no repeats."""
    found = []
    for message in messages:
        json = encoded(message, stream)
        if not repeats.is_repeat(envelope(json), json, again=again):
            found.append(message)
    return found


def test_a_stream_may_say_the_same_twice() -> None:
    """What is not marked is news, but for a segment that was there."""
    repeats = Repeats()
    said: list[Message] = ["live", 0, "stalled", "live", "stalled", 1, "open", "close", "open", "reconnecting"]
    assert news(repeats, said) == said
    assert news(repeats, ["reconnecting", 1, 0, 2]) == ["reconnecting", 2]


def test_what_is_written_again_is_passed_on_once() -> None:
    """Of a run that is marked, what was there before is left out, and what was not is passed on, at its place."""
    repeats = Repeats()
    news(repeats, ["live", 3, "open", 4, "stalled", 5])
    assert news(repeats, ["store_lost", 4, "stalled", 5, "close", 6, "live"], again=True) == [
        "store_lost", "close", 6, "live",
    ]  # fmt: skip
    assert news(repeats, ["stalled", 7]) == ["stalled", 7]
    assert news(repeats, [6, "live", "stalled", 7, 8], again=True) == [8]


def test_the_same_said_twice_is_passed_on_twice_when_it_is_written_again() -> None:
    """Two states of which the first was there: the second is news, though it says the same."""
    repeats = Repeats()
    news(repeats, [3, "stalled"])
    assert news(repeats, [3, "stalled", "live", "stalled"], again=True) == ["live", "stalled"]


def test_the_end_of_a_stream_that_is_written_again_is_known() -> None:
    """Also a stream that has ended is told apart; and of those no more than 256 are kept."""
    repeats = Repeats()
    news(repeats, [0, "open", "close", "ended"])
    assert news(repeats, [0, "open", "close", "ended"], again=True) == []
    assert news(repeats, ["live"]) == ["live"]
    for number in range(1000):
        news(repeats, [0, "ended"], stream=f"guest-{number}")
    assert len(repeats) == 257


def test_another_streams_messages_are_its_own() -> None:
    """The same state of two streams is two messages."""
    repeats = Repeats()
    news(repeats, [0, "stalled"], stream="yard")
    assert news(repeats, ["stalled"], again=True) == ["stalled"]


_SAID = st.lists(st.sampled_from(["segment", "open", "close", "stalled", "live", "reconnecting"]), max_size=60)


@given(_SAID, st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=4))
def test_everything_is_passed_on_once_and_in_order(said: list[str], losses: list[tuple[int, int]]) -> None:
    """Whatever a stream says, and however often the store loses some of it that had been read and the writer writes
    that and what follows again: subscribers get all of it, in order, and nothing twice."""
    messages: list[Message] = []
    for what in said:
        messages.append(sum(isinstance(m, int) for m in messages) if what == "segment" else what)
    repeats, got, place = Repeats(), [], 0
    for ahead, back in losses:
        ahead = min(ahead, len(messages) - place)
        got += news(repeats, messages[place : place + ahead])
        place += ahead
        # What is lost begins at a segment: a unit of which nothing is known would be told by nothing.
        begins = max((i for i in range(max(0, place - back), place) if isinstance(messages[i], int)), default=place)
        got += news(repeats, messages[begins:place], again=True)
    got += news(repeats, messages[place:])
    assert got == messages
