"""A filter selects what a subscriber asked for and nothing else, and a wrong query is refused with its reason."""

from __future__ import annotations

from fnmatch import fnmatchcase
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.cursor import parse_cursor
from streamer.hub.filters import Envelope, Filter, Wanted, envelope, parse_query
from streamer.messages import StreamMessage, encode
from tests.stores import event, segment

names = st.sampled_from(["Dog", "Cat", "Siren", "犬", "a&b=c"])
streams = st.sampled_from(["door", "lobby", "front-1", "front-2"])
globs = st.sampled_from(["*", "front-*", "door", "?oor", "[dl]*", "nobody"])
scores = st.floats(0, 1)
filters = st.builds(Filter, st.frozensets(globs, max_size=3), st.frozensets(names, max_size=3), scores)
labels = st.lists(st.tuples(names, scores), max_size=5).map(tuple)


@given(filters, streams, labels)
def test_a_segment_is_selected_by_one_label_that_fits(filter_: Filter, stream: str, found: tuple) -> None:  # type: ignore[type-arg]
    """A segment passes if its stream fits a glob and one label has both an asked name and the score."""
    by_stream = not filter_.streams or any(fnmatchcase(stream, glob) for glob in filter_.streams)
    asks = bool(filter_.labels) or filter_.min_score > 0
    by_label = any((not filter_.labels or n in filter_.labels) and s >= filter_.min_score for n, s in found)
    selected = filter_.selects(envelope(encode(segment(stream, labels=found))))
    assert selected == (by_stream and (by_label or not asks))


@given(filters, streams, names, scores)
def test_an_event_is_selected_by_its_label(filter_: Filter, stream: str, name: str, score: float) -> None:
    """An event passes like a segment that had its label alone."""
    as_event = filter_.selects(envelope(encode(event(stream, name, score))))
    as_segment = filter_.selects(envelope(encode(segment(stream, labels=((name, score),)))))
    assert as_event == as_segment


@given(filters, streams)
def test_a_stream_message_is_selected_by_its_stream_alone(filter_: Filter, stream: str) -> None:
    """Labels and scores never hide that a stream changed its state."""
    message = envelope(encode(StreamMessage(stream=stream, state="live")))
    assert filter_.selects(message) == Filter(filter_.streams).selects(message)


def test_messages_of_other_kinds_are_selected_by_what_they_have() -> None:
    """An alert's labels count whether they are names or objects; speech, which has none, passes no label filter."""
    alert = msgspec.json.encode({"type": "alert", "stream": "door", "labels": ["Dog"], "text": "x"})
    speech = msgspec.json.encode({"type": "speech", "stream": "door", "text": "x"})
    assert Filter(labels=frozenset({"Dog"})).selects(envelope(alert))
    assert not Filter(labels=frozenset({"Cat"})).selects(envelope(alert))
    assert not Filter(labels=frozenset({"Dog"})).selects(envelope(speech))
    assert Filter().selects(envelope(speech))


@given(st.frozensets(globs), st.frozensets(names), st.none() | scores, st.sampled_from([None, "17-0@5f3a"]))
def test_a_query_is_read_back_as_it_was_written(
    some: frozenset[str], other: frozenset[str], score: float | None, since: str | None
) -> None:
    """Whatever is percent-encoded into a query comes out of it."""
    pairs = [("stream", glob) for glob in some] + [("label", name) for name in other]
    pairs += [("min_score", repr(score))] if score is not None else []
    pairs += [("since", since)] if since else []
    wanted = parse_query(urlencode(pairs))
    assert wanted == Wanted(Filter(some, other, score or 0.0), parse_cursor(since) if since else None)


def test_compression_is_asked_for_by_name() -> None:
    """The one word there is for it asks for it, and saying nothing does not."""
    assert parse_query("stream=door&compression=deflate") == Wanted(Filter(frozenset({"door"})), compressed=True)
    assert not parse_query("stream=door").compressed


@given(st.text(max_size=200))
def test_no_query_does_anything_but_parse_or_be_refused(query: str) -> None:
    """Arbitrary text gives a meaning or a ValueError with a text."""
    try:
        assert isinstance(parse_query(query), Wanted)
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("min_score=2", "min_score"),
        ("min_score=nan", "min_score"),
        ("min_score=0.5&min_score=0.6", "min_score"),
        ("since=yesterday", "since"),
        ("since=1-1@a&since=1-1@a", "since"),
        ("stream=", "stream"),
        ("label=" + "x" * 129, "label"),
        ("&".join(f"label=x{i}" for i in range(65)), "label"),
        ("steam=door", "steam"),
        ("compression=gzip", "compression"),
        ("compression=deflate&compression=deflate", "compression"),
        ("stream=%ff", "UTF-8"),
        ("x" * 5000, "longer"),
        ("&".join("a=1" for _ in range(200)), "NAME=VALUE"),
    ],
)
def test_a_wrong_query_is_refused_by_name(query: str, named: str) -> None:
    """The text names the parameter that is wrong."""
    with pytest.raises(ValueError, match=named):
        parse_query(query)


def test_a_hostile_glob_takes_no_time() -> None:
    """A pattern made to backtrack is decided at once."""
    hostile = Filter(frozenset({"*a" * 60 + "b"}))
    assert not hostile.selects(Envelope(type="stream", stream="a" * 64))
